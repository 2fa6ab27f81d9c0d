"""From the logits of a language model to the next token: what is asked for, and the filters between the two."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from zoo.errors import BadInput


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How texts are generated. Each chosen token goes through the filters in the order of the attributes here.

    Attributes:
        repetition_penalty: for tokens that stand in the text already, the prompt included: positive logits are divided
            by it, negative ones multiplied (Keskar et al., 2019, section 4.1, who divide either). 1 changes nothing.
        temperature: logits are divided by it; 0 takes the most probable token. None is 1.
        top_k: only the k most probable tokens stay (Fan et al., 2018, section 5.1); 0 keeps all.
        top_p: only the fewest tokens stay that have the probability p together (nucleus; Holtzman et al., 2020, section
            3.1).
        beams: more than 0: no chance, but a search that keeps so many beginnings for the most probable text.
        tokens: most that are generated.
        stop: strings that end a text, and are no part of it.
        seed: text number i depends on it and on i alone.
        count: texts. With beams, the so many best.

    Raises:
        BadInput: a value is out of range, or two exclude each other.
    """

    repetition_penalty: float = 1.0
    temperature: float | None = None
    top_k: int = 0
    top_p: float = 1.0
    beams: int = 0
    tokens: int = 200
    stop: Sequence[str] = ()
    seed: int = 0
    count: int = 1

    def __post_init__(self):
        for name, least in (("top_k", 0), ("beams", 0), ("tokens", 1), ("seed", 0), ("count", 1)):
            value = getattr(self, name)
            _require(type(value) is int and value >= least, name, value, f"a whole number of {least} or more")
        penalty, chosen = self.repetition_penalty, self.temperature
        good = _finite(penalty, above=0) and 0.01 <= penalty <= 100
        _require(good, "repetition_penalty", penalty, "a number, 0.01 to 100")
        good = chosen is None or chosen == 0 or _finite(chosen, above=0)
        _require(good, "temperature", chosen, "a number, 0 or more")
        good = _finite(self.top_p, above=0) and self.top_p <= 1
        _require(good, "top_p", self.top_p, "a probability, more than 0 and at most 1")
        strings = not isinstance(self.stop, str) and all(isinstance(one, str) and one for one in self.stop)
        _require(strings, "stop", self.stop, "strings of one character or more")
        self._check_together()

    def _check_together(self) -> None:
        if self.beams:
            for name, off in (("temperature", None), ("top_k", 0), ("top_p", 1.0)):
                if getattr(self, name) != off:
                    raise BadInput(
                        f"--beams is {self.beams} and --{name} {getattr(self, name)}: a beam search leaves nothing to "
                        f"chance; leave out one of the two"
                    )
            if self.count > self.beams:
                raise BadInput(f"--count is {self.count} and --beams {self.beams}: expected at most as many texts")
        elif self.temperature == 0 and self.count > 1:
            raise BadInput(f"--count is {self.count} and --temperature 0: all texts would be the same; raise it")


def penalised(logits: np.ndarray, present: Sequence[int], penalty: float) -> np.ndarray:
    """Logits `[vocabulary]` in float64, with tokens that are present less probable (`repetition_penalty`)."""
    found = np.array(logits, np.float64)
    if penalty != 1.0:
        ids = np.unique(np.asarray(present, np.int64))
        found[ids] = np.where(found[ids] > 0, found[ids] / penalty, found[ids] * penalty)
    return found


def probabilities(
    logits: np.ndarray, temperature: float | None = None, top_k: int = 0, top_p: float = 1.0
) -> np.ndarray:
    """The probabilities to draw the next token by, see `SamplingConfig`.

    Args:
        logits: `[vocabulary]`; -inf of what must not come.
        temperature: as in `SamplingConfig`. Of equally probable tokens the one with the lower id goes first.
        top_k: as in `SamplingConfig`.
        top_p: as in `SamplingConfig`, of what `top_k` leaves.

    Returns:
        float64 `[vocabulary]`, their sum 1.
    """
    order = np.argsort(-logits, kind="stable")
    if temperature == 0:
        order = order[:1]
    # From the largest on, so that however low the temperature, at worst the others become minus infinity.
    fallen = logits[order].astype(np.float64) - float(logits[order[0]])
    with np.errstate(over="ignore"):
        chances = np.exp(fallen / (temperature or 1.0))
    if top_k:
        chances = chances[:top_k]
    chances /= chances.sum()
    if top_p < 1:
        # What comes before a token is not enough yet: it is needed, too.
        chances = chances[np.cumsum(chances) - chances < top_p]
        chances /= chances.sum()
    found = np.zeros(len(logits))
    found[order[: len(chances)]] = chances
    return found


def drawn(chances: np.ndarray, number: float) -> int:
    """The token that a random number in [0, 1) stands for; never one whose probability is 0."""
    sums = np.cumsum(chances)
    # Rounded up, the number may be the sum of all.
    last = int(np.flatnonzero(chances)[-1])
    return min(int(np.searchsorted(sums, number * sums[-1], side="right")), last)


def _finite(value, above: float) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > above


def _require(holds: bool, name: str, value, expected: str) -> None:
    if not holds:
        raise BadInput(f"--{name} is {value!r}: expected {expected}")
