"""KerasHub's backbones with tiny random weights, each under a classifier on the mean of its outputs.

Dropout is each backbone's default: 0.1 for most encoders, none for most decoders.
"""

import inspect
from typing import Any

import keras

from benchmarks.conformance.subjects import CLASSES, KERAS_HUB, Subject

# Arguments that the backbones of texts share, taken where a backbone has them.
_TEXT = {
    "vocabulary_size": 50,
    "vocab_size": 50,
    "num_layers": 1,
    "num_heads": 2,
    "num_attention_heads": 2,
    "num_query_heads": 2,
    "num_key_value_heads": 1,
    "hidden_dim": 8,
    "embedding_dim": 8,
    "head_dim": 4,
    "head_size": 4,
    "intermediate_dim": 16,
    "max_sequence_length": 16,
    "num_experts": 4,
    "moe_intermediate_dim": 8,
    "shared_expert_intermediate_dim": 8,
    "top_k": 2,
}
# By name, and what else a backbone of texts needs; `+` names a variant.
_TEXTS: dict[str, dict[str, Any]] = {
    "Albert": {},
    "Bart": {},
    "Bert": {},
    "Bloom": {},
    "DebertaV3": {"bucket_size": 4},
    "DistilBert": {},
    "Electra": {},
    "FNet": {},
    "Falcon": {},
    "GPT2": {},
    "GPTNeoX": {"hidden_dim": 16},
    "Gemma": {},
    "Llama": {},
    "Mistral": {},
    "Mixtral": {},
    "Mixtral+no_router_loss": {"router_aux_loss_coef": 0.0},
    "OPT": {},
    "Qwen": {},
    "QwenMoe": {},
    "Roberta": {},
    "T5": {},
    "Whisper": {"max_encoder_sequence_length": 8, "max_decoder_sequence_length": 8},
    "XLNet": {},
}
_IMAGES: dict[str, dict[str, Any]] = {
    "DenseNet": {"stackwise_num_repeats": [2, 2], "growth_rate": 4},
    "ResNet": {
        "input_conv_filters": [64], "input_conv_kernel_sizes": [3], "stackwise_num_filters": [64, 64],
        "stackwise_num_blocks": [1, 1], "stackwise_num_strides": [1, 2], "block_type": "basic_block",
    },
    "SwinTransformer": {"embed_dim": 8, "depths": (2,), "num_heads": (2,), "window_size": 4},
    "ViT": {"patch_size": (8, 8), "num_layers": 1, "hidden_dim": 8, "num_heads": 2, "mlp_dim": 16},
}  # fmt: skip


def backbones() -> list[Subject]:
    """Tiny backbones, with random weights."""
    texts = [Subject(KERAS_HUB, name, lambda n=name: _text(n)) for name in _TEXTS]
    return texts + [Subject(KERAS_HUB, name, lambda n=name: _image(n)) for name in _IMAGES]


def _text(name: str) -> keras.Model:
    made = _class(name)
    accepted = inspect.signature(made.__init__).parameters
    return _classifier(made(**{key: value for key, value in _TEXT.items() if key in accepted} | _TEXTS[name]))


def _image(name: str) -> keras.Model:
    return _classifier(_class(name)(image_shape=(32, 32, 3), **_IMAGES[name]))


def _class(name: str) -> type[keras.Model]:
    import keras_hub

    return getattr(keras_hub.models, f"{name.partition('+')[0]}Backbone")


def _classifier(backbone: keras.Model) -> keras.Model:
    """Logits from the mean of all vectors of a backbone, of each of its outputs."""
    given = backbone.input
    inputs = {name: _input(tensor) for name, tensor in given.items()} if isinstance(given, dict) else _input(given)
    means = []
    for output in keras.tree.flatten(backbone(inputs)):
        for _ in range(output.ndim - 2):
            output = keras.ops.mean(output, axis=1)
        means.append(output)
    features = means[0] if len(means) == 1 else keras.layers.Concatenate()(means)
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(features))


def _input(tensor: keras.KerasTensor) -> keras.KerasTensor:
    return keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name)
