"""What a controller tries at each of its decisions (`zoo.training.controller`)."""

from collections.abc import Mapping, Sequence

from zoo import config as configs
from zoo import piecewise
from zoo.engine.controls import RATE
from zoo.errors import BadInput
from zoo.piecewise import Piece
from zoo.training.look_ahead import Choice

# Share of the run that each rate is tried for at its start. Four rates, two continuations to the end and two for the
# last part take 3 times the steps of the run.
_AHEAD = 0.1
# Share of a short look ahead in which the rate falls, and its stairs on the way to 0: with 5, the last is a tenth.
_COOLDOWN, _STAIRS = 0.3, 5
# Share of the run at which the rate may begin to fall to 0, as `warmup_stable_decay` does, and the stairs.
_FALL, _LAST_STAIRS = 0.7, 10
# A grid of 2 rates a decade, in the order of their changes.
_FACTORS = (3.0, 1 / 3, 10.0)
# The least steps with a look ahead of some steps.
_FEWEST_STEPS = 50

AS_BEFORE = "as before"

Pieces = Mapping[str, Sequence[Piece]]


def decision_steps(config: configs.Config, total: int) -> list[int]:
    """The steps at which something is decided.

    Raises:
        BadInput: the run is too short.
    """
    if not config.controller:
        return []
    if total < _FEWEST_STEPS:
        raise BadInput(f"--controller: the run has {total} steps, expected {_FEWEST_STEPS} or more to look ahead in")
    return [0, round(_FALL * total)]


def rates(present: Pieces, total: int) -> tuple[list[Choice], int]:
    """What is tried at the start, in the order of the changes, and for how many steps.

    Args:
        present: values of each control.
        total: steps of the run.
    """
    steps, rate = round(_AHEAD * total), piecewise.value(present[RATE], 0, 1.0)
    factors = {AS_BEFORE: 1.0} | {_name(factor): factor for factor in _FACTORS}
    return [
        Choice(name, {**present, RATE: _falling([Piece(0, _rounded(rate * factor))], 0, steps, _COOLDOWN, _STAIRS)})
        for name, factor in factors.items()
    ], steps


def to_the_end(present: Pieces, step: int, total: int, nominee: Choice | None = None) -> tuple[list[Choice], int]:
    """The run as before, and a rate that is constant up to the last part of the run, then falls to 0; for all steps.

    Args:
        present: values of each control so far.
        step: step of the decision.
        total: steps of the run.
        nominee: whose rate it is; None for the present one.
    """
    begin = [Piece(0, nominee.pieces[RATE][0].value)] if nominee else present[RATE]
    fall = _falling(begin, round(_FALL * total), total, 1.0, _LAST_STAIRS)
    name = f"{nominee.name}, at last falling to 0" if nominee else "a rate that falls to 0"
    return [Choice(AS_BEFORE, present), Choice(name, {**present, RATE: fall})], total - step


def _rounded(value: float) -> float:
    """Four digits, as texts of flags have them."""
    return float(f"{value:.4g}")


def _falling(rates: Sequence[Piece], first: int, end: int, share: float, stairs: int) -> list[Piece]:
    """Factors that fall to nearly 0 over the last share of some steps, in stairs at the height of a straight line."""
    start, top = round(end - share * (end - first)), piecewise.value(rates, first, 1.0)
    edges = {round(start + (end - start) * number / stairs): number for number in range(stairs)}
    falls = [Piece(step, _rounded(top * (1.0 - (number + 0.5) / stairs))) for step, number in sorted(edges.items())]
    return piecewise.changed(rates, falls)


def _name(factor: float) -> str:
    return f"{factor:g} times the rate" if factor > 1 else f"a rate divided by {1 / factor:g}"
