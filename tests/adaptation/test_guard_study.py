"""The study of scores without labels: its table, from made figures."""

import numpy as np
from scipy import stats

from benchmarks.multi_step import guard_page

_SCORES = guard_page._SCORES


def cells(seed):
    """Streams in which two scores are the true error, another one its reverse, and the others tell nothing."""
    draw, found = np.random.default_rng(seed), []
    for kind in ("noise", "fog", "blur"):
        for stream in ("all classes", "half of the classes"):
            answers = {}
            for name in guard_page._ANSWERS:
                wrong = float(draw.uniform(0.1, 0.9))
                scores = {score: float(draw.uniform(0.1, 0.9)) for score in _SCORES}
                answers[name] = scores | {"product": wrong, "AETTA": wrong, "distance": 1 - wrong, "wrong": wrong}
            found.append({"kind": kind, "stream": stream, "answers": answers})
    return found


def rows():
    text = guard_page.section(["a", "b"], [cells(0), cells(1)])
    parts = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in parts}


def test_a_score_that_is_the_error_chooses_the_best():
    table, both = rows(), cells(0) + cells(1)
    best = np.mean([min(one["wrong"] for one in cell["answers"].values()) for cell in both])
    worst = np.mean([max(one["wrong"] for one in cell["answers"].values()) for cell in both])
    for name in ("product", "AETTA", "the labels (best possible)"):
        assert table[name][0] == f"{100 * best:.1f}"
    assert table["distance"][0] == f"{100 * worst:.1f}"
    plain = [cell["answers"]["plain"]["wrong"] for cell in both]
    assert table["always plain"][0] == f"{100 * np.mean(plain):.1f}" and table["always plain"][4] == "0%"


def test_the_learned_score_finds_the_one_that_tells():
    """It sees neither the run nor the kind of damage that it chooses for."""
    table = rows()
    assert float(table["learned"][0]) < float(table["committee"][0]) - 10


def test_the_correlation_is_that_of_scipy():
    pairs = [(one["committee"], one["wrong"]) for cell in cells(0) + cells(1) for one in cell["answers"].values()]
    assert rows()["committee"][-1] == f"{stats.spearmanr(*zip(*pairs, strict=True)).statistic:.2f}"
    ties = np.array([3.0, 1.0, 1.0, 2.0, 3.0])
    np.testing.assert_array_equal(guard_page._mean_ranks(ties), stats.rankdata(ties))
