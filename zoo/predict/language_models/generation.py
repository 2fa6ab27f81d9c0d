"""A prompt and what a language model makes of it: by chance, greedily, or by a search for the most probable text."""

import time
from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np

from zoo.metrics.logits import log_softmax
from zoo.predict.language_models import sampling
from zoo.predict.language_models.incremental_decoding import DecodeState, IncrementalDecoder
from zoo.predict.language_models.sampling import SamplingConfig
from zoo.predict.language_models.streamer import TextStreamer


class Generated(NamedTuple):
    """A text that was generated.

    Attributes:
        text: what follows the prompt, without the stop string.
        ids: its tokens, those of the stop string included.
        stopped: the stop string that ended it; None where all tokens were generated.
        log_probability: of the tokens in nats, given the prompt: the model's own, before any filter or penalty.
        tokens_per_second: the first not counted, for which programs may be compiled; None if there is no other.
    """

    text: str
    ids: tuple[int, ...]
    stopped: str | None
    log_probability: float
    tokens_per_second: float | None


def sampled(
    reader: IncrementalDecoder, prompt: np.ndarray, pieces: Sequence[bytes], settings: SamplingConfig, number: int = 0
) -> Generator[str, None, Generated]:
    """Draws token after token.

    Args:
        reader: of the model.
        prompt: int32 `[tokens]`, one or more.
        pieces: the bytes of each id; one without bytes (padding, special tokens) is never generated.
        settings: without beams.
        number: of the text, counted from 0.

    Yields:
        The text as it grows, whole characters at a time.

    Returns:
        The whole.
    """
    draw, written = np.random.default_rng([settings.seed, number]), TextStreamer(settings.stop)
    reading, ids, total, clock = reader.begin(prompt[None], settings.tokens), [], 0.0, _Clock()
    silent = _silent(pieces, reading)
    while True:
        [logits] = _penalised(reading, settings)
        chances = sampling.probabilities(
            np.where(silent, -np.inf, logits), settings.temperature, settings.top_k, settings.top_p
        )
        ids.append(sampling.drawn(chances, draw.random()))
        total += float(log_softmax(reading.logits[0])[ids[-1]])
        new = written.add(pieces[ids[-1]], final=len(ids) == settings.tokens)
        clock.tick()
        if new:
            yield new
        if written.stopped is not None or len(ids) == settings.tokens:
            return Generated(written.text, tuple(ids), written.stopped, total, clock.rate())
        reading = reader.follow(reading, np.zeros(1, int), np.array(ids[-1:]))


def whole(stream: Generator[str, None, Generated]) -> Generated:
    """Runs `sampled` to its end."""
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


def searched(
    reader: IncrementalDecoder, prompt: np.ndarray, pieces: Sequence[bytes], settings: SamplingConfig
) -> list[Generated]:
    """Keeps the `settings.beams` most probable beginnings at each token (beam search; Lowerre, 1976).

    Texts are compared by their mean log-probability per token, so that of two the shorter has no advantage (Wu et al.,
    2016, section 7, with alpha 1). It ends when all tokens are there, or as many texts as beams have met a stop string.

    Args:
        reader: as of `sampled`, like the others.
        prompt: int32 `[tokens]`.
        pieces: the bytes of each id.
        settings: a repetition penalty counts in the comparison.

    Returns:
        The `settings.count` best, the best first.
    """
    live, ended, clock = [_Beam(0, 0.0, 0.0, ())], [], _Clock()
    reading = reader.begin(prompt[None], settings.tokens)
    silent = _silent(pieces, reading)
    while True:
        live, stopped = _extended(live, reading, silent, pieces, settings)
        ended += stopped
        clock.tick()
        if not live or len(live[0].ids) == settings.tokens or len(ended) >= settings.beams:
            break
        # Always as many rows, as each number of them is a program of its own. The rows added win nothing.
        live += [live[0]._replace(score=-np.inf)] * (settings.beams - len(live))
        reading = reader.follow(
            reading, np.array([one.parent for one in live]), np.array([one.ids[-1] for one in live])
        )
    best = sorted([*ended, *live], key=lambda one: -one.score / len(one.ids))
    return [_generated(one, pieces, settings, clock.rate()) for one in best[: settings.count]]


class _Beam(NamedTuple):
    """Tokens after the prompt, the row of the reading that they continue by one, and sums of log-probabilities.

    Attributes:
        parent: the row.
        score: what beams are compared by.
        total: the same without a penalty.
        ids: the tokens.
    """

    parent: int
    score: float
    total: float
    ids: tuple[int, ...]


class _Clock:
    """Ticks per second, the first not counted."""

    def __init__(self):
        self._ticks, self._first, self._last = 0, 0.0, 0.0

    def tick(self) -> None:
        self._last = time.perf_counter()
        self._first = self._first if self._ticks else self._last
        self._ticks += 1

    def rate(self) -> float | None:
        return (self._ticks - 1) / max(self._last - self._first, 1e-9) if self._ticks > 1 else None


def _silent(pieces: Sequence[bytes], reading: DecodeState) -> np.ndarray:
    """The ids that are no text, bool `[vocabulary]`; a model may have more rows than its tokenizer has ids."""
    found = np.ones(reading.logits.shape[1], bool)
    found[: len(pieces)] = [not piece for piece in pieces]
    return found


def _penalised(reading: DecodeState, settings: SamplingConfig) -> np.ndarray:
    """The logits of each row, `[rows, vocabulary]`."""
    rows = zip(reading.logits, reading.ids)
    return np.stack([sampling.penalised(logits, ids, settings.repetition_penalty) for logits, ids in rows])


def _extended(
    live: list[_Beam], reading: DecodeState, silent: np.ndarray, pieces: Sequence[bytes], settings: SamplingConfig
) -> tuple[list[_Beam], list[_Beam]]:
    """The best continuations, the best first: those that go on, and those that have met a stop string."""
    plain = log_softmax(reading.logits)
    scores = plain if settings.repetition_penalty == 1 else log_softmax(_penalised(reading, settings))
    scores = np.where(silent, -np.inf, scores + np.array([[one.score] for one in live]))
    found, stopped = [], []
    for rank, (row, token) in enumerate(_largest(scores, 2 * settings.beams)):
        if len(found) == settings.beams or not np.isfinite(scores[row, token]):
            break
        one = _Beam(row, float(scores[row, token]), live[row].total + float(plain[row, token]), (*live[row].ids, token))
        if not settings.stop or _written(one.ids, pieces, settings).stopped is None:
            found.append(one)
        elif rank < settings.beams:
            # One that would not have been kept without stop strings is not kept for having met one.
            stopped.append(one)
    return found, stopped


def _largest(scores: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Row and column of the largest, the largest first."""
    flat = scores.ravel()
    kept = np.sort(np.argpartition(-flat, count)[:count]) if count < len(flat) else np.arange(len(flat))
    rows, columns = np.unravel_index(kept[np.argsort(-flat[kept], kind="stable")], scores.shape)
    return list(zip(rows.tolist(), columns.tolist()))


def _written(
    ids: Sequence[int], pieces: Sequence[bytes], settings: SamplingConfig, final: bool = False
) -> TextStreamer:
    written = TextStreamer(settings.stop)
    written.add(b"".join(pieces[id] for id in ids), final)
    return written


def _generated(one: _Beam, pieces: Sequence[bytes], settings: SamplingConfig, rate: float | None) -> Generated:
    written = _written(one.ids, pieces, settings, final=True)
    return Generated(written.text, one.ids, written.stopped, one.total, rate)
