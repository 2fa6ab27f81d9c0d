"""Non-finite numbers: stops the run, names the steps, keeps the last good checkpoint."""

from collections.abc import Mapping

import numpy as np

from zoo.engine import skipping
from zoo.errors import NonFinite


def check(first_step: int, scalars: Mapping[str, np.ndarray], last_good: int | None) -> None:
    """Raises at the first step of a call whose loss or gradient is not finite.

    Args:
        first_step: first step of the call.
        scalars: values `[steps]` by name, from `Engine.train`.
        last_good: step of the newest checkpoint, for the message.

    Raises:
        NonFinite: names the steps and the scalars.
    """
    if skipping.IN_A_ROW in scalars and scalars[skipping.IN_A_ROW].max() >= skipping.MOST_IN_A_ROW:
        last = first_step + int(scalars[skipping.IN_A_ROW].argmax())
        raise NonFinite(
            f"{skipping.MOST_IN_A_ROW} steps in a row were skipped, {last} the last: none had a finite loss and "
            "gradient; try a lower --learning_rate"
        )
    bad = {name: np.flatnonzero(~np.isfinite(values)) for name, values in scalars.items()}
    bad = {name: positions for name, positions in bad.items() if len(positions)}
    if not bad:
        return
    first = min(int(positions[0]) for positions in bad.values())
    names = [name.removesuffix("/numerator") for name, positions in bad.items() if positions[0] == first]
    last = first_step + len(next(iter(scalars.values()))) - 1
    kept = f"the checkpoint of step {last_good} is kept" if last_good is not None else "no checkpoint was written yet"
    raise NonFinite(
        f"{' and '.join(names)} not finite in steps {first_step + first} to {last}; {kept}; "
        "try a lower --learning_rate, --warmup_steps or --clip_norm=1",
        first_step + first,
    )


def check_state(step: int, state: Mapping[str, np.ndarray], last_good: int | None) -> None:
    """Keeps non-finite weights out of the checkpoints: an update may overflow although its gradient is finite.

    Args:
        step: step of the state.
        state: variables by name.
        last_good: step of the newest checkpoint, for the message.

    Raises:
        NonFinite: names the variable.
    """
    for name, value in state.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            kept = f"the checkpoint of step {last_good} is kept" if last_good is not None else "none was written yet"
            raise NonFinite(f"{name} not finite after step {step}: not saved, {kept}; try a lower --learning_rate")


def skipped(first_step: int, scalars: Mapping[str, np.ndarray]) -> list[str]:
    """A line for each run of steps of a call that were skipped; arguments as of `check`."""
    steps = np.flatnonzero(scalars.get(skipping.IN_A_ROW, np.zeros(1)))
    lines = []
    for group in np.split(steps, np.flatnonzero(np.diff(steps) > 1) + 1) if len(steps) else []:
        first, last = first_step + int(group[0]), first_step + int(group[-1])
        which = f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
        why = "not finite" if (scalars["gradient_norm"][group] == 0.0).any() else "far above the mean of before"
        lines.append(f"skipped {which}: loss or gradient {why}")
    return lines
