"""The engine's promises for an LSTM on batches of many widths, with every noise and penalty on."""

import keras
import numpy as np
import pytest

import zoo
from tests.helpers import reading
from tests.helpers.reading import ReadingConfig
from tests.helpers.small import furthest
from tests.training.test_resume import as_if_killed, final_state, points, untimed
from zoo.engine import devices, optimizers, schedules
from zoo.errors import BadInput
from zoo.terms import Output
from zoo.training.run import make_engine, total_steps

TOLERANCE = 3e-6
EVERYTHING = ReadingConfig(optimizer="adamw", clip_norm=0.5, ema=0.9, schedule="slanted_triangular", compile="none")


def engine_of(config, replicas=1):
    strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(config.seed)
        experiment = reading.build(config)
    return make_engine(strategy, config, experiment, total_steps(config, experiment)), experiment


def trained(config, replicas=1):
    engine, experiment = engine_of(config, replicas)
    found = engine.train(experiment.train, 0, total_steps(config, experiment))
    return engine, experiment, found


@pytest.fixture(scope="module")
def plain():
    engine, experiment, _ = trained(EVERYTHING)
    return engine.state(), engine.evaluate_with_outputs(experiment.evals["eval"])


@pytest.mark.parametrize(
    ("replicas", "accumulate", "compile"),
    [(1, 2, "cores"), (1, 1, "loop"), (4, 1, "step"), (2, 2, "none")],
)
def test_the_same_run(replicas, accumulate, compile, plain, monkeypatch):
    """On any number of replicas, cores and micro-batches; its evaluation and its outputs too."""
    # However few the rows and the machine's cores.
    monkeypatch.setattr(devices, "useful_cores", lambda rows: 2)
    config = EVERYTHING.replace(accumulate=accumulate, compile=compile)
    engine, experiment, _ = trained(config, replicas)
    assert engine.cut.side_by_side == (2 if compile == "cores" else 1)
    assert furthest(engine.state(), plain[0]) < TOLERANCE
    means, outputs = engine.evaluate_with_outputs(experiment.evals["eval"])
    assert means == pytest.approx(plain[1][0], abs=1e-5)
    np.testing.assert_allclose(outputs["logits"], plain[1][1]["logits"], atol=1e-5)


def test_steps_per_loop_is_bitwise():
    config = EVERYTHING.replace(compile="cores", epochs=0, steps=6)
    whole, _, scalars = trained(config)
    cut, _, cut_scalars = trained(config.replace(steps_per_loop=1))
    assert all(np.array_equal(value, cut.state()[name]) for name, value in whole.state().items())
    norms = "gradient_norm"
    assert all(np.array_equal(scalars[name], cut_scalars[name]) for name in scalars if name != norms)


def test_one_program_for_each_width():
    """Of training and of evaluation, however many epochs: nothing is traced or compiled twice."""
    engine, experiment, _ = trained(EVERYTHING.replace(epochs=5))
    for _ in range(2):
        engine.evaluate(experiment.evals["eval"])
    for training, batches in ((True, experiment.train), (False, experiment.evals["eval"])):
        steps = 5 * batches.steps_per_epoch
        used = {batches.widths[number] for number in batches.width_numbers(0, steps)}
        assert used == set(batches.widths) and len(used) > 1
        assert [shapes["tokens"][1] for shapes in engine.traced[training]] == list(batches.widths)


def test_outputs_are_in_the_order_of_the_columns(plain):
    engine, experiment, _ = trained(EVERYTHING)
    columns = experiment.evals["eval"].columns
    np.testing.assert_allclose(plain[1][1]["logits"], engine.model(columns["tokens"]), atol=1e-5)


def test_an_output_for_each_token():
    """Padded with zeros to one width, whatever the batch was cut to."""
    strategy = devices.strategy("cpu")
    with strategy.scope():
        experiment = reading.build(EVERYTHING)

    def forward(model, batch, training):
        return experiment.forward(model, batch, training) | {"tokens": Output(batch["tokens"] * 2)}

    engine = make_engine(strategy, EVERYTHING, experiment._replace(forward=forward), 1)
    batches = experiment.evals["eval"]
    np.testing.assert_array_equal(engine.evaluate_with_outputs(batches)[1]["tokens"], batches.columns["tokens"] * 2)


def test_noise_does_something(plain):
    silent, *_ = trained(EVERYTHING.replace(noise=0.0))
    assert furthest(plain[0], silent.state()) > 1e-3
    free, *_ = trained(EVERYTHING.replace(penalty=0.0))
    assert furthest(plain[0], free.state()) > 1e-4


CONFIG = EVERYTHING.replace(
    epochs=0, steps=16, compile="auto", log_every=3, eval_every=2, checkpoint_every=1, keep=100, patience=2,
    metric="f1", learning_rate=0.3,
)  # fmt: skip


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    return folder, zoo.run(reading.build, CONFIG, folder)


def test_stops_early_with_the_best_weights(stopped):
    folder, result = stopped
    values = dict(points(folder)["eval", "f1"])
    best = max(values, key=lambda step: (values[step], -step))
    assert result["best/step"] == best
    assert result["step"] == best + 2 * 2 < 16, "two evaluations without a better one"
    assert result["eval/f1"] == pytest.approx(values[best])
    # What is exported is what was best.
    model = keras.models.load_model(folder / "model.keras", compile=False)
    columns, _ = reading.columns(13)
    predicted = (model(columns["tokens"]).numpy()[:, 0] > 0).astype(int)
    assert np.mean(predicted == columns["y"]) == pytest.approx(result["eval/accuracy"])


@pytest.mark.parametrize("back", [0, 1, 3])
def test_a_stopped_run_resumes_bitwise(stopped, tmp_path, back):
    """Killed before, at and after the step at which it stops, also where it has only to be finished."""
    folder, result = stopped
    again = as_if_killed(folder, tmp_path, result["step"] - back)
    assert untimed(zoo.run(reading.build, CONFIG, again)) == untimed(result)
    one, two = final_state(folder, result["step"]), final_state(again, result["step"])
    assert all(np.array_equal(one.state[name], two.state[name]) for name in one.state)
    assert points(again) == points(folder)


def test_final_report_has_intervals(stopped):
    folder, result = stopped
    for name in ("accuracy", "f1", "precision", "recall", "ece", "log_loss", "auc", "average_precision"):
        assert result[f"test/{name}_low"] <= result[f"test/{name}_high"], name
    cells = [result[f"test/confusion/class{i}/class{j}"] for i in range(2) for j in range(2)]
    assert sum(cells) == 11
    header, *rows = (folder / "test" / "confusion.csv").read_text().splitlines()
    assert header.split(",")[1:] == ["class0", "class1"]
    assert [int(cell) for row in rows for cell in row.split(",")[1:]] == cells


def test_unknown_metric_is_named(tmp_path):
    with pytest.raises(BadInput, match="--metric is 'f2': did you mean f1"):
        zoo.run(reading.build, CONFIG.replace(metric="f2"), tmp_path)


def test_smaller_or_larger_is_better():
    for metric, larger in (
        ("loss", False),
        ("ece", False),
        ("accuracy", True),
        ("f1/pos", True),
        ("perplexity", False),
    ):
        assert CONFIG.replace(metric=metric).larger_is_better is larger
    assert CONFIG.replace(metric="loss", metric_mode="max").larger_is_better


def rates(config, step):
    engine, _ = engine_of(config)
    return {group.name: float(group.optimizer._learning_rate(step)) for group in engine.groups}


def test_layers_learn_at_their_own_rates():
    """ULMFiT, section 3.2 and 3.3: 1 / 2.6 per layer; one more layer after each of so many steps."""
    config = EVERYTHING.replace(layer_decay=1 / 2.6, unfreeze_every=4, schedule="constant", layers=2, learning_rate=1.0)
    names = ["00_embedding", "01_lstm0", "02_lstm1", "03_head"]
    assert rates(config, 0) == pytest.approx(dict(zip(names, [0, 0, 0, 1], strict=True)))
    assert rates(config, 7) == pytest.approx(dict(zip(names, [0, 0, 1 / 2.6, 1], strict=True)))
    assert rates(config, 12) == pytest.approx({name: 2.6 ** (i - 3) for i, name in enumerate(names)})


def test_a_layer_that_waits_does_not_move():
    config = EVERYTHING.replace(unfreeze_every=5, ema=0.0, steps=5, epochs=0)
    start = engine_of(config)[0].state()
    end = trained(config)[0].state()
    moved = {name for name in start if name.startswith("model/") and not np.array_equal(start[name], end[name])}
    assert moved and all("/head/" in name for name in moved)


def test_layers_on_replicas(plain):
    config = EVERYTHING.replace(layer_decay=0.5, unfreeze_every=2)
    assert furthest(trained(config)[0].state(), trained(config.replace(accumulate=2), 2)[0].state()) < TOLERANCE


def test_slanted_triangular():
    """The paper's own formula, section 3.2, with cut_frac 0.1 and ratio 32."""
    total, peak = 200, 0.01
    schedule = schedules.make("slanted_triangular", peak, decay_steps=total)
    cut = int(total * 0.1)
    for step in (25, 60, 120, 199):
        share = 1 - (step - cut) / (cut * (1 / 0.1 - 1))
        expected = peak * (1 + share * (32 - 1)) / 32
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)
    assert float(schedule(cut - 1)) == pytest.approx(peak) and float(schedule(9)) == pytest.approx(peak / 2)


def test_every_layer_is_in_one_group():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    whole = keras.Sequential([keras.Input((3,)), model, keras.layers.LayerNormalization(), keras.layers.Dense(1)])
    schedule = schedules.make("constant", 1.0, decay_steps=1)
    found = optimizers.by_layer(whole, schedule, keras.optimizers.SGD, decay=0.5)
    assert [len(group.variables) for group in found] == [2, 2, 2, 2]
    assert [float(group.optimizer._learning_rate(0)) for group in found] == [0.125, 0.25, 0.5, 1.0]


def test_starts_from_a_model_with_another_head(stopped, tmp_path):
    config = ReadingConfig(classes=3, init_from=str(stopped[0]), learning_rate=0.0, steps=1, epochs=0, optimizer="sgd")
    zoo.run(reading.build, config, tmp_path)
    found = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert found.output_shape == (None, 3)
    last = final_state(stopped[0], stopped[1]["step"]).state
    kernel = "lstm0/forward/lstm_cell/recurrent_kernel"
    mine = next(w for w in found.weights if w.path == kernel)
    theirs = next(value for name, value in last.items() if name.startswith("average/") and name.endswith(kernel))
    np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(BadInput, match=r"the weights do not fit the model: .*lstm1"):
        zoo.run(reading.build, config.replace(layers=2), tmp_path / "deeper")
