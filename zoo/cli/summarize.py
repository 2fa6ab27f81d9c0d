"""`zoo summarize`: extractive summarization, the sentences that represent a document best."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import strict_json
from zoo.cli.parser import positive, tell
from zoo.cli.search import add_encoder, read_texts
from zoo.errors import BadInput
from zoo.predict.predictors.printable import one_line

if TYPE_CHECKING:
    from zoo.predict.retrieval.summarization import Summary


def add(verbs: Any) -> None:
    """`zoo summarize SOURCE FILE`."""
    about = "Print the sentences that represent a document best."
    more = "The same number of its first sentences is printed for comparison."
    verb = verbs.add_parser("summarize", help=about, description=f"{about} {more}")
    add_encoder(verb)
    verb.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="a .txt with one document, or a .csv, .tsv or .jsonl with one in each row",
    )
    verb.add_argument("--text", metavar="TEXT", action="append", default=[], help="a document; may be repeated")
    verb.add_argument("--sentences", metavar="N", type=positive, default=3, help="number of sentences (default: 3)")
    verb.add_argument("--json", action="store_true", help="print one JSON object per document")
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Prints for each document its most representative sentences and the same number of its first ones."""
    if bool(arguments.text) == bool(arguments.files):
        raise BadInput("expected either FILE or --text")
    from zoo.predict.retrieval import sentence_encoders, sentence_splitting

    folder = sentence_encoders.find(arguments.source)
    documents = _documents(arguments)
    split = [sentence_splitting.split(text) for _, text in documents]
    for (name, _), sentences in zip(documents, split):
        if not sentences:
            raise BadInput(f"{name} has no word in it; expected a text to summarize")
    from zoo.predict.retrieval import embedder as embedding
    from zoo.predict.retrieval.summarization import summarize

    embedder, notes = embedding.load(folder, arguments.max_length), []
    vectors = embedder.embed([each for sentences in split for each in sentences], normalized=True, notes=notes)
    tell(notes)
    for (name, _), sentences in zip(documents, split):
        own, vectors = vectors[: len(sentences)], vectors[len(sentences) :]
        summary = summarize(sentences, own, arguments.sentences)
        if arguments.json:
            print(strict_json.dumps({"document": name, **_summary_object(summary)}))
        else:
            _print_summary(name, summary)
    return 0


def _documents(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    """Names and texts of the documents: a .txt is one document, in other files each row is one."""
    from zoo.data.datasets import text_files

    documents = [(f"text {number}", text) for number, text in enumerate(arguments.text, 1)]
    for name in arguments.files:
        if Path(name).suffix == ".txt":
            documents.append((name, text_files.content(Path(name))))
            continue
        texts = read_texts(name, arguments.text_column)
        if not texts:
            raise BadInput(f"{name} has no texts; expected some to summarize")
        documents += [(f"{name}[{index}]", text) for index, text in enumerate(texts)]
    return documents


def _print_summary(name: str, summary: "Summary") -> None:
    print(one_line(name))
    parts = [
        ("summary", summary.chosen, summary.similarity),
        ("first sentences", summary.lead, summary.lead_similarity),
    ]
    for title, numbers, similarity in parts:
        print(f"  {title}, {len(numbers)} of {len(summary.sentences)}, similarity to the document {similarity:.4f}")
        for number in numbers:
            print(f"    [{number}] {one_line(summary.sentences[number], None)}")


def _summary_object(summary: "Summary") -> dict[str, Any]:
    def part(numbers: list[int], similarity: float) -> dict[str, Any]:
        texts = [{"index": number, "text": summary.sentences[number]} for number in numbers]
        return {"sentences": texts, "similarity": similarity}

    return {
        "sentences": len(summary.sentences),
        "summary": part(summary.chosen, summary.similarity),
        "lead": part(summary.lead, summary.lead_similarity),
    }
