"""Language models with random weights, large enough that a fault would not hide in small numbers."""

import functools

import keras
import numpy as np

from zoo.data.text import tokenizer
from zoo.models import encoder_heads, lstm, transformer
from zoo.models.hugging_face.config import Shape
from zoo.predict.language_models.language_model import LanguageModel

NETWORKS = ("pre-norm", "post-norm", "lstm")


def network(kind: str, rows: int, context: int = 12) -> keras.Model:
    keras.utils.set_random_seed(0)
    if kind == "lstm":
        # With every layer that may be there.
        model = lstm.language_model(rows, width=6, units=8, layers=2, tied=False, dropout=0.1, input_dropout=0.1).model
    else:
        size = {"layers": 2, "heads": 2, "inner": 16, "positions": context, "segments": 0}
        shape = Shape(rows, 8, **size, dropout=0.1, attention_dropout=0.1)
        model = encoder_heads.language_model(transformer.encoder(shape, norm_first=kind == "pre-norm", causal=True))
    draw = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(variable.numpy() + draw.normal(0, 0.5, variable.shape))
    return model


@functools.cache
def speaker(
    kind: str = "pre-norm", text: str = "abc", tokens: str = "known_character", context: int = 12
) -> LanguageModel:
    """A model of the characters of a text, or of bytes; its network has a row more than its tokenizer has ids.

    The same for all who ask, so that its programs are compiled once.
    """
    words = tokenizer.train([text], tokens, 300)
    return LanguageModel(network(kind, words.vocabulary_size + 1, context), words)


def plain(model: LanguageModel, ids: np.ndarray) -> np.ndarray:
    """Logits by the Keras model itself, `[rows, time, vocabulary]`.

    With padding, which a causal model never sees, so that few shapes are compiled.
    """
    time, step = ids.shape[1], model.context or 48
    padded = np.pad(ids.astype(np.int32), [(0, 0), (0, -time % step)])
    found = model.model(padded).numpy()
    return (found.transpose(1, 0, 2) if model.context is None else found)[:, :time]
