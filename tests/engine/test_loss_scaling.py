"""float16 with a loss scale that the global gradient decides: the same skipped steps on any number of devices."""

import numpy as np
import pytest
import tensorflow as tf

from tests.engine.test_engine import engine_for
from tests.helpers.small import SmallConfig, build, furthest
from zoo import Term
from zoo.engine import devices, health
from zoo.errors import NonFinite

CONFIG = SmallConfig(optimizer="adamw", dropout=0.3, ema=0.9, norm="batch", batch_size=16, compile="none")


def engine(replicas=1, scale=None, precision="float16", **changes):
    with devices.precision(precision):
        made, experiment = engine_for(CONFIG.replace(**changes), build, replicas)
        if scale is not None:
            made.load(made.state() | {"loss_scale/scale": np.float32(scale)})
        return made, experiment.train


def train(steps, *arguments, **changes):
    made, batches = engine(*arguments, **changes)
    with devices.precision("float16"):
        return made, made.train(batches, 0, steps)


def test_it_learns_what_float32_learns():
    half, scalars = train(4, 1, 2.0**7)
    assert scalars["skipped_steps"][-1] == 0.0
    whole, batches = engine(precision="float32")
    whole.train(batches, 0, 4)
    layers = {layer.compute_dtype for layer in half.model.layers}
    assert "float16" in layers and {weight.dtype for weight in half.model.weights} == {"float32"}
    names = [name for name in whole.state() if name.startswith("model/")]
    assert 0 < furthest(*({name: each.state()[name] for name in names} for each in (half, whole))) < 2e-2


def test_a_gradient_that_overflows_changes_nothing_but_the_scale():
    made, batches = engine(scale=2.0**40)
    before = made.state()
    with devices.precision("float16"):
        scalars = made.train(batches, 0, 1)
    after = made.state()
    assert [name for name in after if not np.array_equal(before[name], after[name])] == [
        "loss_scale/scale", "loss_scale/skipped",
    ]  # fmt: skip
    assert after["loss_scale/scale"] == 2.0**39 and scalars["gradient_norm"][0] == 0.0
    health.check(0, scalars, None)


@pytest.fixture(scope="module")
def one_device():
    return train(12, 1, 2.0**22, norm="layer", compile="auto", exact=True)


@pytest.mark.parametrize(("replicas", "accumulate"), [(2, 1), (1, 4), (2, 2)])
def test_the_same_steps_are_skipped(one_device, replicas, accumulate):
    """Exactly, as a sum over a whole batch may overflow in float16 where those of its slices do not."""
    one, scalars = one_device
    changes = {"norm": "layer", "compile": "auto", "exact": True, "accumulate": accumulate}
    many, found = train(12, replicas, 2.0**22, **changes)
    assert 0 < scalars["skipped_steps"][-1] < 12
    assert all(np.array_equal(scalars[name], found[name]) for name in scalars)
    assert furthest(one.state(), many.state()) == 0.0


def test_the_scale_grows_after_many_good_steps():
    made, batches = engine(scale=2.0**5)
    made.load(made.state() | {"loss_scale/good_steps": np.float32(1998)})
    with devices.precision("float16"):
        scales = made.train(batches, 0, 4)["loss_scale"]
    assert scales.tolist() == [2.0**5, 2.0**5, 2.0**6, 2.0**6]
    assert made.state()["loss_scale/good_steps"] == 2.0


def test_what_no_scale_mends_ends_the_run():
    """A loss whose slope is not a number: 0 times infinity."""

    def broken(config):
        experiment = build(config)

        def forward(model, batch, training):
            terms = experiment.forward(model, batch, training)
            values = terms["loss"].values
            return terms | {"loss": Term(values + tf.sqrt(0.0 * values))}

        return experiment._replace(forward=forward)

    with devices.precision("float16"):
        made, experiment = engine_for(CONFIG, broken)
        scalars = made.train(experiment.train, 0, 32)
    assert scalars["skipped_steps"].tolist() == list(range(1, 33))
    assert np.isfinite(scalars["gradient_norm"][:29]).all()
    with pytest.raises(NonFinite, match="gradient_norm not finite in steps 29 to 31"):
        health.check(0, scalars, None)
