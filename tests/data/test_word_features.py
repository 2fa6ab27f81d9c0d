"""Features of words: what they see, where they stand, and that hashes are the same everywhere."""

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.text import word_features

BUCKETS = 2**16
SENTENCE = ["Mister", "Ann", "Smith", "met", "rome"]
words = st.lists(st.lists(st.text(min_size=1, max_size=4), max_size=5), max_size=4)


@given(words)
def test_sentences_do_not_see_each_other(sentences):
    together = word_features.features(sentences, BUCKETS)
    alone = [word_features.features([sentence], BUCKETS) for sentence in sentences]
    assert together.shape == (sum(map(len, sentences)), word_features.COUNT)
    np.testing.assert_array_equal(together, np.concatenate([together[:0], *alone]))
    assert together.size == 0 or (together.min() > 0 and together.max() < BUCKETS)


def changed(index, word):
    """How many features of each word another word at an index changes."""
    other = [*SENTENCE[:index], word, *SENTENCE[index + 1 :]]
    before, after = (word_features.features([each], BUCKETS) for each in (SENTENCE, other))
    return (before != after).sum(axis=1).tolist()


def test_a_word_sees_itself_and_two_neighbours_on_each_side():
    far = changed(0, "zz9")
    assert far[0] > far[1] > far[2] > 0 and far[3:] == [0, 0]


def test_capitals_are_a_feature():
    """Of the word as it is written and of its shape, but not of its lower case, beginning and end."""
    capital, other = changed(4, "Rome")[4], changed(4, "lyon")[4]
    assert 0 < capital < other


def test_hashes_do_not_depend_on_the_process():
    code = "from zoo.data.text import word_features as w; print(w.features([['Ann', '\\u5317']], 999).tolist())"
    said = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100).stdout
        for _ in range(2)
    }
    assert said == {f"{word_features.features([['Ann', '北']], 999).tolist()}\n"}


def test_different_words_have_different_features():
    """Of 3,000 words hardly more share a bucket than have the attribute in common."""
    vocabulary = [f"w{number}" for number in range(3000)]
    features = word_features.features([[word] for word in vocabulary], 2**18)
    attributes = [word_features._attributes(word) for word in vocabulary]
    for column, template in zip(features.T, word_features._TEMPLATES, strict=True):
        own = [attribute for shift, attribute in template if not shift]
        expected = len({tuple(each[attribute] for attribute in own) for each in attributes})
        assert 0.98 * expected <= len(np.unique(column)) <= expected


def test_features_stand_at_the_first_token_of_a_word():
    rows, positions = [["a", "b", "c"], ["d"]], [np.array([1, 3, -1]), np.array([2])]
    column = word_features.column(rows, positions, 5, BUCKETS)
    features = word_features.features(rows, BUCKETS)
    assert column.shape == (2, 5, word_features.COUNT) and column.dtype == np.int32
    for row, position, word in ((0, 1, 0), (0, 3, 1), (1, 2, 3)):
        np.testing.assert_array_equal(column[row, position], features[word])
        column[row, position] = 0
    assert not column.any()
