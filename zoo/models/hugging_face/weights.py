"""Conversion between Keras models of the zoo and BERT weights with the names of `zoo.models.hugging_face.folder`."""

from collections.abc import Mapping

import keras
import numpy as np

from zoo.models.encoder_heads import HEAD

# One matrix in the zoo, so that one product computes all three.
_FUSED = ("query", "key", "value")


def assign(model: keras.Model, weights: Mapping[str, np.ndarray]) -> list[str]:
    """Sets the weights of an encoder and of its heads; weights of other heads are ignored.

    Args:
        model: a model from `transformer.encoder` or `zoo.models.encoder_heads`.
        weights: `Pretrained.weights`, perhaps with `Pretrained.extra`.

    Returns:
        The layers of `HEAD` without pretrained weights, which were not changed.

    Raises:
        KeyError: a weight of the encoder is missing.
    """
    unchanged = {}
    for variable in model.weights:
        layer, values = variable.path.partition("/")[0], array(variable.path, weights)
        if values is None and layer in HEAD:
            unchanged[layer] = None
        elif values is None:
            raise KeyError(f"{variable.path}: none of {', '.join(names(variable.path))}")
        else:
            variable.assign(values)
    return list(unchanged)


def array(path: str, weights: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The value of a variable, from weights as for `assign`; None where they lack a part of it."""
    parts = names(path)
    if not all(name in weights for name in parts):
        return None
    return np.concatenate([weights[name] for name in parts], axis=-1)


def weights(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights of an encoder and of its heads, named and split as in `Pretrained`."""
    arrays = {}
    for variable in model.weights:
        parts = names(variable.path)
        arrays |= dict(zip(parts, np.split(variable.numpy(), len(parts), axis=-1), strict=True))
    return arrays


def names(path: str) -> list[str]:
    """The names of the weights that are concatenated in a variable, such as `block0/attention_qkv_kernel`."""
    layer, _, name = path.partition("/")
    if layer == "mask_bias":
        return ["mask/bias"]
    plain = f"{layer.replace('mask_', 'mask/')}/{name.replace('_', '/')}"
    return [plain.replace("/qkv/", f"/{part}/") for part in _FUSED] if "/qkv/" in plain else [plain]
