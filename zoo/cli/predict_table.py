"""`zoo predict --out=FILE.csv`: the predictions of a table as a table."""

import argparse
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from zoo import files
from zoo.cli.refine_flags import SESSION
from zoo.data.datasets import text_columns
from zoo.errors import BadInput
from zoo.predict.calibration.prediction_intervals import IntervalPredict

# What answers otherwise, or of other things than the rows of a file.
_OTHERS = ("text", "pair", "explain", "html", "json", "conll", "token_column", *SESSION)


def check(arguments: argparse.Namespace) -> Path:
    """The file to write.

    Raises:
        BadInput: another flag or another number of files stands beside it, or it is no .csv.
    """
    out = files.absolute(arguments.out)
    others = [name for name in _OTHERS if getattr(arguments, name)]
    if others or arguments.top > 1 or arguments.rounds > 1:
        other = others[0] if others else "top" if arguments.top > 1 else "rounds"
        raise BadInput(f"--out writes a row with all probabilities for each row of FILE: leave --{other} out")
    if len(arguments.files) != 1 or not text_columns.is_table(Path(arguments.files[0])):
        raise BadInput(f"--out: expected one FILE, a table ({', '.join(text_columns.SUFFIXES)})")
    if out.suffix.lower() != ".csv":
        raise BadInput(f"--out is {arguments.out}: expected a .csv")
    return out


def write(out: Path, predictor: Any, file: str, columns: dict[str, Any]) -> None:
    """Writes the columns of a table that the model does not read, and the predictions.

    A class has the columns `prediction` and `probability CLASS` for each class; of several labels each has `predicted
    LABEL`, 1 or 0, and `probability LABEL`; a value has `prediction`, and with intervals `low` and `high`.

    Args:
        out: the .csv to write.
        predictor: predictor of the run.
        file: the table.
        columns: names of columns, and perhaps `form`, for `predictor.read`.

    Raises:
        BadInput: the model is of another task, the table cannot be read, or the file cannot be written.
    """
    if predictor.task not in ("classification", "multi_label", "regression"):
        raise BadInput(f"--out is for classifiers and regressions; the run is a model for {predictor.task}")
    examples = predictor.read(file, **columns)
    names = [value for name, value in columns.items() if name != "form"]
    table = text_columns.read(Path(file), columns.get("form") or predictor.file_format)
    if len(examples) != table.rows:
        raise BadInput(
            f"--out: {file} has {table.rows:,} rows and {len(examples):,} examples; expected one in each row"
        )
    read = {*_read(predictor), *names}
    kept = [name for name in table.header if name not in read]
    header, answers = _answers(predictor, examples)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*kept, *header])
    rows = zip(*map(table.texts, kept)) if kept else [()] * table.rows
    writer.writerows([*row, *answer] for row, answer in zip(rows, answers, strict=True))
    files.write(out, text.getvalue())


def _read(predictor: Any) -> tuple[str, ...]:
    """Names of the columns that the model reads."""
    if predictor.reads_text:
        inner = getattr(predictor, "network", predictor)
        return (inner.text_column, predictor.pair_column)
    return predictor.features if predictor.columns is None else predictor.columns.names


def _answers(predictor: Any, examples: Any) -> tuple[list[str], list[list[Any]]]:
    """The header and the fields of each prediction."""
    if predictor.task == "regression":
        if isinstance(predictor, IntervalPredict):
            return ["prediction", "low", "high"], [list(each) for each in predictor.predict(examples)]
        return ["prediction"], [[value] for value in predictor.values(examples).tolist()]
    probabilities = np.asarray(predictor.probabilities(examples))
    decided = predictor.decide(probabilities)
    if predictor.task == "multi_label":
        header = [f"{what} {name}" for what in ("predicted", "probability") for name in predictor.classes]
        return header, np.concatenate([decided.astype(object) * 1, probabilities.astype(object)], axis=1).tolist()
    header = ["prediction", *(f"probability {name}" for name in predictor.classes)]
    return header, [[predictor.classes[label], *row] for label, row in zip(decided.tolist(), probabilities.tolist())]
