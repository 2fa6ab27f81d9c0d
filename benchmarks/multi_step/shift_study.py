"""Simulation study of the class prior (`--refine=output`): what it gains under label shift, and loses otherwise.

    python -m benchmarks.multi_step.shift_study --seeds=20          # about five minutes on one core
    python -m benchmarks.multi_step.shift_study --seeds=100 --problems="6, uneven"

Seven problems (few examples of a class, few validation examples, many classes) meet streams whose class proportions
change (`shares`), and streams where something else does: groups within the classes, that group of the most frequent
class that looks like the rarest one, features, or the labels themselves. *Estimate* corrects as soon as the predictions
have shifted, *refined* (`zoo.adaptation.stages.output.Prior`) only if class proportions explain how. Changes of the
accuracy in points, with the 95 % bootstrap interval over all worlds, and the worst mean of a problem.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from benchmarks.multi_step.shift_worlds import LABEL_SHIFTS, MIXED_SHIFTS, OTHER_SHIFTS, PROBLEMS, World
from zoo.adaptation.stage import StreamContext
from zoo.adaptation.stages.output import Prior
from zoo.metrics import temperature_scaling
from zoo.predict.calibration.label_shift import LabelShiftEstimate
from zoo.predict.evaluation.held_out import HeldOut

_BATCH, _RECENT, _RESAMPLES = 100, 400, 2000


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.multi_step.shift_study", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="worlds of each problem")
    parser.add_argument("--problems", nargs="+", choices=tuple(PROBLEMS), default=tuple(PROBLEMS))
    options = parser.parse_args(arguments)
    changes: dict[tuple[str, float], list[list[tuple[float, float]]]] = {}
    for name in options.problems:
        worlds = [measured(World(PROBLEMS[name], seed)) for seed in range(options.seeds)]
        for stream in worlds[0]:
            changes.setdefault(stream, []).append([world[stream] for world in worlds])
    for line in table(changes):
        print(line)


def measured(world: World) -> dict[tuple[str, float], tuple[float, float]]:
    """Changes of the accuracy by the estimate alone and by the stage, of each stream."""
    source = HeldOut(world.validation_logits, world.validation, world.validation_logits)
    stage = Prior()
    stage.begin(None, source)
    first = stage.state()
    changes = {}
    for kind, level in (*LABEL_SHIFTS, *MIXED_SHIFTS, *OTHER_SHIFTS):
        logits, labels = world.stream(kind, level)
        stage.load(first)
        plain = np.mean(logits.argmax(axis=1) == labels)
        answers = _answered(logits, _estimate(source)), _answered(logits, _stage(stage))
        changes[kind, level] = tuple(float(np.mean(each == labels) - plain) for each in answers)
    return changes


def table(changes: dict[tuple[str, float], list[list[tuple[float, float]]]]) -> Iterator[str]:
    """Lines of a Markdown table; `changes` has a list of problems, and each a list of worlds."""
    yield "| stream | estimate | refined (95 %) | worst mean of a problem |"
    yield "|---|---|---|---|"
    for (kind, level), problems in changes.items():
        values = 100 * np.array(problems)  # [problems, worlds, 2]
        flat = values.reshape(-1, 2)[:, 1]
        draw = np.random.default_rng(0).integers(0, len(flat), (_RESAMPLES, len(flat)))
        low, high = np.quantile(flat[draw].mean(axis=1), [0.025, 0.975])
        means, worst = values.mean(axis=(0, 1)), values.mean(axis=1).min(axis=0)
        yield (
            f"| {kind} {level:g} | {means[0]:+.2f} | {means[1]:+.2f} ({low:+.2f} to {high:+.2f}) | "
            f"{worst[0]:+.2f}, {worst[1]:+.2f} |"
        )


def _answered(logits: np.ndarray, answer: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Predictions `[examples]`, batch by batch; `answer` takes a batch's logits and the recent ones."""
    starts = range(0, len(logits), _BATCH)
    parts = [(logits[at : at + _BATCH], logits[max(0, at + _BATCH - _RECENT) : at + _BATCH]) for at in starts]
    return np.concatenate([answer(batch, recent).argmax(axis=1) for batch, recent in parts])


def _estimate(source: HeldOut) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    calibration = temperature_scaling.bias_corrected(source.logits, source.labels)
    estimate = LabelShiftEstimate.from_validation(calibration.apply(source.logits))

    def answer(batch: np.ndarray, recent: np.ndarray) -> np.ndarray:
        nonlocal estimate
        estimate, corrected = estimate.update(calibration.apply(batch))
        return corrected if estimate.shifted else batch

    return answer


def _stage(stage: Prior) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def answer(batch: np.ndarray, recent: np.ndarray) -> np.ndarray:
        stage.propose(StreamContext(batch, recent, recent, lambda examples: examples, False))
        return stage.logits(batch, lambda examples: examples)

    return answer


if __name__ == "__main__":
    main()
