"""Labels that are probably wrong, by confident learning.

Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", 2021. The probabilities
must be those of models that have not learned from the example: out of fold, from a cross-validation.

An example probably belongs to a class if the probability of that class reaches its threshold: the mean probability of
the class over the examples that bear its label (section 3.1, equation 2). Where it belongs to another class than its
label says, the label is doubtful. With thresholds of their own, the errors of classes that the model is unsure of are
found as well.
"""

from typing import NamedTuple

import numpy as np


class LabelErrors(NamedTuple):
    """What confident learning finds.

    Attributes:
        rows: doubtful examples, the most doubtful first: the smallest margin.
        suggested: the class that each of these probably belongs to.
        self_confidence: probability of the given label, of every example.
        margin: probability of the given label minus that of the most probable other class, of every example.
        joint: number of examples by given label and probable class, `[classes, classes]`; some examples reach the
            threshold of no class, and are counted nowhere.
    """

    rows: np.ndarray
    suggested: np.ndarray
    self_confidence: np.ndarray
    margin: np.ndarray
    joint: np.ndarray


def find(labels: np.ndarray, probabilities: np.ndarray) -> LabelErrors:
    """Finds labels that are probably wrong.

    A label that is the model's own answer is not doubtful, whatever the thresholds say, as in the authors' software.

    Args:
        labels: given labels, int `[examples]`.
        probabilities: out-of-fold probabilities, `[examples, classes]`.
    """
    labels, probabilities = np.asarray(labels, int), np.asarray(probabilities, np.float64)
    examples, classes = probabilities.shape
    every = np.arange(examples)
    self_confidence = probabilities[every, labels]
    others = probabilities.copy()
    others[every, labels] = -np.inf
    margin = self_confidence - others.max(axis=1)
    probable = probable_classes(labels, probabilities)
    is_known = probable >= 0
    joint = np.zeros((classes, classes), int)
    np.add.at(joint, (labels[is_known], probable[is_known]), 1)
    doubtful = np.flatnonzero(is_known & (probable != labels) & (probabilities.argmax(axis=1) != labels))
    rows = doubtful[np.argsort(margin[doubtful], kind="stable")]
    return LabelErrors(rows, probable[rows], self_confidence, margin, joint)


def probable_classes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The most probable of the classes whose threshold each example reaches, int `[examples]`; -1: it reaches none.

    A class without labels has no threshold, and no example belongs to it.
    """
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    own = np.where(labels[:, None] == np.arange(probabilities.shape[1]), probabilities, 0.0)
    thresholds = np.where(counts > 0, own.sum(axis=0) / np.maximum(counts, 1), np.inf)
    # Rounding must not hide an example that reaches its threshold exactly, as the only one of its class does.
    reached = np.where(probabilities >= thresholds - 1e-6, probabilities, -np.inf)
    return np.where(np.isfinite(reached.max(axis=1)), reached.argmax(axis=1), -1)
