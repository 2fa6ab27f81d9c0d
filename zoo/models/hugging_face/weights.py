"""Between the models here and the weights of a BERT as `zoo.models.hugging_face.folder` names them."""

from collections.abc import Mapping

import keras
import numpy as np

from zoo.models.encoder_heads import HEAD

# They are one matrix here: one product gives all three.
_FUSED = ("query", "key", "value")


def assign(model: keras.Model, weights: Mapping[str, np.ndarray]) -> list[str]:
    """Sets the weights of an encoder and of the heads on it; others' heads are passed over.

    Args:
        model: from `transformer.encoder` or `zoo.models.encoder_heads`.
        weights: `Pretrained.weights`, perhaps with `Pretrained.extra`.

    Returns:
        The layers, of those in `HEAD`, that the weights know nothing of and that were left as they are.

    Raises:
        KeyError: a weight of the encoder is missing.
    """
    fresh = {}
    for variable in model.weights:
        layer, found = variable.path.partition("/")[0], array(variable.path, weights)
        if found is None and layer in HEAD:
            fresh[layer] = None
        elif found is None:
            raise KeyError(f"{variable.path}: none of {', '.join(names(variable.path))}")
        else:
            variable.assign(found)
    return list(fresh)


def array(path: str, weights: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """What belongs into a variable, from weights as of `assign`; None where they lack a part of it."""
    wanted = names(path)
    if not all(name in weights for name in wanted):
        return None
    return np.concatenate([weights[name] for name in wanted], axis=-1)


def weights(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights of an encoder and of the heads on it, named and cut as in `Pretrained`."""
    found = {}
    for variable in model.weights:
        theirs = names(variable.path)
        found |= dict(zip(theirs, np.split(variable.numpy(), len(theirs), axis=-1), strict=True))
    return found


def names(path: str) -> list[str]:
    """The names of the weights that stand side by side in a variable, as `block0/attention_qkv_kernel`."""
    layer, _, name = path.partition("/")
    if layer == "mask_bias":
        return ["mask/bias"]
    plain = f"{layer.replace('mask_', 'mask/')}/{name.replace('_', '/')}"
    return [plain.replace("/qkv/", f"/{part}/") for part in _FUSED] if "/qkv/" in plain else [plain]
