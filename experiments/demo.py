"""Trains the MLP on 4,000 real digits and prints what it reached; under a minute on two cores.

    python -m experiments.demo [--workdir=runs/demo]

Three seeds, the linear baseline on the same split beside them, and what to look at next.
"""

import argparse
import statistics
import sys
from pathlib import Path

from zoo.errors import ZooError

SEEDS = (0, 1, 2)


def train_seeds(workdir: Path) -> list[dict[str, float]]:
    """One run for each seed; a finished one is only read again."""
    import zoo
    from experiments.mlp_classifier import MlpConfig, build

    results = []
    for seed in SEEDS:
        print(f"seed {seed}: {workdir / f'seed{seed}'}", file=sys.stderr)
        config = MlpConfig(
            seed=seed, epochs=40, hidden=(256, 128), dropout=0.3, schedule="cosine", optimizer="adamw", log_every=64
        )
        results.append(zoo.run(build, config, workdir / f"seed{seed}"))
    return results


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as they need to be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def summary(results: list[dict[str, float]]) -> str:
    """The table of the demo: accuracy on the test split, mean and range over the seeds."""
    from zoo.data import images
    from zoo.report.baseline import linear_accuracy

    scores = [100 * result["test/accuracy"] for result in results]
    speed = statistics.median(result["train/examples_per_second"] for result in results)
    spread = f"{min(scores):.1f} - {max(scores):.1f}"
    baseline = 100 * linear_accuracy(images.load("mnist_5k"))
    return table(
        [
            ("model", "data", "test accuracy", "over 3 seeds", "examples/s"),
            ("MLP 784-256-128-10", "mnist_5k", f"{statistics.mean(scores):.1f} %", spread, f"{speed:,.0f}"),
            ("logistic regression", "mnist_5k", f"{baseline:.1f} %", "", ""),
        ]
    )


def main() -> int:
    """Trains, prints, and says what to do next."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/demo"), help="folder of the runs (%(default)s)")
    workdir = parser.parse_args().workdir
    try:
        results = train_seeds(workdir)
    except ZooError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    print(f"\n{summary(results)}\n")
    # With the folder of this interpreter: after `make demo` it is not on the user's path.
    programs = Path(sys.executable).parent
    print(f"curves:   {programs / 'tensorboard'} --logdir {workdir}")
    print(f"judge:    {programs / 'zoo'} evaluate {workdir / 'seed0'}")
    print(f"your own: {sys.executable} -m experiments.mlp_classifier --dataset=table.csv --label_column=...")
    return 0


if __name__ == "__main__":
    sys.exit(main())
