"""A mixture of two parts' logits: both ends, saved models of this version and of earlier ones."""

import keras
import numpy as np
import pytest

from zoo.models import keras_only, logits_mixture
from zoo.models.logits_mixture import LogitsMixture

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(5, 3)).astype(np.float32)


def model(is_mean=True):
    """Two Dense layers side by side, and the model of both parts."""
    keras.utils.set_random_seed(0)
    x = keras.Input((3,))
    parts = [keras.layers.Dense(4, name=name)(x) for name in ("head", "ngrams")]
    mixture = LogitsMixture(0.2, is_mean, name="mixture")
    return keras.Model(x, mixture(*parts)), keras.Model(x, parts), mixture


@pytest.mark.parametrize("is_mean", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_parts(share, is_mean, tmp_path):
    """In the model, in one that was saved and loaded, and in Keras' own layers."""
    whole, parts, mixture = model(is_mean)
    mixture.set_share(share)
    network, linear = (each.numpy() for each in parts(X))
    expected = share * network + (1 - share if is_mean else 1) * linear
    np.testing.assert_allclose(whole(X), expected, atol=1e-6)
    whole.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(X), whole(X))
    assert logits_mixture.shares(loaded) == pytest.approx((share, 1 - share if is_mean else 1), abs=1e-7)
    np.testing.assert_allclose(keras_only.plain(loaded)(X), expected, atol=1e-6)


def test_the_share_is_no_trainable_weight():
    whole, _, mixture = model()
    assert mixture.share.path.endswith("mixture/share") and not mixture.trainable_weights
    assert len(whole.non_trainable_weights) == 1 and mixture.shares() == pytest.approx((0.2, 0.8))


@pytest.mark.parametrize("has_ngram_share", [True, False])
def test_shares_that_earlier_versions_wrote(has_ngram_share):
    """Layers of Keras with a constant; a tagger's linear model had none."""
    x = keras.Input((3,))
    network = keras.layers.Rescaling(0.25, name="network_share")(x)
    linear = keras.layers.Rescaling(0.75, name="ngram_share")(x) if has_ngram_share else x
    old = keras.Model(x, keras.layers.Add(name="logits")([network, linear]))
    assert logits_mixture.shares(old) == (0.25, 0.75 if has_ngram_share else 1.0)


def test_a_network_alone():
    x = keras.Input((3,))
    assert logits_mixture.shares(keras.Model(x, keras.layers.Dense(2)(x))) == (1.0, 0.0)
