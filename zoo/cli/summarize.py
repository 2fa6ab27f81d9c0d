"""`zoo summarize`: the sentences that stand for a document."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli.parser import positive, tell
from zoo.cli.search import add_encoder, read_texts
from zoo.errors import BadInput
from zoo.predict.predictors.printable import one_line

if TYPE_CHECKING:
    from zoo.predict.retrieval.summarization import Summary


def add(verbs: Any) -> None:
    """`zoo summarize SOURCE FILE`."""
    about = "Print the sentences that stand for a document."
    verb = verbs.add_parser(
        "summarize", help=about, description=f"{about} As many of its first ones stand beside them."
    )
    add_encoder(verb)
    verb.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="a .txt with one document, or a .csv, .tsv or .jsonl with one in each row",
    )
    verb.add_argument("--text", metavar="TEXT", action="append", default=[], help="a document; may be repeated")
    verb.add_argument("--sentences", metavar="N", type=positive, default=3, help="how many to print (default: 3)")
    verb.add_argument("--json", action="store_true", help="print one JSON object per document")
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Prints sentences that stand for each document, beside as many of its first ones."""
    if bool(arguments.text) == bool(arguments.files):
        raise BadInput("expected either FILE or --text")
    from zoo.predict.retrieval import sentence_encoders, sentence_splitting

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
    tell(notes)
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
    from zoo.data.datasets import text_files

    found = [(f"text {number}", text) for number, text in enumerate(arguments.text, 1)]
    for name in arguments.files:
        if Path(name).suffix == ".txt":
            found.append((name, text_files.content(Path(name))))
            continue
        texts = read_texts(name, arguments.text_column)
        if not texts:
            raise BadInput(f"{name} has no texts; expected some to summarize")
        found += [(f"{name}[{index}]", text) for index, text in enumerate(texts)]
    return found


def _print_summary(name: str, found: "Summary") -> None:
    print(one_line(name))
    parts = [("summary", found.chosen, found.similarity), ("first sentences", found.lead, found.lead_similarity)]
    for title, numbers, similarity in parts:
        print(f"  {title}, {len(numbers)} of {len(found.sentences)}, likeness to the whole {similarity:.4f}")
        for number in numbers:
            print(f"    [{number}] {one_line(found.sentences[number], None)}")


def _summary_object(found: "Summary") -> dict[str, Any]:
    def part(numbers: list[int], similarity: float) -> dict[str, Any]:
        texts = [{"index": number, "text": found.sentences[number]} for number in numbers]
        return {"sentences": texts, "similarity": similarity}

    return {
        "sentences": len(found.sentences),
        "summary": part(found.chosen, found.similarity),
        "lead": part(found.lead, found.lead_similarity),
    }
