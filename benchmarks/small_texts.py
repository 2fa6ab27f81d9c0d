"""Language models of small texts: `language_model` with default flags beside its n-gram baseline.

    python -m benchmarks.small_texts                               # parts of the People's Daily
    python -m benchmarks.small_texts --datasets tiny_shakespeare --characters 100000 300000 --seeds=3
    python -m benchmarks.small_texts --recipe=plain

Reads the first characters of the training block. The validation block is halved: the first half chooses the best
weights and the order of the n-grams, the second one is the test. So no test block is read, and defaults may be chosen
by what is printed: the mean over seeds of bits per byte, the difference with its 95 % interval (Student's), and the
seconds of a run. Cost: one to three minutes a seed on two cores.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_texts", description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="+", default=["people_daily"])
    parser.add_argument("--characters", nargs="+", type=int, default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipe", default="auto")
    options = parser.parse_args(arguments)
    from zoo.data.datasets import running_text

    print("| text | characters | network | n-grams | difference (95 %) | seconds |\n|---|---|---|---|---|---|")
    for name in options.datasets:
        text = running_text.load(name)
        half = len(text.validation) // 2
        held_out = text.validation[:half], text.validation[half:]
        for count in options.characters:
            results = [_bits(options.recipe, text.train[:count], *held_out, seed) for seed in range(options.seeds)]
            print(_row(name, min(count, len(text.train)), np.array(results)), flush=True)


def _bits(recipe: str, train: str, validation: str, test: str, seed: int) -> tuple[float, float, float]:
    """Bits per byte of the model and of the n-grams, and the seconds of the run."""
    import zoo
    from experiments import language_model

    with tempfile.TemporaryDirectory() as folder:
        parts = {"train_file": train, "eval_file": validation, "test_file": test}
        for name, text in parts.items():
            (Path(folder) / f"{name}.txt").write_text(text, encoding="utf8")
        config = language_model.LanguageModelConfig(
            recipe=recipe, seed=seed, baseline=True, **{name: str(Path(folder) / f"{name}.txt") for name in parts}
        )
        start = time.perf_counter()
        result = zoo.run(language_model.build, config, Path(folder) / "run")
    seconds = time.perf_counter() - start
    return result["test/bits_per_byte"], result["test/baseline_bits_per_byte"], seconds


def _row(name: str, count: int, results: np.ndarray) -> str:
    """A line of the table from results `[seeds, 3]`."""
    from scipy import stats

    own, ngrams, seconds = results.mean(axis=0)
    difference = results[:, 0] - results[:, 1]
    interval = ""
    if len(difference) > 1:
        half = stats.t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / np.sqrt(len(difference))
        interval = f" ({difference.mean() - half:+.3f} to {difference.mean() + half:+.3f})"
    return f"| {name} | {count:,} | {own:.3f} | {ngrams:.3f} | {difference.mean():+.3f}{interval} | {seconds:.0f} |"


if __name__ == "__main__":
    main()
