"""The harness of `--refine=auto`: its streams, its figures, and one model from training to the page."""

import numpy as np
import pytest

from benchmarks.multi_step import harness, harness_data, harness_models, harness_page, harness_shifts, harness_streams
from benchmarks.multi_step.harness_streams import UNKNOWN, Pool


def _shifted(x, random):
    return x + 1000


@pytest.fixture(scope="module")
def pool():
    labels = np.repeat([0, 1, 2, UNKNOWN], 60)
    return Pool(np.arange(240), np.random.default_rng(0).permutation(labels), {"noise": _shifted}, 100)


def test_streams(pool):
    assert {"clean", "new classes", "noise, sorted", "changing"} < set(harness_streams.names(pool))
    for name in harness_streams.names(pool):
        for one, again in zip(*(harness_streams.streams(pool, name, 3) for _ in range(2)), strict=True):
            index = one.examples % 1000
            assert len(index) and np.array_equal(one.labels, pool.labels[index]) and len(one.blocks) == len(index)
            assert np.array_equal(one.examples, again.examples)
            assert (UNKNOWN in one.labels) == (name == "new classes")
            assert name in ("repeated", "few distinct") or len(set(index.tolist())) == len(index)
    made = {name: list(harness_streams.streams(pool, name, 3)) for name in harness_streams.names(pool)}
    assert np.count_nonzero(np.diff(made["sorted"][0].labels)) == 2
    assert (made["noise"][0].examples >= 1000).all() and (made["changing"][0].examples >= 1000).sum() == 33
    bursts = made["bursts"][0]
    for block in set(bursts.blocks.tolist()):
        assert len(set(bursts.labels[bursts.blocks == block].tolist())) == 1
    assert len(made["tiny"]) == 12 and made["tiny"][0].batch == 5 and made["single"][0].batch == 1


def test_no_example_is_in_training():
    for name in ("mnist_few", "iris", "mixed"):
        made = harness_data.load(name, 1)
        rows = {tuple(np.ravel(row).tolist()) for row in made.x}
        twice = sum(tuple(np.ravel(row).tolist()) in rows for row in made.test_x)
        # Iris has a flower twice.
        assert twice <= (name == "iris"), name
    made = harness_data.load("digits_table", 0, unseen=2)
    assert set(made.test_y) - set(made.y) == {"8", "9"}


def test_shifts_of_texts():
    shifts = harness_shifts.shifts(harness_data.Data("texts", [], np.array([]), [], np.array([])), None)
    texts = ["one two three four", "hotel", "这本书很好"]
    assert shifts["first half"](texts, np.random.default_rng(0)) == ["one two", "hotel", "这本书"]
    assert all(shifts["dropped words"](texts, np.random.default_rng(0)))


def test_failures():
    """The interval is that of blocks; a loss counts beyond half a point and beyond chance."""
    right = np.ones(400, int)
    worse = np.where(np.arange(400) % 20 == 0, 0, 1)

    def answers(right, block=None):
        block = np.arange(len(right)) if block is None else block
        columns = {"right": right, "loss": 1.0 - right, "confidence": np.full(len(right), 0.9), "block": block}
        return {name: column.tolist() for name, column in columns.items()} | {"seconds_per_1000": 1.0, "kept": {}}

    cell = harness_page.cell("iris", "clean", [([answers(right)], [answers(worse)])])
    assert cell.fails and cell.gain == pytest.approx(-5.0) and cell.low < -5 < cell.high < -harness_page.ALLOWED
    # The Wald interval of twenty of four hundred.
    assert cell.low == pytest.approx(-5 - 1.96 * 100 * np.sqrt(0.05 * 0.95 / 400), abs=0.5)
    assert "(certain)" in harness_page.failures([cell])[0]
    assert cell.losses == (0.0, pytest.approx(0.05)) and cell.errors == (pytest.approx(0.1), pytest.approx(0.05))
    # All that is lost is in one block: chance.
    one_block = answers(np.r_[np.zeros(20, int), np.ones(380, int)], np.arange(400) // 20)
    cell = harness_page.cell("iris", "bursts", [([answers(right, np.arange(400) // 20)], [one_block])])
    assert not cell.fails and cell.gain == pytest.approx(-5.0) and cell.high == 0
    # Half a point or less is allowed, however sure.
    little = np.where(np.arange(4_000) % 250 == 0, 0, 1)
    assert not harness_page.cell("iris", "clean", [([answers(np.ones(4_000, int))], [answers(little)])]).fails


def test_one_model(tmp_path, capsys, monkeypatch):
    quick = harness_models.Model("iris", "mlp_classifier --nobaseline --recipe=plain --norm=batch --epochs=20")
    monkeypatch.setitem(harness_models.MODELS, "iris", quick)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- harness: begin -->\nold\n<!-- harness: end -->\nafter\n")
    only = "--only=iris:clean,iris:units, sorted,iris:tiny"
    with pytest.raises(SystemExit) as ended:
        harness.main([str(tmp_path), only, f"--page={page}"])
    cells = harness_page.read(tmp_path, "auto", lambda *_: True)
    assert [(each.stream, each.examples) for each in cells] == [("clean", 60), ("tiny", 60), ("units, sorted", 60)]
    assert ended.value.code == any(each.fails for each in cells)
    assert cells[0].plain > 80
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "`auto`, 3 cells, seeds: 1." in text and "\n| units, sorted |" in text
    # What was measured is not measured again.
    capsys.readouterr()
    with pytest.raises(SystemExit):
        harness.main([str(tmp_path), only])
    assert "seed 0" not in capsys.readouterr().out
