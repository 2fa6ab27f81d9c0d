"""Study of `--imbalance`: each choice beside plain training, on data whose classes were made rare.

    python -m benchmarks.imbalance --out=runs/imbalance
    python -m benchmarks.imbalance --out=runs/imbalance --only=fashion --methods none,logit_adjusted

- fashion: Fashion-MNIST, whose largest class has 100 times as many training examples as its smallest, in between by an
  exponential profile (Cui et al., 2019, section 5.1); `experiments.mlp_classifier` with default flags. The test split
  stays balanced.
- digits: scikit-learn's 8 x 8 digits as a table of 64 columns, 20:1 by the same profile, with the recipe for tables.
  The test split is balanced.
- reviews: sentences of SST-2, 2,000 negative and 100 positive ones; `experiments.lstm_sentiment` with default flags.
  The test split has the same proportions.

A tenth of the training examples is the validation split, as rare as they are. Seeds draw examples and weights. The
table has the mean over the seeds of test metrics in %, and of macro F1 the gain over plain training with its 95 %
interval (Student's, paired by seed). Results are kept in `--out` and not computed again.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

import zoo
from experiments import lstm_sentiment, mlp_classifier
from zoo import files
from zoo.data.datasets import images, text_classification
from zoo.models.class_imbalance import METHODS

_METRICS = ("accuracy", "balanced_accuracy", "f1_macro", "log_loss")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default=",".join(_STUDIES), help="names of studies, with commas")
    parser.add_argument("--methods", default=",".join(METHODS), help="values of --imbalance, with commas")
    options = parser.parse_args(arguments)
    print("| data | imbalance | accuracy | balanced accuracy | macro F1 | log loss | gain in macro F1 |")
    print("|---|---|---|---|---|---|---|")
    for study in options.only.split(","):
        plain = None
        for method in options.methods.split(","):
            results = [outcome(study, method, seed, options.out) for seed in range(options.seeds)]
            values = np.array([[result[f"test/{name}"] for name in _METRICS] for result in results])
            plain = values[:, 2] if method == "none" else plain
            print(_row(study, method, values, plain), flush=True)


def outcome(study: str, method: str, seed: int, out: Path) -> dict[str, float]:
    """The result of one run."""
    folder = out / study / str(seed)
    result = folder / method / "result.json"
    if not result.exists():
        keras.backend.clear_session()
        folder.mkdir(parents=True, exist_ok=True)
        build, config = _STUDIES[study](folder, seed)
        zoo.run(build, config.replace(imbalance=method), folder / method)
    return json.loads(result.read_text())


def profile(labels: np.ndarray, ratio: float, seed: int) -> np.ndarray:
    """Indices of examples whose class sizes fall from that of the first class by `ratio` to the last one's."""
    draw, sizes = np.random.default_rng(seed), np.bincount(labels)
    kept = [int(sizes.min() * ratio ** (-k / (len(sizes) - 1))) for k in range(len(sizes))]
    parts = [draw.choice(np.flatnonzero(labels == k), kept[k], replace=False) for k in range(len(sizes))]
    return draw.permutation(np.concatenate(parts))


def _fashion(folder: Path, seed: int):
    data = images.load("fashion_mnist")
    x, y = (np.concatenate([data.train[name], data.validation[name]]) for name in ("x", "y"))
    kept = profile(y, 100.0, seed)
    _save(folder, x[kept], y[kept], data.test["x"], data.test["y"])
    return mlp_classifier.build, mlp_classifier.MlpConfig(dataset=str(folder / "data.npz"), seed=seed, graph=False)


def _digits(folder: Path, seed: int):
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, order = x.astype(np.float32), np.random.default_rng(seed).permutation(len(y))
    # 400 test examples, about as many of each class.
    train, test = order[400:], order[:400]
    train = train[profile(y[train], 20.0, seed)]
    _save(folder, x[train], y[train], x[test], y[test])
    path = str(folder / "data.npz")
    return mlp_classifier.build, mlp_classifier.MlpConfig(dataset=path, seed=seed, graph=False, baseline=False)


def _reviews(folder: Path, seed: int):
    data = text_classification.load("glue/sst2")
    draw, labels = np.random.default_rng(seed), data.train.labels
    sizes = {"train": (2_000, 100), "test": (2_000, 100)}
    orders, starts = [draw.permutation(np.flatnonzero(labels == k)) for k in (0, 1)], [0, 0]
    for name, counts in sizes.items():
        rows = []
        for k, count in enumerate(counts):
            chosen = orders[k][starts[k] : starts[k] + count]
            starts[k] += count
            rows += [{"text": data.train.texts[i], "label": data.classes[k]} for i in chosen]
        lines = [json.dumps(rows[i]) for i in draw.permutation(len(rows))]
        files.write(folder / f"{name}.jsonl", "\n".join(lines) + "\n")
    paths = {f"{name}_file": str(folder / f"{name}.jsonl") for name in sizes}
    return lstm_sentiment.build, lstm_sentiment.LstmConfig(seed=seed, graph=False, baseline=False, **paths)


def _save(folder: Path, x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> None:
    np.savez(folder / "data.npz", x=x, y=y, x_test=x_test, y_test=y_test)


_STUDIES = {"fashion": _fashion, "digits": _digits, "reviews": _reviews}


def _row(study: str, method: str, values: np.ndarray, plain: np.ndarray | None) -> str:
    accuracy, balanced, f1, loss = values.mean(axis=0)
    gain = "" if plain is None or method == "none" else _interval(100 * (values[:, 2] - plain))
    return (
        f"| {study} | {method} | {100 * accuracy:.1f} | {100 * balanced:.1f} | {100 * f1:.1f} | {loss:.3f} | {gain} |"
    )


def _interval(differences: np.ndarray) -> str:
    """Mean and half the 95 % interval."""
    from scipy import stats

    if len(differences) < 2:
        return f"{differences.mean():+.1f}"
    half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return f"{differences.mean():+.1f} +- {half:.1f}"


if __name__ == "__main__":
    main()
