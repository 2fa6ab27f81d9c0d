"""What is left of the promises of `--abstain_risk` and `--prediction_sets` under shift, with the detector and without.

    python -m benchmarks.promise_under_shift runs/mnist-0 runs/mnist-1 runs/mnist-2
    python -m benchmarks.promise_under_shift runs/imdb-0 runs/imdb-1 runs/imdb-2 --other=glue/sst2

The runs are classifiers of images, or of texts. Half the error on the validation split is promised twice: as the
largest share of wrong answers among those given, and as the largest share of sets without the true class. Every stream
has 1,000 test examples (label shift: 2,000) in batches of 200:

- unshifted: drawn at random, 40 streams for each run;
- sorted: the same by class, a stream for each run;
- corrupted: 500 as they are, then 500 corrupted, each kind at severities 1, 3 and 5; figures are of the second half;
- of texts instead: 500 as they are, then 500 cut to their first twenty words, or 500 of another data set;
- label shift: drawn with proportions of a Dirichlet distribution (alpha 1), 10 streams for each run.

"alarms" is the share of streams with one, "delay" the median number of examples from the shift to the alarm. "risk" is
the share of wrong answers among those given, "covered" the share of sets that hold the true class, "answered" and
"size" their shares and sizes: means over streams. "broken" is the share of streams in which the risk is larger than
promised by more than chance, or the coverage smaller (exact binomial test, 1 %). "worst class" is the least coverage
of a class with 50 examples or more in the stream; `--class_conditional` promises the sets' coverage for each class.
Intervals are of the means over runs, 95 % by Student's t.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

import zoo
from zoo.adaptation import promises
from zoo.adaptation.promises import Asked, Promises
from zoo.data.datasets import image_corruptions, text_classification
from zoo.data.datasets.text_splits import Texts
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities, two_class_logits
from zoo.predict.evaluation import arrays, held_out, run_data
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.array_classifier import ArrayClassifier
from zoo.predict.predictors.text_classifier import TextClassifier
from zoo.workdir import Run, read_run

_LENGTH, _BATCH, _UNSHIFTED, _LABEL_SHIFTS = 1000, 200, 40, 10
# Texts that are read of a test split, words of shortened ones, and streams of each change.
_TEXTS, _WORDS, _TEXT_SHIFTS = 5000, 20, 10
_COLUMNS = ("alarms", "delay", "risk", "answered", "covered", "size", "broken risk", "broken sets", "worst class")
# Examples of a class in a stream from which its coverage counts: with fewer, the worst class is one of two or three.
_OF_A_CLASS = 50


class Stream(NamedTuple):
    """A stream of test examples.

    Attributes:
        kind: first column of the table's row.
        logits: by the model, `[examples, classes]`.
        labels: `[examples]`.
        start: number of the first example that is shifted.
    """

    kind: str
    logits: np.ndarray
    labels: np.ndarray
    start: int = 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--other", help="data set of the same number of classes in the same order, for runs of texts")
    parser.add_argument("--class_conditional", action="store_true", help="sets that hold their promise for each class")
    options = parser.parse_args(arguments)
    rows: dict[tuple[str, str], list[np.ndarray]] = {}
    for folder in options.runs:
        for key, values in measured(folder, options.other, options.class_conditional).items():
            rows.setdefault(key, []).append(values)
    print(f"| stream | detector | {' | '.join(_COLUMNS)} |\n|{'---|' * (len(_COLUMNS) + 2)}")
    for (kind, detector), values in rows.items():
        print(f"| {kind} | {detector} | {' | '.join(map(_cell, np.array(values).T))} |", flush=True)


def measured(
    folder: Path, other: str | None = None, class_conditional: bool = False
) -> dict[tuple[str, str], np.ndarray]:
    """Columns by the kind of stream and the detector, means over the run's streams; `other`: texts of another kind."""
    predictor = zoo.load(folder)
    source = held_out.load(folder, predictor)
    error = float((source.logits.argmax(axis=1) != source.labels).mean())
    asked = Asked(error / 2, error / 2, class_conditional, predictor.decide)
    outcomes: dict[tuple[str, str], list[list[float]]] = {}
    run = read_run(folder)
    found = text_streams(predictor, run, other) if predictor.reads_text else image_streams(predictor, run)
    for stream in found:
        for detector in ("without", "with"):
            outcome = judged(stream, source, asked, detector == "with")
            outcomes.setdefault((stream.kind, detector), []).append(outcome)
    result = {}
    for key, values in outcomes.items():
        columns = np.array(values).T
        result[key] = np.array([_mean(column) for column in columns])
        delays = columns[1][np.isfinite(columns[1])]
        result[key][1] = np.median(delays) if len(delays) else np.nan
    return result


def image_streams(predictor: ArrayClassifier, run: Run) -> Iterator[Stream]:
    """All streams of a run on images."""
    test = arrays.own_test(predictor, run)
    x, y, draw = test["x"], test["y"], np.random.default_rng(0)
    logits = predictor.logits(x)
    yield from _unchanged(logits, y, draw)
    for name in image_corruptions.NAMES:
        for severity in (1, 3, 5):
            chosen = draw.permutation(len(y))[:_LENGTH]
            after = predictor.logits(image_corruptions.corrupted(x[chosen[_LENGTH // 2 :]], name, severity))
            yield _half(f"corrupted, severity {severity}", logits[chosen], y[chosen], after, y[chosen[_LENGTH // 2 :]])


def text_streams(predictor: TextClassifier, run: Run, other: str | None) -> Iterator[Stream]:
    """All streams of a run on texts."""
    draw = np.random.default_rng(0)
    texts, y = _some(run_data.run_texts(run).test, draw)
    logits = two_class_logits(predictor.logits(texts))
    yield from _unchanged(logits, y, draw)
    changed = {f"first {_WORDS} words": ([" ".join(text.split()[:_WORDS]) for text in texts], y)}
    if other:
        changed[f"of {other}"] = _some(text_classification.load(other).train, draw)
    for name, (shown, labels) in changed.items():
        after = two_class_logits(predictor.logits(shown))
        for _ in range(_TEXT_SHIFTS):
            before, late = draw.permutation(len(y))[: _LENGTH // 2], draw.permutation(len(labels))[: _LENGTH // 2]
            yield _half(name, logits[before], y[before], after[late], labels[late])


def _some(data: Texts, draw: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Some of the texts, and their labels: more take long to read and tell no more.

    Raises:
        BadInput: there are too few.
    """
    if len(data.labels) < _LENGTH:
        raise BadInput(f"{len(data.labels)} texts: expected {_LENGTH:,} or more for streams of this length")
    chosen = draw.permutation(len(data.labels))[:_TEXTS]
    return [data.texts[index] for index in chosen.tolist()], np.asarray(data.labels)[chosen]


def _half(kind: str, before: np.ndarray, labels: np.ndarray, after: np.ndarray, late: np.ndarray) -> Stream:
    """A stream whose second half is shifted; of `before` and `labels` only the first half is used."""
    half = _LENGTH // 2
    return Stream(kind, np.concatenate([before[:half], after]), np.concatenate([labels[:half], late]), half)


def _unchanged(logits: np.ndarray, y: np.ndarray, draw: np.random.Generator) -> Iterator[Stream]:
    """Streams of examples that are as in the training, in several orders and proportions of the classes."""
    classes = logits.shape[1]
    for _ in range(_UNSHIFTED):
        chosen = draw.permutation(len(y))[:_LENGTH]
        yield Stream("unshifted", logits[chosen], y[chosen])
    chosen = chosen[np.argsort(y[chosen], kind="stable")]
    yield Stream("sorted by class", logits[chosen], y[chosen])
    for _ in range(_LABEL_SHIFTS):
        shares = draw.dirichlet(np.ones(classes))
        weights = (shares / np.bincount(y, minlength=classes))[y]
        chosen = draw.choice(len(y), 2 * _LENGTH, p=weights / weights.sum())
        yield Stream("label shift", logits[chosen], y[chosen])


def judged(stream: Stream, source: HeldOut, asked: Asked, detects: bool) -> list[float]:
    """The columns of one stream."""
    first = class_probabilities(source.logits)
    made = Promises(asked, *held_out.halves(source), source.labels, lambda: first)
    answered, covered, sizes = [], [], []
    probabilities = class_probabilities(stream.logits).astype(np.float32)
    for begin in range(0, len(stream.labels), _BATCH):
        part = slice(begin, begin + _BATCH)
        rules = made.rules
        if detects:
            promise = made.update(stream.logits[part])
            rules = made.rules_of(promise) if promise != promises.VALIDATION else rules
        sets = rules.sets.sets(probabilities[part], asked.decide(probabilities[part]))
        answered.append(rules.abstention.answers(probabilities[part].max(axis=1)))
        covered.append(sets[np.arange(len(sets)), stream.labels[part]])
        sizes.append(sets.sum(axis=1))
    wrong = stream.logits.argmax(axis=1) != stream.labels
    answered, covered, sizes = (np.concatenate(each)[stream.start :] for each in (answered, covered, sizes))
    labels = stream.labels[stream.start :]
    of_class = [covered[labels == label] for label in range(stream.logits.shape[1])]
    mistakes, answers = int(wrong[stream.start :][answered].sum()), int(answered.sum())
    alarm = made.monitor.alarm
    return [
        float(alarm is not None),
        alarm.example - stream.start if alarm else np.nan,
        mistakes / answers if answers else np.nan,
        answers / len(answered),
        float(covered.mean()),
        float(sizes.mean()),
        float(stats.binom.sf(mistakes - 1, answers, asked.risk) < 0.01) if answers else 0.0,
        float(stats.binom.sf(int((~covered).sum()) - 1, len(covered), asked.alpha) < 0.01),
        min((float(each.mean()) for each in of_class if len(each) >= _OF_A_CLASS), default=np.nan),
    ]


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else np.nan


def _cell(values: np.ndarray) -> str:
    """Mean over runs and its interval; empty where no run has a value."""
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    mean = f"{values.mean():.4g}"
    if len(values) < 2 or np.ptp(values) == 0:
        return mean
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{mean} ± {half:.2g}"


if __name__ == "__main__":
    main()
