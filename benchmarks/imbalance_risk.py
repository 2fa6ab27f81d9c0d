"""Calibration and selective prediction where classes are rare: what holds, measured on runs of `benchmarks.imbalance`.

    python -m benchmarks.imbalance_risk --out=runs/imbalance
    python -m benchmarks.imbalance_risk --out=runs/imbalance --only=reviews --methods none,weights

Missing runs are trained first. The test examples have the proportions of the training data: those of Fashion-MNIST are
drawn by the same profile of 100:1.

- ECE: expected calibration error (15 bins of equal width) and log loss on the test examples, as trained and with the
  temperature, and with temperature and biases, fitted on the validation split.
- The promise of `--abstain_risk`, at half the model's error: 1,000 times the validation and test predictions are mixed
  and parted again into parts of the same sizes, the rule is chosen on the first and judged on the second. "broken" is
  how often more than that share of the answers was wrong: the promise is at most 5 %. "answered" is the mean share of
  examples that are answered, "rare" the same among examples of the rarer half of the classes, "rare wrong" the share of
  wrong answers among these.

Means over three seeds. The parts repeat each other's examples, so "broken" is no independent count; but it would show a
rule that is wrong.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import zoo
from benchmarks import imbalance
from zoo.data.datasets import text_columns
from zoo.metrics import classification, temperature_scaling
from zoo.metrics import logits as metrics_logits
from zoo.predict.calibration import selective_prediction
from zoo.predict.evaluation import held_out

_REPEATS = 1000
_COLUMNS = ("ECE", "with T", "with biases", "log loss", "with T", "with biases", "risk", "broken", "answered", "rare")


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of `benchmarks.imbalance`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="fashion,reviews", help="names of studies, with commas")
    parser.add_argument("--methods", default="none,logit_adjusted,weights", help="values of --imbalance, with commas")
    options = parser.parse_args(arguments)
    print(f"| data | imbalance | {' | '.join(_COLUMNS)} | rare wrong |")
    print("|---" * (len(_COLUMNS) + 3) + "|")
    for study in options.only.split(","):
        for method in options.methods.split(","):
            found = np.array([measures(study, method, seed, options.out) for seed in range(options.seeds)])
            cells = [_cell(column, 3 if 3 <= place < 6 else 1) for place, column in enumerate(found.T)]
            print(f"| {study} | {method} | {' | '.join(cells)} |", flush=True)


def measures(study: str, method: str, seed: int, out: Path) -> list[float]:
    """The numbers of a row for one seed."""
    imbalance.outcome(study, method, seed, out)
    folder = out / study / str(seed)
    predictor = zoo.load(folder / method)
    validation = held_out.load(folder / method, predictor)
    examples, labels = _TESTS[study](folder, seed, predictor)
    logits = metrics_logits.two_class_logits(predictor.logits(examples))
    fits = (
        temperature_scaling.identity(logits.shape[1]),
        temperature_scaling.temperature(validation.logits, validation.labels),
        temperature_scaling.bias_corrected(validation.logits, validation.labels),
    )
    chances = [fit.apply(logits) for fit in fits]
    metrics = [classification.classification(each, labels, predictor.classes) for each in chances]
    calibration = [each[name] for name in ("ece", "log_loss") for each in metrics]
    both = np.concatenate([validation.logits, logits])
    return [*calibration, *promise(both, np.concatenate([validation.labels, labels]), len(validation.labels), seed)]


def promise(logits: np.ndarray, labels: np.ndarray, validation: int, seed: int) -> list[float]:
    """Risk, how often it was exceeded, share of answers; the share, and that of wrong ones, of the rare classes."""
    chances = temperature_scaling.identity(logits.shape[1]).apply(logits)
    confidence, correct = chances.max(axis=1), chances.argmax(axis=1) == labels
    sizes = np.bincount(labels, minlength=logits.shape[1])
    rare = np.isin(labels, np.argsort(-sizes, kind="stable")[len(sizes) // 2 :])
    risk, draw, found = 0.5 * float(1 - correct.mean()), np.random.default_rng(seed), []
    for _ in range(_REPEATS):
        order = draw.permutation(len(labels))
        first, second = order[:validation], order[validation:]
        rule = selective_prediction.choose(confidence[first], correct[first], risk)
        answered = rule.answers(confidence[second])
        wrong, is_rare = answered & ~correct[second], rare[second]
        rare_answers = (answered & is_rare).sum()
        found.append(
            [
                wrong.sum() > risk * answered.sum(),
                answered.mean(),
                answered[is_rare].mean(),
                (wrong & is_rare).sum() / rare_answers if rare_answers else np.nan,
            ]
        )
    return [risk, *(_mean(column) for column in np.array(found).T)]


def _mean(values: np.ndarray) -> float:
    """The mean of those that are defined: there is no share of wrong answers where nothing is answered."""
    return float(values[~np.isnan(values)].mean()) if not np.isnan(values).all() else np.nan


def _cell(values: np.ndarray, digits: int) -> str:
    mean = _mean(values)
    return "none" if np.isnan(mean) else f"{mean if digits == 3 else 100 * mean:.{digits}f}"


def _fashion(folder: Path, seed: int, predictor) -> tuple[np.ndarray, np.ndarray]:
    with np.load(folder / "data.npz") as data:
        kept = imbalance.profile(data["y_test"], 100.0, seed)
        return data["x_test"][kept], data["y_test"][kept]


def _reviews(folder: Path, seed: int, predictor) -> tuple[list[str], np.ndarray]:
    read = text_columns.read(folder / "test.jsonl").columns
    places = {name: k for k, name in enumerate(predictor.classes)}
    return read["text"].to_pylist(), np.array([places[name] for name in read["label"].to_pylist()])


_TESTS = {"fashion": _fashion, "reviews": _reviews}


if __name__ == "__main__":
    main()
