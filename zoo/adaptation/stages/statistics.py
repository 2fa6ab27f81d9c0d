"""The stage of `zoo.adaptation.refiner` that fits a model's statistics to the stream."""

from typing import Any

import keras
import numpy as np

from zoo.adaptation import guards
from zoo.adaptation.refiner import Forward, StreamContext
from zoo.adaptation.stages import normalization
from zoo.errors import BadInput
from zoo.metrics.logits import two_class_logits
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier

# Fewer examples say less of a channel's variance than the source's does.
_FEWEST = 32
# In units of chance, where 1 is expected; the channels are not independent, so single batches come to 2.5.
_SHIFTED = 3.0
# Cosine. Below it the shares were wrong as often as right, and with them the fit (damaged training images of MNIST and
# Fashion-MNIST, in streams of all classes, of some and of one).
_SIMILAR = 0.88
# Of the merit before; smaller gains were as often losses of accuracy.
_LIMIT = 0.65
# Times the score of validation: of one class or a few, fits to all of them came to 20 and more, or to no gain.
_GOOD = 15.0
# Where the classes are mixed as in validation less is asked of the gain. Whether they are is seen from two total
# variations to validation's shares: of the answers after the fit (0.16 at most, where they are) and of what the
# correlations tell, however badly (0.54 at most). Streams of one class or a few have 0.6 and more by the second where
# such a fit looks like a gain of this size.
_LIMIT_MIXED, _ANSWERED, _TOLD = 0.75, 0.17, 0.55
# Of shares: what a few hundred examples cannot tell from none.
_CHANCE = 0.1


class BatchStatistics:
    """Fits batch normalisations, or where there are none the last features, to the stream; see `statistics`.

    Two fits are tried: to the shares of the validation split, and to those that the correlations of the channels tell,
    where they do. The second is judged by the score of the guards and by how far the shares of the classes among the
    answers are from those of the correlations: a model that sees one class in everything gives itself away by it, and
    so does a fit that sees many where there is one.
    """

    name, target = "statistics", "model"
    max_score_ratio, restarts_each_batch = None, True

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Measures the source's moments.

        Raises:
            BadInput: the model has nothing to fit, or the validation split lacks a class.
        """
        last = normalization.layers_of(predictor.model)[-1]
        if isinstance(last, keras.layers.Dense) and not isinstance(last.input, keras.KerasTensor):
            raise BadInput("--refine=statistics: the model's last layer has several inputs; expected one")
        missing = set(range(len(predictor.classes))) - set(source.labels.tolist())
        if missing:
            name = predictor.classes[min(missing)]
            raise BadInput(f"--refine=statistics: the validation split has no example of {name!r}; expected each class")
        self._predictor = predictor
        self._norms = normalization.NormalizationFit(predictor, source.examples, source.labels)
        self._guards = guards.Guards(source)
        self._shares = np.bincount(source.labels, minlength=self._norms.classes) / len(source.labels)

    def propose(self, seen: StreamContext) -> str:
        """Fits all layers to the recent examples."""
        if len(seen.recent) < _FEWEST:
            return f"{len(seen.recent)} examples are too few, expected {_FEWEST}"
        if self._norms.shift(seen.recent, _shares(seen.logits)) < _SHIFTED:
            return "the inputs look as usual"
        before, first = self._guards.score(seen.logits), self.state()
        found = self._norms.shares(seen.recent)
        even = self._of_validation(seen.recent, before, _apart(found.shares, self._shares) < _TOLD)
        state = self.state()
        self.load(first)
        if found.similarity >= _SIMILAR:
            gain = self._fitted(seen.recent, found.shares) / self._merit(seen.logits, found.shares)
            if gain < _LIMIT and not (even and even.product < self._guards.score(self._answers(seen.recent)).product):
                return ""
        if even:
            self.load(state)
            return ""
        return f"no fit is sure enough (similarity {found.similarity:.2f}, expected {_SIMILAR})"

    def logits(self, examples: Any, inner: Forward) -> np.ndarray:
        """Those of the changed model."""
        return inner(examples)

    def state(self) -> Any:
        """The weights of each layer."""
        return self._norms.state()

    def load(self, state: Any) -> None:
        """Sets them."""
        self._norms.load(state)

    def _of_validation(self, examples: Any, before: guards.Score, mixed: bool) -> guards.Score | None:
        """Fits to the shares that the classes have in validation; the score, if it is good by any measure, else None.

        Of examples of one class or a few, such a fit makes many, unsurely and unevenly: its score is never good. Where
        the classes may be mixed as in validation and are so among the answers, a gain will do.
        """
        self._norms.set(examples, self._shares)
        logits = self._answers(examples)
        score = self._guards.score(logits)
        if mixed and _apart(_shares(logits), self._shares) < _ANSWERED:
            good = score.ratio_to(before) < _LIMIT_MIXED
        else:
            good = score.ratio_to(before) < _LIMIT and self._guards.times_usual(score) < _GOOD
        return score if good else None

    def _fitted(self, examples: Any, shares: np.ndarray) -> float:
        """Fits to the shares, and to those that the answers then have; keeps the better fit and returns its merit."""
        self._norms.set(examples, shares)
        logits = self._answers(examples)
        first, state = self._merit(logits, shares), self.state()
        self._norms.settle(examples, lambda: self._answers(examples).argmax(axis=1), shares)
        second = self._merit(self._answers(examples), shares)
        if first <= second:
            self.load(state)
        return min(first, second)

    def _merit(self, logits: np.ndarray, shares: np.ndarray) -> float:
        """The less, the better."""
        return self._guards.score(logits).product * (_apart(_shares(logits), shares) + _CHANCE)

    def _answers(self, examples: Any) -> np.ndarray:
        return two_class_logits(self._predictor.logits(examples))


def _shares(logits: np.ndarray) -> np.ndarray:
    """Of the classes among the answers, `[classes]`."""
    return np.bincount(logits.argmax(axis=1), minlength=logits.shape[1]) / len(logits)


def _apart(shares: np.ndarray, others: np.ndarray) -> float:
    """Their total variation, from 0 to 1."""
    return float(np.abs(shares - others).sum() / 2)
