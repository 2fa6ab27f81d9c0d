"""What to do when numbers go bad: say where, keep what was good, stop."""

from collections.abc import Mapping

import numpy as np

from zoo.errors import NonFinite


def check(first_step: int, found: Mapping[str, np.ndarray], last_good: int | None) -> None:
    """Looks for the first step of a call whose loss or gradient is not finite.

    Args:
        first_step: of the call.
        found: scalars per step, from `Engine.train`.
        last_good: step of the newest checkpoint, for the message.

    Raises:
        NonFinite: names the steps and what went bad.
    """
    bad = {name: np.flatnonzero(~np.isfinite(values)) for name, values in found.items()}
    bad = {name: places for name, places in bad.items() if len(places)}
    if not bad:
        return
    first = min(int(places[0]) for places in bad.values())
    names = [name.removesuffix("/numerator") for name, places in bad.items() if places[0] == first]
    last = first_step + len(next(iter(found.values()))) - 1
    kept = f"the checkpoint of step {last_good} is kept" if last_good is not None else "no checkpoint was written yet"
    raise NonFinite(
        f"{' and '.join(names)} not finite in steps {first_step + first} to {last}; {kept}; "
        "try a lower --learning_rate, --warmup_steps or --clip_norm=1"
    )


def check_state(step: int, state: Mapping[str, np.ndarray], last_good: int | None) -> None:
    """Keeps weights that are not finite out of the checkpoints: an update may overflow though its gradient did not.

    Args:
        step: that the state belongs to.
        state: variables by name.
        last_good: step of the newest checkpoint, for the message.

    Raises:
        NonFinite: names the variable.
    """
    for name, value in state.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            kept = f"the checkpoint of step {last_good} is kept" if last_good is not None else "none was written yet"
            raise NonFinite(f"{name} not finite after step {step}: not saved, {kept}; try a lower --learning_rate")
