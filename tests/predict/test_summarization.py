"""Sentences out of English and Chinese text, and the ones that stand for a document."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.predict.retrieval import sentence_splitting, summarization

CUT = {
    "plain": ["He came. ", "She went! ", "Why? ", "Nobody knows..."],
    "abbreviations": ["Dr. Smith met Mr. J. R. Brown in the U.S. Senate, e.g. Tuesdays. ", "It was late."],
    "numbers": ["It cost 3.50 dollars. ", "No. 5 was v1.2 of p. 12. ", "2 more came."],
    "no as a word": ["He said no. ", "She said yes."],
    "quotations": ['"Stop!" ', "“Why?” ", "(He knew.) ", "'Never again.' ", "So be it."],
    "a name goes on": ['"Stop!" he said. ', "Yahoo! was sold, et al. were not."],
    "addresses": ["See www.a.org/b.html for more. ", "Mail a.b@c.de."],
    "I ends one": ["It was not I. ", "He knew."],
    "accents": ["Il est là. ", "Était-ce vrai ? ", "¿Qué? ", "Да. ", "Нет."],
    "lines of an editor": ["The first\nline goes on. ", "The\nsecond too."],
    "paragraphs": ["A title without a mark", "\n\nThen a sentence. ", "And another", "\n \nLast"],
    "chinese": ["这本书很好。", "酒店不错！", "为什么？", "不知道"],
    "chinese quotations": ["他说：“很好。”", "我不信？！", "（真的。）", "走了……再见，朋友。"],
    "chinese typed plainly": ["房间很大!", "服务不好.", "下次不来了?", "价格3.5元"],
    "both": ["我看了film。", "It was good. ", "很好。"],
}


@pytest.mark.parametrize("name", CUT)
def test_sentences(name):
    assert sentence_splitting.split("".join(CUT[name])) == [part.strip() for part in CUT[name]]


@pytest.mark.parametrize("text", ["", " \n\n ", "\n"])
def test_no_sentence(text):
    assert sentence_splitting.split(text) == []


@settings(max_examples=200, deadline=None)
@given(st.text('aB.!?。！”") \n书1', max_size=40))
def test_sentences_are_the_whole_text(text):
    found = sentence_splitting.split(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(sentence and sentence == sentence.strip() for sentence in found)


def vectors(*rows):
    found = np.array(rows, np.float32)
    return found / np.sqrt((found**2).sum(1, keepdims=True))


def test_the_most_central_first_and_no_second_copy():
    rows = vectors([1, 0, 0.2], [1, 0.1, 0], [1, 0.1, 0], [0, 1, 0.3], [0, 0, 1])
    assert summarization.maximal_marginal_relevance(rows, 3) == [0, 3, 4]
    assert summarization.maximal_marginal_relevance(rows, 3, balance=1.0) == [0, 1, 2]
    assert sorted(summarization.maximal_marginal_relevance(rows, 9)) == [0, 1, 2, 3, 4]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from([0.0, 0.3, 0.7, 1.0]), st.integers(0, 99))
def test_each_is_the_one_of_largest_marginal_relevance(count, texts, balance, seed):
    rows = vectors(*np.random.default_rng(seed).normal(size=(texts, 3))).astype(np.float64)
    chosen = summarization.maximal_marginal_relevance(rows, count, balance)
    assert len(set(chosen)) == len(chosen) == min(count, texts)
    centroid = rows.mean(0) / np.linalg.norm(rows.mean(0))
    for place, best in enumerate(chosen):
        before = chosen[:place]

        def worth(one, before=before):
            likeness = max((rows[one] @ rows[other] for other in before), default=0.0)
            return balance * rows[one] @ centroid - (1 - balance) * likeness

        assert worth(best) == pytest.approx(max(worth(one) for one in range(texts) if one not in before), abs=1e-9)


def test_a_summary_beside_the_first_sentences():
    rows = vectors([0, 0, 1], [0, 0.1, 1], [1, 0, 0], [1, 0.1, 0], [0, 1, 0], [1, 0, 0.1])
    found = summarization.summarize(list("abcdef"), rows, 2)
    assert found.chosen == sorted(found.chosen) and found.lead == [0, 1]

    def nearness(numbers):
        part, whole = rows[numbers].mean(0), rows.mean(0)
        return part @ whole / np.linalg.norm(part) / np.linalg.norm(whole)

    assert found.similarity == pytest.approx(nearness(found.chosen), abs=1e-6)
    assert found.lead_similarity == pytest.approx(nearness([0, 1]), abs=1e-6)
    assert found.similarity > found.lead_similarity
    assert found.similarity <= max(nearness(list(pair)) for pair in itertools.combinations(range(6), 2)) + 1e-6


@pytest.mark.parametrize("count", [3, 4])
def test_a_short_document_is_its_own_summary(count):
    found = summarization.summarize(["a", "b", "c"], vectors([1, 0], [0, 1], [1, 1]), count)
    assert found.chosen == found.lead == [0, 1, 2]
    assert found.similarity == found.lead_similarity == pytest.approx(1.0)
