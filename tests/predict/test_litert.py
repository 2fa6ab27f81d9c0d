"""LiteRT answers for single examples only where it was asked for, agrees, and is faster; refinement never uses it."""

import json

import numpy as np
import pytest

import zoo
from tests.helpers import finished
from zoo.cli import main
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities
from zoo.predict.predictors import litert, loading

pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert, of the extra `export`")
TEXTS = ["a good film", "", "not so good, but a film"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _in_cache(cache, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(cache))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished.image(tmp_path_factory.mktemp("runs") / "image")


@pytest.fixture(scope="module")
def converted(run, cache):
    """The run, once converted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(cache))
        assert zoo.load(run).lite is None
        assert zoo.load(run, runtime="litert").lite is not None
    return run


@pytest.fixture
def fresh(cache):
    """What was found of a file before is forgotten."""
    for path in cache.glob("*.json"):
        path.unlink()


def examples(count=9):
    return np.random.default_rng(0).integers(0, 256, (count, 4, 3)).astype(np.uint8)


def test_after_some_real_examples_it_answers(converted, fresh, cache, monkeypatch, capsys):
    # The clock is what decides; here LiteRT takes no time.
    ticks = iter([0.0, 1.0, 1.0] * 5)
    monkeypatch.setattr(litert.time, "perf_counter", lambda: next(ticks))
    found, plain = zoo.load(converted), zoo.load(converted, runtime="compiled")
    wanted = plain.probabilities(examples())
    answers = []
    for number, one in enumerate(examples()):
        assert found.lite.in_use is (None if number < 5 else True)
        answers.append(found.probabilities(one[None])[0])
    np.testing.assert_allclose(answers, wanted, atol=1e-5)
    assert 0 < found.lite.difference < 1e-5 and np.ptp(wanted) > 0.1
    assert capsys.readouterr().err == ""
    # A batch is the model's own.
    np.testing.assert_array_equal(found.probabilities(examples()), wanted)
    # The next process need not compare.
    assert zoo.load(converted).lite.in_use is True


def test_a_slower_one_is_not_used_and_that_is_said_once(converted, fresh, monkeypatch, capsys):
    ticks = iter([0.0, 1.0, 3.0] * 5)
    monkeypatch.setattr(litert.time, "perf_counter", lambda: next(ticks))
    found = zoo.load(converted)
    for one in examples():
        found.probabilities(one[None])
    said = capsys.readouterr().err.splitlines()
    assert found.lite.in_use is False and len(said) == 1
    assert "takes 2000.00 ms for an example, the compiled model 1000.00 ms: the compiled model stays" in said[0]
    found = zoo.load(converted)
    assert found.lite.in_use is False and not capsys.readouterr().err


def test_one_that_disagrees_is_not_used(converted, fresh, tmp_path, capsys):
    other = loading.read_model(finished.image(tmp_path / "other", norm="none") / "model.keras")
    found = zoo.load(converted)
    found.lite = litert.Lite(litert._converted(other, segments=False), tmp_path / "record.json")
    plain = zoo.load(converted, runtime="compiled")
    for one in examples(3):
        np.testing.assert_array_equal(found.probabilities(one[None]), plain.probabilities(one[None]))
    assert found.lite.in_use is False and json.loads((tmp_path / "record.json").read_text())["in_use"] is False
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "LiteRT differs from the compiled model by" in said[0]


def test_refinement_without_a_change_answers_as_without_refinement(converted):
    """Zero steps are bit for bit the plain answers, LiteRT's for single examples, the compiled model's for batches."""
    found, plain = zoo.load(converted), zoo.load(converted, runtime="compiled")
    found.lite.in_use = True
    one_by_one = np.concatenate([found.probabilities(one[None]) for one in examples()])
    assert not np.array_equal(one_by_one, np.concatenate([plain.probabilities(one[None]) for one in examples()]))
    refined = zoo.refine(found, [one[None] for one in examples()], [], None)
    np.testing.assert_array_equal(refined.probabilities.astype(np.float32), one_by_one)
    batches = zoo.refine(found, [examples()], [], None)
    np.testing.assert_array_equal(batches.probabilities, class_probabilities(plain.logits(examples())))


def test_texts(tmp_path):
    run = finished.reviews(tmp_path / "run", bidirectional=True, pooling="concat", classes=3)
    found, plain = zoo.load(run, runtime="litert"), zoo.load(run, runtime="compiled")
    found.lite.in_use = True
    one_by_one = np.concatenate([found.logits([text]) for text in TEXTS])
    np.testing.assert_allclose(one_by_one, plain.logits(TEXTS), atol=1e-5)
    assert not np.array_equal(one_by_one, plain.logits(TEXTS))


def test_a_damaged_file_is_made_anew(converted, capsys):
    path = zoo.load(converted).lite._record.with_suffix(".safetensors")
    content = path.read_bytes()
    path.write_bytes(content[:-9] + b"123456789")
    assert zoo.load(converted).lite is not None
    assert "is damaged: computing again" in capsys.readouterr().err
    found, plain = zoo.load(converted), zoo.load(converted, runtime="compiled")
    assert not capsys.readouterr().err, "the new file is whole"
    # Not its bytes: Keras numbers the names in it by what the process has made before.
    one = examples(1)
    np.testing.assert_allclose(found.lite._run(["x"], [one]), plain.logits(one), atol=1e-4)


def test_what_it_needs(converted, run, monkeypatch, capsys):
    with pytest.raises(BadInput, match="runtime is 'tpu': expected one of auto, compiled, litert"):
        zoo.load(run, runtime="tpu")
    monkeypatch.setattr(litert.importlib.util, "find_spec", lambda name: None)
    assert zoo.load(converted).lite is None
    np.save(run / "x.npy", examples(1))
    assert main.main(["predict", str(run), str(run / "x.npy"), "--runtime=litert"]) == 2
    assert "needs ai-edge-litert: run `pip install" in capsys.readouterr().err
