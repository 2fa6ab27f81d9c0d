"""Training on recoloured source images, with an estimate of what it is worth: see coral.py."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.adaptation import guards
from zoo.adaptation.stages.class_proportions import total_variation
from zoo.adaptation.stages.normalization import NormalizationFit
from zoo.adaptation.stages.recolouring import SourceImages
from zoo.data.batches import Batches
from zoo.engine import optimizers, schedules
from zoo.engine.engine import Engine
from zoo.engine.state import array
from zoo.metrics import temperature_scaling
from zoo.metrics.logits import class_probabilities, two_class_logits
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.cloning import copied
from zoo.predict.predictors.predictor import Classifier
from zoo.terms import Term

_STEPS, _BATCH, _RATE = 200, 256, 1e-3
# Labelled images; more take longer to recolour, and taught no more.
_MOST = 5000
# Share of them that is held out.
_HELD_OUT = 0.2
# Cosine similarity from which the correlations tell class proportions here, where a wrong estimate is found out
# afterwards; and the total variation from validation's that makes another round worth its time.
_SIMILAR, _FAR = 0.6, 0.25
# Rounds with the class proportions that the round before has predicted, if these differ by this total variation.
_ROUNDS, _CONVERGED = 2, 0.1
# Error on the held-out images, above the source's and up to 1, from which the copy has learned nothing: recolouring has
# erased what tells the classes apart.
_LEARNED = 0.5
# Score above which the recoloured images do not explain the recent ones, so that another damping is tried.
_UNEXPLAINED = 0.25


class Trained(NamedTuple):
    """A trained copy.

    Attributes:
        weights: the copy's, in the order of `model.weights`.
        scale: factor of its logits that gives them the scale of the source model's.
        labels: classes of the held-out recoloured images, `[held out]`.
        logits: the copy's for them, `[held out, classes]`.
    """

    weights: list[np.ndarray]
    scale: float
    labels: np.ndarray
    logits: np.ndarray


class _Round(NamedTuple):
    """One round of training.

    Attributes:
        trained: the copy.
        shares: class proportions that it assumes, `[classes]`.
        overall: whether one factor has damped all frequencies.
        predicted: class proportions that it predicts, `[classes]`.
        score: the guards' score of the recent images.
    """

    trained: Trained
    shares: np.ndarray
    overall: bool
    predicted: np.ndarray
    score: guards.Score


class RecolouredTraining:
    """A copy of a model, and the labelled images that teach it.

    Args:
        predictor: its model is not changed.
        source: the validation split.
    """

    def __init__(self, predictor: Classifier, source: HeldOut):
        order = np.random.default_rng(0).permutation(len(source.labels))[:_MOST]
        cut = int(_HELD_OUT * len(order))
        self._held_out, self._taught = np.arange(cut), np.arange(cut, len(order))
        self._labels = source.labels[order].astype(np.int32)
        images = predictor.prepared(source.examples[order])
        self._images = SourceImages(images, self._labels)
        self._copy = copied(predictor)
        self._fit = NormalizationFit(self._copy, source.examples, source.labels)
        self._validation = np.bincount(source.labels, minlength=self._fit.classes) / len(source.labels)
        self._source_error = float((source.logits.argmax(axis=1) != source.labels).mean())
        self._source_temperature = temperature_scaling.temperature(source.logits, source.labels).temperature
        self._first = [array(weight) for weight in self._copy.model.weights]
        self._engine = None
        self._trained: Trained | None = None

    @property
    def model(self) -> keras.Model:
        """The copy's model."""
        return self._copy.model

    def logits(self, examples: Any) -> np.ndarray:
        """The trained copy's logits `[examples, classes]`, calibrated on the recoloured images as the source's are."""
        return self._trained.scale * two_class_logits(self._copy.logits(examples))

    def score(self, recent: Any) -> guards.Score:
        """The guards' score of the trained copy on the recent images, relative to the held-out recoloured images.

        It is infinite where the copy has learned nothing: then its guesses are as good there as here.
        """
        wrong = (self._trained.logits.argmax(axis=1) != self._trained.labels).mean()
        if wrong >= _LEARNED + (1 - _LEARNED) * self._source_error:
            return guards.Score(1.0, np.inf)
        reference = guards.Guards(HeldOut(None, self._trained.labels, self._trained.logits))
        return reference.score(self.logits(recent))

    def state(self) -> Trained | None:
        """The trained copy."""
        return self._trained

    def load(self, state: Any) -> None:
        """Sets it."""
        self._trained = None if state is None else Trained(*state)
        if state is not None:
            self._assign(self._trained.weights)

    def _assign(self, weights: list[np.ndarray]) -> None:
        for weight, value in zip(self._copy.model.weights, weights, strict=True):
            weight.assign(value)

    def train(self, recent: Any) -> None:
        """Trains the copy for the recent images, which need not be of all classes.

        The class proportions are validation's or those that the correlations tell, then those that the copy predicts;
        the copy with the best score is kept.
        """
        estimate = self._fit.shares(recent)
        first = [self._validation]
        if estimate.similarity >= _SIMILAR and total_variation(estimate.shares, self._validation) > _FAR:
            first.append(estimate.shares)
        best = min((self._round(recent, shares) for shares in first), key=lambda one: one.score.product)
        if best.score.product > _UNEXPLAINED:
            best = min(best, self._round(recent, best.shares, overall=True), key=lambda one: one.score.product)
        for _ in range(_ROUNDS):
            if total_variation(best.predicted, best.shares) < _CONVERGED:
                break
            tried = self._round(recent, best.predicted, best.overall)
            if tried.score.product >= best.score.product:
                break
            best = tried
        self.load(best.trained)

    def _round(self, recent: Any, shares: np.ndarray, overall: bool = False) -> "_Round":
        """Trains the source's copy on images recoloured in these class proportions."""
        self._assign(self._first)
        recoloured = self._images.like(self._copy.prepared(recent), shares, overall)
        taught, labels = recoloured[self._taught], self._labels[self._taught]
        self._fit.set(taught, self._validation)
        self._steps(Batches({"x": taught, "y": labels}, min(_BATCH, len(taught)), seed=0))
        self._fit.measured(taught, labels).set(recent, shares)
        logits = two_class_logits(self._copy.logits(recoloured[self._held_out]))
        held_out = self._labels[self._held_out]
        scale = self._source_temperature / temperature_scaling.temperature(logits, held_out).temperature
        weights = [array(weight) for weight in self._copy.model.weights]
        self._trained = Trained(weights, scale, held_out, scale * logits)
        predicted = _smoothed(class_probabilities(self.logits(recent)))
        return _Round(self._trained, shares, overall, predicted, self.score(recent))

    def _steps(self, batches: Batches) -> None:
        if self._engine is None:
            self._engine, self._slots = _engine(self._copy.model)
            self._first_slots = [array(slot) for slot in self._slots]
        for slot, value in zip(self._slots, self._first_slots, strict=True):
            slot.assign(value)
        self._engine.train(batches, 0, _STEPS)
        self._engine.forget(batches)


def _engine(model: Any) -> tuple[Engine, list[Any]]:
    """An engine that trains all weights, and its optimizer's variables."""

    def forward(model: Any, batch: dict[str, tf.Tensor], training: bool) -> dict[str, Term]:
        # Without dropout, and with the statistics as fitted.
        logits = tf.cast(two_class_logits(model(batch["x"], training=False)), tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], logits)
        return {"loss": Term(losses, tf.ones_like(losses))}

    optimizer = optimizers.make("adam", schedules.make("constant", _RATE, decay_steps=1), None)
    groups = optimizers.groups(model, optimizer)
    # The copy was made under this strategy.
    strategy = tf.distribute.get_strategy()
    engine = Engine(strategy, model, forward, ("loss",), groups, clip_norm=1.0, steps_per_loop=_STEPS)
    return engine, list(optimizer.variables)


def _smoothed(probabilities: np.ndarray) -> np.ndarray:
    """Class proportions `[classes]`; a class that has not come yet may still come."""
    totals = probabilities.sum(axis=0) + 1.0
    return totals / totals.sum()
