"""Equal examples of a table: copies of one record, or as many as chance gives.

Two records of six yes/no questions are often equal, and no leak: they are two people. Two records of ten measured
numbers are equal because one was copied. What tells them apart is how often chance repeats an example:

1. Where there are five examples or more for each different one, or one makes up a hundredth of the file (sensors at
   rest), the source has few states: all are kept.
2. The chance of an example is estimated from the others as a Markov chain over the columns: the share of its
   first value, times the share of each next value given the two before. A number that no other example has gets the
   share that Good and Turing give to what was seen once ("The population frequencies of species and the estimation of
   population parameters", Good, 1953): 0 where no number occurs in two examples.
3. From these chances follows how many examples chance repeats; the repetitions beyond it are copies. An example that
   occurs again is a copy where copies are more frequent than its repetition by chance: the larger posterior probability
   decides.
"""

import numpy as np

# The chance of equality in some columns bounds the chance in all of them, so the estimate errs towards keeping.
_MOST_COLUMNS = 64
# Examples for each different one from which on the file is a table of few states. Copied files double or triple.
_FEW_STATES = 5
# Share and number of equal examples from which on they are a state. Rare classes are oversampled about tenfold.
_STATE_SHARE, _STATE_EXAMPLES = 0.01, 20

# Weight of the shares given fewer columns, in examples.
_PRIOR = 5.0


def copies(x: np.ndarray, keys: list[bytes]) -> set[bytes]:
    """Keys of the examples that occur more than once, and not by chance.

    Args:
        x: examples `[examples, ...]`.
        keys: key of each example; equal for equal examples.
    """
    first: dict[bytes, int] = {}
    group = np.array([first.setdefault(key, len(first)) for key in keys], int)
    counts = np.bincount(group)
    examples, distinct = len(keys), len(counts)
    if examples == distinct or examples >= _FEW_STATES * distinct:
        return set()
    rows = np.unique(group, return_index=True)[1]
    # Expected repetitions of each example.
    expected = examples * chances(x[rows].reshape(distinct, -1), counts)
    # An example is the first of its kind with probability (1 - exp(-m)) / m, where m equal ones are expected.
    safe = np.maximum(expected, 1e-12)
    by_chance = float(np.sum(counts * (1.0 + np.expm1(-safe) / safe)))
    # Beyond two standard deviations of a Poisson count: a single pair in a small file is no evidence.
    rate = max(0.0, examples - distinct - by_chance - 2.0 * by_chance**0.5) / examples
    is_state = counts >= max(_STATE_EXAMPLES, _STATE_SHARE * examples)
    is_copy = (counts > 1) & (expected < rate) & ~is_state
    return {key for key, copied in zip(first, is_copy) if copied}


def chances(distinct: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Estimated probability of each different example, from the others: float `[examples]`.

    Args:
        distinct: examples `[examples, columns]`, no two equal.
        counts: how often each occurs, `[examples]`.
    """
    codes = [np.unique(distinct[:, column], return_inverse=True)[1] for column in _telling_columns(distinct)]
    result = np.ones(len(distinct))
    nothing = np.zeros(len(distinct), int)
    last, last_two = nothing, nothing
    for code in codes:
        chance = _shares(code, counts)
        # As many observations more, which have the shares of a shorter memory: most triples of values are seen once.
        for memory in (last, last_two):
            together = _joint(memory, code)
            chance = (_others(together, counts) + _PRIOR * chance) / (_others(memory, counts) + _PRIOR)
        result *= chance
        last, last_two = code, _joint(last, code)
    return result


def _joint(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A code for pairs of codes."""
    return np.unique(one.astype(np.int64) * (int(other.max()) + 1) + other, return_inverse=True)[1]


def _others(code: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Number of other examples with an example's value, float `[examples]`."""
    return np.bincount(code, weights=counts)[code] - counts


def _shares(code: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Share of each example's value in its column, float `[examples]`."""
    kinds = np.bincount(np.bincount(code), minlength=3)
    once = min(1.0, 2.0 * kinds[2] / max(kinds[1], 1))
    others = _others(code, counts)
    return np.where(others == 0, once, others) / counts.sum()


def _telling_columns(distinct: np.ndarray) -> np.ndarray:
    """At most 64 columns in their order: those in which two examples drawn at random differ most often."""
    if distinct.shape[1] <= _MOST_COLUMNS:
        return np.arange(distinct.shape[1])
    others = distinct[np.random.default_rng(0).permutation(len(distinct))]
    differs = np.mean(distinct != others, axis=0)
    return np.sort(np.argsort(-differs, kind="stable")[:_MOST_COLUMNS])
