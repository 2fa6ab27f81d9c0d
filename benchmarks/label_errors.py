"""Study of `--find_label_errors`: a tenth of the labels is made wrong at random, and those that are found are counted.

    python -m benchmarks.label_errors --out=runs/label_errors
    python -m benchmarks.label_errors --out=runs/label_errors --only=digits

- digits: scikit-learn's 1,797 digits, `experiments.mlp_classifier` with default flags.
- fashion: the first 5,000 training examples of Fashion-MNIST, `experiments.mlp_classifier` with default flags.
- reviews: the first 1,500 training reviews of IMDB, `experiments.lstm_sentiment --epochs=2 --max_length=128`.

Each has five folds. A seed draws which labels are wrong, and the weights. Precision is the share of wrong labels among
those that are listed, recall the share of the wrong labels that are listed, "first" the precision of the first of the
list, as many as labels were made wrong. "guess" is the share that a list at random would reach: a tenth. "suggested" is
how often the suggested label is the true one, among listed labels that are wrong. The table has means over the seeds
with Student's 95 % interval, in %. Labels that are wrong in the data as they are count as false findings. Results are
kept in `--out` and not computed again.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import zoo
from experiments import lstm_sentiment, mlp_classifier
from zoo import files
from zoo.data.datasets import images, text_classification
from zoo.training import several_runs

_NOISE = 0.1
_MEASURES = ("listed", "precision", "recall", "first", "suggested")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of data, runs and results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default=",".join(_STUDIES), help="names of studies, with commas")
    options = parser.parse_args(arguments)
    print("| data | listed | precision | recall | first | suggested | guess |")
    print("|---|---|---|---|---|---|---|")
    for study in options.only.split(","):
        results = [outcome(study, seed, files.absolute(options.out)) for seed in range(options.seeds)]
        cells = [_cell([result[name] for result in results]) for name in _MEASURES]
        print(f"| {study} | {' | '.join(cells)} | {100 * _NOISE:.0f} |", flush=True)


def outcome(study: str, seed: int, out: Path) -> dict[str, float]:
    """The measures of one seed."""
    folder = out / study / str(seed)
    result = folder / "measures.json"
    if not result.exists():
        folder.mkdir(parents=True, exist_ok=True)
        true, given, kind = _STUDIES[study](folder, seed)
        measured = measures(folder / "run" / "label_errors.csv", kind, true, given)
        files.write(result, json.dumps(measured))
    return json.loads(result.read_text())


def measures(path: Path, first: int, true: np.ndarray, given: np.ndarray) -> dict[str, float]:
    """Precision, recall and so on of a list of label errors.

    Args:
        path: the list; its first column is the place of an example.
        first: place of the first example.
        true: names of the labels before some were made wrong, `[examples]`.
        given: names of the labels with which the runs were trained, `[examples]`.
    """
    with path.open(encoding="utf8", newline="") as file:
        _, *rows = csv.reader(file)
    places = np.array([int(row[0]) for row in rows]) - first
    suggested = np.array([row[2] for row in rows])
    is_wrong = true != given
    hits, count = is_wrong[places], int(is_wrong.sum())
    return {
        "listed": len(places) / len(true),
        "precision": float(hits.mean()),
        "recall": float(hits.sum() / count),
        "first": float(hits[:count].mean()),
        "suggested": float((suggested == true[places])[hits].mean()),
    }


def noisy(labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """The labels, of which a tenth is another class at random."""
    draw = np.random.default_rng(seed)
    wrong = draw.permutation(len(labels))[: round(_NOISE * len(labels))]
    result = labels.copy()
    result[wrong] = (labels[wrong] + draw.integers(1, classes, len(wrong))) % classes
    return result


def _arrays(folder: Path, seed: int, x: np.ndarray, labels: np.ndarray):
    given = noisy(labels, 10, seed)
    np.savez(folder / "data.npz", x=x, y=given)
    config = mlp_classifier.MlpConfig(dataset=str(folder / "data.npz"), find_label_errors=True, seed=seed)
    zoo.run(mlp_classifier.build, config, folder / "run")
    return labels.astype(str), given.astype(str), 0


def _digits(folder: Path, seed: int):
    from sklearn.datasets import load_digits

    found = load_digits()
    # A .npz of bytes is read as intensities up to 255.
    return _arrays(folder, seed, (found.images * 15.9375).astype(np.uint8), found.target.astype(np.int64))


def _fashion(folder: Path, seed: int):
    data = images.load("fashion_mnist")
    return _arrays(folder, seed, data.train["x"][:5000], data.train["y"][:5000].astype(np.int64))


def _reviews(folder: Path, seed: int):
    data = text_classification.load("imdb_reviews")
    texts, labels = data.train.texts[:1500], data.train.labels[:1500].astype(np.int64)
    given, names = noisy(labels, 2, seed), np.array(data.classes)
    with (folder / "data.jsonl").open("w", encoding="utf8") as file:
        for text, label in zip(texts, names[given].tolist()):
            file.write(json.dumps({"text": text, "label": label}) + "\n")
    settings = {"train_file": str(folder / "data.jsonl"), "find_label_errors": True, "seed": seed, "baseline": False}
    config = lstm_sentiment.LstmConfig(**settings, epochs=2.0, max_length=128)
    zoo.run(lstm_sentiment.build, config, folder / "run")
    return names[labels], names[given], 1


_STUDIES = {"digits": _digits, "fashion": _fashion, "reviews": _reviews}


def _cell(values: Sequence[float]) -> str:
    mean, low, high, _ = several_runs.summary([100 * value for value in values])
    return f"{mean:.1f} ± {(high - low) / 2:.1f}"


if __name__ == "__main__":
    main()
