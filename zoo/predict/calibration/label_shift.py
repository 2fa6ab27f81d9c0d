"""Predictions under other shares of the classes than in validation, which are estimated from the predictions alone.

Label shift: classes come in other shares, and each looks as it did. Then the shares are those that make the unlabelled
examples likeliest (Saerens et al., "Adjusting the outputs of a classifier to new a priori probabilities", 2002), found
by expectation maximisation from calibrated probabilities: `calibration.bias_corrected` first (Alexandari et al., 2020).
NumPy and SciPy only.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.errors import BadInput
from zoo.predict.calibration.label_shift_test import ShiftEProcess

_FORMAT = 1
# Of estimated shares; a thousandth of what a thousand examples can tell.
_TOLERANCE = 1e-6
_ITERATIONS = 1000


@dataclasses.dataclass(frozen=True)
class LabelShiftEstimate:
    """The shares of the classes in a stream, carried from batch to batch; immutable, begin with `of`.

    A new batch finds what is known as a Dirichlet prior: the expected numbers of each class in the batches before, each
    faded by 1 / e with every `memory` examples since, and `strength` pseudo-examples that are distributed as in
    validation, so that a few examples do not run away. Fading by examples, not batches, makes the horizon independent
    of the batch size; that there is any lets the estimate follow shares that drift, and costs little where they stay:
    1,000 examples fix a share to 0.016 or better. With `memory` infinite all of the stream counts alike (Neal and
    Hinton, 1998: incremental expectation maximisation).

    Nothing is corrected until the `evidence` for a shift suffices: of all streams that have not shifted at most a share
    of `level` is ever touched. From then on everything is, also after the shares return, whose correction fades to
    about nothing; `reset` starts anew. What is not corrected is returned as it came.

    The evidence sees a shift and not its kind: where the classes look otherwise than in validation, as under noise, the
    correction is not founded and may harm.

    Attributes:
        source: the shares of the classes that the probabilities take for granted.
        evidence: for a shift, so far.
        level: largest share of unshifted streams to correct, above 0 and below 1.
        strength: pseudo-examples, 0 or more.
        expected: faded numbers of examples of each class; none before the first batch.
    """

    source: tuple[float, ...]
    evidence: ShiftEProcess
    level: float
    strength: float
    expected: tuple[float, ...] = ()

    @classmethod
    def of(
        cls, probabilities: np.ndarray, level: float = 0.01, memory: float = 1000.0, strength: float | None = None
    ) -> "LabelShiftEstimate":
        """Before a stream.

        The source's shares are the mean of the probabilities, not the shares of the labels: so validation data itself
        is a fixed point, and an error of calibration is not taken for a shift (Alexandari et al., 2020). After
        `calibration.bias_corrected` the two are all but the same.

        Args:
            probabilities: calibrated, of the validation set `[examples, classes]`: examples that the model was not
                trained on, ten or more of each class. The level holds on average over what the shares may be; where
                most classes have been seen only once or twice it may be exceeded for some. They may be those that the
                calibration was fitted to: in simulations the level held all the same.
            level: as in `LabelShiftEstimate`; 0.01 takes about 1.6 nats more evidence than 0.05.
            memory: examples, above 0.
            strength: None for half a pseudo-example per class, as Jeffreys' prior has; more helps against mild shifts
                in small batches, less against strong ones.

        Raises:
            ValueError: the arguments are not as above.
        """
        probabilities = _checked(probabilities)
        classes = probabilities.shape[1]
        strength = classes / 2 if strength is None else float(strength)
        if not (0 < level < 1 and memory > 0 and 0 <= strength < math.inf):
            raise ValueError(
                f"level {level}, memory {memory}, strength {strength}: expected 0 < level < 1, memory above 0, "
                "strength 0 or more"
            )
        source = probabilities.mean(axis=0) if len(probabilities) else np.zeros(classes)
        if not source.min() > 0:
            raise ValueError(
                f"class {source.argmin()} has no probability on {len(probabilities)} validation examples: expected "
                "more examples, or calibrated probabilities"
            )
        evidence = ShiftEProcess(tuple(_predicted(probabilities).tolist()), float(memory))
        return cls(tuple((source / source.sum()).tolist()), evidence, float(level), strength)

    @property
    def shifted(self) -> bool:
        """Whether a shift was found."""
        return self.evidence.log_money >= -math.log(self.level)

    @property
    def target(self) -> tuple[float, ...]:
        """The shares of the classes in the stream, as far as they are known; before the first batch the source's."""
        source = np.array(self.source)
        counts = self.strength * source + np.array(self.expected or np.zeros(len(source)))
        return tuple((counts / counts.sum()).tolist()) if counts.sum() > 0 else self.source

    def update(self, probabilities: np.ndarray) -> tuple["LabelShiftEstimate", np.ndarray]:
        """Learns of the next batch and corrects it.

        Args:
            probabilities: calibrated as those given to `of`, `[examples, classes]`, of the same model: one that adapts
                to the stream moves its predictions, which would be taken for a shift. Also no examples.

        Returns:
            The prior after the batch, and the probabilities: bit for bit as given while no shift was found, and then
            corrected, by all of the stream up to this batch, in the same precision.

        Raises:
            ValueError: they are no probabilities, or of other classes.
        """
        given = _checked(probabilities, len(self.source))
        if not len(given):
            return self, probabilities
        # Evidence that suffices is kept as it is: what comes later cannot take it back.
        evidence = self.evidence if self.shifted else self.evidence.add(_predicted(given))
        kept = math.exp(-len(given) / self.evidence.memory)
        source, carried = np.array(self.source), kept * np.array(self.expected or np.zeros(len(self.source)))
        target = estimate(given, source, carried + self.strength * source)
        corrected = correct(given, source, target)
        expected = tuple((carried + corrected.sum(axis=0)).tolist())
        after = dataclasses.replace(self, evidence=evidence, expected=expected)
        return after, corrected.astype(np.asarray(probabilities).dtype) if after.shifted else probabilities

    def reset(self) -> "LabelShiftEstimate":
        """As before the stream."""
        return dataclasses.replace(
            self, evidence=ShiftEProcess(self.evidence.validation, self.evidence.memory), expected=()
        )

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`; `from_json` gives an equal prior, which goes on bit for bit."""
        return {"format": _FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, found: Any) -> "LabelShiftEstimate":
        """Reads what `as_json` gave.

        Raises:
            BadInput: it is something else.
        """
        try:
            return _read(found)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(
                f"state of a prior cannot be read ({error}); expected that of this version: start the stream anew"
            ) from None


def estimate(
    probabilities: np.ndarray, source: np.ndarray, counts: np.ndarray | None = None, iterations: int = _ITERATIONS
) -> np.ndarray:
    """The likeliest shares of the classes, float64 `[classes]`, by expectation maximisation from `source` on.

    They maximise `sum_i log sum_k probabilities[i, k] q[k] / source[k] + sum_k counts[k] log q[k]`, which is concave.

    Args:
        probabilities: calibrated, `[examples, classes]`.
        source: the shares that they take for granted, `[classes]`, all above 0.
        counts: pseudo-examples of each class `[classes]` (a Dirichlet prior with parameters 1 + counts), or None.
        iterations: at most; it ends where no share moves by 1e-6.
    """
    counts = np.zeros(len(source)) if counts is None else counts
    total = len(probabilities) + counts.sum()
    target = np.asarray(source, np.float64)
    for _ in range(iterations if total > 0 else 0):
        before, target = target, (correct(probabilities, source, target).sum(axis=0) + counts) / total
        if np.abs(target - before).max() < _TOLERANCE:
            break
    return target


def correct(probabilities: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Bayes' rule with the shares `target` in the place of `source`: float64 `[examples, classes]`."""
    joint = probabilities * (target / source)
    return joint / joint.sum(axis=1, keepdims=True)


def _predicted(probabilities: np.ndarray) -> np.ndarray:
    """How many examples are predicted as each class: `[classes]`."""
    return np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])


def _checked(probabilities: np.ndarray, classes: int | None = None) -> np.ndarray:
    probabilities = np.asarray(probabilities)
    wide = probabilities.shape[1] if probabilities.ndim == 2 else 0
    if probabilities.dtype.kind != "f" or wide < 2 or wide != (classes or wide):
        raise ValueError(
            f"probabilities are {probabilities.dtype} {list(probabilities.shape)}: expected floats [examples, "
            f"{classes or 'classes'}], two classes or more"
        )
    # Rounded to half precision they are still probabilities; logits are not.
    good = (probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1) < 1e-2)
    if not good.all():
        raise ValueError(
            f"probabilities of example {np.flatnonzero(~good)[0]} are negative, not finite or do not sum to 1: "
            "expected a softmax over the classes"
        )
    return probabilities.astype(np.float64)


def _read(found: Mapping[str, Any]) -> LabelShiftEstimate:
    fields = {name: _tupled(value) for name, value in found.items()}
    if fields.pop("format") != _FORMAT:
        raise ValueError("another format")
    evidence = ShiftEProcess(**{name: _tupled(value) for name, value in fields["evidence"].items()})
    prior = LabelShiftEstimate(**fields | {"evidence": evidence})
    rows = prior.source, evidence.validation, prior.expected, evidence.seen, evidence.recent, evidence.bets
    if not all(isinstance(row, tuple) for row in rows) or len(evidence.bets) != len(ShiftEProcess((), 1.0).bets):
        raise ValueError("another format")
    classes = len(prior.source)
    begun = classes if evidence.batches else 0
    if [len(row) for row in rows[1:5]] != [classes, begun, begun, begun]:
        raise ValueError("numbers of classes differ")
    numbers = [prior.level, prior.strength, evidence.batches, *(number for row in rows for number in row)]
    # A memory may be infinite.
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise ValueError("a number is none, or not finite")
    if not (0 < prior.level < 1 and evidence.memory > 0 and evidence.batches >= 0):
        raise ValueError("level, memory or batches out of range")
    if prior.strength < 0 or min(prior.source) <= 0 or min(*prior.expected, *evidence.validation, 0) < 0:
        raise ValueError("a share is not above 0, or a count below 0")
    return prior


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
