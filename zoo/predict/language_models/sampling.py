"""Sampling of the next token: repetition penalty, temperature, top-k and nucleus (top-p) filters."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from zoo.errors import BadInput

# Most texts, and most tokens of one, so that each call ends: a long novel has half a million tokens. Each beam has a
# copy of the model's state, and texts get worse from some tens on (Koehn and Knowles, 2017, section 3.6).
_BOUNDS = {
    "top_k": (0, 2**31),
    "beams": (0, 1000),
    "tokens": (1, 10**6),
    "seed": (0, 2**63 - 1),
    "count": (1, 10**6),
}


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """Settings of text generation; the filters apply in the order of the attributes.

    Attributes:
        repetition_penalty: factor for tokens that are already in the text or the prompt: positive logits are divided by
            it, negative ones multiplied (Keskar et al., 2019, section 4.1, who divide both). 1 changes nothing.
        temperature: divisor of the logits; 0 takes the most probable token. None is 1.
        top_k: only the k most probable tokens are kept (Fan et al., 2018, section 5.1); 0 keeps all.
        top_p: nucleus sampling: only the fewest tokens are kept whose probabilities sum to p (Holtzman et al., 2020,
            section 3.1).
        beams: number of beams of a beam search for the most probable text; 0 samples instead.
        tokens: most tokens to generate.
        stop: strings that end a text; they are not part of it.
        seed: seed; text number i depends on the seed and i alone.
        count: number of texts; with beams, the best ones.

    Raises:
        BadInput: a value is out of range, or two values exclude each other.
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
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            _require(type(value) is int and least <= value <= most, name, value, f"a whole number, {least} to {most:,}")
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
                        f"--beams is {self.beams} and --{name} {getattr(self, name)}: a beam search does not sample; "
                        f"leave out one of the two"
                    )
            if self.count > self.beams:
                raise BadInput(f"--count is {self.count} and --beams {self.beams}: expected at most as many texts")
        elif self.temperature == 0 and self.count > 1:
            raise BadInput(f"--count is {self.count} and --temperature 0: all texts would be the same; raise it")


def penalise_repetition(logits: np.ndarray, present: Sequence[int], penalty: float) -> np.ndarray:
    """Logits `[vocabulary]` in float64 with the repetition penalty on tokens that are present."""
    penalised = np.array(logits, np.float64)
    if penalty != 1.0:
        ids = np.unique(np.asarray(present, np.int64))
        penalised[ids] = np.where(penalised[ids] > 0, penalised[ids] / penalty, penalised[ids] * penalty)
    return penalised


def probabilities(
    logits: np.ndarray, temperature: float | None = None, top_k: int = 0, top_p: float = 1.0
) -> np.ndarray:
    """Probabilities to draw the next token from, after temperature, top-k and top-p.

    Args:
        logits: `[vocabulary]`; -inf for tokens that must not come.
        temperature: divisor of the logits; with 0, the lowest id of the most probable tokens is certain. None is 1.
        top_k: number of most probable tokens to keep, the lower id first of equal ones; 0 keeps all.
        top_p: probability that the nucleus must have, among the tokens that `top_k` keeps.

    Returns:
        float64 `[vocabulary]`, their sum 1.
    """
    order = np.argsort(-logits, kind="stable")
    if temperature == 0:
        order = order[:1]
    # Relative to the largest logit: with a very low temperature the others overflow to minus infinity at worst.
    relative = logits[order].astype(np.float64) - float(logits[order[0]])
    with np.errstate(over="ignore"):
        kept = np.exp(relative / (temperature or 1.0))
    if top_k:
        kept = kept[:top_k]
    kept /= kept.sum()
    if top_p < 1:
        # A token is in the nucleus if the tokens before it do not reach p.
        kept = kept[np.cumsum(kept) - kept < top_p]
        kept /= kept.sum()
    filtered = np.zeros(len(logits))
    filtered[order[: len(kept)]] = kept
    return filtered


def draw(probabilities: np.ndarray, number: float) -> int:
    """The token at a random number in [0, 1), by inverse transform; never one with probability 0."""
    sums = np.cumsum(probabilities)
    # By rounding, the product below may equal the sum of all.
    last = int(np.flatnonzero(probabilities)[-1])
    return min(int(np.searchsorted(sums, number * sums[-1], side="right")), last)


def _finite(value, above: float) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > above


def _require(holds: bool, name: str, value, expected: str) -> None:
    if not holds:
        raise BadInput(f"--{name} is {repr(value)[:60]}: expected {expected}")
