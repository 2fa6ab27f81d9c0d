"""Learning rates by what validation says (`--controller`).

A run can be forked: from a copy of its state some steps with another rate are those of the run that has this rate
(`zoo.training.look_ahead`). At its start a few rates are tried for a tenth of the run; the best is nominated, and tried
to the end of the run, beside the run as before. At seven tenths of a run that goes on as before a rate that falls to 0
is tried. What is tried to the end is taken where one half of the validation split finds it better by more than a
standard error, and the other half finds it better, too.

A short look ahead alone misleads twice. It likes low rates, as the noise of the steps falls at once with the rate (Wu
et al., "Understanding short-horizon bias in stochastic meta-optimization", 2018), so each ends with a cooldown, after
which constant rates compare as at the end of a run (Haegele et al., "Scaling laws and compute-optimal training beyond
fixed training durations", 2024). And it likes what learns fast and overfits later, so it only nominates.

What is chosen is the flag --rate_factors, with which the same run comes without a controller, bit for bit.
"""

import math
from collections.abc import Callable, Sequence

from zoo import config as configs
from zoo import files, piecewise, strict_json
from zoo import workdir as folders
from zoo.engine.controls import RATE
from zoo.engine.engine import Engine
from zoo.errors import BadInput
from zoo.experiment import Experiment
from zoo.metrics import paired_blocks
from zoo.piecewise import Piece
from zoo.training import controller_choices, look_ahead
from zoo.training.context import RunContext
from zoo.training.look_ahead import Choice, Judged
from zoo.training.run_state import RunState
from zoo.training.signals import Interrupt

# Chance that a decision takes what is just as good, which costs nothing: a bound of one standard error. The guard
# halves it. With a twentieth, 500 examples of each half found nothing where accuracies were compared.
_CHANCE = 0.16


def pieces(config: configs.Config, engine: Engine) -> dict[str, list[Piece]]:
    """The values of each control from the first step on, as flags set them; empty where the engine has no controls."""
    first = {name: [Piece(0, float(variable.numpy()))] for name, variable in engine.controls.items()}
    return {
        name: piecewise.changed(begin, piecewise.parse(f"{name}s", getattr(config, f"{name}s")))
        for name, begin in first.items()
    }


def check(config: configs.Config, experiment: Experiment) -> None:
    """Refuses what cannot be decided.

    Raises:
        BadInput: says why.
    """
    flags = [name for name in ("controller", "rate_factors", "weight_decays") if getattr(config, name)]
    if not flags:
        return
    if experiment.optimizer is not None or experiment.updates or config.optimizer in configs.SECOND_ORDER:
        raise BadInput(f"--{flags[0]} sets the rate of one optimizer of first order from --optimizer: leave it out")
    if not config.controller:
        return
    if config.plateau_patience:
        raise BadInput("--controller and --plateau_patience both lower the rate by validation: expected one of the two")
    examples = next((batches.examples for batches in experiment.evals.values()), 0)
    if examples < 2 * look_ahead.FEWEST:
        raise BadInput(
            f"--controller: the experiment has {examples} validation examples, expected {2 * look_ahead.FEWEST} or more"
        )


class Controller:
    """Decides at the steps of `controller_choices.decision_steps`.

    Args:
        context: the run.
    """

    def __init__(self, context: RunContext):
        self._context = context
        self._halves = look_ahead.halves(next(iter(context.experiment.evals.values())))
        self._terms = self._of_metric()

    def decide_if_due(self, state: RunState, interrupt: Interrupt) -> None:
        """Tries continuations and chooses, at the steps of a decision; nothing where a signal has come meanwhile."""
        context = self._context
        due = state.step in context.decision_steps and state.controller.last_step < state.step
        present = state.controller.pieces or context.planned
        # A run whose rate falls already has nothing left to decide.
        if not due or context.is_done(state) or piecewise.steps_until_next(present[RATE], state.step):
            return
        decisions, nominee = [], None
        if not state.step:
            tried = controller_choices.rates(present, context.total_steps)
            if (found := self._decision(state, interrupt, *tried, nominated)) is None:
                return
            nominee, decision = found
            decisions.append(decision)
        choices, steps = controller_choices.to_the_end(present, state.step, context.total_steps, nominee)
        chosen = choices[0]
        if nominee is None or nominee.name != controller_choices.AS_BEFORE:
            if (found := self._decision(state, interrupt, choices, steps, decided)) is None:
                return
            chosen, decision = found
            decisions.append(decision)
        state.controller.decisions += decisions
        state.controller.pieces = {name: list(each) for name, each in chosen.pieces.items()}
        for decision in decisions:
            context.reporter.tell(state.step, _told(decision))
        if context.is_chief:
            self._write(state)

    def _decision(
        self, state: RunState, interrupt: Interrupt, choices: Sequence[Choice], steps: int, rule: Callable
    ) -> tuple[Choice, dict] | None:
        """What `rule` chooses after so many steps of each choice, and the evidence; None where a signal has come."""
        found = look_ahead.judged(self._context, state, interrupt, choices, steps, self._halves, self._terms)
        if found is None:
            return None
        config = self._context.config
        place, evidence = rule(choices, found, config.larger_is_better)
        return choices[place], {"step": state.step, "steps_ahead": steps, "metric": config.metric, **evidence}

    def _of_metric(self) -> list[str]:
        """The terms whose means, added up, are the metric.

        Raises:
            BadInput: it is none, but computed from all examples together.
        """
        context, metric = self._context, self._context.config.metric
        if metric == "loss":
            return list(context.experiment.objective)
        names = [name.removesuffix("/numerator") for name in context.engine.evaluate_by_batch(self._halves.chooses)]
        terms = sorted({name for name in names if "/" not in name})
        if metric not in terms:
            raise BadInput(
                f"--controller: --metric is {metric!r}, and only means over examples can be compared block by block: "
                f"expected {' or '.join(sorted({'loss', *terms}))}"
            )
        return [metric]

    def _write(self, state: RunState) -> None:
        """The decisions so far, and the flags that repeat the run without a controller."""
        config, folder = self._context.config, self._context.workdir
        lines = [strict_json.dumps(decision) for decision in state.controller.decisions]
        files.write(folder / folders.DECISIONS, "\n".join(lines) + "\n")
        flags = {f"{name}s": piecewise.as_text(each) for name, each in state.controller.pieces.items()}
        files.write(folder / folders.CONTROLLED_FLAGS, config.replace(controller=False, **flags).flags())


def nominated(choices: Sequence[Choice], found: Sequence[Judged], larger: bool) -> tuple[int, dict]:
    """The place of the best choice, and the evidence.

    Of those that are not clearly worse than the best one it is the smallest change, as in the rule of one standard
    error (Breiman et al., "Classification and regression trees", 1984, section 3.4.3); the run as before only where it
    is the best.
    """
    sign = 1.0 if larger else -1.0
    values = [sign * judged.chooses.value for judged in found]
    best = max(range(len(choices)), key=lambda place: values[place] if math.isfinite(values[place]) else -math.inf)
    if best:
        gains = [paired_blocks.gain(found[best].chooses, each.chooses, larger, 1.0 - _CHANCE) for each in found]
        best = next(place for place in range(1, len(choices)) if place == best or gains[place].low <= 0.0)
    return best, _evidence(choices, found, larger, best)


def decided(choices: Sequence[Choice], found: Sequence[Judged], larger: bool) -> tuple[int, dict]:
    """The place of the second choice where it is better than the first one by a standard error; and the evidence."""
    before, tried = found
    own, guard = (paired_blocks.gain(*both, larger, 1.0 - _CHANCE) for both in zip(tried, before, strict=True))
    is_better = own.low > 0.0 and guard.value > 0.0
    # Whatever is a number is better than a run that has lost its weights.
    is_lost = not math.isfinite(before.chooses.value) and math.isfinite(tried.chooses.value)
    place = int(is_better or is_lost)
    return place, _evidence(choices, found, larger, place)


def _evidence(choices: Sequence[Choice], found: Sequence[Judged], larger: bool, place: int) -> dict:
    rows = []
    for choice, judged in zip(choices, found, strict=True):
        own, guard = (paired_blocks.gain(*both, larger, 1.0 - _CHANCE) for both in zip(judged, found[0], strict=True))
        numbers = {"value": judged.chooses.value, "gain": own.value, "low": own.low, "guard_gain": guard.value}
        rows.append({"choice": choice.name} | {key: _number(value) for key, value in numbers.items()})
    return {"tried": rows, "chosen": choices[place].name}


def _number(value: float) -> float | None:
    """What JSON can hold: null where it is not finite."""
    return value if math.isfinite(value) else None


def _told(decision: dict) -> str:
    rows = {row["choice"]: row for row in decision["tried"]}
    chosen, metric = rows[decision["chosen"]], decision["metric"]
    others = "; ".join(f"{name} {_short(row['value'])}" for name, row in rows.items())
    gain = ""
    if chosen["gain"] and chosen["low"] is not None:
        gain = f", better by {chosen['gain']:.2g} (at least {chosen['low']:.2g}; guard: {chosen['guard_gain']:.2g})"
    return f"{decision['steps_ahead']:,} steps ahead, validation {metric}: {others}. Chosen: {decision['chosen']}{gain}"


def _short(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
