"""The table, and docs/conformance.md around it."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.conformance.checks import ANSWERS_BAR, LOSS_BAR, WEIGHTS_BAR
from benchmarks.conformance.subjects import APPLICATIONS, KERAS_HUB, UNCOMPILED

Row = Mapping[str, Any]
# Columns by the key of their result.
_COLUMNS = {
    "moved": "weights that moved",
    "four": "4 micro-batches",
    "two": "2 devices",
    "exact": "`--exact`",
    "resumed": "resumed",
    "saved": "plain Keras",
    "fit": "`fit`'s loss",
}
_BARS = {"four": WEIGHTS_BAR, "two": WEIGHTS_BAR, "exact": 0.0, "resumed": 0.0, "saved": ANSWERS_BAR}
# Those of a batch in slices.
_SPLIT = ("four", "two", "exact", "resumed")
# What has been found behind a difference above the bar.
_CAUSES = {
    "XLNet": "KerasHub 0.32 reshapes the padding mask `[rows, time]` to `[time, rows]` in place of a transpose: the "
    "padding of a row hides tokens of others, and a slice has other rows; in equal slices the run is the same",
}
_GROUPS = (APPLICATIONS, KERAS_HUB)
_HEAD = """# Conformance

Models of other people in the engine, unchanged: a small member of 14 families of `keras.applications` and 26 of
KerasHub's backbones, each with random weights under a classifier, trained on random examples with momentum (rate 0.01)
in batches of 32. This page is written by the following command; the extra `conformance` installs KerasHub.

```text
python -m benchmarks.conformance --out=runs/conformance --page=docs/conformance.md
```

Figures are the largest difference of any number, divided by the largest of its variable where that is above 1; 0 is
bitwise equality.

- **weights that moved**: trainable variables that one step changed. The others have no gradient here, such as an output
  embedding that a classifier does not use, or a scale that the next normalisation divides out.
- **4 micro-batches**, **2 devices**: weights and momentum after a step, against those of one device and the whole
  batch. Rounding is at most 1e-6.
- **`--exact`**: one device with four slices of the batch, against two devices with two slices each. Expected: 0.
- **resumed**: the state after step 1 on one device, loaded in a new engine on two devices, against step 2 on one
  device, both exact. Expected: 0. Runs that are killed are tried in the tests of [the promises](promises.md).
- **plain Keras**: answers of the saved model, which `keras.models.load_model` has loaded in a process that never
  imports the zoo (and imports `keras_hub` for its layers). Rounding is at most 1e-5.
- **`fit`'s loss**: that of Keras' own first step (`train_on_batch`) against the engine's, where the model has no noise,
  for which Keras draws other numbers. Rounding is at most 1e-5.

Batch normalisation has groups of 8 rows (`--batch_norm_group=8`), so that micro-batches can be split; for `fit`'s loss
the batch is one group. XLA compiles nothing (`--compile=none`): most of the time would go there. KerasHub's dropout is
each backbone's default. Applications whose function takes depths have one or two blocks of each stage;
InceptionV3 takes none and is tried whole, on the smallest images that it allows (75 x 75). InceptionResNetV2, which
takes none either, is not tried: with its 780 layers it would take longer than all others.
"""
_COMPILED_HEAD = """## Compiled

The same checks with `--compile=auto`, the default of a run: XLA compiles the model, on a CPU but for operations that it
computes slowly there. One device in one piece is another program than four slices, so sums are rounded otherwise.
A sample of {count} models: most of the up to {slowest:.0f} seconds that each takes go into XLA.

```text
python -m benchmarks.conformance --out=runs/conformance --compile=auto --only={names}
```
"""


def table(rows: Sequence[Row]) -> str:
    """A Markdown table for each group, and the reasons of what fails."""
    parts = []
    for group in _GROUPS:
        mine = sorted((row for row in rows if row["group"] == group), key=lambda row: row["name"].lower())
        if mine:
            head = f"| {group} | noise | {' | '.join(_COLUMNS.values())} |\n|---{'|---' * (len(_COLUMNS) + 1)}|"
            parts.append("\n".join([head, *map(_line, mine)]))
    reasons = _failures(rows)
    if reasons:
        title = "What fails, and why; what is above the bar, and how much rounding matters there:"
        parts.append("\n".join([title, "", *reasons]))
    return "\n\n".join(parts)


def page(rows: Sequence[Row]) -> str:
    """docs/conformance.md."""
    plain = [row for row in rows if row["compile"] == UNCOMPILED]
    compiled = [row for row in rows if row["compile"] != UNCOMPILED]
    text = f"{_HEAD}\n{table(plain)}\n"
    if compiled:
        names = sorted({row["name"] for row in compiled}, key=str.lower)
        slowest = max(row.get("seconds", 0) for row in compiled)
        head = _COMPILED_HEAD.format(count=len(compiled), slowest=slowest, names=",".join(names))
        text += f"\n{head}\n{table(compiled)}\n"
    return text


def is_kept(row: Row, key: str) -> bool:
    """Whether a model passes a check."""
    value = row.get(key)
    if key == "moved":
        return bool(value)
    if key == "fit":
        return row["noise"] or (isinstance(value, list) and abs(value[0] - value[1]) <= LOSS_BAR * abs(value[1]))
    return isinstance(value, float) and value <= _BARS[key]


def _line(row: Row) -> str:
    if row["trains"] is not True:
        return f"| {row['name']} | | fails |{' |' * (len(_COLUMNS) - 1)}"
    cells = [_cell(row, key) for key in _COLUMNS]
    return f"| {row['name']} | {'yes' if row['noise'] else 'no'} | {' | '.join(cells)} |"


def _cell(row: Row, key: str) -> str:
    value = row.get(key)
    if isinstance(value, str):
        return "fails"
    if key == "moved":
        return f"{value} of {row['trainable']}"
    if value is None or value is True:
        return ""
    if key == "fit":
        value = abs(value[0] - value[1]) / abs(value[1])
    shown = f"{value:.1e}" if value else "0"
    return shown if is_kept(row, key) else f"**{shown}**, above the bar"


def _failures(rows: Sequence[Row]) -> list[str]:
    """A line for each model and reason, with the columns that fail for it."""
    lines = []
    for row in rows:
        reasons: dict[str, list[str]] = {}
        for key in ("trains", *_COLUMNS):
            value = row.get(key)
            if isinstance(value, str):
                known = _CAUSES.get(row["name"], "") if key in _SPLIT else ""
                reasons.setdefault("; ".join(filter(None, (value, known))), []).append(_COLUMNS.get(key, key))
            elif key in ("four", "two") and value is not None and not is_kept(row, key):
                reasons.setdefault(_cause(row), []).append(_COLUMNS[key])
        lines += [f"- {row['name']} ({', '.join(columns)}): {reason}" for reason, columns in reasons.items()]
    return lines


def _cause(row: Row) -> str:
    """Beside a known cause, or in place of one: what rounding alone does to this model."""
    shown = f"with each initial weight moved to the next float32, a step on one device differs by {row['rounding']:.1e}"
    return f"{_CAUSES[row['name']]}; {shown}" if row["name"] in _CAUSES else shown
