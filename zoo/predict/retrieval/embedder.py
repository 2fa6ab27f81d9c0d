"""Text embeddings: similar texts have vectors with a large cosine similarity.

A text's embedding is the mean of its tokens' vectors (Reimers and Gurevych, "Sentence-BERT", 2019, arXiv:1908.10084).
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from zoo.data.text.tokenizer import PADDING, Tokenizer
from zoo.errors import BadInput, NonFinite
from zoo.models import encoder_heads, transformer
from zoo.models.hugging_face import folder as pretrained
from zoo.models.hugging_face import weights
from zoo.predict.retrieval import encoder_run, sentence_encoders

# Each width of a batch and each of its two sizes is compiled once, which takes one or two seconds for a small encoder.
_NARROWEST, _FINER = 16, 128
_FEW = 8
# Tokens per batch, enough to keep the cores busy.
_TOKENS = 2048


class Embedder:
    """Maps texts to embeddings with a Transformer encoder.

    Attributes:
        encoder: a model of `transformer.encoder`.
        tokenizer: the tokenizer that the encoder was trained with.
        frame: ids of the special tokens before and after each text.
        max_length: most tokens to read of a text, special tokens included.
        width: width of an embedding.
    """

    def __init__(
        self,
        encoder: keras.Model,
        tokenizer: Tokenizer,
        frame: tuple[tuple[int, ...], tuple[int, ...]],
        pooling: str = "mean",
        max_length: int | None = None,
    ):
        self.encoder, self.tokenizer, self.frame, self._pooling = encoder, tokenizer, frame, pooling
        positions = encoder.get_layer("embedding").positions
        self.max_length = positions if max_length is None else max_length
        around = len(frame[0]) + len(frame[1])
        if not around < self.max_length <= positions:
            raise BadInput(f"max_length is {self.max_length}: expected {around + 1} to {positions} tokens")
        self.width = encoder.output.shape[-1]
        self._model = encoder_heads.embedder(encoder) if pooling == "mean" else _cls_embedder(encoder)
        self._forward = tf.function(
            self._vectors, input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False
        )

    def embed(self, texts: Sequence[str], normalized: bool = False, notes: list[str] | None = None) -> np.ndarray:
        """Embeddings of texts, in batches of similar length; the other texts of a batch only change rounding.

        Args:
            texts: any number of texts, including none; a text may be empty.
            normalized: whether to scale each embedding to length 1, so that a dot product is the cosine.
            notes: list that gets a line if texts are cut to `max_length`.

        Returns:
            Float32 `[texts, width]`, in the order of the texts.

        Raises:
            BadInput: `texts` is a string instead of a list, or a text is not Unicode.
            NonFinite: the encoder's output is not finite.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise BadInput(f"texts are {texts!r:.60}: expected a list of strings")
        rows, longer = self._rows(texts)
        if longer and notes is not None:
            notes.append(f"{longer:,} of {len(texts):,} texts are cut to the {self.max_length} tokens that are read")
        vectors = np.zeros((len(texts), self.width), np.float32)
        # The progress bar appears on a terminal only, after two seconds.
        with tqdm(total=len(texts), unit="text", disable=None, delay=2, leave=False) as bar:
            for chosen, tokens in self._batches(rows):
                vectors[chosen] = self._forward(tf.constant(tokens)).numpy()[: len(chosen)]
                bar.update(len(chosen))
        wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(wrong):
            raise NonFinite(f"the encoder's output for text {wrong[0]} is not finite; expected a trained encoder")
        return unit(vectors) if normalized else vectors

    def digest(self) -> bytes:
        """Digest of all that a text's embedding depends on, except the text: weights, settings and tokenizer."""
        digest = hashlib.blake2b(digest_size=32)
        for name, values in sorted(weights.weights(self.encoder).items()):
            digest.update(f"{name} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).data)
        block = self.encoder.get_layer("block0").get_config()
        settings = self.frame, self._pooling, self.max_length, sorted(block.items(), key=str)
        digest.update(repr(settings).encode())
        digest.update(self.tokenizer.to_json().encode())
        return digest.digest()

    def _rows(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """Each text's ids with special tokens, and the number of texts that are cut."""
        before, after = self.frame
        most = self.max_length - len(before) - len(after)
        encoded = self.tokenizer.encode(texts)
        ends = np.minimum(encoded.starts[1:], encoded.starts[:-1] + most)
        # Without special tokens an empty text has no token; it is read as one token of padding.
        rows = [
            [*before, *encoded.ids[start:end].tolist(), *after] or [PADDING]
            for start, end in zip(encoded.starts[:-1], ends)
        ]
        return rows, int((ends < encoded.starts[1:]).sum())

    def _batches(self, rows: list[list[int]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Numbers of texts, and their tokens `[batch, width]`; a text's padded width depends on the text alone."""
        widths = np.array([_padded_width(len(row), self.max_length) for row in rows], np.int64)
        for width in np.unique(widths):
            alike, most = np.flatnonzero(widths == width), max(_FEW, _TOKENS // width)
            for first in range(0, len(alike), most):
                chosen = alike[first : first + most]
                tokens = np.full((_FEW if len(chosen) <= _FEW else most, width), PADDING, np.int32)
                for row, number in enumerate(chosen):
                    tokens[row, : len(rows[number])] = rows[number]
                yield chosen, tokens

    def _vectors(self, tokens: tf.Tensor) -> tf.Tensor:
        inputs = [tokens, tf.zeros_like(tokens)] if len(self._model.inputs) == 2 else tokens
        return self._model(inputs, training=False)


def load(source: str | Path, max_length: int | None = None) -> Embedder:
    """Loads an encoder as an `Embedder`.

    Args:
        source: `minilm`, a folder of a sentence encoder, or a run's folder; see `sentence_encoders.find`.
        max_length: most tokens to read of a text, [CLS] and [SEP] included; None is the encoder's number of positions.

    Raises:
        BadInput: the encoder is missing, or its files do not fit each other.
    """
    folder = sentence_encoders.find(source)
    if encoder_run.is_run(folder):
        encoder, tokenizer, (start, stop) = encoder_run.read(folder)
        return Embedder(encoder, tokenizer, ((start,), (stop,)), max_length=max_length)
    source_model = pretrained.read(folder)
    definition = pretrained.tokenizer_json(folder)
    encoder = transformer.encoder(source_model.shape)
    weights.assign(encoder, source_model.weights)
    # `pretrained.read` has checked that padding is id 0, so the file's ids can be used unchanged.
    pooling, frame = sentence_encoders.pooling(folder), sentence_encoders.frame(definition)
    return Embedder(encoder, Tokenizer.from_json(definition), frame, pooling, max_length)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors `[..., width]` scaled to length 1; a zero vector is kept."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(vectors.dtype).tiny)


def _padded_width(length: int, most: int) -> int:
    """16, 32, 64, 128, 192, 256, 384, 512, ...: finer from 128, where padding costs more than a compilation."""
    width = _NARROWEST
    while width < length:
        power = width & (width - 1) == 0
        width += width if width < _FINER else width // 2 if power else width // 3
    return min(width, most)


def _cls_embedder(encoder: keras.Model) -> keras.Model:
    return keras.Model(encoder.input, encoder_heads.ClsPooling(name="first")(encoder.output))
