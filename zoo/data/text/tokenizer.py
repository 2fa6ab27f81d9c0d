"""Tokenizers: trained on your own texts, or any tokenizer.json of the Hugging Face library."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers

from zoo import errors, files
from zoo.data import cache
from zoo.data.text import tokenizer_training
from zoo.errors import BadInput

KINDS = tokenizer_training.KINDS
EXACT = tokenizer_training.EXACT
PADDING = 0
# Texts per call of the library: enough for all cores, few enough that its objects, 100 bytes a token, stay small.
_CHUNK = 2048


class Encoded(NamedTuple):
    """Ids of texts, concatenated.

    Attributes:
        ids: uint16, or int32 for a vocabulary of more than 65,536, `[tokens of all texts]`.
        starts: int64 `[texts + 1]`; text i is `ids[starts[i]:starts[i + 1]]`.
    """

    ids: np.ndarray
    starts: np.ndarray


class Piece(NamedTuple):
    """A token and the characters of the text that it covers, `text[start:end]`."""

    id: int
    token: str
    start: int
    end: int


class Tokenizer:
    """Converts texts to ids from 1 on; 0 is padding, whatever the file says.

    Attributes:
        vocabulary_size: number of ids, padding included.
    """

    def __init__(self, definition: str):
        # The file's padding decides the ids, so its text is kept unchanged.
        self._json = definition
        self._library = tokenizers.Tokenizer.from_str(definition)
        self._shift = 0 if _pads_with_zero(self._library) else 1
        self._library.no_padding()
        self._library.no_truncation()
        # "[PAD]" in a text is plain text, not the special token.
        self._library.encode_special_tokens = True
        ids = self._library.get_vocab(with_added_tokens=True).values()
        self.vocabulary_size = max(ids, default=0) + 1 + self._shift

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encodes texts on all cores, without the special tokens that the file may add around them.

        Raises:
            BadInput: a text holds half a surrogate pair, which is not a character.
        """
        dtype = np.uint16 if self.vocabulary_size <= 2**16 else np.int32
        parts, lengths = [np.zeros(0, dtype)], [0]
        for first in range(0, len(texts), _CHUNK):
            rows = [np.array(encoding.ids, dtype) for encoding in self._batch(texts[first : first + _CHUNK])]
            lengths += map(len, rows)
            parts += [np.concatenate(rows)]
        ids = np.concatenate(parts)
        return Encoded(ids + dtype(self._shift) if self._shift else ids, np.cumsum(lengths, dtype=np.int64))

    def pieces(self, text: str) -> list[Piece]:
        """The tokens of one text with their character offsets."""
        encoding = self._library.encode(tokenizer_training.valid_unicode(text), add_special_tokens=False)
        return [
            Piece(id + self._shift, token, *offsets)
            for id, token, offsets in zip(encoding.ids, encoding.tokens, encoding.offsets)
        ]

    def id_of(self, token: str) -> int | None:
        """The id of a token as written in the file, such as "[CLS]"; None if the vocabulary lacks it."""
        id = self._library.token_to_id(token)
        return None if id is None else id + self._shift

    def continues(self) -> np.ndarray:
        """Whether each id continues a word, like "##ing" of wordpiece: bool `[ids]`."""
        continues = np.zeros(self.vocabulary_size, bool)
        for token, id in self._library.get_vocab(with_added_tokens=True).items():
            continues[id + self._shift] = token.startswith("##") and len(token) > 2
        return continues

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without padding; identical to the encoded text if the tokenizer is one of `EXACT`."""
        kept = [int(id) - self._shift for id in ids if id != PADDING]
        return self._library.decode(kept, skip_special_tokens=False)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The token of each id, without padding at the end; "?" for ids that have none."""
        return [self.token(id) or "?" for id in ids[: len(ids) - int(np.argmax(np.asarray(ids)[::-1] != PADDING))]]

    def is_exact(self) -> bool:
        """Whether it splits texts as `EXACT` tokenizers do: without normalisation, so tokens are bytes of the text."""
        splits = self._library.pre_tokenizer
        if type(splits).__name__ == "ByteLevel" and splits.add_prefix_space:
            return False
        return self._library.normalizer is None and type(splits).__name__ in ("ByteLevel", "FixedLength")

    def bytes_of_ids(self) -> list[bytes]:
        """The bytes of text that each id of an `EXACT` tokenizer encodes; empty for padding and special tokens."""
        bytes_of = [b""] * self.vocabulary_size
        # Byte-level pieces are written with one character per byte.
        is_bytes = type(self._library.pre_tokenizer).__name__ == "ByteLevel"
        table = tokenizer_training.bytes_of_characters() if is_bytes else None
        spelled = {} if is_bytes else {token: bytes([byte]) for byte, token in enumerate(tokenizer_training.BYTES)}
        for token, id in self._library.get_vocab(with_added_tokens=True).items():
            if token not in tokenizer_training.SPECIAL:
                bytes_of[id + self._shift] = (
                    bytes(map(table.__getitem__, token)) if table else spelled.get(token) or token.encode()
                )
        return bytes_of

    def byte_counts(self) -> np.ndarray:
        """Number of bytes of text per id of an `EXACT` tokenizer, int32 `[ids]`; 1 for special tokens."""
        return np.array([len(encoded) or 1 for encoded in self.bytes_of_ids()], np.int32)

    def token(self, id: int) -> str | None:
        """The token of an id as the tokenizer writes it; None for padding without a token."""
        return self._library.id_to_token(int(id) - self._shift) if id >= self._shift else None

    def unknown(self) -> int | None:
        """The id of the unknown token, or None if the tokenizer has none."""
        name = getattr(self._library.model, "unk_token", None)
        id = None if name is None else self._library.token_to_id(name)
        return None if id is None else id + self._shift

    def to_json(self) -> str:
        """The text of the tokenizer.json that it was made from."""
        return self._json

    @classmethod
    def from_json(cls, definition: str, source: str = "tokenizer") -> "Tokenizer":
        """Makes a tokenizer from the text of a tokenizer.json.

        Raises:
            BadInput: the text is not a tokenizer.json; the message names `source`.
        """
        try:
            return cls(definition)
        except Exception as error:
            # The library raises bare Exceptions for whatever is wrong.
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise BadInput(
                f"{source} is not a tokenizer.json ({reason}); expected a file as `tokenizers.Tokenizer.save` writes it"
            ) from None

    def save(self, path: str | Path) -> None:
        """Writes tokenizer.json atomically.

        Raises:
            BadInput: the file cannot be written; the old file stays.
        """
        path = files.absolute(path)
        try:
            cache.replace(path, self._json.encode())
        except OSError as error:
            raise BadInput(f"{path} cannot be written: {error.strerror}; choose another place") from None

    def _batch(self, texts: Sequence[str]) -> list:
        try:
            return self._library.encode_batch_fast(texts, add_special_tokens=False)
        except (UnicodeError, TypeError):
            return self._library.encode_batch_fast(
                [tokenizer_training.valid_unicode(text) for text in texts], add_special_tokens=False
            )


def train(texts: Sequence[str], kind: str, vocabulary_size: int) -> Tokenizer:
    """Trains a tokenizer on these texts only; the same texts give the same bytes of tokenizer.json.

    Args:
        texts: texts of the training split.
        kind: for classifiers, with letters lower-cased and characters normalised (NFKC): "wordpiece" as in BERT (pieces
            of words; each Chinese character is a word), "bpe" (pieces that may be whole Chinese words), "word" (each
            Chinese character is a word) or "char". For language models, without normalisation: "byte", "character"
            (others than the frequent ones are spelled in bytes) or "byte_bpe" as in GPT-2; "known_character" has an
            unknown token instead.
        vocabulary_size: maximum number of ids, the five of `tokenizer_training.SPECIAL` included, but not the 256 bytes
            of "character"; small texts give fewer.

    Raises:
        BadInput: an unknown kind, too small a vocabulary, or no text to learn from.
    """
    if kind not in (*KINDS, *EXACT, tokenizer_training.KNOWN_CHARACTERS):
        raise BadInput(f"tokenizer kind is {kind!r}: {errors.nearest(kind, (*KINDS, *EXACT))}")
    if vocabulary_size <= len(tokenizer_training.SPECIAL):
        raise BadInput(
            f"vocabulary size is {vocabulary_size}: expected more than the {len(tokenizer_training.SPECIAL)} special "
            "tokens"
        )
    if all(not text or text.isspace() for text in texts):
        raise BadInput(f"no words in {len(texts)} texts: expected texts to train a tokenizer on")
    return Tokenizer(tokenizer_training.train(texts, kind, vocabulary_size))


def load(path: str | Path) -> Tokenizer:
    """Reads a tokenizer.json. Where its id 0 is not padding, all ids are one more than in the file.

    Raises:
        BadInput: the file is missing or not a tokenizer.json.
    """
    path = files.absolute(path)
    try:
        return Tokenizer.from_json(files.read_text(path, "utf-8-sig"), str(path))
    except OSError as error:
        raise BadInput(f"tokenizer {path} cannot be read: {error.strerror}; expected a tokenizer.json") from None
    except UnicodeDecodeError:
        raise BadInput(f"tokenizer {path} is not text in UTF-8; expected a tokenizer.json") from None
    except ValueError as error:
        raise BadInput(f"tokenizer {path} cannot be read: {error}; expected a tokenizer.json") from None


def _pads_with_zero(library: tokenizers.Tokenizer) -> bool:
    padding = json.loads(library.to_str())["padding"]
    # enable_padding() sets "[PAD]" with id 0 by default, even if id 0 is a word.
    names = ("[PAD]", "<pad>", padding["pad_token"]) if padding and padding["pad_id"] == 0 else ("[PAD]", "<pad>")
    return library.id_to_token(PADDING) in names
