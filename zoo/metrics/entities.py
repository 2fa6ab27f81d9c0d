"""Metrics of a tagger from the entities that its tags mean, as seqeval has them, with bootstrap intervals. Plain NumPy.

An entity is right if its first word, its last word and its type are. As in `metrics` all is a function of weights: here
of how often each sentence is drawn, so that the words of one stay together.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.data.datasets import tag_schemes
from zoo.metrics import classification

Tags = Sequence[Sequence[str]]


class _Counted(NamedTuple):
    """What the metrics are made of, for each sentence."""

    hits: np.ndarray  # [sentences, types], entities that are true and predicted
    true: np.ndarray  # [sentences, types]
    predicted: np.ndarray  # [sentences, types]
    correct: np.ndarray  # [sentences], words
    words: np.ndarray  # [sentences]
    types: list[str]  # as names of metrics have them


def scores(true: Tags, predicted: Tags, scheme: str = tag_schemes.IOB2) -> dict[str, float]:
    """Metrics by name.

    `precision`, `recall` and `f1` are those of all entities together (micro averages, as CoNLL's), `..._macro` the
    plain means over the types that are true or predicted anywhere, `f1/TYPE` those of one. `support/TYPE` counts true
    entities, `accuracy` is that of words. 0 / 0 is 0, as in seqeval.

    Args:
        true: tags of the words of each sentence, as `tags.spans` reads them.
        predicted: likewise; any order of tags is read.
        scheme: `tags.IOB2`, or `tags.PLAIN` where each word with its tag counts as an entity.

    Raises:
        ValueError: there are no words, or not as many true as predicted ones.
    """
    counted = _counted(true, predicted, scheme)
    found = {name: float(values[0]) for name, values in _metrics(counted, np.ones((1, len(true)))).items()}
    support = dict(zip(counted.types, counted.true.sum(axis=0).tolist()))
    found |= {f"support/{kind}": count for kind, count in support.items()}
    return {name: value for name, value in found.items() if not np.isnan(value)}


def intervals(
    true: Tags,
    predicted: Tags,
    scheme: str = tag_schemes.IOB2,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals over sentences, by the names of `scores`, as `metrics.intervals` has them.

    A resample without a type, true or predicted, is left out of the intervals of this type.
    """
    counted = _counted(true, predicted, scheme)
    return classification.bootstrap(lambda weights: _metrics(counted, weights), len(true), resamples, seed, level)


def judged(true: Tags, predicted: Tags, scheme: str = tag_schemes.IOB2, final: bool = False) -> dict[str, float]:
    """`scores`, and where it is `final` the 95 % intervals besides: `f1_low`, `f1_high`."""
    found = scores(true, predicted, scheme)
    return classification.with_ends(found, intervals(true, predicted, scheme)) if final else found


def _counted(true: Tags, predicted: Tags, scheme: str) -> _Counted:
    lengths = [list(map(len, given)) for given in (true, predicted)]
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

    return _Counted(
        hits=table(one & other for one, other in pairs),
        true=table(one for one, _ in pairs),
        predicted=table(other for _, other in pairs),
        correct=np.array([sum(map(str.__eq__, one, other)) for one, other in zip(true, predicted)], np.float64),
        words=np.array(lengths[0], np.float64),
        types=[kind.replace("/", "|") for kind in types],
    )


def _metrics(counted: _Counted, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each metric under each row of weights `[resamples, sentences]`: `[resamples]`, NaN where it is undefined."""
    # einsum, not @, as in metrics.
    hits, true, predicted = (np.einsum("rs,st->rt", weights, part) for part in counted[:3])
    result = {"accuracy": classification.ratio(*(np.einsum("rs,s->r", weights, part) for part in counted[3:5]))}
    result |= _rates(*(part.sum(axis=1) for part in (hits, true, predicted)))
    by_type = {
        name: np.where(true + predicted > 0, values, np.nan) for name, values in _rates(hits, true, predicted).items()
    }
    result |= {f"{name}_macro": classification.mean_of_defined(values.T) for name, values in by_type.items()}
    for place, kind in enumerate(counted.types):
        result |= {f"{name}/{kind}": values[:, place] for name, values in by_type.items()}
    return result


def _rates(hits: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "precision": classification.ratio(hits, predicted, 0.0),
        "recall": classification.ratio(hits, true, 0.0),
        "f1": classification.ratio(2 * hits, true + predicted, 0.0),
    }
