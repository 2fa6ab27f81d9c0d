"""Label shift: estimates new class proportions from unlabelled predictions, and corrects predictions for them.

Under label shift the proportions of the classes change, but examples of each class look the same. Then the maximum
likelihood estimate of the proportions needs no labels (Saerens et al., "Adjusting the outputs of a classifier to new a
priori probabilities", 2002): expectation maximisation on calibrated probabilities, best after
`temperature_scaling.bias_corrected` (Alexandari et al., 2020). NumPy and SciPy only.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.errors import BadInput
from zoo.predict.calibration.label_shift_test import ShiftEProcess

_FORMAT = 1
# Convergence of estimated shares; a thousandth of what a thousand examples can resolve.
_TOLERANCE = 1e-6
_ITERATIONS = 1000


@dataclasses.dataclass(frozen=True)
class LabelShiftEstimate:
    """Class shares of a stream, updated batch by batch; immutable. Start with `from_validation`.

    For a new batch the past is a Dirichlet prior: the expected number of examples of each class so far, which fades by
    1 / e with every `memory` examples, and `strength` pseudo-examples distributed as in validation, so that a few
    examples do not move the estimate far. Fading by examples, not batches, makes the horizon independent of the batch
    size. It lets the estimate follow drifting shares, and costs little without drift: 1,000 examples determine a share
    to 0.016 or better. With infinite `memory` the whole stream counts equally (Neal and Hinton, 1998: incremental
    expectation maximisation).

    Nothing is corrected until the `evidence` for a shift is sufficient: of all streams without a shift at most a share
    of `level` is ever corrected. From then on every batch is corrected, even after the shares return to those of
    validation, where the correction fades to almost nothing; `reset` starts again. Uncorrected probabilities are
    returned unchanged.

    The evidence detects a shift, not its kind: where the classes look different from validation, as under noise, the
    correction is unjustified and may harm.

    Attributes:
        source: class shares in validation, which the probabilities assume.
        evidence: evidence for a shift so far.
        level: largest share of unshifted streams to correct, above 0 and below 1.
        strength: number of pseudo-examples, 0 or more.
        expected: faded number of examples of each class; empty before the first batch.
    """

    source: tuple[float, ...]
    evidence: ShiftEProcess
    level: float
    strength: float
    expected: tuple[float, ...] = ()

    @classmethod
    def from_validation(
        cls, probabilities: np.ndarray, level: float = 0.01, memory: float = 1000.0, strength: float | None = None
    ) -> "LabelShiftEstimate":
        """The estimate before a stream.

        Source shares are the mean of the probabilities, not the shares of the labels: so validation data itself is a
        fixed point, and a calibration error is not mistaken for a shift (Alexandari et al., 2020). After
        `temperature_scaling.bias_corrected` the two are almost equal.

        Args:
            probabilities: calibrated probabilities `[examples, classes]` of a validation set that the model was not
                trained on, with ten or more examples of each class. The level holds on average over possible shares;
                with one or two examples of most classes it may be exceeded for some. The calibration may be fitted to
                the same examples: in simulations the level held.
            level: largest share of unshifted streams to correct; 0.01 needs about 1.6 nats more evidence than 0.05.
            memory: number of examples after which the past has faded by 1 / e, above 0.
            strength: number of pseudo-examples; None is half a pseudo-example per class, Jeffreys' prior. More helps
                against mild shifts in small batches, less against strong ones.

        Raises:
            ValueError: the arguments do not fit the description above.
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
        """Whether a shift was detected."""
        return self.evidence.log_wealth >= -math.log(self.level)

    @property
    def target(self) -> tuple[float, ...]:
        """Estimated class shares of the stream; the source's before the first batch."""
        source = np.array(self.source)
        counts = self.strength * source + np.array(self.expected or np.zeros(len(source)))
        return tuple((counts / counts.sum()).tolist()) if counts.sum() > 0 else self.source

    def update(self, probabilities: np.ndarray) -> tuple["LabelShiftEstimate", np.ndarray]:
        """Updates the estimate with the next batch, and corrects the batch.

        Args:
            probabilities: probabilities `[examples, classes]` with the model and calibration of `from_validation`; zero
                examples are allowed. A model that adapts to the stream changes its predictions, like a shift.

        Returns:
            The estimate after the batch, and the probabilities: unchanged, bit for bit, until a shift is detected, then
            corrected by the stream up to this batch, in the same precision.

        Raises:
            ValueError: the values are not probabilities, or of another number of classes.
        """
        batch = _checked(probabilities, len(self.source))
        if not len(batch):
            return self, probabilities
        # Sufficient evidence is final: later batches cannot reduce it.
        evidence = self.evidence if self.shifted else self.evidence.add(_predicted(batch))
        kept = math.exp(-len(batch) / self.evidence.memory)
        source, carried = np.array(self.source), kept * np.array(self.expected or np.zeros(len(self.source)))
        target = estimate(batch, source, carried + self.strength * source)
        corrected = correct(batch, source, target)
        expected = tuple((carried + corrected.sum(axis=0)).tolist())
        after = dataclasses.replace(self, evidence=evidence, expected=expected)
        return after, corrected.astype(np.asarray(probabilities).dtype) if after.shifted else probabilities

    def reset(self) -> "LabelShiftEstimate":
        """The estimate before the stream."""
        return dataclasses.replace(
            self, evidence=ShiftEProcess(self.evidence.validation, self.evidence.memory), expected=()
        )

    def as_json(self) -> dict[str, Any]:
        """Fields for `json.dumps`; `from_json` restores an equal estimate, which continues bit for bit."""
        return {"format": _FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, fields: Any) -> "LabelShiftEstimate":
        """The estimate from the fields of `as_json`.

        Raises:
            BadInput: the value is something else.
        """
        try:
            return _read(fields)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(
                f"label shift state cannot be read ({error}); expected that of this version: restart the stream"
            ) from None


def estimate(
    probabilities: np.ndarray, source: np.ndarray, counts: np.ndarray | None = None, iterations: int = _ITERATIONS
) -> np.ndarray:
    """Maximum likelihood class shares, float64 `[classes]`, by expectation maximisation, which starts at `source`.

    They maximise `sum_i log sum_k probabilities[i, k] q[k] / source[k] + sum_k counts[k] log q[k]`, which is concave.

    Args:
        probabilities: calibrated probabilities `[examples, classes]`.
        source: class shares `[classes]` that the probabilities assume, all above 0.
        counts: pseudo-examples of each class `[classes]` (a Dirichlet prior with parameters 1 + counts), or None.
        iterations: most iterations; they end early where no share moves by 1e-6.
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
    """Bayes' rule: probabilities for class shares `target` instead of `source`, float64 `[examples, classes]`."""
    joint = probabilities * (target / source)
    return joint / joint.sum(axis=1, keepdims=True)


def _predicted(probabilities: np.ndarray) -> np.ndarray:
    """Number of examples predicted as each class, `[classes]`."""
    return np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])


def _checked(probabilities: np.ndarray, classes: int | None = None) -> np.ndarray:
    probabilities = np.asarray(probabilities)
    wide = probabilities.shape[1] if probabilities.ndim == 2 else 0
    if probabilities.dtype.kind != "f" or wide < 2 or wide != (classes or wide):
        raise ValueError(
            f"probabilities are {probabilities.dtype} {list(probabilities.shape)}: expected floats [examples, "
            f"{classes or 'classes'}], two classes or more"
        )
    # The tolerance accepts probabilities in half precision, but not logits.
    good = (probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1) < 1e-2)
    if not good.all():
        raise ValueError(
            f"probabilities of example {np.flatnonzero(~good)[0]} are negative, not finite or do not sum to 1: "
            "expected a softmax over the classes"
        )
    return probabilities.astype(np.float64)


def _read(state: Mapping[str, Any]) -> LabelShiftEstimate:
    fields = {name: _tupled(value) for name, value in state.items()}
    if fields.pop("format") != _FORMAT:
        raise ValueError("another format")
    evidence = ShiftEProcess(**{name: _tupled(value) for name, value in fields["evidence"].items()})
    estimated = LabelShiftEstimate(**fields | {"evidence": evidence})
    rows = estimated.source, evidence.validation, estimated.expected, evidence.seen, evidence.recent, evidence.bets
    if not all(isinstance(row, tuple) for row in rows) or len(evidence.bets) != len(ShiftEProcess((), 1.0).bets):
        raise ValueError("another format")
    classes = len(estimated.source)
    counted = classes if evidence.batches else 0
    if [len(row) for row in rows[1:5]] != [classes, counted, counted, counted]:
        raise ValueError("numbers of classes differ")
    numbers = [estimated.level, estimated.strength, evidence.batches, *(number for row in rows for number in row)]
    # A memory may be infinite.
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise ValueError("a value is not a finite number")
    if not (0 < estimated.level < 1 and evidence.memory > 0 and evidence.batches >= 0):
        raise ValueError("level, memory or batches out of range")
    if estimated.strength < 0 or min(estimated.source) <= 0 or min(*estimated.expected, *evidence.validation, 0) < 0:
        raise ValueError("a share is not above 0, or a count is below 0")
    return estimated


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
