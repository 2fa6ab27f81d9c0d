"""An e-process that tests for label shift in a stream of unlabelled batches.

Testing each batch alone, or all batches so far at each batch, gives a false alarm on every stream that is long enough;
dividing the level among an unknown number of batches leaves almost nothing for most of them. The statistic here is a
bettor's wealth (an e-process; Ramdas et al., "Game-theoretic statistics and safe anytime-valid inference", 2023): under
the null hypothesis, no shift, it ever reaches 1 / level with a probability of at most `level`, on a stream of any
length (Ville's inequality).

The bets are on the predicted classes. Their shares shift whenever those of the true classes do, if the model is better
than chance (Lipton et al., "Detecting and correcting for label shift with black box predictors", 2018, section 4). So
the level does not require calibrated probabilities. It does require the same model for validation and stream, and
validation examples like those of an unshifted stream. A change in how the classes look raises this alarm, too.
"""

import dataclasses
import math

import numpy as np
from scipy import special

# Pseudo-examples per class of the alternatives (Jeffreys' prior), and several numbers for the null hypothesis: with few
# validation examples of many classes, equal shares would otherwise favour the alternatives.
_HALF = 0.5
_PRIORS = np.array([0.1, 0.5, 2.5, 12.5, 62.5, 312.5])
# Concentration of a mild shift: its shares vary around those of validation as if estimated from 100 examples.
_MILD = 100.0


@dataclasses.dataclass(frozen=True)
class ShiftEProcess:
    """Wealth of a bettor who starts with 1; immutable.

    The null hypothesis and four alternatives, all Dirichlet-multinomial, predict each batch's histogram; the wealth on
    an alternative is multiplied by its likelihood ratio to the null hypothesis. The null hypothesis pools the
    validation set and the whole stream, so it accounts for the size of the validation set: with few examples it is
    uncertain itself. An alternative uses either its prior alone, for a shift of this batch only, or the recent stream
    as well; its prior is either wide or near the shares of validation, for a mild shift.

    After each batch a share 1 / (batches + 2) of the initial wealth is still held back for shifts that begin later, so
    waiting costs a factor of about the square of the number of batches, not an exponential one.

    Attributes:
        validation: number of predictions of each class on the validation set.
        memory: number of examples after which `recent` has faded by 1 / e.
        batches: number of batches so far.
        seen: number of predictions of each class in the stream; empty before the first batch.
        recent: the same, faded.
        bets: log wealth on each alternative.
    """

    validation: tuple[int, ...]
    memory: float
    batches: int = 0
    seen: tuple[int, ...] = ()
    recent: tuple[float, ...] = ()
    bets: tuple[float, ...] = (math.log(1 / 8),) * 4

    @property
    def log_wealth(self) -> float:
        """Natural log of the wealth; without a shift, at most a share `level` of streams ever reaches -log(level)."""
        return float(np.logaddexp.reduce([-math.log(self.batches + 2), *self.bets]))

    def add(self, predicted: np.ndarray) -> "ShiftEProcess":
        """The e-process after one more batch.

        Args:
            predicted: number of the batch's examples predicted as each class, integers `[classes]`.
        """
        classes, validation = len(self.validation), np.array(self.validation)
        stream = np.array(self.seen or np.zeros(classes, int))
        recent = np.array(self.recent or np.zeros(classes))
        wide = np.full(classes, _HALF)
        mild = _MILD * (validation + wide) / (validation + wide).sum()
        alternatives = np.stack([wide, wide + recent, mild, mild + recent])  # [alternatives, classes]
        pooled = validation + stream
        log_null = _log_unshifted(pooled + predicted) - _log_unshifted(pooled)
        log_ratios = _log_probability(predicted, alternatives) - log_null
        # A part of the wealth held back is now bet on a shift that begins with the next batch.
        new = 1 / (self.batches + 2) - 1 / (self.batches + 3)
        bets = np.logaddexp(np.array(self.bets) + log_ratios, math.log(new / len(log_ratios)))
        recent = math.exp(-int(predicted.sum()) / self.memory) * recent + predicted
        return dataclasses.replace(
            self,
            batches=self.batches + 1,
            seen=tuple((stream + predicted).tolist()),
            recent=tuple(recent.tolist()),
            bets=tuple(bets.tolist()),
        )


def _log_unshifted(counts: np.ndarray) -> float:
    """Log probability of a sequence with these class counts, from one distribution; `_PRIORS` are equally likely."""
    priors = np.repeat(_PRIORS[:, None], len(counts), axis=1)
    return float(np.logaddexp.reduce(_log_probability(counts, priors)))


def _log_probability(counts: np.ndarray, pseudo: np.ndarray) -> np.ndarray:
    """Log probability of a sequence with these class counts, under Dirichlet priors `[..., classes]`."""
    of_class = special.gammaln(pseudo + counts) - special.gammaln(pseudo)
    total = pseudo.sum(axis=-1)
    return of_class.sum(axis=-1) - special.gammaln(total + counts.sum()) + special.gammaln(total)
