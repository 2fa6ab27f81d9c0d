"""Search by meaning and by words: against brute force, against BM25's formula, and how both are judged."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import bert_folders as folders
from zoo.errors import BadInput
from zoo.predict.retrieval import bm25, embedder, evaluation
from zoo.predict.retrieval import index as search
from zoo.predict.retrieval.bm25 import Bm25
from zoo.predict.retrieval.index import Hit, Index

TEXTS = ["the film was good", "这本书很好", "The FILM, the book!", "", "not a good book, not at all", "书 film 书 书"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return folders.spread(tmp_path_factory.mktemp("search") / "bert")


@pytest.fixture(scope="module")
def tiny(bert):
    return embedder.load(bert)


def formula(texts, query):
    """BM25 as Robertson and Zaragoza write it, with Lucene's weight of a word, in plain loops."""
    found = [bm25.words(text) for text in texts]
    mean = sum(map(len, found)) / len(found)
    scores = []
    for text in found:
        score = 0.0
        for word in query:
            having, often = sum(word in other for other in found), text.count(word)
            weight = math.log(1 + (len(found) - having + 0.5) / (having + 0.5))
            score += weight * often / (often + 1.5 * (1 - 0.75 + 0.75 * len(text) / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize(
    ("query", "counted"),
    [
        ("good film", ["good", "film"]),
        ("Film FILM, unheard-of film", ["film"] * 3),
        ("the book of the film", ["book", "film"]),
        ("not the", ["not", "the"]),
        ("书好", ["书", "好", "书好"]),
        ("?!", []),
        ("unheard", []),
    ],
)
def test_words_are_scored_by_the_formula(query, counted):
    found = Bm25(TEXTS).scores(query)
    assert found.shape == (6,) and found.dtype == np.float32
    np.testing.assert_allclose(found, formula(TEXTS, counted), rtol=1e-5)
    assert (found > 0).any() == bool(counted)


@pytest.mark.parametrize("texts", [[""], ["", "..."], ["?"]])
def test_texts_without_words(texts):
    assert Bm25(texts).scores("film").tolist() == [0.0] * len(texts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The film's NOT_BAD, ｆｕｌｌ-width 2nd", ["the", "film", "s", "not_bad", "full", "width", "2nd"]),
        ("酒店不错", ["酒", "店", "不", "错", "酒店", "店不", "不错"]),
        ("看film吧", ["看", "film", "吧"]),
        ("カメラ。Café", ["カ", "メ", "ラ", "カメ", "メラ", "café"]),
        (" \n…", []),
    ],
)
def test_words(text, expected):
    assert bm25.words(text) == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.integers(1, 15))
def test_the_best_are_those_of_sorting(scores, top):
    expected = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:top]
    assert search.best(np.array(scores, np.float32), top) == [Hit(place, scores[place]) for place in expected]


def test_neighbours_are_those_of_brute_force(tiny):
    texts = [text for text in TEXTS if text] * 3 + ["a book", "film"]
    queries = ["good film", "书", "cafe"]
    index = Index(tiny, texts, None)
    plain = tiny.embed([*queries, *texts]).astype(np.float64)
    for number, (query, hits) in enumerate(zip(queries, index.search_embeddings(queries, 4))):
        cosines = [plain[number] @ row / math.sqrt((plain[number] @ plain[number]) * (row @ row)) for row in plain[3:]]
        assert [hit.score for hit in hits] == pytest.approx(sorted(cosines, reverse=True)[:4], abs=1e-5)
        assert [cosines[hit.index] for hit in hits] == pytest.approx([hit.score for hit in hits], abs=1e-5)
        assert index.search_embeddings([query], 4)[0][0].index == hits[0].index
    [by_words, nothing] = index.search_bm25(["cafe book", "cafe"], 3)
    assert [hit.index for hit in by_words] == [15, 2, 7] and nothing == []


def test_a_text_finds_itself(tiny):
    index = Index(tiny, TEXTS, None)
    assert [hits[0].index for hits in index.search_embeddings(TEXTS, 1)] == list(range(6))
    assert [hits[0].score for hits in index.search_embeddings(TEXTS, 1)] == pytest.approx([1.0] * 6, abs=1e-5)


def test_vectors_are_kept(tiny, tmp_path, monkeypatch):
    notes, again = [], []
    texts = [*TEXTS, "good " * 20]
    first = search.cached_embeddings(tiny, texts, tmp_path, notes)
    monkeypatch.setattr(embedder.Embedder, "embed", lambda *_, **__: pytest.fail("embedded once more"))
    assert np.array_equal(search.cached_embeddings(tiny, texts, tmp_path, again), first)
    assert notes == again == ["1 of 7 texts are cut to the 16 tokens that are read"]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("change", ["text", "order", "length"])
def test_kept_vectors_are_of_the_same_texts_and_encoder(bert, tiny, tmp_path, change):
    before = search.cached_embeddings(tiny, TEXTS, tmp_path)
    texts = {"text": [*TEXTS[:5], "film"], "order": TEXTS[::-1], "length": TEXTS}[change]
    other = embedder.load(bert, max_length=4) if change == "length" else tiny
    found = search.cached_embeddings(other, texts, tmp_path)
    np.testing.assert_allclose(found, other.embed(texts, normalized=True), atol=1e-6)
    assert not np.allclose(found, before, atol=1e-3) and len(list(tmp_path.iterdir())) == 2


def test_damaged_vectors_are_made_anew(tiny, tmp_path):
    before, notes = search.cached_embeddings(tiny, TEXTS, tmp_path), []
    [path] = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    assert np.array_equal(search.cached_embeddings(tiny, TEXTS, tmp_path, notes), before)
    assert len(notes) == 1 and "computing again" in notes[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two three four", ("one two", "three four")),
        (" a  very-long-word-indeed\n", ("a  very-long", "-word-indeed")),
        ("这本书很好", ("这本", "书很好")),
        ("这本书真的很好看 好", ("这本书真的", "很好看 好")),
        ("ab", ("a", "b")),
        ("a", None),
        (" ", None),
        ("", None),
    ],
)
def test_halves(text, expected):
    assert evaluation.cut(text) == expected


@settings(max_examples=100, deadline=None)
@given(st.text("ab 书\n", max_size=20))
def test_halves_are_the_whole_text(text):
    found = evaluation.cut(text)
    if found is None:
        assert len(text.strip()) < 2
    else:
        assert re.sub(r"\s", "", "".join(found)) == re.sub(r"\s", "", text) and all(found)


def test_equal_texts_ask_once():
    found = evaluation.halves(["a b", "c d", "a b", "x"])
    assert found == (["a", "c"], ["b", "d"], 2)


def test_ranks_and_what_follows_from_them():
    scores = np.array([[3, 1, 2], [5, 4, 6], [1, 1, 1]])
    ranks = evaluation.ranks(lambda place: scores[place], 3)
    # The second finds itself behind both others; the third ties with both.
    assert ranks.tolist() == [1, 3, 3]
    found = evaluation.query_metrics(np.array([1, 2, 10, 11]))
    means = {name: values.mean() for name, values in found.items()}
    assert means == pytest.approx({"recall@1": 0.25, "recall@10": 0.75, "mrr": (1 + 1 / 2 + 1 / 10 + 1 / 11) / 4})


def numbered(halves):
    """Vectors of an encoder that knows nothing of a half but its number."""
    return np.eye(20, dtype=np.float32)[[int(re.search(r"\d+", half)[0]) for half in halves]]


def test_evaluation_where_half_of_the_texts_repeat_a_word():
    texts = [f"x{i} word{i} alpha y{i} {f'word{i}' if i % 2 else 'other'} beta" for i in range(20)]
    result = evaluation.evaluate(numbered, texts)
    assert (result["texts"], result["left_out"]) == (20, 0)
    assert [result["embeddings"][name] for name in evaluation.METRICS] == [1.0, 1.0, 1.0]
    # The others have no word in common with any second half: all tie, and a tie counts against.
    expected = [0.5, 0.5, (1 + 1 / 20) / 2]
    assert [result["bm25"][name] for name in evaluation.METRICS] == pytest.approx(expected)
    assert [result["difference"][name] for name in evaluation.METRICS] == pytest.approx([1 - x for x in expected])


def test_evaluation_where_words_fail():
    result = evaluation.evaluate(numbered, [f"{i} alpha beta x{i} gamma delta" for i in range(20)])
    assert [result["bm25"][name] for name in evaluation.METRICS] == [0.0, 0.0, pytest.approx(1 / 20)]
    assert [result["bm25"][f"mrr_{end}"] for end in ("low", "high")] == pytest.approx([1 / 20] * 2)
    assert result["difference"]["mrr"] == pytest.approx(1 - 1 / 20)
    assert result["difference"]["recall@1_low"] == result["difference"]["recall@1_high"] == 1.0


def test_intervals_hold_the_value_and_repeat():
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(["film", "book", "good", "bad", "x", "y"], 8)) + f" {i}" for i in range(60)]
    embed = lambda halves: np.random.default_rng(1).normal(size=(len(halves), 4)).astype(np.float32)  # noqa: E731
    result = evaluation.evaluate(embed, texts)
    for way in ("embeddings", "bm25", "difference"):
        for name in evaluation.METRICS:
            low, value, high = (result[way][name + end] for end in ("_low", "", "_high"))
            assert low <= value <= high and high > low
    assert evaluation.evaluate(embed, texts) == result != evaluation.evaluate(embed, texts, seed=1)


@pytest.mark.parametrize("texts", [[], ["one two"], ["one two", "one two", "x"]])
def test_too_few_texts_to_evaluate(texts):
    with pytest.raises(BadInput, match=f"[01] of {len(texts)} texts can be cut in two; expected 2 or more"):
        evaluation.evaluate(lambda halves: np.ones((len(halves), 2), np.float32), texts)
