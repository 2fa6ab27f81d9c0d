"""Demo: trains an MLP, an LSTM and an encoder on data that pip brings, and predicts with `--refine`.

    python -m experiments.demo [--workdir=runs/demo]

Prints a table of test accuracies beside linear baselines, predictions as trained and refined, and commands to go on
with. Four minutes on two cores. A finished run is read, not repeated; a stopped run continues.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo import failures

# Estimating class proportions takes some hundreds of predictions; the guards check each batch.
_STREAM, _BATCH = 400, 100
DAMAGED = "damaged.npy"


class Member(NamedTuple):
    """A model of the demo.

    Attributes:
        name: name of its folder.
        network: description for the table.
        data: description for the table.
        build: the experiment's `build`.
        config: the experiment's config, small enough for a minute or so on two cores.
        refined: describes predictions as trained and refined, from the model's folder.
    """

    name: str
    network: str
    data: str
    build: Callable[[Any], Any]
    config: Any
    refined: Callable[[Path], list[str]]


def members() -> list[Member]:
    """The three models; the README's figures are of longer runs."""
    from experiments import bert_finetune, lstm_sentiment, mlp_classifier

    digits = mlp_classifier.MlpConfig(
        recipe="plain",
        epochs=40,
        hidden=(256, 128),
        norm="batch",
        dropout=0.3,
        schedule="cosine",
        optimizer="adamw",
        baseline=True,
    )
    # Longer reviews are cut: three of four fit into 96 tokens. Both start from a linear model of n-grams.
    reader = lstm_sentiment.LstmConfig(epochs=4, batch_size=64, learning_rate=4e-3, max_length=96)
    # Its baseline is the LSTM's: they share the data.
    encoder = bert_finetune.FinetuneConfig(
        epochs=2, batch_size=64, learning_rate=1e-3, preset="tiny", context=128, pooling="mean", baseline=False
    )
    return [
        Member("mlp", "784-256-128-10", "4,000 digits", mlp_classifier.build, digits, damaged_digits),
        Member("lstm", "64 in each direction", "13,874 reviews", lstm_sentiment.build, reader, mostly_bad_reviews),
        Member("encoder", "2 layers of 128", "13,874 reviews", bert_finetune.build, encoder, fewer_layers),
    ]


def trained(member: Member, workdir: Path) -> dict[str, float]:
    """Trains a model; its result, with the `seconds` taken. A finished run of the same config is read instead."""
    import zoo
    from zoo import config as configs
    from zoo import files
    from zoo import workdir as folders

    folder, clock = workdir / member.name, workdir / member.name / "seconds.json"
    finished = (folder / folders.RESULT).exists() and clock.exists()
    wanted = {name: value for name, value in configs.as_dict(member.config).items() if value is not None}
    # Unset flags were filled by the experiment.
    if finished and wanted.items() <= folders.read_run(folder).config.items():
        return folders.read_json(folder, folders.RESULT) | folders.read_json(folder, clock.name)
    print(f"\n{member.name}: {folder}", file=sys.stderr)
    start = time.perf_counter()
    result = zoo.run(member.build, member.config, folder)
    spent = {"seconds": time.perf_counter() - start}
    files.write(clock, json.dumps(spent) + "\n")
    return result | spent


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lines of a table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def summary(results: Sequence[tuple[Member, dict[str, float]]], workdir: Path) -> str:
    """The table of the demo: accuracy on the test split with its 95 % interval over the test examples."""
    from zoo.predict.evaluation import evaluate
    from zoo.predict.predictors import loading

    names = ("model", "network", "parameters", "data", "test accuracy (95 %)", "linear", "examples/s", "seconds")
    rows = [names]
    linear = {member.data: result.get("test/baseline_accuracy") for member, result in reversed(results)}
    for member, result in results:
        folder = workdir / member.name
        size = loading.load(folder).model.count_params()
        metrics = {name.removeprefix("test/"): value for name, value in result.items()}
        if "accuracy_low" not in metrics:
            metrics = evaluate.evaluate(folder)
        score, low, high = (100 * metrics[f"accuracy{end}"] for end in ("", "_low", "_high"))
        speed, seconds = f"{result['train/examples_per_second']:,.0f}", f"{result['seconds']:.0f}"
        spread = f"{score:.1f} % ({low:.1f} - {high:.1f})"
        baseline = linear[member.data]
        baseline = "" if baseline is None else f"{100 * baseline:.1f} %"
        rows.append((member.name, member.network, f"{size:,}", member.data, spread, baseline, speed, seconds))
    return table(rows)


def damaged_digits(folder: Path) -> list[str]:
    """A stream of test digits made brighter than any in training."""
    import numpy as np

    from zoo.data.datasets import images
    from zoo.data.datasets.image_corruptions import corrupted

    test = images.load("mnist_5k").test
    order = np.random.default_rng(0).permutation(len(test["y"]))[:_STREAM]
    damaged = corrupted(test["x"][order], "brightness", 4)
    np.save(folder / DAMAGED, damaged)
    names = [f"digit {number}" for number in range(len(damaged))]
    title = f"mlp --refine=auto: {len(damaged)} test digits made brighter"
    return [title, *_compared(folder, "auto", damaged, test["y"][order], names)]


def mostly_bad_reviews(folder: Path) -> list[str]:
    """A stream of test reviews with label shift: nine of ten are negative, half were in training."""
    import numpy as np

    reviews = _reviews(folder)
    draw = np.random.default_rng(0)
    bad, good = (draw.permutation(np.flatnonzero(reviews.labels == label)) for label in (0, 1))
    chosen = draw.permutation(np.concatenate([bad[: _STREAM * 9 // 10], good[: _STREAM // 10]]))
    texts = [reviews.texts[index] for index in chosen]
    title = f"lstm --refine=output: {len(texts)} test reviews, nine of ten negative"
    return [title, *_compared(folder, "output", texts, reviews.labels[chosen], texts)]


def fewer_layers(folder: Path) -> list[str]:
    """Test reviews without any shift: `--refine=compute` saves layers and should change next to no prediction."""
    reviews = _reviews(folder)
    texts = reviews.texts[:_STREAM]
    title = f"encoder --refine=compute: {len(texts)} test reviews, each predicted by as few layers as needed"
    return [title, *_compared(folder, "compute", texts, reviews.labels[:_STREAM], texts)]


def _compared(folder: Path, plan: str, examples: Any, labels: Any, names: Sequence[str]) -> list[str]:
    """Error rates as trained and refined, one prediction that changed, and what each stage did."""
    import zoo
    from zoo.adaptation import plans
    from zoo.predict.evaluation import held_out

    predictor = zoo.load(folder)
    batches = [examples[first : first + _BATCH] for first in range(0, len(examples), _BATCH)]
    heldout = held_out.load(folder, predictor)
    refined = zoo.refine(predictor, batches, plans.stages([plan], predictor, folder), heldout)
    plain, probabilities = predictor.probabilities(examples), refined.probabilities
    was, became = plain.argmax(1) == labels, probabilities.argmax(1) == labels
    fixed, spoiled = ~was & became, was & ~became
    # The first that became right, else became wrong, else changed, else the first.
    number = int((fixed * 4 + spoiled * 2 + (plain.argmax(1) != probabilities.argmax(1))).argmax())
    before, after = (
        f"{predictor.classes[row.argmax()]} {row.max():.2f}" for row in (plain[number], probabilities[number])
    )
    return [
        f"  wrong: {100 * (1 - was.mean()):.1f} % as trained, {100 * (1 - became.mean()):.1f} % refined "
        f"({fixed.sum()} fixed, {spoiled.sum()} spoiled)",
        f"  {names[number][:50]} (truly {predictor.classes[labels[number]]}): as trained {before}, refined {after}",
        *_kept(refined.trace),
    ]


def _reviews(folder: Path):
    from zoo import workdir as folders
    from zoo.predict.evaluation.run_data import run_texts

    return run_texts(folders.read_run(folder)).test


def _kept(trace) -> list[str]:
    """A line for each stage: how many of its changes were kept, and the last reason."""
    lines = []
    for name in dict.fromkeys(entry.stage for entry in trace):
        entries = [entry for entry in trace if entry.stage == name]
        kept = sum(entry.accepted for entry in entries)
        lines.append(f"  {name}: kept {kept} of {len(entries)}; last: {entries[-1].reason}")
    return lines


def after(workdir: Path) -> str:
    """Commands to go on with, ready to run."""
    # With this interpreter's folder: after `make demo` it is not on the user's PATH.
    programs = Path(sys.executable).parent
    zoo, mlp, lstm = programs / "zoo", workdir / "mlp", workdir / "lstm"
    return "\n".join(
        [
            f"predict:   {zoo} predict {mlp} {mlp / DAMAGED} --refine=auto",
            f'explain:   {zoo} predict {lstm} --text "这本书写得太好了" --explain',
            f"evaluate:  {zoo} evaluate {lstm}",
            f"curves:    {zoo} tensorboard {workdir}/*",
            f"your own:  {sys.executable} -m experiments.mlp_classifier --dataset=table.csv --label_column=...",
            "read:      notebooks/, docs/test_time_adaptation.md, README.md",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains the models and prints the table, the predictions and the commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/demo"), help="folder of the runs (%(default)s)")
    parser.add_argument("--traceback", action="store_true", help="print the traceback of an unexpected error")
    flags = parser.parse_args(arguments)
    return failures.reported("demo", lambda: _run(flags.workdir), flags.traceback)


def _run(workdir: Path) -> int:
    results = [(member, trained(member, workdir)) for member in members()]
    print(f"\n{summary(results, workdir)}\n", flush=True)
    for member, _ in results:
        print("\n".join(member.refined(workdir / member.name)), end="\n\n", flush=True)
    print(after(workdir))
    return 0


if __name__ == "__main__":
    sys.exit(main())
