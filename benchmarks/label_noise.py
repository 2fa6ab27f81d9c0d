"""Study of regularization where labels are wrong: Fashion-MNIST, of whose training labels 40 % are drawn at random.

    python -m benchmarks.label_noise --out=runs/label_noise

`experiments.mlp_classifier` (784-256-128-10, batches of 128, Adam, 30 epochs, the last weights) on 10,000 images of
each seed. The labels of the validation split are as wrong as those of training, those of the test split are right. Each
row of the table is one choice of flags; of `sam` and `asam` the radius is the best of three by the validation accuracy
of the seed. Printed are means of the test accuracy over the seeds in %, and the gain over plain Adam of the same seed,
with half their 95 % intervals (Student's t). Results are kept in `--out` and not computed again.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

import zoo
from experiments import mlp_classifier
from zoo.data.datasets import images

PLAIN = "Adam"
# Of each row the choices, of which the validation split picks one.
ROWS = {
    PLAIN: [{}],
    "sam": [{"sam": "sam", "sam_radius": radius} for radius in (0.1, 0.3, 1.0)],
    "asam": [{"sam": "asam", "sam_radius": radius} for radius in (1.0, 3.0, 10.0)],
    "label smoothing 0.2": [{"label_smoothing": 0.2}],
    "dropout 0.5": [{"dropout": 0.5}],
    "swa 0.5": [{"swa": 0.5}],
    "gradient noise 0.01": [{"gradient_noise": 0.01}],
    "early stopping": [{"patience": 5}],
}
LINEAR = "logistic regression"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=30)
    parser.add_argument("--images", type=int, default=10_000, help="training images of each seed")
    parser.add_argument("--noise", type=float, default=0.4, help="share of wrong training labels")
    parser.add_argument("--rows", default=",".join(ROWS), help="rows of the table, with commas")
    options = parser.parse_args(arguments)
    rows = options.rows.split(",")
    found: dict[str, list[float]] = {name: [] for name in (*rows, LINEAR)}
    for seed in range(options.seeds):
        file = noisy_file(options.out / f"seed-{seed}.npz", seed, options.images, options.noise)
        for name in rows:
            results = [outcome(options, file, seed, changes, name == PLAIN) for changes in ROWS[name]]
            found[name].append(100 * max(results, key=lambda each: each["eval/accuracy"])["test/accuracy"])
            if name == PLAIN:
                found[LINEAR].append(100 * results[0]["test/baseline_accuracy"])
            print(f"seed {seed}, {name}: {found[name][-1]:.2f}", flush=True)
    print("\n".join(table(found)))


def noisy_file(path: Path, seed: int, count: int, share: float) -> Path:
    """A .npz of `count` images, a tenth of them for validation, with wrong labels, and the whole test split."""
    if path.exists():
        return path
    data = images.load("fashion_mnist")
    draw = np.random.default_rng(seed)
    chosen = draw.permutation(len(data.train["y"]))[: count + count // 10]
    labels = data.train["y"][chosen]
    wrong = draw.random(len(labels)) < share
    labels = np.where(wrong, draw.integers(0, 10, len(labels)), labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    x = data.train["x"][chosen]
    np.savez(path, x=x[:count], y=labels[:count])
    np.savez(path.with_suffix(".eval.npz"), x=x[count:], y=labels[count:])
    np.savez(path.with_suffix(".test.npz"), x=data.test["x"], y=data.test["y"])
    return path


def outcome(options: argparse.Namespace, file: Path, seed: int, changes: dict, baseline: bool) -> dict[str, float]:
    """The result of one run, read from its folder if it is there."""
    name = "-".join(f"{key}_{value}" for key, value in changes.items()) or "plain"
    folder = options.out / f"{name}-{seed}"
    config = mlp_classifier.MlpConfig(
        dataset=str(file),
        eval_file=str(file.with_suffix(".eval.npz")),
        test_file=str(file.with_suffix(".test.npz")),
        hidden=(256, 128),
        epochs=options.epochs,
        seed=seed,
        baseline=baseline,
        show="none",
        graph=False,
        **changes,
    )
    if not (folder / "result.json").exists():
        zoo.run(mlp_classifier.build, config, folder)
    return json.loads((folder / "result.json").read_text())


def table(found: dict[str, list[float]]) -> list[str]:
    """A line for each row: accuracy, and gain over plain Adam."""
    lines = ["| training | test accuracy | over plain Adam |", "|---|---|---|"]
    for name, values in found.items():
        gains = np.subtract(values, found[PLAIN])
        gain = "" if name == PLAIN else f"{gains.mean():+.2f} ± {half_interval(gains):.2f}"
        lines.append(f"| {name} | {np.mean(values):.2f} ± {half_interval(values):.2f} | {gain} |")
    return lines


def half_interval(values: Sequence[float]) -> float:
    """Half of the 95 % interval of a mean, by Student's t."""
    count = len(values)
    return float(stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count)) if count > 1 else math.inf


if __name__ == "__main__":
    main()
