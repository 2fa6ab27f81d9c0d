"""Text generation from a prompt: sampling, greedy decoding and beam search."""

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
    """A generated text.

    Attributes:
        text: the continuation of the prompt, without the stop string.
        ids: its tokens, including those of the stop string.
        stopped: the stop string that ended the text; None where all tokens were generated.
        log_probability: log P of the tokens after the prompt, in nats, by the model alone, without filters or penalty.
        tokens_per_second: speed without the first token, which may compile programs; None for a single token.
    """

    text: str
    ids: tuple[int, ...]
    stopped: str | None
    log_probability: float
    tokens_per_second: float | None


def sample(
    decoder: IncrementalDecoder, prompt: np.ndarray, pieces: Sequence[bytes], settings: SamplingConfig, number: int = 0
) -> Generator[str, None, Generated]:
    """Samples one text, token after token.

    Args:
        decoder: decoder of the model.
        prompt: int32 `[tokens]`, one or more.
        pieces: the bytes of each id; an id without bytes (padding, special tokens) is never generated.
        settings: sampling settings without beams.
        number: the text's number, from 0.

    Yields:
        New text, in whole characters.

    Returns:
        The whole text.
    """
    random, streamer = np.random.default_rng([settings.seed, number]), TextStreamer(settings.stop)
    state, ids, total, clock = decoder.prefill(prompt[None], settings.tokens), [], 0.0, _Clock()
    suppressed = _suppressed(pieces, state)
    while True:
        [logits] = _penalised(state, settings)  # [vocabulary]
        probabilities = sampling.probabilities(
            np.where(suppressed, -np.inf, logits), settings.temperature, settings.top_k, settings.top_p
        )
        ids.append(sampling.draw(probabilities, random.random()))
        total += float(log_softmax(state.logits[0])[ids[-1]])
        new = streamer.add(pieces[ids[-1]], final=len(ids) == settings.tokens)
        clock.tick()
        if new:
            yield new
        if streamer.stopped is not None or len(ids) == settings.tokens:
            return Generated(streamer.text, tuple(ids), streamer.stopped, total, clock.rate())
        state = decoder.step(state, np.zeros(1, int), np.array(ids[-1:]))


def finish(stream: Generator[str, None, Generated]) -> Generated:
    """Runs `sample` to its end."""
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


def beam_search(
    decoder: IncrementalDecoder, prompt: np.ndarray, pieces: Sequence[bytes], settings: SamplingConfig
) -> list[Generated]:
    """Beam search (Lowerre, 1976): keeps the `settings.beams` most probable beginnings at each token.

    Final texts are compared by their mean log-probability per token, so that a shorter one has no advantage (Wu et al.,
    2016, section 7, with alpha 1). The search ends when all tokens are generated, or when as many texts as beams have
    met a stop string.

    Args:
        decoder: decoder of the model.
        prompt: int32 `[tokens]`, one or more.
        pieces: the bytes of each id; an id without bytes is never generated.
        settings: sampling settings with beams; a repetition penalty counts in the comparison.

    Returns:
        The `settings.count` best texts, the best first.
    """
    live, ended, clock = [_Beam(0, 0.0, 0.0, ())], [], _Clock()
    state = decoder.prefill(prompt[None], settings.tokens)
    suppressed = _suppressed(pieces, state)
    while True:
        live, stopped = _extended(live, state, suppressed, pieces, settings)
        ended += stopped
        clock.tick()
        if not live or len(live[0].ids) == settings.tokens or len(ended) >= settings.beams:
            break
        # Filled up to `beams` rows, as each number of rows is another program; the added rows never win.
        live += [live[0]._replace(score=-np.inf)] * (settings.beams - len(live))
        state = decoder.step(state, np.array([one.parent for one in live]), np.array([one.ids[-1] for one in live]))
    best = sorted([*ended, *live], key=lambda one: -one.score / len(one.ids))
    return [_generated(one, pieces, settings, clock.rate()) for one in best[: settings.count]]


class _Beam(NamedTuple):
    """One beam of the search.

    Attributes:
        parent: row of the decoder's state that the last token continues.
        score: sum of log-probabilities with the repetition penalty, by which beams are compared.
        total: the same sum without the penalty.
        ids: the tokens after the prompt.
    """

    parent: int
    score: float
    total: float
    ids: tuple[int, ...]


class _Clock:
    """Ticks per second, without the first."""

    def __init__(self):
        self._ticks, self._first, self._last = 0, 0.0, 0.0

    def tick(self) -> None:
        self._last = time.perf_counter()
        self._first = self._first if self._ticks else self._last
        self._ticks += 1

    def rate(self) -> float | None:
        return (self._ticks - 1) / max(self._last - self._first, 1e-9) if self._ticks > 1 else None


def _suppressed(pieces: Sequence[bytes], state: DecodeState) -> np.ndarray:
    """Ids without text, bool `[vocabulary]`; a model may have more rows than its tokenizer has ids."""
    suppressed = np.ones(state.logits.shape[1], bool)
    suppressed[: len(pieces)] = [not piece for piece in pieces]
    return suppressed


def _penalised(state: DecodeState, settings: SamplingConfig) -> np.ndarray:
    """Logits with the repetition penalty, `[rows, vocabulary]`."""
    rows = zip(state.logits, state.ids)
    return np.stack([sampling.penalise_repetition(logits, ids, settings.repetition_penalty) for logits, ids in rows])


def _extended(
    live: list[_Beam], state: DecodeState, suppressed: np.ndarray, pieces: Sequence[bytes], settings: SamplingConfig
) -> tuple[list[_Beam], list[_Beam]]:
    """The best continuations, the best first: those that go on, and those that have met a stop string."""
    plain = log_softmax(state.logits)  # [rows, vocabulary]
    scores = plain if settings.repetition_penalty == 1 else log_softmax(_penalised(state, settings))
    scores = np.where(suppressed, -np.inf, scores + np.array([[one.score] for one in live]))
    kept, stopped = [], []
    for rank, (row, token) in enumerate(_largest(scores, 2 * settings.beams)):
        if len(kept) == settings.beams or not np.isfinite(scores[row, token]):
            break
        one = _Beam(row, float(scores[row, token]), live[row].total + float(plain[row, token]), (*live[row].ids, token))
        if not settings.stop or _streamed(one.ids, pieces, settings).stopped is None:
            kept.append(one)
        elif rank < settings.beams:
            # A stop string does not help: a beam counts only if it would have been kept without one.
            stopped.append(one)
    return kept, stopped


def _largest(scores: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Row and column of the largest scores, the largest first."""
    flat = scores.ravel()
    kept = np.sort(np.argpartition(-flat, count)[:count]) if count < len(flat) else np.arange(len(flat))
    rows, columns = np.unravel_index(kept[np.argsort(-flat[kept], kind="stable")], scores.shape)
    return list(zip(rows.tolist(), columns.tolist()))


def _streamed(
    ids: Sequence[int], pieces: Sequence[bytes], settings: SamplingConfig, final: bool = False
) -> TextStreamer:
    streamer = TextStreamer(settings.stop)
    streamer.add(b"".join(pieces[id] for id in ids), final)
    return streamer


def _generated(one: _Beam, pieces: Sequence[bytes], settings: SamplingConfig, rate: float | None) -> Generated:
    streamer = _streamed(one.ids, pieces, settings, final=True)
    return Generated(streamer.text, one.ids, streamer.stopped, one.total, rate)
