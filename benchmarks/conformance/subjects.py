"""Subjects of the conformance table: one small member of each family of `keras.applications`, and KerasHub's."""

import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

CLASSES, INPUT, LABEL = 4, "x", "label"
APPLICATIONS, KERAS_HUB = "keras.applications", "keras_hub"
UNCOMPILED = "none"
_TOKENS, _VOCABULARY = 8, 50


class Subject(NamedTuple):
    """A model to try.

    Attributes:
        group: `keras.applications` or `keras_hub`.
        name: class or function that makes it.
        make: returns the model, whose answers are logits `[examples, CLASSES]`.
        compile: what XLA compiles, `--compile` of a run.
    """

    group: str
    name: str
    make: Callable[[], keras.Model]
    compile: str = UNCOMPILED

    @property
    def file(self) -> str:
        """Name of its files."""
        mode = "" if self.compile == UNCOMPILED else f"-{self.compile}"
        return f"{self.group}-{self.name}{mode}"


# By family: module, function, side of the images (the smallest that it allows), and what makes a small member. Where a
# family takes depths, the blocks are few; each kind of block is there. InceptionV3 takes none and has 311
# layers. InceptionResNetV2 is missing: it takes none either, and 780 layers would take longer than all others.
_APPLICATIONS: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "ConvNeXt": ("convnext", "ConvNeXt", 32, {
        "depths": [1, 1, 1, 1], "projection_dims": [16, 32, 48, 64], "drop_path_rate": 0.1,
    }),
    "DenseNet": ("densenet", "DenseNet", 32, {"blocks": [2, 2, 2, 2]}),
    "EfficientNet": ("efficientnet", "EfficientNet", 32, {
        "width_coefficient": 0.5, "depth_coefficient": 0.3, "default_size": 32,
    }),
    "EfficientNetV2": ("efficientnet_v2", "EfficientNetV2", 32, {
        "width_coefficient": 0.5, "depth_coefficient": 0.3, "default_size": 32, "name": "efficientnetv2-b0",
    }),
    "InceptionV3": ("inception_v3", "InceptionV3", 75, {}),
    "MobileNet": ("mobilenet", "MobileNet", 32, {"alpha": 0.25}),
    "MobileNetV2": ("mobilenet_v2", "MobileNetV2", 32, {"alpha": 0.35}),
    "MobileNetV3Small": ("mobilenet_v3", "MobileNetV3Small", 32, {}),
    "NASNet": ("nasnet", "NASNet", 32, {
        "penultimate_filters": 96, "num_blocks": 1, "stem_block_filters": 8, "skip_reduction": False,
    }),
    "ResNet": ("resnet", "ResNet", 32, {"preact": False, "use_bias": True}),
    "ResNetV2": ("resnet", "ResNet", 32, {"preact": True, "use_bias": True}),
    "VGG16": ("vgg16", "VGG16", 32, {}),
    "VGG19": ("vgg19", "VGG19", 32, {}),
    "Xception": ("xception", "Xception", 71, {}),
}  # fmt: skip


def applications() -> list[Subject]:
    """One small member of each family, with random weights."""
    return [Subject(APPLICATIONS, name, functools.partial(_application, name)) for name in _APPLICATIONS]


def _application(name: str) -> keras.Model:
    module, function, side, options = _APPLICATIONS[name]
    family = importlib.import_module(f"keras.src.applications.{module}")
    if module == "resnet":
        options = options | {"stack_fn": functools.partial(_blocks, family, "v2" if options["preact"] else "v1")}
    shape = (side, side, 3)
    return getattr(family, function)(
        weights=None, classes=CLASSES, classifier_activation=None, input_shape=shape, **options
    )


def _blocks(family: Any, version: str, x: keras.KerasTensor) -> keras.KerasTensor:
    """Two stacks of two residual blocks."""
    stack = getattr(family, f"stack_residual_blocks_{version}")
    return stack(stack(x, 16, 2, name="conv2"), 32, 2, name="conv3")


def columns(model: keras.Model, examples: int) -> dict[str, np.ndarray]:
    """Random examples for a model's inputs, by the inputs' names (one alone: `INPUT`), and their labels."""
    draw = np.random.default_rng(0)
    inputs = model.input if isinstance(model.input, dict) else {INPUT: model.input}
    found = {name: _column(draw, tensor, examples) for name, tensor in inputs.items()}
    return found | {LABEL: draw.integers(0, CLASSES, examples).astype(np.int32)}


def _column(draw: np.random.Generator, tensor: keras.KerasTensor, examples: int) -> np.ndarray:
    shape = [examples, *(size or _TOKENS for size in tensor.shape[1:])]
    if "mask" in tensor.name:
        # Sequences of different lengths.
        lengths = draw.integers(shape[1] // 2, shape[1] + 1, examples)
        return (np.arange(shape[1]) < lengths[:, None]).astype(tensor.dtype)
    if "segment" in tensor.name:
        return draw.integers(0, 2, shape).astype(tensor.dtype)
    if "int" in tensor.dtype:
        return draw.integers(2, _VOCABULARY, shape).astype(tensor.dtype)
    return draw.random(shape).astype(tensor.dtype)
