"""The page of `benchmarks.multi_step` on test-time adaptation, from the JSON files of the other parts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import dynamic_neighbours
from benchmarks.multi_step import page_orders
from benchmarks.multi_step.images import CHANGING
from zoo.adaptation import trace_plot
from zoo.adaptation.guards import Score
from zoo.adaptation.trace import TraceEntry
from zoo.data.datasets.image_corruptions import NAMES

_NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "glue-sst2": "SST-2", "imdb_reviews": "IMDB"}
_IMAGES = ("mnist", "fashion_mnist")
_KINDS = ("plain", "unguarded", "refined")
_BOOTSTRAP = 2000
# All sections, in their order.
_SECTIONS = (
    *("Image corruptions", "Mixed orders", "Calibration under corruption"),
    *("Streams on which adaptation often collapses", "Abrupt distribution shift", "Label shift"),
    *("Calibration and selective prediction", "Dynamic evaluation of language models", "Single stages"),
    *("Learners on long streams", "Poses on small networks", "Single stages of text models", "Cost"),
    *("Nearest labelled texts", "Scores without labels", "Early exit", "Failures and open questions"),
)
_HEAD = """# Test-time adaptation: figures and failures

Gains and failures of `zoo predict --refine=auto` (multi-step prediction; [how it works](test_time_adaptation.md)).
Written by `python -m benchmarks.multi_step WORK`, which trains the models first; each table gives its number of seeds.
Intervals are paired bootstrap intervals (95 %) over the test examples, with the same resamples for all seeds and
conditions. The thresholds of stages and guards were chosen on corrupted *training* images of one MNIST and one
Fashion-MNIST network, those of poses with six small networks more; all figures here are of test data. One limit (of
training on recoloured images) was lowered from 0.5 to 0.4 after a look at ten lightly damaged test cells; that copy and
model answer together, and by what poses are proved, was changed after the failures of one stream and one cell here.

*Plain* is the trained network. *Unguarded* sets the batch normalization statistics to those of each batch (Schneider et
al., 2020; Nado et al., 2020). *Refined* is the plan `auto` in batches of 200: statistics that account for class
proportions, training on recoloured validation images, the image's pose, temperature, class prior, and neighbours that
share a class; each change is kept only if the guards agree.
"""

_LAYERS = """
## Early exit

MiniLM fine-tuned on SST-2 (command G of [the results](results.md#fine-tuned-encoders)), dev split, three seeds;
thresholds from the validation split (`python -m benchmarks.early_exit RUN --risks=0.01,0.02 --rules=confident`). The
risk is the share of predictions that may differ from the full model's; seconds include reading and tokenizing.

| risk | layers of 6 | times fewer | accuracy, points | seconds, times fewer |
|---|---|---|---|---|
| 1 % | 3.97, 4.35, 3.88 | 1.51, 1.38, 1.55 | -0.1, -0.1, -0.2 | 1.20, 1.45, 1.32 |
| 2 % | 3.56, 3.80, 3.54 | 1.69, 1.58, 1.70 | -0.2, -0.2, -0.1 | 1.39, 1.36, 1.30 |

A unidirectional LSTM on IMDB (one seed, accuracy 86.6 %, 233 tokens per review) stops after 177 tokens on average at a
risk of 1 % (1.32 times fewer, -0.2 points) and after 151 at 2 % (1.54, -0.55), but saves no time (seconds: 0.99 and
1.03 times fewer):

    python -m experiments.lstm_sentiment --recipe=plain --dataset=imdb_reviews --tokenizer=word --vocabulary=30000 \\
      --max_length=400 --pooling=mean --dropout=0.5 --embedding_dropout=0.4 --batch_size=64 --epochs=3 \\
      --learning_rate=0.002 --schedule=cosine --workdir=runs/reader
    python -m benchmarks.early_exit runs/reader --chunk=16 --risks=0.01,0.02 --rules=confident
"""

_FAILURES = """
## Failures and open questions

- Broad stripes, and strong fog on Fashion-MNIST, stay hard: noise with the right covariance is not stripes.
- None of the 144 cells above gets worse by more than 0.2 points on average, and none of the 32 streams in mixed
  orders; single networks lose up to two and a half points (light stripes, light scaling).
- Statistics are fitted before poses are searched, and may hide a light change of size: on images scaled by severity 2,
  one of three MNIST networks errs on 19.0 % instead of 16.8 %; the other two find the poses. The poses of small images
  (8 x 8) are refused, as the search leaves more of the distance there.
- A recoloured copy is sometimes surer than it is right where class proportions drift, for example on strongly pixelated
  training images of a Fashion-MNIST network: no score told these copies from the good ones.
- The recoloured validation images teach a copy of the model for one to three rounds of 200 steps, each time that the
  recent images have grown by half: ten seconds on one core for a perceptron. Convolutional networks do it only when
  asked (`--refine=coral`).
- Neighbours help as far as the answers point to the right class on average: where a class is mostly taken for another
  one, the whole burst becomes that other one. Not tried: persistence that differs by class.
- Temperature scaling helps badly calibrated networks; the LSTMs of IMDB are well calibrated and gain nothing. Where
  thirty validation examples say that all confidences are too low, a shift finds the raised ones too high: so they are
  raised by what is certain, and not at all where columns of a table have drifted.
- Prior and statistics do not combine: once the model has changed, its predictions no longer reveal the class
  proportions.
- The learners of `--refine=parameters`, views, perturbations and the stages `interpolation`, `t3a`, `lame` and
  `batch_prior` are not in `auto`, because no gain is shown beside it: after the statistics have adapted, the learners
  improve nothing or little, kept or not. Without guards, on corrupted training images, views help against noise but
  harm under fog and contrast, perturbations make wrong predictions confident, prototypes harm adapted models and
  unshifted images, and similar examples pull each other to wrong classes where a batch holds all of them. No score
  without labels told these cases apart: the guards refuse nearly all views and perturbations, `t3a` acts only on a
  model that is shifted and unchanged, `lame` and `batch_prior` only once the order has proved that classes persist.
- Votes of the nearest validation texts (`--refine=neighbours`) gain in three of eleven cells beyond chance (0.9 to 1.1
  points, on shortened texts) and lose in none; on the models' own texts and on another data set's the gain is within
  chance, so they are not in `auto`. Votes of training texts gain as much accuracy but raise the log loss, as the model
  knows them nearly by heart; weighing neighbours by how much they look like the stream changes nothing.
- A burst is denied a class that its own answers deny, where nothing looks damaged; drifted columns end corrections of
  the prior. What the harness still finds is listed on [its page](refinement_harness.md).
- Other scores than the guards' product of expected error and distance choose worse among the zoo's own stages, on one
  network ([above](#scores-without-labels)): AETTA and the disagreements with dropout or augmentations follow the true
  error more closely over all answers, but tell the best two of one stream apart less well; a combination of all that is
  learned on other damage gains nothing. The product is half a point above the best possible choice.
- Pseudo-labels for a further training round (`zoo feedback`) gain little: IMDB's LSTMs on SST-2, three seeds, from 73.6
  to 74.5 % (+0.9 points, 0.0 to 1.7; the same round without them -0.2, -1.0 to 0.7), and lose half a point on IMDB
  itself (`benchmarks/review_domains.py`).
- Gradient steps on the reader's own neighbours (one on each passage that BM25 finds for a segment, kept where it
  lowered the loss of the last segment; Hardt and Sun, 2023) help the copy that learns, on validation text by 0.02 bits
  per character of reviews and by 0.18 of Python's sources, but the mixture with retrieval by less than 0.001 and by
  0.005: the counts know these passages. A rate of 0.1 and a second step gain the mixture 0.007 at most.
- Mask-Predict's rounds make predictions more probable to the model, but not more often right: 13.0 % of masked tokens
  are predicted correctly in one round, 12.1 in four (`benchmarks/gap_rounds.py`).
- Task-adaptive pretraining on 2,000 IMDB reviews (`zoo.adaptation.task_adaptive_pretraining`) does not help MiniLM,
  fine-tuned on SST-2, on other IMDB reviews: three seeds, 77.1 to 76.8 % (-0.35 points, -0.95 to 0.25); it becomes less
  overconfident (log loss 0.62 to 0.53) (`benchmarks/review_domains.py`).
"""


def write(work: Path, page: Path) -> None:
    """Writes the page and its pictures from the parts that were measured.

    Args:
        work: folder of the parts' JSON files.
        page: Markdown file to write.
    """
    figures = {part: {_NAMES[name]: _runs(work, part, name) for name in _IMAGES} for part in ("corruptions", "orders")}
    parts = [
        _HEAD,
        *_corruptions(work, page),
        *page_orders.orders(figures["orders"]),
        *page_orders.calibration(figures["corruptions"]),
        *_streams(work),
        *_changes(work, page),
        *_label_shift(work),
        *_calibration(work),
    ]
    # Sections that other measurements have written as Markdown.
    parts += [
        *_dynamic_evaluation(work),
        *dynamic_neighbours.section(work),
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
    page.write_text(with_former_sections(text + "\n", page.read_text() if page.exists() else ""))


def with_former_sections(text: str, former: str) -> str:
    """The page with those sections of its former text whose figures the folder lacks, each in its place.

    Args:
        text: Markdown whose sections begin with `## `; its last two are of this file and always there.
        former: the page before.
    """
    head, *new = ("\n" + text).split("\n## ")
    sections = {section.split("\n")[0]: section.rstrip("\n") for section in new}
    _, *old = ("\n" + former).split("\n## ")
    former_sections = {section.split("\n")[0]: section.rstrip("\n") for section in old}
    order = [title for title in _SECTIONS if title in sections or title in former_sections]
    order += [title for title in sections if title not in order]
    chosen = [sections.get(title) or former_sections[title] for title in order]
    return "\n\n## ".join([head.strip("\n"), *chosen]) + "\n"


def _corruptions(work: Path, page: Path) -> Iterator[str]:
    yield "\n## Image corruptions"
    tables = {}
    for dataset in _IMAGES:
        runs = _runs(work, "corruptions", dataset)
        if runs:
            tables[dataset] = _Cells(runs)
    if not tables:
        return
    _draw(tables, page.with_name("multi_step_corruptions.png"))
    yield (
        "Errors in percent, averaged over five severities and the seeds, images in random order. The last column is "
        "the largest loss at any severity (points; mean of the seeds).\n"
    )
    yield f"![Errors by corruption]({page.stem.replace('_prediction', '')}_corruptions.png)\n"
    for dataset, cells in tables.items():
        yield f"### {_NAMES[dataset]}, seeds: {len(cells.wrong['plain'])}\n"
        yield "| images | plain | unguarded | refined | largest loss |\n|---|---|---|---|---|"
        yield "\n".join(_row(cells, "iid", name) for name in ("clean", *NAMES))
        yield _summary(cells, "iid")
        yield (
            "\nThe same images sorted by class, so that a batch holds five of the ten classes (severities 3 and 5):\n\n"
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
    said = [f"| **mean of the corruptions** | {errors} | {cells.loss(chosen):+.1f} |\n"]
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
    yield "\n## Streams on which adaptation often collapses\n"
    yield (
        "Noise of severity 3, plan `statistics`. Errors in percent, mean of the seeds; the last column has the "
        "quarters of the stream, in order.\n\n"
        "| stream | data, seeds | plain | refined | by quarters |\n|---|---|---|---|---|"
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
    yield "\n## Abrupt distribution shift\n"
    yield (
        "Six hundred images of each corruption in turn, severity 4, in batches of 100, plan `auto`. Errors in percent, "
        "plain and refined, mean of the seeds. An abrupt change of the Mahalanobis distances clears the memory of the "
        "stream, because a fit to old and new examples together would suit neither "
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
    yield "\n## Label shift\n"
    yield (
        "Class proportions from a Dirichlet distribution (smaller alpha: more uneven), ten draws per seed, "
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
    yield "\n## Calibration and selective prediction\n"
    yield (
        "Expected calibration error (ECE, 15 bins) and log loss on the test split, as trained and with the temperature "
        "fitted on the validation split (T). Then `--abstain_risk`, set to half the validation error: the share of the "
        "test split that is answered, and the error among these answers. Means of the seeds.\n\n"
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
        "--out=WORK/dynamic_evaluation.json`, whose docstring has the training commands. *Changing*: 1,000 characters "
        "of held-out Shakespeare and of IMDB reviews alternate; only characters of the training text are evaluated. "
        "*Plain*: held-out Shakespeare. Bits per character; *mixed* is the answer of `zoo score --dynamic "
        "--longest_context=0`, without retrieval. The rate "
        "was chosen on validation text of one seed. Each interval is of one text, and narrow, because neighbouring "
        "segments are similar.\n\n"
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
