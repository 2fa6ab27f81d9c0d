"""Trains the three kinds of models on data that pip brings, and lets each predict with refinement: a few minutes.

    python -m experiments.demo [--workdir=runs/demo]

One table with the linear baseline of each, one prediction of each as trained and refined, and what to look at next. A
finished run is only read again; one that was stopped goes on.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo.errors import ZooError

# Shares of the classes show themselves in some hundreds of answers; the guards look at each batch.
_STREAM, _BATCH = 400, 100


class Member(NamedTuple):
    """A model of the demo.

    Attributes:
        name: of its folder.
        data: as the table has it.
        build: the experiment's.
        config: small enough for a minute or so on two cores.
        refined: shows what refinement makes of its predictions, from its folder.
    """

    name: str
    data: str
    build: Callable[[Any], Any]
    config: Any
    refined: Callable[[Path], list[str]]


def members() -> list[Member]:
    """The three models; their figures are not the README's, whose runs take longer."""
    from experiments import bert_finetune, lstm_sentiment, mlp_classifier

    digits = mlp_classifier.MlpConfig(
        epochs=40, hidden=(256, 128), norm="batch", dropout=0.3, schedule="cosine", optimizer="adamw", baseline=True
    )
    # Long reviews are few: 96 tokens hold nine of ten.
    reader = lstm_sentiment.LstmConfig(
        epochs=5, batch_size=64, learning_rate=4e-3, schedule="cosine", max_length=96, bidirectional=True,
        pooling="max", embedding_dropout=0.3, dropout=0.5, baseline=True,
    )  # fmt: skip
    # No baseline of its own: it reads the LSTM's split.
    encoder = bert_finetune.FinetuneConfig(
        epochs=3, batch_size=64, learning_rate=1e-3, preset="tiny", context=48, pooling="mean"
    )
    return [
        Member("mlp", "4,000 digits", mlp_classifier.build, digits, damaged_digits),
        Member("lstm", "13,874 reviews", lstm_sentiment.build, reader, mostly_bad_reviews),
        Member("encoder", "13,874 reviews", bert_finetune.build, encoder, fewer_layers),
    ]


def trained(member: Member, workdir: Path) -> dict[str, float]:
    """The result of a run, with its `seconds`; a finished one of the same config is only read."""
    import zoo
    from zoo import config as configs
    from zoo import workdir as folders

    folder, clock = workdir / member.name, workdir / member.name / "seconds.json"
    finished = (folder / folders.RESULT).exists() and clock.exists()
    if finished and folders.read_json(folder, folders.RUN)["config"] == configs.as_dict(member.config):
        return folders.read_json(folder, folders.RESULT) | folders.read_json(folder, clock.name)
    print(f"\n{member.name}: {folder}", file=sys.stderr)
    start = time.perf_counter()
    result = zoo.run(member.build, member.config, folder)
    spent = {"seconds": time.perf_counter() - start}
    folders.write(clock, json.dumps(spent) + "\n")
    return result | spent


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def summary(found: Sequence[tuple[Member, dict[str, float]]], workdir: Path) -> str:
    """The table of the demo: accuracy on the test split with its 95 % interval over the test examples."""
    from zoo.predict import predictor

    rows = [("model", "parameters", "data", "test accuracy (95 %)", "linear baseline", "examples/s", "seconds")]
    linear = {member.data: result.get("test/baseline_accuracy") for member, result in reversed(found)}
    for member, result in found:
        folder = workdir / member.name
        size = predictor.load(folder).model.count_params()
        judged = {name.removeprefix("test/"): value for name, value in result.items()}
        if "accuracy_low" not in judged:
            judged = predictor.evaluate(folder)
        score, low, high = (100 * judged[f"accuracy{end}"] for end in ("", "_low", "_high"))
        speed, seconds = f"{result['train/examples_per_second']:,.0f}", f"{result['seconds']:.0f}"
        spread = f"{score:.1f} % ({low:.1f} - {high:.1f})"
        rows.append(
            (member.name, f"{size:,}", member.data, spread, f"{100 * linear[member.data]:.1f} %", speed, seconds)
        )
    return table(rows)


def damaged_digits(folder: Path) -> list[str]:
    """A stream of test digits that are too bright, which the network was never shown."""
    import numpy as np

    import zoo
    from zoo.data import images
    from zoo.data.corruptions import corrupted
    from zoo.predict import plans, source

    test = images.load("mnist_5k").test
    order = np.random.default_rng(0).permutation(len(test["y"]))[:_STREAM]
    x, y = corrupted(test["x"][order], "brightness", 4), test["y"][order]
    np.save(folder / "damaged.npy", x)
    predictor = zoo.load(folder)
    plan = plans.stages(["auto"], predictor, folder)
    refined = zoo.refine(predictor, _batches(x), plan, source.load(folder, predictor))
    plain = predictor.probabilities(x)
    said = [f"mlp, {len(y)} test digits made brighter, in batches of {_BATCH}:", *_errors(plain, refined, y)]
    said += _changed(plain, refined.probabilities, y, predictor.classes, "digit")
    return [*said, *_kept(refined.trace)]


def mostly_bad_reviews(folder: Path) -> list[str]:
    """A stream of test reviews, nine of ten negative, where half were so in training."""
    import numpy as np

    import zoo
    from zoo.predict import plans, source

    predictor, reviews = zoo.load(folder), _reviews(folder)
    draw = np.random.default_rng(0)
    bad, good = (draw.permutation(np.flatnonzero(reviews.labels == label)) for label in (0, 1))
    chosen = draw.permutation(np.concatenate([bad[: _STREAM * 9 // 10], good[: _STREAM // 10]]))
    texts, labels = [reviews.texts[index] for index in chosen], reviews.labels[chosen]
    plan = plans.stages(["output"], predictor, folder)
    refined = zoo.refine(predictor, _batches(texts), plan, source.load(folder, predictor))
    plain = predictor.probabilities(texts)
    said = [f"lstm, {len(texts)} test reviews, nine of ten negative:", *_errors(plain, refined, labels)]
    said += _changed(plain, refined.probabilities, labels, predictor.classes, "review", texts)
    return [*said, *_kept(refined.trace)]


def fewer_layers(folder: Path) -> list[str]:
    """Test reviews as they come: here refinement saves work, and is to change next to no answer."""
    import zoo
    from zoo.predict import plans, source

    predictor, reviews = zoo.load(folder), _reviews(folder)
    texts, labels = reviews.texts[:_STREAM], reviews.labels[:_STREAM]
    plan = plans.stages(["compute"], predictor, folder)
    refined = zoo.refine(predictor, _batches(texts), plan, source.load(folder, predictor))
    plain = predictor.probabilities(texts)
    other = int((plain.argmax(1) != refined.probabilities.argmax(1)).sum())
    said = [f"encoder, {len(texts)} test reviews, as soon as an answer will do:", *_errors(plain, refined, labels)]
    said += [f"  answers that are not those of all layers: {other} of {len(texts)}"]
    return [*said, _example(texts[0], plain[0], refined.probabilities[0], predictor.classes), *_kept(refined.trace)]


def _reviews(folder: Path):
    from zoo import workdir as folders
    from zoo.predict.text_evaluation import own_texts

    return own_texts(folders.read_json(folder, folders.RUN)).test


def _batches(examples: Any) -> list[Any]:
    return [examples[first : first + _BATCH] for first in range(0, len(examples), _BATCH)]


def _errors(plain, refined, labels) -> list[str]:
    wrong = [100 * float((found.argmax(1) != labels).mean()) for found in (plain, refined.probabilities)]
    return [f"  wrong: {wrong[0]:.1f} % as trained, {wrong[1]:.1f} % refined"]


def _changed(plain, refined, labels, classes, what: str, texts: Sequence[str] = ()) -> list[str]:
    """One answer that refinement has mended, and how many it has spoiled."""
    import numpy as np

    was, became = plain.argmax(1) == labels, refined.argmax(1) == labels
    said = [f"  answers mended: {(~was & became).sum()}, spoiled: {(was & ~became).sum()}"]
    if (~was & became).any():
        number = int(np.flatnonzero(~was & became)[-1])
        named = texts[number] if texts else f"{what} {number}"
        named = f"{named[:40]} (truly {classes[labels[number]]})"
        said.append(_example(named, plain[number], refined[number], classes))
    return said


def _example(named: str, plain, refined, classes) -> str:
    answers = (f"{classes[found.argmax()]} {found.max():.2f}" for found in (plain, refined))
    return f"  {named[:60]}: as trained {next(answers)}, refined {next(answers)}"


def _kept(trace) -> list[str]:
    """What each stage did, in a line, with its last reason."""
    found = []
    for name in dict.fromkeys(line.stage for line in trace):
        lines = [line for line in trace if line.stage == name]
        kept = sum(line.accepted for line in lines)
        found.append(f"  {name}: kept {kept} of {len(lines)}; last: {lines[-1].reason}")
    return found


def after(workdir: Path) -> str:
    """What to open next, as commands that run as they stand."""
    # With the folder of this interpreter: after `make demo` it is not on the user's path.
    programs = Path(sys.executable).parent
    zoo, mlp, lstm = programs / "zoo", workdir / "mlp", workdir / "lstm"
    return "\n".join(
        [
            f"predict:   {zoo} predict {mlp} {mlp / 'damaged.npy'} --refine=auto",
            f'explain:   {zoo} predict {lstm} --text "这本书写得太好了" --explain',
            f"judge:     {zoo} evaluate {lstm}",
            f"curves:    {programs / 'tensorboard'} --logdir {workdir}",
            f"your own:  {sys.executable} -m experiments.mlp_classifier --dataset=table.csv --label_column=...",
            "read:      notebooks/, docs/multi_step_prediction.md, README.md",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, prints, and says what to do next."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/demo"), help="folder of the runs (%(default)s)")
    workdir = parser.parse_args(arguments).workdir
    try:
        found = [(member, trained(member, workdir)) for member in members()]
        print(f"\n{summary(found, workdir)}\n", flush=True)
        for member, _ in found:
            print("\n".join(member.refined(workdir / member.name)), end="\n\n", flush=True)
    except ZooError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    print(after(workdir))
    return 0


if __name__ == "__main__":
    sys.exit(main())
