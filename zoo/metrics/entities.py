"""Entity-level metrics of taggers, equal to seqeval's, with bootstrap intervals over sentences, in plain NumPy.

An entity is right if its first word, its last word and its type are. As in `classification`, everything is a function
of weights: here of how often each sentence is drawn, so that the words of a sentence stay together.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.data.datasets import tag_schemes
from zoo.metrics import classification
from zoo.names import keys

Tags = Sequence[Sequence[str]]


class _Counts(NamedTuple):
    """Counts per sentence that metrics are computed from."""

    hits: np.ndarray  # [sentences, types], entities that are true and predicted
    true: np.ndarray  # [sentences, types], true entities
    predicted: np.ndarray  # [sentences, types], predicted entities
    correct: np.ndarray  # [sentences], words with the right tag
    words: np.ndarray  # [sentences]
    types: list[str]  # entity types, with "|" for "/" as in names of metrics


def scores(true: Tags, predicted: Tags, scheme: str = tag_schemes.IOB2) -> dict[str, float]:
    """Metrics by name.

    `precision`, `recall` and `f1` are micro averages over all entities, as in CoNLL, `..._macro` the plain means over
    the types that are true or predicted anywhere, `f1/TYPE` those of one type. `support/TYPE` counts true entities,
    `accuracy` is the fraction of words with the right tag. 0 / 0 is 0, as in seqeval.

    Args:
        true: true tags of the words of each sentence, for `tag_schemes.spans`.
        predicted: predicted tags of the same words; they may be in any order.
        scheme: `tag_schemes.IOB2`, or `tag_schemes.PLAIN` where each word with its tag counts as an entity.

    Raises:
        ValueError: there are no words, or a word lacks a true or a predicted tag.
    """
    counts = _counts(true, predicted, scheme)
    metrics = {name: float(values[0]) for name, values in _metrics(counts, np.ones((1, len(true)))).items()}
    support = dict(zip(counts.types, counts.true.sum(axis=0).tolist()))
    metrics |= {f"support/{kind}": count for kind, count in support.items()}
    return {name: value for name, value in metrics.items() if not np.isnan(value)}


def f1_by_sentence(true: Tags, predicted: Tags, scheme: str = tag_schemes.IOB2) -> np.ndarray:
    """Numbers float64 `[sentences]` whose mean is `f1`, and whose spread is that of `f1` over sentences.

    They are F1 and the sentence's influence on it (the delta method for a ratio of means), so that two predictions of
    the same sentences can be compared by a paired test. The arguments are those of `scores`.
    """
    counts = _counts(true, predicted, scheme)
    hits, sizes = 2 * counts.hits.sum(axis=1), (counts.true + counts.predicted).sum(axis=1)
    if not sizes.any():
        return np.zeros(len(sizes))
    f1 = hits.sum() / sizes.sum()
    return f1 + (hits - f1 * sizes) / sizes.mean()


def intervals(
    true: Tags,
    predicted: Tags,
    scheme: str = tag_schemes.IOB2,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals over sentences, by the names of `scores`; see `classification.intervals`.

    A resample without a type, true or predicted, is left out of the intervals of this type.
    """
    return classification.bootstrap(of_counts(true, predicted, scheme), len(true), resamples, seed, level)


def of_counts(true: Tags, predicted: Tags, scheme: str = tag_schemes.IOB2) -> classification.OfCounts:
    """The metrics as a function of how often each sentence counts; arguments as in `scores`."""
    counts = _counts(true, predicted, scheme)
    return lambda weights: _metrics(counts, weights)


def evaluate(true: Tags, predicted: Tags, scheme: str = tag_schemes.IOB2, final: bool = False) -> dict[str, float]:
    """The metrics of `scores`, and if `final` their 95 % intervals: `f1_low`, `f1_high`."""
    metrics = scores(true, predicted, scheme)
    return classification.with_intervals(metrics, intervals(true, predicted, scheme)) if final else metrics


def _counts(true: Tags, predicted: Tags, scheme: str) -> _Counts:
    lengths = [list(map(len, tags)) for tags in (true, predicted)]
    if lengths[0] != lengths[1]:
        counts = " and ".join(f"{sum(each)} words in {len(each)} sentences" for each in lengths)
        raise ValueError(f"true and predicted tags are of {counts}: expected one of each for every word")
    if not sum(lengths[0]):
        raise ValueError("no words: expected one or more")
    spans = tag_schemes.spans if scheme == tag_schemes.IOB2 else lambda sentence: list(enumerate(sentence))
    pairs = [(set(spans(one)), set(spans(other))) for one, other in zip(true, predicted)]
    types = sorted({span[-1] for pair in pairs for spans in pair for span in spans})

    def table(entities) -> np.ndarray:
        rows = (Counter(span[-1] for span in each) for each in entities)
        return np.array([[row[kind] for kind in types] for row in rows], np.float64).reshape(len(pairs), len(types))

    return _Counts(
        hits=table(one & other for one, other in pairs),
        true=table(one for one, _ in pairs),
        predicted=table(other for _, other in pairs),
        correct=np.array([sum(map(str.__eq__, one, other)) for one, other in zip(true, predicted)], np.float64),
        words=np.array(lengths[0], np.float64),
        types=keys(types),
    )


def _metrics(counts: _Counts, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each metric for each row of weights `[resamples, sentences]`: `[resamples]`, NaN where it is undefined."""
    # einsum, not @, as in classification.
    hits, true, predicted = (np.einsum("rs,st->rt", weights, part) for part in counts[:3])  # [resamples, types]
    result = {"accuracy": classification.ratio(*(np.einsum("rs,s->r", weights, part) for part in counts[3:5]))}
    result |= _rates(*(part.sum(axis=1) for part in (hits, true, predicted)))
    by_type = {
        name: np.where(true + predicted > 0, values, np.nan) for name, values in _rates(hits, true, predicted).items()
    }
    result |= {f"{name}_macro": classification.mean_of_defined(values.T) for name, values in by_type.items()}
    for column, kind in enumerate(counts.types):
        result |= {f"{name}/{kind}": values[:, column] for name, values in by_type.items()}
    return result


def _rates(hits: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "precision": classification.ratio(hits, predicted, 0.0),
        "recall": classification.ratio(hits, true, 0.0),
        "f1": classification.ratio(2 * hits, true + predicted, 0.0),
    }
