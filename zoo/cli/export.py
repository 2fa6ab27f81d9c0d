"""`zoo export`: writes a run's model for other runtimes."""

import argparse
from typing import Any

from zoo.cli.parser import add_verb, require_run

# The names in `zoo.export.formats.FORMATS`, which takes seconds to import.
FORMATS = ("savedmodel", "keras", "litert", "onnx", "huggingface")


def add(verbs: Any) -> None:
    """`zoo export WORKDIR --format=...`."""
    verb = add_verb(
        verbs,
        "export",
        "Write a run's model for other runtimes.",
        "The folder can be used without zoo. It has the model, its signature as JSON, a README.md, a runnable "
        "example.py and, for texts, the tokenizer. Weights are in float32.",
    )
    verb.add_argument(
        "--format",
        required=True,
        choices=FORMATS,
        help="savedmodel (TensorFlow, TensorFlow Serving), keras (built-in Keras layers only), litert (.tflite), onnx, "
        "or huggingface (BERT-like encoders)",
    )
    verb.add_argument(
        "--out",
        metavar="FOLDER",
        help="folder to write: new, empty, or an earlier export (default: WORKDIR/export/FORMAT)",
    )
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    require_run(arguments.workdir)
    from zoo.export.formats import export

    print(export(arguments.workdir, arguments.format, arguments.out))
    return 0
