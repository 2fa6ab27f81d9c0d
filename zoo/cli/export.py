"""`zoo export`: a run's model for other runtimes."""

import argparse
from typing import Any

from zoo.cli.parser import add_verb, require_run

# The names of `formats.FORMATS`, which takes seconds to import.
FORMATS = ("savedmodel", "keras", "litert", "onnx", "huggingface")


def add(verbs: Any) -> None:
    """`zoo export WORKDIR --format=...`."""
    verb = add_verb(
        verbs,
        "export",
        "Write a run's model for other runtimes.",
        "It is written into a folder that needs no zoo. Beside the model lie its signature as JSON, a README.md, an "
        "example.py that runs, and the tokenizer of texts. "
        "Weights are in float32.",
    )
    verb.add_argument(
        "--format",
        required=True,
        choices=FORMATS,
        help="savedmodel (TensorFlow, TensorFlow Serving), keras (Keras' own layers alone), litert (.tflite), onnx, or "
        "huggingface (encoders of BERT's family)",
    )
    verb.add_argument(
        "--out", metavar="FOLDER", help="new, empty, or an earlier export (default: WORKDIR/export/FORMAT)"
    )
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    require_run(arguments.workdir)
    from zoo.export.formats import export

    print(export(arguments.workdir, arguments.format, arguments.out))
    return 0
