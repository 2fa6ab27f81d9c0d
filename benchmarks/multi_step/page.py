"""Part of `benchmarks.multi_step`: the page, from the figures that the other parts have left as JSON."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.multi_step.images import CHANGING
from zoo.adaptation import trace_plot
from zoo.adaptation.guards import Score
from zoo.adaptation.refiner import TraceEntry
from zoo.data.datasets.image_corruptions import NAMES

_NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "glue-sst2": "SST-2", "imdb_reviews": "IMDB"}
_IMAGES = ("mnist", "fashion_mnist")
_KINDS = ("plain", "unguarded", "refined")
_BOOTSTRAP = 2000
_HEAD = """# Prediction in several steps

What `zoo predict --refine=auto` is worth, and where it fails. Written by `python -m benchmarks.multi_step WORK`, which
trains what it judges; each table says how many seeds it rests on. Intervals are paired bootstrap intervals (95 %) over
the test examples, which are resampled alike for all seeds and conditions. The thresholds of stages and guards were
chosen on damaged *training* images of one MNIST and one Fashion-MNIST network; all figures here are of test data.

*Plain* is the network as it was trained. *Unguarded* sets the batch normalisations to each batch's own statistics
(Schneider et al., 2020; Nado et al., 2020). *Refined* is the plan `auto`: statistics that mind the classes' shares, the
image's pose, temperature and prior, each change kept only where the guards agree, in batches of 200.
"""

_LAYERS = """
## Fewer layers

MiniLM fine-tuned on SST-2 (command G of the README), its dev split, three seeds; thresholds from the validation split
(`python -m benchmarks.early_exit RUN --risks=0.01,0.02 --rules=confident`). The risk is the share of answers that may
be others than the full model's; seconds include reading and tokenizing.

| risk | layers of 6 | times fewer | accuracy, points | seconds, times fewer |
|---|---|---|---|---|
| 1 % | 3.97, 4.35, 3.88 | 1.51, 1.38, 1.55 | -0.1, -0.1, -0.2 | 1.20, 1.45, 1.32 |
| 2 % | 3.56, 3.80, 3.54 | 1.69, 1.58, 1.70 | -0.2, -0.2, -0.1 | 1.39, 1.36, 1.30 |

An LSTM in one direction that reads IMDB (one seed, 86.6 % right, 233 tokens a review) stops after 177 tokens at a risk
of 1 % (1.32 times fewer, -0.2 points) and after 151 at 2 % (1.54, -0.55), and saves no seconds by it (0.99 and 1.03
times fewer):

    python -m experiments.lstm_sentiment --dataset=imdb_reviews --tokenizer=word --vocabulary=30000 --max_length=400 \\
      --pooling=mean --dropout=0.5 --embedding_dropout=0.4 --batch_size=64 --epochs=3 --learning_rate=0.002 \\
      --schedule=cosine --workdir=runs/reader
    python -m benchmarks.early_exit runs/reader --chunk=16 --risks=0.01,0.02 --rules=confident
"""

_FAILURES = """
## What does not work, or is not shown

- Occlusion and stripes, and on Fashion-MNIST contrast and strong fog: no fit is sure enough, so the answers mostly stay
  as they were. In random order unguarded batch statistics do better there; the guards pay for streams of one class with
  them. A mildly shrunk image of MNIST (scale 2) is taken for a shift of statistics, and its pose is found less well.
- A temperature helps where a network is badly calibrated; the LSTMs of IMDB are not, and get no better by it.
- The prior and statistics do not go together: once a model has changed, its answers no longer tell the shares.
- Entropy minimisation (`--refine=parameters`, also as SAR, EATA or CoTTA), views and perturbations are not in `auto`:
  no gain of them is shown here. The learners leave what statistics have mended as it is, kept or not. Without
  guards, on damaged training images, views help against noise and harm under fog and contrast, and perturbations make
  wrong answers sure; no score without labels told the cases apart, so the guards refuse nearly all of them.
- Pseudo-labels for a further round (`zoo feedback`) gain little: IMDB's LSTMs on SST-2, three seeds, from 73.6 to
  74.5 % (+0.9 points, 0.0 to 1.7; the same round without them -0.2, -1.0 to 0.7), and lose half a point on IMDB itself
  (`benchmarks/review_domains.py`).
- Mask-Predict's rounds make guesses more probable to the model, and not more often right: 13.0 % of hidden words found
  in one round, 12.1 in four (`benchmarks/gap_rounds.py`).
- Masked words of 2,000 IMDB reviews (`zoo.adaptation.task_adaptive_pretraining`) do not help MiniLM
  fine-tuned on SST-2 to judge others:
  three seeds, 77.1 to 76.8 % (-0.35 points, -0.95 to 0.25); its answers get less unduly sure (log loss 0.62 to 0.53)
  (`benchmarks/review_domains.py`).
"""


def write(work: Path, page: Path) -> None:
    """Writes the page and its picture from the parts that were measured.

    Args:
        work: folder with the parts' JSON files.
        page: Markdown file to write.
    """
    parts = [
        _HEAD,
        *_corruptions(work, page),
        *_streams(work),
        *_changes(work, page),
        *_label_shift(work),
        *_calibration(work),
    ]
    # What other measurements have written for themselves.
    parts += [
        *_dynamic_evaluation(work),
        *(place.read_text() for place in sorted(work.glob("section-*.md"))),
        _LAYERS,
        _FAILURES,
    ]
    page.parent.mkdir(parents=True, exist_ok=True)
    text = ""
    for part in (part.strip("\n") for part in parts):
        # Rows of a table follow each other without an empty line.
        row = part.startswith("| ") and text.rstrip("\n").endswith("|")
        text += ("" if not text else "\n" if row else "\n\n") + part
    page.write_text(text + "\n")


def _corruptions(work: Path, page: Path) -> Iterator[str]:
    yield "\n## Damaged images"
    tables = {}
    for dataset in _IMAGES:
        runs = _runs(work, "corruptions", dataset)
        if runs:
            tables[dataset] = _Cells(runs)
    if not tables:
        return
    _draw(tables, page.with_name("multi_step_corruptions.png"))
    yield (
        "Errors in percent, mean over five severities and the seeds, images in random order. The last column is the "
        "largest loss of any severity (points; mean of the seeds).\n"
    )
    yield f"![Errors by corruption]({page.stem.replace('_prediction', '')}_corruptions.png)\n"
    for dataset, cells in tables.items():
        yield f"### {_NAMES[dataset]}, seeds: {len(cells.wrong['plain'])}\n"
        yield "| images | plain | unguarded | refined | largest loss |\n|---|---|---|---|---|"
        yield "\n".join(_row(cells, "iid", name) for name in ("clean", *NAMES))
        yield _summary(cells, "iid")
        yield (
            "\nThe same images sorted by class, where a batch holds one or two classes (severities 3 and 5):\n\n"
            "| images | plain | unguarded | refined | largest loss |\n|---|---|---|---|---|"
        )
        yield "\n".join(_row(cells, "sorted", name) for name in ("clean", *NAMES))
        yield _summary(cells, "sorted")


class _Cells:
    """Wrong answers of all seeds, `[seeds, cells, images]` by kind, images in the order of the data set."""

    def __init__(self, runs: list[dict[str, Any]]):
        self.names = [tuple(name.split()) for name in runs[0]["cells"]]
        self.wrong = {kind: np.array([self._of(run, kind) for run in runs]) for kind in _KINDS}

    def _of(self, run: dict[str, Any], kind: str) -> list[np.ndarray]:
        return [np.array(answers) != labels for answers, labels in zip(run[kind], map(np.array, run["labels"]))]

    def chosen(self, order: str, name: str | None = None) -> list[int]:
        """The cells of one order, of one kind of damage or of all."""
        wanted = (lambda other: other == name) if name else (lambda other: other != "clean")
        return [number for number, cell in enumerate(self.names) if cell[0] == order and wanted(cell[1])]

    def mean(self, kind: str, cells: list[int]) -> float:
        """The mean error in percent."""
        return 100 * float(self.wrong[kind][:, cells].mean())

    def loss(self, cells: list[int]) -> float:
        """The largest loss by refinement of any cell, in points."""
        return 100 * float((self.wrong["refined"] - self.wrong["plain"].astype(float))[:, cells].mean((0, 2)).max())

    def relative(self, cells: list[int], kind: str) -> tuple[float, float, float]:
        """By how much the mean error falls, in percent of it, and its interval."""
        before, after = (self.wrong[each][:, cells].mean((0, 1)) for each in ("plain", kind))
        draw = np.random.default_rng(0).integers(0, len(before), (_BOOTSTRAP, len(before)))
        falls = 100 * (1 - after[draw].mean(1) / before[draw].mean(1))
        return 100 * (1 - after.mean() / before.mean()), *np.quantile(falls, [0.025, 0.975]).tolist()


def _row(cells: _Cells, order: str, name: str) -> str:
    chosen = cells.chosen(order, name)
    errors = " | ".join(f"{cells.mean(kind, chosen):.1f}" for kind in _KINDS)
    return f"| {name} | {errors} | {cells.loss(chosen):+.1f} |"


def _summary(cells: _Cells, order: str) -> str:
    chosen = cells.chosen(order)
    errors = " | ".join(f"**{cells.mean(kind, chosen):.1f}**" for kind in _KINDS)
    said = [f"| **mean of the damaged** | {errors} | {cells.loss(chosen):+.1f} |\n"]
    for kind in ("unguarded", "refined"):
        fall, low, high = cells.relative(chosen, kind)
        said.append(f"{kind.capitalize()}: mean error {-fall:+.1f} % relative ({-high:+.1f} to {-low:+.1f}).")
    worse = [
        f"{cells.names[number][1]} {cells.names[number][2]} ({cells.loss([number]):+.1f})"
        for number in cells.chosen(order) + cells.chosen(order, "clean")
        if cells.loss([number]) > 0.5
    ]
    said.append(f"Worse by more than half a point when refined: {', '.join(worse) if worse else 'none'}.")
    return "\n".join(said)


def _streams(work: Path) -> Iterator[str]:
    found = {dataset: _runs(work, "streams", dataset) for dataset in _IMAGES}
    if not any(found.values()):
        return
    yield "\n## Streams that adaptation collapses on\n"
    yield (
        "Noise of severity 3; statistics only. Errors in percent, mean of the seeds; the quarters are those of the "
        "stream, in its order.\n\n| stream | data, seeds | plain | refined | by quarters |\n|---|---|---|---|---|"
    )
    for dataset, runs in found.items():
        for name in runs[0] if runs else ():
            plain, refined = (100 * np.mean([run[name][kind] for run in runs]) for kind in ("plain", "refined"))
            quarters = 100 * np.mean([run[name]["quarters"] for run in runs], axis=0)
            said = ", ".join(f"{quarter:.1f}" for quarter in quarters)
            yield f"| {name} | {_NAMES[dataset]}, {len(runs)} | {plain:.1f} | {refined:.1f} | {said} |"


def _changes(work: Path, page: Path) -> Iterator[str]:
    found = {dataset: _runs(work, "changes", dataset) for dataset in _IMAGES}
    if not any(found.values()):
        return
    yield "\n## A stream that changes its kind at once\n"
    yield (
        "Six hundred images of each kind in turn, severity 4, in batches of 100, plan `auto`. Errors in percent, plain "
        "and refined, mean of the seeds. Where the answers' distances from usual ones change at once, what was "
        "remembered of the stream is forgotten, or it would be fitted together with what comes "
        "(`zoo/adaptation/drift_detection.py`).\n\n"
        f"| data, seeds | {' | '.join(CHANGING)} |\n|---|{'---|' * len(CHANGING)}"
    )
    for dataset, runs in found.items():
        if runs:
            plain, refined = (100 * np.mean([run[kind] for run in runs], axis=0) for kind in ("plain", "refined"))
            cells = " | ".join(f"{before:.1f} → {after:.1f}" for before, after in zip(plain, refined))
            yield f"| {_NAMES[dataset]}, {len(runs)} | {cells} |"
    trace = [_line(**line) for line in next(filter(None, found.values()))[0]["trace"]]
    title = ", ".join(CHANGING) + " of severity 4"
    trace_plot.draw(page.with_name("multi_step_trace.png"), trace, title)
    yield "\n![The trace of the first run](multi_step_trace.png)\n"


def _line(before: dict[str, float], after: dict[str, float], **fields: Any) -> TraceEntry:
    return TraceEntry(before=Score(**before), after=Score(**after), **fields)


def _label_shift(work: Path) -> Iterator[str]:
    found = {dataset: _runs(work, "label_shift", dataset) for dataset in _NAMES}
    if not any(found.values()):
        return
    yield "\n## Other shares of the classes\n"
    yield (
        "Shares drawn from a Dirichlet distribution (the smaller alpha, the more uneven), ten draws for each seed, "
        "streams of at most 2,000 examples in batches of 100; accuracy in percent, the gain in points.\n\n"
        "| data, seeds | alpha | plain | refined | gain |\n|---|---|---|---|---|"
    )
    for dataset, runs in found.items():
        for alpha in runs[0] if runs else ():
            draws = [draw for run in runs for draw in run[alpha]]
            gains = [np.mean(draw["refined"]) - np.mean(draw["plain"]) for draw in draws]
            plain, refined = (100 * np.mean([np.mean(draw[kind]) for draw in draws]) for kind in ("plain", "refined"))
            low, high = _interval(np.array(gains))
            name = "no shift" if alpha == "None" else alpha
            gain = f"{100 * np.mean(gains):+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
            yield f"| {_NAMES[dataset]}, {len(runs)} | {name} | {plain:.2f} | {refined:.2f} | {gain} |"


def _calibration(work: Path) -> Iterator[str]:
    found = {dataset: _runs(work, "calibration", dataset) for dataset in _NAMES}
    if not any(found.values()):
        return
    yield "\n## Calibration, and answers that are withheld\n"
    yield (
        "Expected calibration error (ECE, 15 bins) and log loss on the test split, as trained and with the temperature "
        "of the validation split (T). Then `--abstain_risk`, set to half the validation error: the share of the test "
        "split that is answered, and the errors among these. Means of the seeds.\n\n"
        "| data, seeds | ECE | with T | log loss | with T | error | promised | answered | error of these |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for dataset, runs in found.items():
        if runs:
            mean = {name: np.mean([run[name] for run in runs]) for name in runs[0]}
            yield (
                f"| {_NAMES[dataset]}, {len(runs)} | {mean['plain ece']:.4f} | {mean['temperature ece']:.4f} | "
                f"{mean['plain log loss']:.4f} | {mean['temperature log loss']:.4f} | {100 * mean['error']:.2f} % | "
                f"{100 * mean['promised risk']:.2f} % | {100 * mean['coverage']:.1f} % | {100 * mean['risk']:.2f} % |"
            )


def _dynamic_evaluation(work: Path) -> Iterator[str]:
    place = work / "dynamic_evaluation.json"
    if not place.exists():
        return
    yield "\n## Dynamic evaluation of language models\n"
    yield (
        "Tiny Shakespeare by characters; `python -m benchmarks.dynamic_evaluation RUN... --characters=10000 "
        "--out=WORK/dynamic_evaluation.json`, whose docstring has the trainings. *Changing*: 1,000 characters "
        "of held-out Shakespeare and of IMDB reviews by turns, judged on the characters that the training text has. "
        "*Plain*: held-out Shakespeare. Bits per character; *mixed* is what `zoo score --dynamic` answers. The rate "
        "was chosen on validation text of one seed; the intervals are of one text each, and narrow, as neighbouring "
        "segments are alike.\n\n"
        "| run | stream | static | dynamic | mixed | gain of mixed |\n|---|---|---|---|---|---|"
    )
    for row in json.loads(place.read_text())["rows"]:
        found = row["known" if row["stream"] == "changing" else "all"]
        bits = " | ".join(f"{found[way]:.4f}" for way in ("static", "dynamic", "mixed"))
        gain, low, high = found["mixed_gain"]
        yield f"| {row['run']} | {row['stream']} | {bits} | {gain:+.4f} ({low:+.4f} to {high:+.4f}) |"


def _interval(values: np.ndarray) -> tuple[float, float]:
    draw = np.random.default_rng(0).integers(0, len(values), (_BOOTSTRAP, len(values)))
    low, high = np.quantile(values[draw].mean(1), [0.025, 0.975]).tolist()
    return low, high


def _runs(work: Path, part: str, dataset: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(work.glob(f"{part}-{dataset}-*.json"))]


def _draw(tables: dict[str, _Cells], place: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2 * len(tables)), dpi=100, layout="constrained")
    place.parent.mkdir(parents=True, exist_ok=True)
    for number, (dataset, cells) in enumerate(tables.items(), 1):
        axes = figure.add_subplot(len(tables), 1, number, title=_NAMES[dataset], ylabel="error, %")
        colours = {"plain": "tab:grey", "unguarded": "tab:orange", "refined": "tab:blue"}
        for shift, kind in enumerate(_KINDS):
            heights = [cells.mean(kind, cells.chosen("iid", name)) for name in ("clean", *NAMES)]
            axes.bar(np.arange(len(heights)) + 0.27 * (shift - 1), heights, 0.27, label=kind, color=colours[kind])
        axes.set_xticks(np.arange(len(NAMES) + 1), ("clean", *NAMES), rotation=30, ha="right")
        axes.legend()
    figure.savefig(place, format="png")
