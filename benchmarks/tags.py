"""Taggers of few sentences: `bert_tag` with default flags beside its linear baseline.

    python -m benchmarks.tags                                        # names and parts of speech, 500 to 3,000 sentences
    python -m benchmarks.tags --train_file=train.conll --eval_file=dev.conll --sentences=1350 --seeds=3
    python -m benchmarks.tags --recipe=plain --preset=mini

Each seed draws its sentences from the training split. The validation split is halved: the first half chooses the best
weights, the second one is the test. So no test split is read, and defaults may be chosen by what is printed: the mean
over seeds of entity F1, or of accuracy for tags without entities, and the 95 % interval of the difference (Student's).
Cost: one to five minutes a seed on two cores.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tags", description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="+", default=["people_daily/names", "people_daily/pos"])
    parser.add_argument("--train_file", default="", help="CoNLL file instead of --datasets")
    parser.add_argument("--eval_file", default="", help="validation sentences for --train_file")
    parser.add_argument("--sentences", nargs="+", type=int, default=[500, 1350, 3000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--most", type=int, default=800, help="most validation and most test sentences")
    parser.add_argument("--recipe", default="auto")
    parser.add_argument("--preset", default="tiny")
    options = parser.parse_args(arguments)
    from zoo.data.datasets import tagging

    print("| data | sentences | network | linear | difference (95 %) |\n|---|---|---|---|---|")
    for name in [options.train_file] if options.train_file else options.datasets:
        files = {"train_file": options.train_file, "eval_file": options.eval_file}
        data = tagging.load(name, **files) if options.train_file else tagging.load(name)
        for count in options.sentences:
            pairs = [_scores(options, data, count, seed) for seed in range(options.seeds)]
            print(_row(Path(name).name, count, np.array(pairs)), flush=True)


def _scores(options: argparse.Namespace, data: Any, count: int, seed: int) -> tuple[float, float]:
    """The network's score and the linear model's."""
    import zoo
    from experiments import bert_tag
    from zoo.data.datasets import tagging

    chosen = np.sort(np.random.default_rng(seed).permutation(len(data.train.words))[:count])
    half = min(len(data.validation.words) // 2, options.most)
    parts = {"train_file": (data.train, chosen), "eval_file": (data.validation, range(half))}
    parts["test_file"] = data.validation, range(half, 2 * half)
    with tempfile.TemporaryDirectory() as folder:
        for name, (sentences, indices) in parts.items():
            _write(Path(folder) / f"{name}.conll", sentences, indices)
        config = bert_tag.TagConfig(
            preset=options.preset, recipe=options.recipe, seed=seed, baseline=True,
            **{name: str(Path(folder) / f"{name}.conll") for name in parts},
        )  # fmt: skip
        result = zoo.run(bert_tag.build, config, Path(folder) / "run")
    name = "f1" if data.scheme == tagging.IOB2 else "accuracy"
    return result[f"test/{name}"], result[f"test/baseline_{name}"]


def _write(path: Path, sentences: Any, indices: Sequence[int]) -> None:
    blocks = ("".join(f"{word}\t{tag}\n" for word, tag in zip(*pair)) for pair in zip(*sentences))
    blocks = list(blocks)
    path.write_text("\n".join(blocks[index] for index in indices), encoding="utf8")


def _row(name: str, count: int, pairs: np.ndarray) -> str:
    """A line of the table from scores `[seeds, 2]`."""
    return f"| {name} | {count:,} | {pairs[:, 0].mean():.1%} | {pairs[:, 1].mean():.1%} | {_difference(pairs)} |"


def _difference(pairs: np.ndarray) -> str:
    from scipy import stats

    lead = 100 * (pairs[:, 0] - pairs[:, 1])
    if len(lead) < 2:
        return f"{lead[0]:+.1f}"
    half = stats.t.ppf(0.975, len(lead) - 1) * lead.std(ddof=1) / np.sqrt(len(lead))
    return f"{lead.mean():+.1f} ({lead.mean() - half:+.1f} to {lead.mean() + half:+.1f})"


if __name__ == "__main__":
    main()
