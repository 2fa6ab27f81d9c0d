"""N-gram baseline of language models: an interpolated Witten-Bell model, in NumPy.

Witten and Bell, "The zero-frequency problem" (1991), method C, interpolated as in Chen and Goodman, "An empirical study
of smoothing techniques for language modeling" (1999), section 2.4: with c(h) occurrences of a history h, followed by
t(h) different tokens,

    P(w | h) = (c(h, w) + t(h) P(w | h without its first token)) / (c(h) + t(h))

down to the uniform distribution. The order is chosen on validation text.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from zoo.metrics import classification

# Beyond this order characters hardly gain; bytes of Chinese (three a character) do up to about 9.
MAX_ORDER = 10


class NgramLosses(NamedTuple):
    """Losses of the n-gram model.

    Attributes:
        order: tokens of an n-gram, the predicted one included.
        losses: -log P in nats of all tokens of the test text but the first, float64 `[tokens - 1]`.
    """

    order: int
    losses: np.ndarray


def losses(
    train: np.ndarray, validation: np.ndarray, test: np.ndarray, vocabulary: int, max_order: int = MAX_ORDER
) -> NgramLosses:
    """Fits n-gram models to the training text, and evaluates the best one of the validation text on the test text.

    Orders are tried from 1 on until the validation loss rises; each takes about 0.4 s a million tokens and 60 bytes a
    token.

    Args:
        train: ids `[tokens]`, one or more.
        validation: ids `[tokens]`, which the order is chosen on; two or more.
        test: ids `[tokens]`; two or more.
        vocabulary: number of ids that a token may be.
        max_order: largest order to try.
    """
    best, lowest = None, np.inf
    texts = [np.asarray(part) for part in (train, validation, test)]
    for order, (on_validation, on_test) in enumerate(_orders(texts, vocabulary), 1):
        mean = on_validation[1:].mean()
        if mean >= lowest:
            break
        best, lowest = NgramLosses(order, on_test[1:]), mean
        if order == max_order:
            break
    return best


def comparison(
    train: np.ndarray, validation: np.ndarray, test: np.ndarray, byte_counts: np.ndarray
) -> Callable[[np.ndarray, np.ndarray, np.ndarray | None], dict[str, float]]:
    """A function that compares a language model with the n-gram model on the test text.

    Args:
        train: ids `[tokens]`.
        validation: ids `[tokens]`.
        test: ids `[tokens]`, cut into windows end to end for the language model.
        byte_counts: bytes of text per id, `[vocabulary]`.

    Returns:
        A function of windows' `tokens` `[windows, width + 1]` (0 is padding), of the model's `row_losses` `[windows]`,
        mean nats per predicted token, and of the bytes of unknown characters, `spelled` `[windows, width + 1]` or None,
        which cost both models 8 bits each. It returns `baseline_loss` (nats per token), `baseline_order`,
        `baseline_bits_per_byte` and `minus_baseline`, the model's bits per byte minus the baseline's, with a 95 %
        interval by a paired bootstrap over the windows, which is a little too narrow, as neighbours are similar.
    """

    def compare(tokens: np.ndarray, row_losses: np.ndarray, spelled: np.ndarray | None = None) -> dict[str, float]:
        ngrams = losses(train, validation, test, len(byte_counts))
        real = np.asarray(tokens)[:, 1:] != 0
        rows = np.repeat(np.arange(len(real)), real.sum(axis=1))
        of_baseline = np.bincount(rows, ngrams.losses, len(real))  # [windows], nats
        of_model = np.asarray(row_losses, np.float64) * real.sum(axis=1)
        extra = np.zeros(real.sum(), np.int64) if spelled is None else np.asarray(spelled)[:, 1:][real]
        counts = np.where(extra > 0, extra, byte_counts[np.asarray(tokens)[:, 1:][real]])
        sizes = np.bincount(rows, counts, len(real)) * np.log(2.0)
        spelling = np.bincount(rows, extra, len(real)).sum() * np.log(256.0)
        ends = classification.bootstrap(
            lambda counts: {"minus_baseline": counts @ (of_model - of_baseline) / (counts @ sizes)},
            len(real), 1000, 0, 0.95,
        )  # fmt: skip
        metrics = {
            "baseline_loss": float(of_baseline.sum() / real.sum()),
            "baseline_bits_per_byte": float((of_baseline.sum() + spelling) / sizes.sum()),
            "baseline_order": float(ngrams.order),
            "minus_baseline": float((of_model.sum() - of_baseline.sum()) / sizes.sum()),
        }
        return classification.with_intervals(metrics, ends)

    return compare


def conclusion(result: Mapping[str, float], help: str) -> list[str]:
    """The last line of a run: whether the model is better than the n-gram model, and if not, what would help."""
    if "test/minus_baseline" not in result:
        return []
    difference = result["test/minus_baseline"]
    low, high = (
        result.get(f"test/minus_baseline{end}", difference) for end in (classification.LOW, classification.HIGH)
    )
    baseline = f"a {int(result['test/baseline_order'])}-gram model (Witten-Bell) of the same text"
    figures = f"{difference:+.3f} bits a byte, 95 % interval {low:+.3f} to {high:+.3f}"
    if high < 0:
        return [f"better than {baseline}: {figures}"]
    if low <= 0:
        return [f"not significantly different from {baseline}: {figures}"]
    return [f"worse than {baseline}: {figures}; {help}"]


def _orders(texts: list[np.ndarray], vocabulary: int) -> Iterator[list[np.ndarray]]:
    """The losses on all texts but the first, `[tokens]` each, by models of order 1, 2, ... fitted to the first."""
    lengths = [len(text) for text in texts]
    tokens = np.concatenate(texts).astype(np.int64)
    within = np.concatenate([np.arange(length) for length in lengths])  # position in its text
    is_train = np.arange(len(tokens)) < lengths[0]
    heldout = np.flatnonzero(~is_train)
    # The n-gram that ends before each position and the one that ends at it, as ranks; both empty at order 0.
    history, probabilities = np.zeros(len(tokens), np.int64), np.full(len(heldout), 1.0 / vocabulary)
    order = 0
    while True:
        # 1. Rank the n-grams: two are equal where their histories and last tokens are.
        _, gram = np.unique(history * vocabulary + tokens, return_inverse=True)
        # Near its start a text has no full history: there, the probability is that of the order below.
        full = within >= order
        counted = is_train & full
        # 2. Count them in the training text.
        grams = np.bincount(gram[counted], minlength=gram.max() + 1)
        histories = np.bincount(history[counted], minlength=history.max() + 1)
        first = np.zeros(len(grams), np.int64)
        first[gram[counted]] = history[counted]
        kinds = np.bincount(first[grams > 0], minlength=len(histories))
        # 3. Interpolate. A history that the training text lacks has no kinds, and keeps the order below.
        at, before = gram[heldout], history[heldout]
        total = histories[before] + kinds[before]
        interpolated = (grams[at] + kinds[before] * probabilities) / np.maximum(total, 1)
        probabilities = np.where(full[heldout] & (total > 0), interpolated, probabilities)
        losses = -np.log(probabilities)
        yield np.split(losses, np.cumsum(lengths[1:-1]))
        # The history of the next order at a position is the n-gram that ends before it.
        history, order = np.concatenate([[0], gram[:-1]]), order + 1
