"""Evidence, over a stream of batches without labels, that the classes come in other shares than in validation.

A test of each batch for itself, or of all batches so far at each batch, would sound a false alarm on every stream that
is long enough; dividing the level among an unknown number of batches leaves none of it for most. What is kept here is
a bettor's money (an e-process; Ramdas et al., "Game-theoretic statistics and safe anytime-valid inference", 2023): if
nothing has shifted it ever reaches 1 / level with a probability of at most `level`, on a stream of any length, whenever
one looks (Ville's inequality).

What is bet on is the class that the model predicts for each example, whose shares shift whenever those of the true
classes do, if the model is better than chance (Lipton et al., "Detecting and correcting for label shift with black box
predictors", 2018, section 4). So the level does not rest on probabilities that are calibrated. It rests on the model's
staying the same from the validation set on, and on validation examples that are like the stream's when nothing shifts.
A shift of what the classes look like sounds this alarm as well.
"""

import dataclasses
import math

import numpy as np
from scipy import special

# Before anything is seen, half an example of each class (Jeffreys' prior); of what has not shifted also fewer and more:
# with few validation examples of many classes, shares that are all equal would else be known to the alternatives only.
_HALF = 0.5
_PRIORS = np.array([0.1, 0.5, 2.5, 12.5, 62.5, 312.5])
# Of a mild shift: its shares vary around those of validation as if counted on so many examples.
_MILD = 100.0


@dataclasses.dataclass(frozen=True)
class ShiftEProcess:
    """The money of a bettor who began with 1; immutable.

    Each batch's histogram is predicted by "nothing has shifted" and by four alternatives, all of them Dirichlet-
    multinomial; the money on an alternative is multiplied by how much better it predicts. "Nothing has shifted" counts
    the validation set and the whole stream as one, so the validation set's own size is accounted for: of few examples
    it is unsure itself. The alternatives know either nothing but their prior, for a shift of this batch alone, or the
    recent stream as well; their prior is either wide or near the shares of validation, for a mild shift.

    Of the money 1 / (batches + 2) is still held back after a batch, to be laid on shifts that begin later: what waiting
    costs is a factor of about the square of the batches waited, not one that grows exponentially.

    Attributes:
        validation: the predictions of each class on the validation set.
        memory: examples that "recent" reaches back: older ones fade by 1 / e with each so many.
        batches: seen so far.
        seen: predictions of each class in the stream; none before the first batch.
        recent: the same, faded.
        bets: logarithms of the money on each alternative.
    """

    validation: tuple[int, ...]
    memory: float
    batches: int = 0
    seen: tuple[int, ...] = ()
    recent: tuple[float, ...] = ()
    bets: tuple[float, ...] = (math.log(1 / 8),) * 4

    @property
    def log_money(self) -> float:
        """Natural logarithm; where nothing has shifted, at most a share `level` of streams ever has -log(level)."""
        return float(np.logaddexp.reduce([-math.log(self.batches + 2), *self.bets]))

    def add(self, predicted: np.ndarray) -> "ShiftEProcess":
        """The evidence after one more batch.

        Args:
            predicted: how many examples of the batch are predicted as each class, integers `[classes]`.
        """
        classes, validation = len(self.validation), np.array(self.validation)
        seen = np.array(self.seen or np.zeros(classes, int))
        recent = np.array(self.recent or np.zeros(classes))
        wide = np.full(classes, _HALF)
        mild = _MILD * (validation + wide) / (validation + wide).sum()
        against = np.stack([wide, wide + recent, mild, mild + recent])
        known = validation + seen
        won = _log_probability(predicted, against) - (_log_unshifted(known + predicted) - _log_unshifted(known))
        # Of what was held back during this batch, a part is laid on a shift that begins with the next one.
        laid = 1 / (self.batches + 2) - 1 / (self.batches + 3)
        bets = np.logaddexp(np.array(self.bets) + won, math.log(laid / len(won)))
        recent = math.exp(-int(predicted.sum()) / self.memory) * recent + predicted
        return dataclasses.replace(
            self,
            batches=self.batches + 1,
            seen=tuple((seen + predicted).tolist()),
            recent=tuple(recent.tolist()),
            bets=tuple(bets.tolist()),
        )


def _log_unshifted(counts: np.ndarray) -> float:
    """Of examples in their order, all of one distribution, each of `_PRIORS` being as likely as the others."""
    priors = np.repeat(_PRIORS[:, None], len(counts), axis=1)
    return float(np.logaddexp.reduce(_log_probability(counts, priors)))


def _log_probability(counts: np.ndarray, pseudo: np.ndarray) -> np.ndarray:
    """Of examples in their order, of which so many are of each class, under Dirichlet priors `[..., classes]`."""
    of_class = special.gammaln(pseudo + counts) - special.gammaln(pseudo)
    total = pseudo.sum(axis=-1)
    return of_class.sum(axis=-1) - special.gammaln(total + counts.sum()) + special.gammaln(total)
