"""Part of `benchmarks.multi_step.shift_study`: classification problems whose data can shift in known ways.

A class is a mixture of five Gaussian groups. The classifier is a softmax regression on random rectified features; it is
misspecified and overconfident, as networks are.
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize

from zoo.metrics.logits import log_softmax

_WIDTH, _GROUPS, _FEATURES = 8, 5, 64
# Questions of TREC by class (Li and Roth, 2002): the rarest is one in sixty.
_QUESTIONS = (86, 1162, 1250, 1223, 835, 896)


class Problem(NamedTuple):
    """A classification problem.

    Attributes:
        proportions: class proportions, to be scaled to sum 1.
        train: number of training examples.
        validation: number of validation examples.
        stream: length of a stream.
        spread: distance of the classes.
    """

    proportions: tuple[float, ...]
    train: int
    validation: int
    stream: int
    spread: float


PROBLEMS = {
    "2 classes": Problem((1,) * 2, 2000, 500, 800, 0.6),
    "2, one of ten": Problem((9, 1), 2000, 500, 800, 0.6),
    "3, few examples": Problem((1,) * 3, 500, 100, 300, 0.6),
    "6, uneven": Problem(_QUESTIONS, 2000, 500, 500, 1.1),
    "6, few examples": Problem(_QUESTIONS, 1000, 150, 500, 1.1),
    "10 classes": Problem((1,) * 10, 4000, 1000, 1000, 1.2),
    "20, uneven": Problem(tuple(1 / rank for rank in range(1, 21)), 3000, 500, 1000, 1.3),
}
# Streams: name, and concentration or strength.
LABEL_SHIFTS = (("shares", 0.1), ("shares", 1.0), ("shares", 10.0))
OTHER_SHIFTS = (
    ("none", 0.0),
    ("groups", 0.3),
    ("confused group", 0.8),
    ("lost features", 0.15),
    ("lost features", 0.3),
    ("noise", 1.0),
    ("moved", 1.0),
    ("moved", 2.0),
    ("shrunk", 0.6),
    ("concept", 0.0),
)
MIXED_SHIFTS = (("groups and shares", 1.0),)


class World:
    """Draws data of a problem, and classifies it.

    Args:
        problem: the problem.
        seed: seed of everything that is drawn.
    """

    def __init__(self, problem: Problem, seed: int):
        self._draw = draw = np.random.default_rng(seed)
        self._classes, self._length = len(problem.proportions), problem.stream
        self._shares = np.array(problem.proportions) / sum(problem.proportions)
        centers = problem.spread / np.sqrt(2) * draw.normal(size=(self._classes, 1, _WIDTH))
        self._means = centers + draw.normal(size=(self._classes, _GROUPS, _WIDTH))
        self._groups = draw.dirichlet(np.full(_GROUPS, 2.0), self._classes)
        self._hidden = draw.normal(size=(_WIDTH, _FEATURES)) / np.sqrt(_WIDTH), 0.5 * draw.normal(size=_FEATURES)
        # Three examples of each class at least.
        y = np.concatenate([self._labels(self._shares, problem.train), np.repeat(np.arange(self._classes), 3)])
        self._fit(self._points(y, self._groups), y)
        self.validation = self._labels(self._shares, problem.validation)
        self.validation_logits = self._logits(self._points(self.validation, self._groups))

    def stream(self, kind: str, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Logits `[examples, classes]` and labels of a stream."""
        draw, groups, shares = self._draw, self._groups, self._shares
        if kind in ("shares", "groups and shares"):
            shares = draw.dirichlet(level * self._classes * shares + 1e-3)
        if kind in ("groups", "groups and shares"):
            groups = draw.dirichlet(np.full(_GROUPS, 0.3), self._classes)
        if kind == "confused group":
            groups = self._with_confused_group(level)
        y = self._labels(shares, self._length)
        x = self._points(y, groups)
        if kind == "lost features":
            x = np.where(draw.random(_WIDTH) < level, 0, x)
        elif kind == "noise":
            x = x + level * draw.normal(size=x.shape)
        elif kind == "moved":
            direction = draw.normal(size=_WIDTH)
            x = x + level * direction / np.linalg.norm(direction)
        elif kind == "shrunk":
            x = level * x
        elif kind == "concept":
            y = self._with_new_concept(x, y)
        return self._logits(x), y

    def _with_confused_group(self, level: float) -> np.ndarray:
        """Group weights: `level` on that group of the most frequent class that looks most like the rarest class."""
        common, rare = int(self._shares.argmax()), int(self._shares.argmin())
        rare = (common + 1) % self._classes if rare == common else rare
        margins = self._logits(self._means[common])
        group = int((margins[:, rare] - margins[:, common]).argmax())
        groups = self._groups.copy()
        groups[common] = (1 - level) * groups[common] + level * np.eye(_GROUPS)[group]
        return groups

    def _with_new_concept(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Labels, where the largest group of one class now belongs to another."""
        old, new = self._draw.choice(self._classes, 2, replace=False)
        nearest = ((x[:, None] - self._means[old]) ** 2).sum(axis=2).argmin(axis=1)
        return np.where((y == old) & (nearest == self._groups[old].argmax()), new, y)

    def _labels(self, shares: np.ndarray, examples: int) -> np.ndarray:
        return self._draw.choice(self._classes, examples, p=shares).astype(np.int32)

    def _points(self, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
        cumulative = groups.cumsum(axis=1)[y]
        chosen = np.minimum((self._draw.random((len(y), 1)) > cumulative).sum(axis=1), _GROUPS - 1)
        return self._means[y, chosen] + self._draw.normal(size=(len(y), _WIDTH))

    def _features(self, x: np.ndarray) -> np.ndarray:
        kernel, bias = self._hidden
        return np.concatenate([np.maximum(x @ kernel + bias, 0), x, np.ones((len(x), 1))], axis=1)

    def _fit(self, x: np.ndarray, y: np.ndarray) -> None:
        features, onehot = self._features(x), np.eye(self._classes)[y]
        shape = features.shape[1], self._classes

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = flat.reshape(shape)
            logs = log_softmax(features @ weights)
            gradient = features.T @ (np.exp(logs) - onehot) / len(x) + 1e-4 * weights
            return -float((logs * onehot).sum()) / len(x) + 5e-5 * float((weights**2).sum()), gradient.ravel()

        found = optimize.minimize(loss, np.zeros(np.prod(shape)), jac=True, method="L-BFGS-B", options={"maxiter": 60})
        self._weights = found.x.reshape(shape)

    def _logits(self, x: np.ndarray) -> np.ndarray:
        return (self._features(x) @ self._weights).astype(np.float32)
