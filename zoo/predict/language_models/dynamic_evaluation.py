"""Dynamic evaluation of a language model: each segment of a text is scored first, then learned from.

Krause, Kahembwe, Murray and Renals, "Dynamic evaluation of neural sequence models", 2018, and "Dynamic evaluation of
Transformer language models", 2019.

    model = zoo.predict.language_models.language_model.load(workdir)
    evaluated = DynamicEvaluation(model).evaluate(model.ids(text))
    evaluated.mixed.sum(), evaluated.static.sum()    # log P of the text, with learning and without

No token is learned from before it is predicted. A copy of the model learns, by the engine's own step; the model itself
does not change. Earlier occurrences of each context are retrieved, in the text so far and in `neighbours`, related text
of the reader's own (see `context_retrieval`). The result mixes the probabilities of the model, the copy and retrieval
(see `fixed_share`): for any text, its total loss is at most log 2 nats, one bit, above the model's own.
"""

import functools
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.data.batches import Batches
from zoo.engine import optimizers
from zoo.engine.engine import Engine
from zoo.errors import BadInput
from zoo.metrics import classification
from zoo.models import kv_cache
from zoo.predict.language_models import dynamic_config, perplexity
from zoo.predict.language_models.context_counts import FixedCounts
from zoo.predict.language_models.context_retrieval import LENGTHS, ContextRetrieval
from zoo.predict.language_models.dynamic_config import DynamicConfig
from zoo.predict.language_models.dynamic_optimizer import DynamicOptimizer
from zoo.predict.language_models.language_model import LanguageModel
from zoo.predict.language_models.perplexity import Window
from zoo.predict.language_models.segment_mixture import SegmentMixture
from zoo.terms import Term


class EvaluatedSegment(NamedTuple):
    """Result of one segment, an entry of the trace.

    Attributes:
        first: index of the first predicted token in the text.
        tokens: number of predicted tokens.
        static: log P of these tokens by the model, in nats.
        dynamic: their log P by the copy that has learned from all earlier segments.
        mixed: their log P by the mixture.
        weight: weight of the copy in the mixture after the segment.
        reset: why the copy then restarted from the model's weights; "" if it did not.
        loss: mean loss in nats before the last step; None without a step.
        gradient_norm: gradient norm of the last step before clipping; None without a step.
        seconds: time for scoring and learning.
        adapted: log P of these tokens by the mixture of model and copy, from which retrieval begins.
        retrieved: their log P by retrieval; None without it.
        retrieval_weight: weight of retrieval in the mixture after the segment; None without it.
    """

    first: int
    tokens: int
    static: float
    dynamic: float
    mixed: float
    weight: float
    reset: str
    loss: float | None
    gradient_norm: float | None
    seconds: float
    adapted: float | None = None
    retrieved: float | None = None
    retrieval_weight: float | None = None


class Evaluated(NamedTuple):
    """Log-probabilities of a text in nats, each float64 `[tokens - 1]`: all tokens but the first.

    Attributes:
        static: log P by the model.
        dynamic: log P by the copy that learns; minus infinity where its output was not finite.
        mixed: log P by the mixture of all, the result of dynamic evaluation.
        trace: results of all segments.
        adapted: log P by the mixture of model and copy, from which retrieval begins; `mixed` without retrieval.
        retrieved: log P by retrieval; None without it.
    """

    static: np.ndarray
    dynamic: np.ndarray
    mixed: np.ndarray
    trace: list[EvaluatedSegment]
    adapted: np.ndarray | None = None
    retrieved: np.ndarray | None = None

    def gain(self, resamples: int = 1000, seed: int = 0) -> tuple[float, float, float]:
        """Mean gain of the mixture over the model in nats per token, with a 95 % interval by a paired bootstrap.

        The bootstrap draws segments; as neighbours are correlated, the interval is too narrow.
        """
        tokens = np.array([one.tokens for one in self.trace], np.float64)
        gains = np.array([one.mixed - one.static for one in self.trace])
        compute = lambda counts: {"gain": counts @ gains / (counts @ tokens)}  # noqa: E731
        ends = classification.bootstrap(compute, len(tokens), resamples, seed, 0.95)["gain"]
        return gains.sum() / tokens.sum(), *ends


class DynamicEvaluation:
    """Dynamic evaluation of texts; the copy of the model restarts from the model's weights for each text.

    Args:
        model: the language model; it does not change.
        settings: settings; those that programs do not depend on (learning rate, decay, steps, patience, longest
            context) may be changed between texts, through the attribute `settings`.
        neighbours: related text of the reader's own, int32 `[tokens]`, for retrieval; None without one.

    Raises:
        BadInput: a setting is out of range.
    """

    def __init__(
        self,
        model: LanguageModel,
        settings: DynamicConfig = DynamicConfig(),  # noqa: B008
        neighbours: np.ndarray | None = None,
    ):
        self._context = model.context
        self.settings = settings = self._complete(settings)
        self._stride, self._rows = None, 1
        if model.context is not None:
            shorter = min(model.stride(), settings.segment)
            self._stride = model.stride(shorter if settings.stride is None else settings.stride)
            self._rows = -(-settings.segment // self._stride)
        elif settings.stride is not None:
            model.stride(settings.stride)
        self._width = model.context or settings.segment
        copy = keras.models.clone_model(model.model)
        copy.set_weights(model.model.get_weights())
        self._model, self._copy = (self._side(kv_cache.network(one)) for one in (model.model, copy))
        self._optimizer = DynamicOptimizer(settings.learning_rate, settings.decay, settings.optimizer == "rms")
        self._engine = Engine(
            # The strategy that the copy was created under.
            tf.distribute.get_strategy(),
            copy,
            functools.partial(_forward, self._copy.network),
            ("loss",),
            optimizers.groups(copy, self._optimizer),
            clip_norm=settings.clip_norm,
            # Inputs add to the cost of a call, so a call has no room for more steps than a segment needs.
            steps_per_loop=1,
        )
        self._start = self._engine.state()
        self._measured = settings.optimizer != "rms"
        self._neighbours = None if neighbours is None else FixedCounts(neighbours, LENGTHS)

    def measure_gradients(self, ids: np.ndarray) -> None:
        """Measures the size of gradients on training text, which "rms" normalises by.

        Args:
            ids: int32 `[tokens]`; some hundred segments are enough.

        Raises:
            BadInput: there are fewer tokens than a segment.
        """
        self._engine.load(self._start)
        self._optimizer.measure_gradients()
        segments, state = self._segments(ids)[:-1], self._copy.initial_state()
        if not segments:
            raise BadInput(f"{len(ids)} tokens to measure gradients on: expected more than a segment of training text")
        for number, segment in enumerate(segments):
            tokens, real = self._batch(ids, segment)
            self._learn(tokens, real, state, number, 1)
            _, state = self._copy.score(tokens, state, _length(segment))
        self._optimizer.end_measurement(len(segments))
        self._start, self._measured = self._engine.state(), True

    def evaluate(self, ids: np.ndarray) -> Evaluated:
        """Scores a text, segment by segment, and learns from it.

        Args:
            ids: int32 `[tokens]`, two or more.

        Raises:
            BadInput: there are fewer tokens, or gradients were not measured for "rms".
            NonFinite: the model's own output is not finite; where the copy's is not, the copy restarts.
        """
        if len(ids) < 2:
            raise BadInput(f"the text has {len(ids)} tokens: expected two or more, as the first one is not predicted")
        if not self._measured:
            raise BadInput("optimizer 'rms' needs the size of gradients: call measure_gradients() with training text")
        self.settings = self._complete(self.settings)
        self._restart()
        rows, trace = [], []
        for log_probabilities, entry in self._evaluated(np.asarray(ids, np.int32)):
            rows.append(log_probabilities)
            trace.append(entry)
        static, dynamic, adapted, mixed, *retrieved = np.concatenate(rows, axis=1)
        return Evaluated(static, dynamic, mixed, trace, adapted, *retrieved)

    def _evaluated(self, ids: np.ndarray) -> Iterator[tuple[np.ndarray, EvaluatedSegment]]:
        """The log-probabilities of each segment as of `SegmentMixture`, and its entry in the trace."""
        segments, mixture, recent = self._segments(ids), self._mixture(ids), []
        states = self._model.initial_state(), self._copy.initial_state()
        for number, segment in enumerate(segments):
            start, before = time.perf_counter(), states
            # 1. Score with both models.
            tokens, real = self._batch(ids, segment)
            sides = zip((self._model, self._copy), states)
            scores, states = zip(*(side.score(tokens, state, _length(segment)) for side, state in sides))
            mixed = mixture.add(segment[0].first, *(values[real] for values in scores))
            sums = mixed.sum(axis=1)
            # 2. Restart the copy if it is worse.
            recent.append(sums[1] - sums[0])
            reset = self._worse(recent)
            if reset:
                # With the model's state, too: the copy's own state belongs to its old weights.
                before, states, recent = (before[0],) * 2, (states[0],) * 2, []
                self._restart()
            loss = norm = None
            # 3. Learn from the segment, unless it is the last.
            if self.settings.steps and number + 1 < len(segments):
                loss, norm = self._learn(tokens, real, before[1], number * self.settings.steps, self.settings.steps)
                if not math.isfinite(loss + norm):
                    reset, states, recent = "loss or gradient not finite", (states[0],) * 2, []
                    self._restart()
            static, dynamic, adapted, total, *retrieved = sums.tolist()
            weights = mixture.weights
            yield mixed, EvaluatedSegment(
                segment[0].first, mixed.shape[1], static, dynamic, total, weights[1], reset, loss, norm,
                time.perf_counter() - start, adapted, *retrieved, *weights[2:]
            )  # fmt: skip

    def _mixture(self, ids: np.ndarray) -> SegmentMixture:
        longest = self.settings.longest_context
        return SegmentMixture(ContextRetrieval(ids, longest, self._neighbours) if longest else None)

    def _complete(self, settings: DynamicConfig) -> DynamicConfig:
        """The settings, checked, with the network's default learning rate instead of None."""
        return dynamic_config.completed(settings, is_lstm=self._context is None)

    def _restart(self) -> None:
        """Resets the copy to the model's weights."""
        self._engine.load(self._start)
        self._optimizer.set(self.settings.learning_rate, self.settings.decay)

    def _worse(self, recent: list[float]) -> str:
        """Why the copy should restart, by its gain over the model in each segment since the last restart; or ""."""
        if not math.isfinite(recent[-1]):
            return "output not finite"
        patience = self.settings.patience
        lost = -sum(recent[-patience:])
        if patience and len(recent) >= patience and lost > 0:
            return f"{lost:.3f} nats worse over {patience} segments"
        return ""

    def _learn(self, tokens: np.ndarray, real: np.ndarray, state: Any, first: int, steps: int) -> tuple[float, float]:
        """Takes steps on a segment; returns loss and gradient norm at the last step."""
        flat = {f"state{i}": part.numpy() for i, part in enumerate(tf.nest.flatten(state))}
        batches = Batches({"tokens": tokens, "real": real.astype(np.float32), **flat}, len(tokens))
        metrics = self._engine.train(batches, first, steps)
        self._engine.forget(batches)
        return float(metrics["loss/numerator"][-1] / metrics["loss/weight"][-1]), float(metrics["gradient_norm"][-1])

    def _segments(self, ids: np.ndarray) -> list[list[Window]]:
        """The windows of each segment; a Transformer's windows are those of `LanguageModel.score`."""
        if self._context is None:
            firsts = range(0, len(ids) - 1, self._width)
            return [[Window(first, first + 1, min(first + self._width, len(ids) - 1))] for first in firsts]
        cut = perplexity.windows(len(ids), self._context, self._stride)
        # The first window predicts a whole context, so it is a segment by itself.
        return [cut[:1], *(cut[i : i + self._rows] for i in range(1, len(cut), self._rows))]

    def _batch(self, ids: np.ndarray, segment: list[Window]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens int32 `[rows, width + 1]` and which predictions count, bool `[rows, width]`; always the same shape."""
        tokens = np.zeros((self._rows, self._width + 1), np.int32)
        real = np.zeros((self._rows, self._width), bool)
        for row, window in enumerate(segment):
            tokens[row, : window.end - window.begin + 1] = ids[window.begin : window.end + 1]
            real[row, window.first - window.begin - 1 : window.end - window.begin] = True
        return tokens, real

    def _side(self, network: kv_cache.TransformerCache | kv_cache.LstmState) -> "_Side":
        return _Side(network, self._rows, self._width)


class _Side:
    """One of the two models, with the program that scores a segment."""

    def __init__(self, network: kv_cache.TransformerCache | kv_cache.LstmState, rows: int, width: int):
        def score(tokens, state, length):
            return _log_probabilities(network, tokens, state, length)

        self.network, self._rows = network, rows
        specs = tf.nest.map_structure(lambda one: tf.TensorSpec(one.shape, one.dtype), self.initial_state())
        shape, number = tf.TensorSpec([rows, width + 1], tf.int32), tf.TensorSpec([], tf.int32)
        # As in `Scorer`: XLA speeds up an LSTM's loop over tokens, but hardly a Transformer. Compiled before the first
        # segment is timed.
        self._program = tf.function(score, jit_compile=network.context is None, autograph=False).get_concrete_function(
            shape, specs, number
        )

    def initial_state(self) -> Any:
        """An LSTM's state before a text; a Transformer carries no state on."""
        return self.network.empty(self._rows, 0) if self.network.context is None else ()

    def score(self, tokens: np.ndarray, state: Any, length: int) -> tuple[np.ndarray, Any]:
        values, state = self._program(tf.constant(tokens), state, tf.constant(length))
        return values.numpy().astype(np.float64), state


def _log_probabilities(network, tokens: tf.Tensor, state: Any, length: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Log P `[rows, time]` of tokens `[rows, time + 1]` but the first, and an LSTM's state after `length` tokens."""
    inputs, labels = tokens[:, :-1], tokens[:, 1:]
    if network.context is not None:
        return perplexity.token_log_probabilities(network.forward(inputs), labels), state
    outputs, state = network.read(inputs, state, tf.constant(0), length)  # [rows, time, width]
    return perplexity.token_log_probabilities(network.logits(outputs), labels), state


def _forward(network, model: keras.Model, batch: dict[str, tf.Tensor], training: bool) -> dict[str, Term]:
    """The loss of the predictions that count, without dropout; `network` computes with the weights of `model`."""
    state = ()
    if network.context is None:
        flat = [batch[f"state{i}"] for i in range(2 * len(network.empty(1, 0)))]
        state = tf.nest.pack_sequence_as(network.empty(1, 0), flat)
    length = tf.constant(batch["tokens"].shape[1] - 1)
    values, _ = _log_probabilities(network, batch["tokens"], state, length)
    return {"loss": Term(-values, batch["real"])}


def _length(segment: list[Window]) -> int:
    """Number of tokens that an LSTM reads; its segment is a single window."""
    return segment[0].end - segment[0].begin
