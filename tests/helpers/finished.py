"""Folders as finished runs leave them, of every kind, with random weights large enough that a fault shows."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np

from zoo.data.text import tokenizer
from zoo.models import encoder_heads, lstm, mlp, transformer
from zoo.models.hugging_face.config import Shape
from zoo.models.ngram_logits import NgramLogits
from zoo.models.word_logits import WordLogits

TEXTS = ["a good film, 这本书很好", "not so good, but a film", "这本书 is good"]
CLASSES = ["bad", "good"]
# Of encoders; with room for more tokens than a run reads.
LONGEST, POSITIONS = 12, 16


def image(folder: Path, norm: str = "batch") -> Path:
    _seed()
    model = mlp.mlp((4, 3), 3, (7, 6), dropout=0.2, norm=norm, dtype="uint8", preprocessing=mlp.scaling(255.0))
    return _left(folder, model, {"task": "classification", "classes": ["a", "b", "c"], "largest": 255.0})


def table(folder: Path) -> Path:
    _seed()
    known = np.random.default_rng(3).normal(3.0, 9.0, (50, 5)).astype(np.float32)
    model = mlp.mlp((5,), 2, (6,), norm="layer", preprocessing=mlp.standardizing(known))
    return _left(folder, model, {"task": "classification", "classes": CLASSES, "largest": 0.0})


def reviews(folder: Path, **options) -> Path:
    """An LSTM."""
    _seed()
    words, cut = _words(), options.pop("cut", "head")
    classes = options.setdefault("classes", 2)
    model = lstm.classifier(words.vocabulary_size, width=5, units=4, **options).model
    names = [*CLASSES, "neither"][:classes]
    about = {"input": "text", "max_length": 9, "cut": cut, "task": "classification", "classes": names}
    return _left(folder, model, about, words)


def language(folder: Path, network: str) -> Path:
    _seed()
    words = tokenizer.train(TEXTS, "known_character", 100)
    if network == "lstm":
        # With every layer that may be there.
        options = {"width": 5, "units": 4, "layers": 2, "tied": False, "dropout": 0.1}
        model, about = lstm.language_model(words.vocabulary_size, **options).model, {"max_length": 30}
    else:
        model = encoder_heads.language_model(_encoder(words, norm_first=True, causal=True, segments=0))
        about = {"context": POSITIONS, "network": "transformer"}
    return _left(folder, model, {"input": "text", "task": "language_model", **about}, words)


def encoder(folder: Path, task: str, **options) -> Path:
    """Of "classification", "regression", "tagging" or "pretraining"; `options` are those of `about`, and others."""
    _seed()
    has_features, has_ngrams = options.pop("word_features", False), options.pop("ngrams", False)
    words, pooling, precision = _words(), options.pop("pooling", "first"), options.pop("precision", "float32")
    about = {"input": "text", "max_length": LONGEST, "cut": "head", "pair": False, "frame": [2, 3], "task": task}
    known = {"classification": {"classes": CLASSES}, "regression": {"centre": 3.0, "scale": 1.5}}
    known |= {"tagging": {"tags": ["O", "B-x", "I-x"], "scheme": "IOB2", "words": "spaces"}, "pretraining": {}}
    about |= known[task] | options
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        # With n-grams it reads fewer tokens than these.
        body = _encoder(words, norm_first=about.get("norm_first", False), first=4 if has_ngrams else 0)
        ngrams = NgramLogits(1, words.vocabulary_size, 50, 3, (2, 3), name="ngrams") if has_ngrams else None
        makes = {
            "classification": lambda: encoder_heads.classifier(
                body, len(about["classes"]), pooling=pooling, ngrams=ngrams
            ),
            "regression": lambda: encoder_heads.classifier(body, 1, pooling=pooling),
            "tagging": lambda: encoder_heads.tagger(body, 3, words=word_logits(3) if has_features else None),
            "pretraining": lambda: encoder_heads.pretrainer(body, next_sentence=True),
        }
        model = makes[task]()
    finally:
        keras.config.set_dtype_policy("float32")
    about["shape"] = dataclasses.asdict(_shape(words))
    return _left(folder, model, about, words)


def word_logits(tags: int, buckets: int = 50) -> WordLogits:
    """A layer of word logits with random weights."""
    layer, draw = WordLogits(tags, buckets, name="word_logits"), np.random.default_rng(7)
    layer.build((None, None, None))
    layer.set_weights([draw.normal(size=(buckets, tags)), draw.normal(size=tags)])
    return layer


def feed(model: keras.Model, rows: int = 5, time: int = 8) -> dict[str, np.ndarray]:
    """Inputs by name; texts of several lengths, one of them empty."""
    draw = np.random.default_rng(5)
    if model.inputs[0].name not in ("tokens", "segments", "features", "places"):
        shape, dtype = (rows, *model.inputs[0].shape[1:]), model.inputs[0].dtype
        return {"x": (draw.integers(0, 256, shape) if dtype == "uint8" else draw.normal(3, 9, shape)).astype(dtype)}
    lengths = np.array([time, 1, 0, 5, 3, 2, 7])[:rows]
    tokens = draw.integers(1, 12, (rows, time)) * (np.arange(time) < lengths[:, None])
    made = {"tokens": tokens.astype(np.int32)}
    names = [each.name for each in model.inputs]
    if "segments" in names:
        made["segments"] = ((np.arange(time) > 2) & (tokens != 0)).astype(np.int32)
    if "features" in names:
        made["features"] = draw.integers(0, 50, (rows, time, model.inputs[-1].shape[-1])).astype(np.int32)
    if "places" in names:
        made["places"] = draw.integers(0, 3, (rows, 2)).astype(np.int32)
    return made


def _seed() -> None:
    # Some draws of so few weights answer all texts nearly alike, which would show nothing.
    keras.utils.set_random_seed(1)


def _words() -> tokenizer.Tokenizer:
    return tokenizer.train(TEXTS, "wordpiece", 60)


def _shape(words: tokenizer.Tokenizer, segments: int = 2) -> Shape:
    return Shape(words.vocabulary_size, 8, 2, 2, 12, POSITIONS, segments)


def _encoder(words: tokenizer.Tokenizer, segments: int = 2, **options) -> keras.Model:
    return transformer.encoder(_shape(words, segments), **options)


def _left(folder: Path, model: keras.Model, about: dict, words: tokenizer.Tokenizer | None = None) -> Path:
    draw = np.random.default_rng(1)
    for variable in model.weights:
        # A variance stays one.
        noise = (
            draw.uniform(0, 0.4, variable.shape) if "variance" in variable.path else draw.normal(0, 0.3, variable.shape)
        )
        values = variable.numpy() + noise
        if variable.path.startswith("ngrams/table"):
            # Padding has no weights.
            values[0] = 0.0
        variable.assign(values)
    folder.mkdir(parents=True)
    model.save(folder / "model.keras")
    (folder / "model.json").write_text(json.dumps(about))
    if words is not None:
        words.save(folder / "tokenizer.json")
    return folder
