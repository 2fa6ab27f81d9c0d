"""A hidden Markov model of the classes of a stream, whose order tells how long neighbours share a class.

The class stays with the probability `s` and is else drawn from the shares of the stream (Rabiner, "A tutorial on hidden
Markov models and selected applications in speech recognition", 1989, sections III.A and III.B: forward and backward
variables). `s` is unknown: all of a grid are followed, weighted by how well they predict.

Answers that are skewed, as those of a network on damaged images, look as if one class persisted. So persistence is not
read from the answers but from their ORDER: each probability counts relative to the share of its class among the
answers of the stream. Were the order exchangeable, the expectation of the next factor would be 1 whatever came before,
so that their product is an e-process (Ramdas et al., "Game-theoretic statistics and safe anytime-valid inference",
2023, section 2): it exceeds 1,000 in at most one of 1,000 streams without persistence; nearly so here, as the shares
are estimated from the same answers and old evidence fades. An example that repeats the one before it says nothing new,
neither of its class nor of persistence.
"""

from typing import NamedTuple

import numpy as np

# Probabilities of staying in a class: a mean length of 2 to 1,000 examples; the first is no persistence.
STAYS = np.array([0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999])
# Confidences are too high under a distribution shift: roots of the probabilities are followed, too.
TEMPERATURES = np.array([1.0, 2.0, 4.0])
# Smallest probability: one confident mistake must not outweigh all neighbours.
_LEAST = 1e-4
# Examples that the uniform distribution counts for in the shares of the answers, per class.
_PSEUDO_COUNT = 0.5
# Difference of probabilities up to which an example repeats the one before it.
_SAME = 1e-6
# Examples of one backward pass; bounds the memory.
_MOST = 10_000


class Belief(NamedTuple):
    """What is known after some examples; `[temperatures, stays, ...]`.

    Attributes:
        classes: probabilities of the last example's class, `[temperatures, stays, classes]`.
        evidence: logarithm of the e-process, `[temperatures, stays]`.
        counts: sums of the tempered probabilities, `[temperatures, classes]`.
        last: probabilities of the last example, `[classes]`; NaN before the first.
    """

    classes: np.ndarray
    evidence: np.ndarray
    counts: np.ndarray
    last: np.ndarray

    @property
    def log_evidence(self) -> float:
        """Logarithm of the mean of all e-processes, the evidence against an exchangeable order."""
        return float(np.logaddexp.reduce(self.evidence, axis=None) - np.log(self.evidence.size))


def initial(classes: int) -> Belief:
    """The belief before any example."""
    shape = len(TEMPERATURES), len(STAYS)
    uniform = np.full((*shape, classes), 1 / classes)
    return Belief(
        uniform, np.zeros(shape), np.full((len(TEMPERATURES), classes), _PSEUDO_COUNT), np.full(classes, np.nan)
    )


def follow(belief: Belief, probabilities: np.ndarray, memory: float = 400.0) -> tuple[Belief, np.ndarray]:
    """Goes on with some examples, which are known together (10,000 at most: more are followed in parts).

    Args:
        belief: the belief before them.
        probabilities: answers to the examples, in their order, `[examples, classes]`.
        memory: examples that the evidence and the shares rest on; older ones fade.

    Returns:
        The belief after them, and probabilities of the classes given all examples so far, `[examples, classes]`: of the
        earlier ones and, by the backward pass, of those that follow in `probabilities`.
    """
    if len(probabilities) > _MOST:
        parts = []
        for first in range(0, len(probabilities), _MOST):
            belief, part = follow(belief, probabilities[first : first + _MOST], memory)
            parts.append(part)
        return belief, np.concatenate(parts)
    if not len(probabilities):
        return belief, probabilities
    tempered = _tempered(probabilities)  # [temperatures, examples, classes]
    before = np.concatenate([belief.last[None], probabilities[:-1]])
    is_new = ~np.isclose(probabilities, before, rtol=0, atol=_SAME).all(axis=1)  # [examples]
    kept = np.exp(-len(probabilities) / memory)
    counts = kept * belief.counts + tempered[:, is_new].sum(axis=1)  # [temperatures, classes]
    shares = counts / counts.sum(axis=1, keepdims=True)
    relative = np.where(is_new[:, None], tempered / shares[:, None], 1.0)  # [temperatures, examples, classes]
    stay = STAYS[None, :, None]
    fresh = (1 - stay) * shares[:, None]  # [temperatures, stays, classes]
    forward = np.empty((len(probabilities), *belief.classes.shape))
    last, evidence = belief.classes, kept * belief.evidence
    for number in range(len(probabilities)):
        joint = (stay * last + fresh) * relative[:, None, number]
        factor = joint.sum(axis=2, keepdims=True)
        last = forward[number] = joint / factor
        evidence = evidence + np.log(factor[..., 0])
    smoothed = _backward(forward, relative, stay, fresh)
    weights = np.exp(evidence - np.logaddexp.reduce(evidence, axis=None))
    return Belief(last, evidence, counts, probabilities[-1].copy()), np.tensordot(smoothed, weights, ([1, 2], [0, 1]))


def _tempered(probabilities: np.ndarray) -> np.ndarray:
    roots = np.maximum(probabilities, _LEAST) ** (1 / TEMPERATURES[:, None, None])
    return roots / roots.sum(axis=2, keepdims=True)


def _backward(forward: np.ndarray, relative: np.ndarray, stay: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """Probabilities given all examples, `[examples, temperatures, stays, classes]`, from those given earlier ones."""
    smoothed = forward.copy()
    later = np.ones_like(forward[0])
    for number in range(len(forward) - 2, -1, -1):
        next_ = relative[:, None, number + 1] * later
        later = stay * next_ + (fresh * next_).sum(axis=2, keepdims=True)
        later = later / later.sum(axis=2, keepdims=True)
        both = forward[number] * later
        smoothed[number] = both / both.sum(axis=2, keepdims=True)
    return smoothed
