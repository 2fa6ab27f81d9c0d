"""Between the encoder here and the weights of a BERT as others name them, see `zoo.models.pretrained`."""

from collections.abc import Mapping

import keras
import numpy as np

from zoo.models import transformer
from zoo.models.pretrained import Shape

# They are one matrix here: one product gives all three.
_FUSED = ("query", "key", "value")


def encoder(shape: Shape, weights: Mapping[str, np.ndarray]) -> keras.Model:
    """The encoder of this shape with these weights, named as in `Pretrained.weights`."""
    model = transformer.encoder(shape)
    for variable in model.weights:
        parts = [weights[name] for name in names(variable.path)]
        variable.assign(np.concatenate(parts, axis=-1))
    return model


def weights(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights of an encoder, named and cut as in `Pretrained.weights`; those of other layers are left out."""
    found = {}
    for variable in model.weights:
        if variable.path.startswith(("embedding/", "block")):
            theirs = names(variable.path)
            found |= dict(zip(theirs, np.split(variable.numpy(), len(theirs), axis=-1), strict=True))
    return found


def names(path: str) -> list[str]:
    """The names of the weights that stand side by side in a variable, `block0/attention_qkv_kernel`."""
    layer, _, name = path.partition("/")
    plain = f"{layer}/{name.replace('_', '/')}"
    return [plain.replace("/qkv/", f"/{part}/") for part in _FUSED] if "/qkv/" in plain else [plain]
