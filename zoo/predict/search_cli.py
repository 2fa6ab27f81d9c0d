"""The commands `zoo search` and `zoo summarize`: what is wrong is refused before TensorFlow's seconds begin."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.data import cache
from zoo.data.datasets import text_files
from zoo.errors import BadInput
from zoo.predict.predictors import text_inputs
from zoo.predict.retrieval import sentence_encoders, sentence_splitting

if TYPE_CHECKING:
    from zoo.predict.retrieval.index import Hit
    from zoo.predict.retrieval.summarization import Summary

# Characters of a text that stand for it in a line.
_SHORT = 100
_WAYS = ("embeddings", "bm25")


def search(arguments: argparse.Namespace) -> int:
    """Prints for each query the texts of a file that are nearest in meaning, and the best ones by words."""
    if bool(arguments.query) == arguments.evaluate:
        raise BadInput("expected either --query, once or more, or --evaluate")
    for query in arguments.query:
        if not query.strip():
            raise BadInput("--query is empty: expected a text to look for")
    folder = sentence_encoders.find(arguments.source)
    texts = _texts(arguments.file, arguments.text_column)
    numbers = [number for number, text in enumerate(texts) if text.strip()]
    if not numbers:
        raise BadInput(f"{arguments.file} has {len(texts)} texts, none with a word in it; expected some to search in")
    _say([f"left out {len(texts) - len(numbers):,} that have no word in them"] if len(numbers) < len(texts) else [])
    searched = [texts[number] for number in numbers]
    from zoo.predict.retrieval import embedder as embedding

    embedder = embedding.load(folder, arguments.max_length)
    if arguments.evaluate:
        return _evaluate(embedder, searched, arguments.json)
    from zoo.predict.retrieval.index import Index

    notes: list[str] = []
    index = Index(embedder, searched, cache.folder(), notes)
    near, fitting = (way(arguments.query, arguments.top) for way in (index.by_meaning, index.by_words))
    _say(notes)
    for query, *found in zip(arguments.query, near, fitting):
        answer = {way: [_hit(hit, numbers, searched) for hit in hits] for way, hits in zip(_WAYS, found)}
        if arguments.json:
            print(json.dumps({"query": query, **answer}))
        else:
            _print_hits(query, answer)
    return 0


def summarize(arguments: argparse.Namespace) -> int:
    """Prints sentences that stand for each document, beside as many of its first ones."""
    if bool(arguments.text) == bool(arguments.files):
        raise BadInput("expected either FILE or --text")
    folder = sentence_encoders.find(arguments.source)
    documents = _documents(arguments)
    cut = [sentence_splitting.split(text) for _, text in documents]
    for (name, _), found in zip(documents, cut):
        if not found:
            raise BadInput(f"{name} has no word in it; expected a text to summarize")
    from zoo.predict.retrieval import embedder as embedding
    from zoo.predict.retrieval.summarization import summarize

    embedder, notes = embedding.load(folder, arguments.max_length), []
    vectors = embedder.embed([sentence for found in cut for sentence in found], normalized=True, notes=notes)
    _say(notes)
    for (name, _), found in zip(documents, cut):
        mine, vectors = vectors[: len(found)], vectors[len(found) :]
        summary = summarize(found, mine, arguments.sentences)
        if arguments.json:
            print(json.dumps({"document": name, **_summary_object(summary)}))
        else:
            _print_summary(name, summary)
    return 0


def _documents(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    """Documents with their names: a .txt is one, of the other kinds of file each text is one."""
    found = [(f"text {number}", text) for number, text in enumerate(arguments.text, 1)]
    for name in arguments.files:
        if Path(name).suffix == ".txt":
            found.append((name, text_files.content(Path(name))))
            continue
        texts = _texts(name, arguments.text_column)
        if not texts:
            raise BadInput(f"{name} has no texts; expected some to summarize")
        found += [(f"{name}[{index}]", text) for index, text in enumerate(texts)]
    return found


def _texts(name: str, column: str) -> list[str]:
    if Path(name).suffix not in text_inputs.SUFFIXES:
        raise BadInput(f"{name}: unknown kind of file; expected {', '.join(text_inputs.SUFFIXES)}")
    return text_inputs.read(name, column)


def _evaluate(embedder: Any, texts: Sequence[str], as_json: bool) -> int:
    from zoo.predict.retrieval import evaluation
    from zoo.predict.retrieval.index import embedded

    notes: list[str] = []
    result = evaluation.evaluate(lambda part: embedded(embedder, part, cache.folder(), notes), texts)
    _say(notes)
    if not as_json:
        print(f"The first half of each of {result['texts']:,} texts asks for its second half among all.")
        if result["left_out"]:
            print(f"left out  {result['left_out']:,} that stood there before or cannot be cut in two")
        for way in (*_WAYS, "difference"):
            cells = [f"{name} {_with_interval(result[way], name)}" for name in evaluation.METRICS]
            print(f"{way:<10}  {'  '.join(cells)}")
    print(json.dumps(result))
    return 0


def _with_interval(found: dict[str, float], name: str) -> str:
    return f"{found[name]:.3f} ({found[f'{name}_low']:.3f} to {found[f'{name}_high']:.3f})"


def _hit(hit: "Hit", numbers: Sequence[int], texts: Sequence[str]) -> dict[str, Any]:
    return {"index": numbers[hit.index], "score": hit.score, "text": texts[hit.index]}


def _print_hits(query: str, answer: dict[str, list[dict[str, Any]]]) -> None:
    print(_line(query))
    for way, hits in answer.items():
        print(f"  {way}" if hits else f"  {way}  no text has a word of it")
        for hit in hits:
            print(f"    [{hit['index']}]\t{hit['score']:.4f}\t{_line(hit['text'])}")


def _print_summary(name: str, found: "Summary") -> None:
    print(_line(name))
    parts = [("summary", found.chosen, found.similarity), ("first sentences", found.lead, found.lead_similarity)]
    for title, numbers, similarity in parts:
        print(f"  {title}, {len(numbers)} of {len(found.sentences)}, likeness to the whole {similarity:.4f}")
        for number in numbers:
            print(f"    [{number}] {_line(found.sentences[number], None)}")


def _summary_object(found: "Summary") -> dict[str, Any]:
    def part(numbers: list[int], similarity: float) -> dict[str, Any]:
        texts = [{"index": number, "text": found.sentences[number]} for number in numbers]
        return {"sentences": texts, "similarity": similarity}

    return {
        "sentences": len(found.sentences),
        "summary": part(found.chosen, found.similarity),
        "lead": part(found.lead, found.lead_similarity),
    }


def _line(text: str, most: int | None = _SHORT) -> str:
    """A text in one line, without what a terminal would take for a command, cut to some characters."""
    from zoo.predict.attribution import terminal

    line = " ".join(terminal.visible(text).split())
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"


def _say(notes: Sequence[str]) -> None:
    for note in dict.fromkeys(notes):
        print(f"zoo: {note}", file=sys.stderr, flush=True)
