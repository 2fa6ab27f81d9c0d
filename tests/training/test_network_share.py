"""The network's share that is chosen after training: by validation loss, beyond chance, the same after a kill."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import zoo
from experiments import lstm_sentiment
from zoo.engine import checkpoints
from zoo.experiment import TunedShare
from zoo.metrics.logits import cross_entropies
from zoo.models.logits_mixture import LogitsMixture
from zoo.training import network_share


def tuned(share=0.2):
    return TunedShare(LogitsMixture(share), lambda logits, columns: cross_entropies(logits, columns["y"]))


def parts(count, network, linear, seed=0):
    """Labels, and logits of two parts with a signal each and independent noise."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, count)
    sides = 2.0 * labels[:, None] - 1
    return [signal * sides + draw.normal(size=(count, 1)) for signal in (network, linear)], {"y": labels}


@pytest.mark.parametrize(
    ("network", "linear", "low", "high"), [(0.0, 2.0, 0.0, 0.0), (2.0, 0.0, 0.9, 1.0), (1.0, 1.0, 0.3, 0.7)]
)
def test_the_better_part_has_the_larger_share(network, linear, low, high):
    logits, columns = parts(2000, network, linear)
    assert low <= network_share.choose(*logits, columns, tuned()).share <= high


@pytest.mark.parametrize("seed", range(20))
def test_never_worse_than_the_first_share(seed):
    """On the validation examples, whatever their number; nor worse than the linear model beyond chance."""
    draw = np.random.default_rng(seed)
    logits, columns = parts(int(draw.integers(1, 400)), *draw.uniform(0, 2, 2), seed)
    choice = network_share.choose(*logits, columns, tuned())
    assert choice.losses[choice.share] <= choice.losses[0.2]
    if choice.share != 0.2:
        assert choice.losses[choice.share] == min(choice.losses.values())
    mixed = {share: share * logits[0] + (1 - share) * logits[1] for share in choice.losses}
    for share, loss in choice.losses.items():
        assert loss == pytest.approx(cross_entropies(mixed[share], columns["y"]).mean())


def test_few_examples_choose_nothing():
    """One example is best without the other part; the share of two parts that are alike is no better either."""
    one = np.array([[3.0]]), np.array([[-3.0]]), {"y": np.array([1])}
    assert network_share.choose(*one, tuned()).share == 0.2
    logits, columns = parts(400, 1.0, 1.0)
    assert network_share.choose(logits[0], logits[0], columns, tuned(0.25)).share == 0.25


def test_noise_moves_the_share_rarely():
    """Where 0.2 is the best, one validation set in ten or fewer chooses another.

    The log-odds of the classes are x and 4 x of the two parts, and here 5 x of both are mixed.
    """
    moved = 0
    for seed in range(100):
        logits, columns = parts(200, 0.5, 2.0, seed)
        moved += network_share.choose(5 * logits[0], 5 * logits[1], columns, tuned()).share != 0.2
    assert moved <= 10


WORDS = {"good": ["fine", "great", "lovely"], "bad": ["awful", "poor", "dull"]}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Texts whose class the LSTM knows and the n-grams do not: it is told by a word's place."""
    folder, draw = tmp_path_factory.mktemp("texts"), np.random.default_rng(0)
    for name, count in (("train", 400), ("eval", 120), ("test", 60)):
        rows = []
        for _ in range(count):
            words = draw.permutation(["the", "film", "was", "fine", "today", "for", "us", "all"]).tolist()
            rows.append({"text": " ".join(words), "label": "early" if words.index("fine") < 4 else "late"})
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    files = {f"{name}_file": str(folder / f"{name}.jsonl") for name in ("train", "eval", "test")}
    size = {"tokenizer": "word", "vocabulary": 40, "width": 8, "units": 8, "embedding_dropout": 0.1}
    return lstm_sentiment.LstmConfig(
        **files, **size, input_dropout=0.0, dropout=0.0, epochs=0, steps=60, learning_rate=0.02, compile="none",
        checkpoint_every=20, keep=10, eval_every=20, baseline=False, pooling="last",
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("runs") / "whole"
        yield folder, zoo.run(lstm_sentiment.build, config, folder)


def test_a_run_tunes_its_share(run, config):
    """The exported model has it, and the metrics are of it; a checkpoint has the first one."""
    folder, result = run
    model = keras.models.load_model(folder / "model.keras")
    share = model.get_layer("mixture").shares().network
    assert share == pytest.approx(result["network_share"], abs=1e-6) and share > 0.5
    predictor = zoo.load(folder)
    rows = [json.loads(line) for line in Path(config.eval_file).read_text().splitlines()]
    labels = np.array([predictor.classes.index(row["label"]) for row in rows])
    logits = predictor.logits([row["text"] for row in rows])
    assert cross_entropies(logits, labels).mean() == pytest.approx(result["eval/loss"], abs=1e-5)
    state = checkpoints.restore(folder / "checkpoints")[0].state
    assert [float(value[0]) for name, value in state.items() if name.endswith("mixture/share")] == [pytest.approx(0.2)]


def test_a_stopped_run_ends_bitwise_alike(run, config, tmp_path):
    folder, result = run
    killed = tmp_path / "killed"
    shutil.copytree(folder, killed)
    for name in ("checkpoints/step-00000040", "checkpoints/step-00000060"):
        shutil.rmtree(killed / name)
    for name in ("result.json", "model.keras"):
        (killed / name).unlink()
    again = zoo.run(lstm_sentiment.build, config, killed)
    untimed = [{key: value for key, value in each.items() if "per_second" not in key} for each in (result, again)]
    assert untimed[0] == untimed[1]
    first, second = (keras.models.load_model(each / "model.keras").get_weights() for each in (folder, killed))
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_another_run_starts_with_the_first_share(run, config, tmp_path):
    """A share of 0 would leave nothing to choose the best step by."""
    more = lstm_sentiment.LstmConfig(**{**vars(config), "init_from": str(run[0]), "steps": 20})
    zoo.run(lstm_sentiment.build, more, tmp_path / "more")
    state = checkpoints.restore(tmp_path / "more" / "checkpoints")[0].state
    assert [float(value[0]) for name, value in state.items() if name.endswith("mixture/share")] == [pytest.approx(0.2)]
