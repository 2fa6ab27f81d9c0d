"""Dynamic evaluation of a language model: a segment of a text is scored first, then learned from, then the next.

Krause, Kahembwe, Murray and Renals, "Dynamic evaluation of neural sequence models", 2018, and "Dynamic evaluation of
Transformer language models", 2019.

    model = zoo.predict.language_models.language_model.load(workdir)
    found = DynamicEvaluation(model).evaluate(model.ids(text))
    found.mixed.sum(), found.static.sum()    # log P of the text, with learning and without

No token is learned from before it is predicted. What learns is a copy, by the engine's own step; the model stays as it
is. The answer mixes the probabilities of both (see `fixed_share`): whatever the text, its loss is at most
log 2 nats, one bit for all of it, above the model's own.
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
from zoo.errors import BadInput, NonFinite
from zoo.metrics import classification
from zoo.models import kv_cache
from zoo.predict.language_models import perplexity
from zoo.predict.language_models.dynamic_optimizer import DynamicOptimizer
from zoo.predict.language_models.fixed_share import FixedShareMixture
from zoo.predict.language_models.language_model import LanguageModel
from zoo.predict.language_models.perplexity import Window
from zoo.terms import Term

OPTIMIZERS = ("sgd", "rms")
# By optimizer, of Transformer and LSTM, from benchmarks.dynamic_evaluation on validation text with seed 0: sgd's are
# the best of 0.03, 0.1 and 0.3, so each lies at an end of what was tried; rms was tried with the LSTM alone, where 3e-4
# was the best of two and no better than sgd.
RATES = {"sgd": (0.03, 0.3), "rms": (0.0003, 0.0003)}


class DynamicConfig(NamedTuple):
    """How a copy learns from a text.

    The rates were chosen on validation text, see `RATES`, and no decay, which lost some of the gain there. Of the
    others nothing was tried: 64 tokens are the context of `experiments.language_model`, a second step costs as much as
    half a segment, and the mixture guards without patience, too.

    Attributes:
        segment: tokens that are scored before they are learned from; of a Transformer in whole windows.
        learning_rate: of each step; None is the network's default of `RATES`.
        optimizer: "sgd", or "rms" for steps in units of the gradient in the training text, see `DynamicOptimizer`.
        decay: share of the way back to the model's weights, in each step.
        steps: on each segment.
        clip_norm: largest norm of the gradient of the mean loss, 1 as in training; 0 does not clip.
        patience: segments; where the copy was worse over the last ones, it starts from the model's weights again. 0:
            never.
        stride: of a Transformer's windows, as in `LanguageModel.score`; None is half the context, or the segment
            where that is shorter.
    """

    segment: int = 64
    learning_rate: float | None = None
    optimizer: str = "sgd"
    decay: float = 0.0
    steps: int = 1
    clip_norm: float = 1.0
    patience: int = 0
    stride: int | None = None


class EvaluatedSegment(NamedTuple):
    """One entry of the trace.

    Attributes:
        first: place of its first predicted token.
        tokens: predicted.
        static: log P of them by the model, in nats.
        dynamic: likewise, by the copy that has learned from all before.
        mixed: likewise, by the mixture.
        weight: of the copy in the mixture, after them.
        reset: why the copy then started from the model's weights again; "" if it did not.
        loss: mean in nats that was learned from, before the last step; None where nothing was learned.
        gradient_norm: of the last step, before it was clipped.
        seconds: of all this.
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


class Evaluated(NamedTuple):
    """Log-probabilities float64 `[tokens - 1]` of each token but the first, in nats, three times.

    Attributes:
        static: by the model.
        dynamic: by the copy that learns; minus infinity where its output was not finite.
        mixed: by the mixture of both, which is the answer.
        trace: of all segments.
    """

    static: np.ndarray
    dynamic: np.ndarray
    mixed: np.ndarray
    trace: list[EvaluatedSegment]

    def gain(self, resamples: int = 1000, seed: int = 0) -> tuple[float, float, float]:
        """Nats per token by which the mixture is better than the model, with a 95 % interval by a paired bootstrap.

        Segments are drawn; as neighbours are alike, the interval is a narrow one.
        """
        tokens = np.array([one.tokens for one in self.trace], np.float64)
        gains = np.array([one.mixed - one.static for one in self.trace])
        compute = lambda counts: {"gain": counts @ gains / (counts @ tokens)}  # noqa: E731
        ends = classification.bootstrap(compute, len(tokens), resamples, seed, 0.95)["gain"]
        return gains.sum() / tokens.sum(), *ends


class DynamicEvaluation:
    """Scores texts with a copy of a model that learns from them, each text from the model's own weights.

    Args:
        model: stays as it is.
        settings: those that no program is compiled with (rate, decay, steps, patience) may be changed between texts,
            by another value of the attribute `settings`.

    Raises:
        BadInput: a setting is out of range.
    """

    def __init__(self, model: LanguageModel, settings: DynamicConfig = DynamicConfig()):  # noqa: B008
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
            # The copy was made under no other.
            tf.distribute.get_strategy(),
            copy,
            functools.partial(_forward, self._copy.network),
            ("loss",),
            optimizers.groups(copy, self._optimizer),
            clip_norm=settings.clip_norm,
            # A call's cost is that of its inputs, too: no room for more than the few steps on a segment.
            steps_per_loop=1,
        )
        self._start = self._engine.state()
        self._measured = settings.optimizer != "rms"

    def measure_gradients(self, ids: np.ndarray) -> None:
        """Lets "rms" know how large the gradients are in text like that of the training.

        Args:
            ids: int32 `[tokens]`; some hundred segments do.
        """
        self._engine.load(self._start)
        self._optimizer.measure_gradients()
        pieces, state = self._pieces(ids)[:-1], self._copy.begin()
        if not pieces:
            raise BadInput(f"{len(ids)} tokens to measure gradients on: expected more than a segment of training text")
        for number, piece in enumerate(pieces):
            tokens, real = self._batch(ids, piece)
            self._learn(tokens, real, state, number, 1)
            _, state = self._copy.score(tokens, state, _length(piece))
        self._optimizer.measured(len(pieces))
        self._start, self._measured = self._engine.state(), True

    def evaluate(self, ids: np.ndarray) -> Evaluated:
        """Scores a text from its begin to its end.

        Args:
            ids: int32 `[tokens]`, two or more of them.

        Raises:
            BadInput: there are fewer, or "rms" was not given text to measure.
            NonFinite: the model's own output is; the copy only starts again.
        """
        if len(ids) < 2:
            raise BadInput(f"the text has {len(ids)} tokens: expected two or more, as the first is given")
        if not self._measured:
            raise BadInput("optimizer 'rms' does not know the gradients yet: call measure() with training text before")
        self.settings = self._complete(self.settings)
        self._restart()
        rows, trace = [], []
        for found, entry in self._segments(np.asarray(ids, np.int32)):
            rows.append(found)
            trace.append(entry)
        static, dynamic, mixed = np.concatenate(rows, axis=1)
        return Evaluated(static, dynamic, mixed, trace)

    def _segments(self, ids: np.ndarray) -> Iterator[tuple[np.ndarray, EvaluatedSegment]]:
        """Of each segment its log-probabilities `[3, tokens]` and its entry in the trace."""
        pieces, mixture, recent = self._pieces(ids), FixedShareMixture(), []
        states = self._model.begin(), self._copy.begin()
        for number, piece in enumerate(pieces):
            began, before = time.perf_counter(), states
            tokens, real = self._batch(ids, piece)
            sides = zip((self._model, self._copy), states)
            scores, states = zip(*(side.score(tokens, state, _length(piece)) for side, state in sides))
            found = _mixed(mixture, *(values[real] for values in scores), piece[0].first)
            sums = found.sum(axis=1)
            recent.append(sums[1] - sums[0])
            reset = self._worse(recent)
            if reset:
                # With the model's state, too, or the copy would be neither the one nor the other.
                before, states, recent = (before[0],) * 2, (states[0],) * 2, []
                self._restart()
            loss = norm = None
            # What nothing follows need not be learned.
            if self.settings.steps and number + 1 < len(pieces):
                loss, norm = self._learn(tokens, real, before[1], number * self.settings.steps, self.settings.steps)
                if not math.isfinite(loss + norm):
                    reset, states, recent = "loss or gradient not finite", (states[0],) * 2, []
                    self._restart()
            about = mixture.second, reset, loss, norm, time.perf_counter() - began
            yield found, EvaluatedSegment(piece[0].first, found.shape[1], *sums.tolist(), *about)

    def _complete(self, settings: DynamicConfig) -> DynamicConfig:
        """Checked, and with the network's rate where none is given."""
        _check(settings)
        rate = RATES[settings.optimizer][self._context is None]
        return settings if settings.learning_rate is not None else settings._replace(learning_rate=rate)

    def _restart(self) -> None:
        """Makes the copy the model again."""
        self._engine.load(self._start)
        self._optimizer.set(self.settings.learning_rate, self.settings.decay)

    def _worse(self, recent: list[float]) -> str:
        """Why the copy should start again, by its gain over the model in each segment since it last did; or ""."""
        if not math.isfinite(recent[-1]):
            return "output not finite"
        patience = self.settings.patience
        lost = -sum(recent[-patience:])
        if patience and len(recent) >= patience and lost > 0:
            return f"{lost:.3f} nats worse over {patience} segments"
        return ""

    def _learn(self, tokens: np.ndarray, real: np.ndarray, state: Any, first: int, steps: int) -> tuple[float, float]:
        """Takes steps on a segment; loss and norm of the gradient at the last."""
        flat = {f"state{i}": part.numpy() for i, part in enumerate(tf.nest.flatten(state))}
        batches = Batches({"tokens": tokens, "real": real.astype(np.float32), **flat}, len(tokens))
        found = self._engine.train(batches, first, steps)
        self._engine.forget(batches)
        return float(found["loss/numerator"][-1] / found["loss/weight"][-1]), float(found["gradient_norm"][-1])

    def _pieces(self, ids: np.ndarray) -> list[list[Window]]:
        """The windows of each segment; those of a Transformer are the ones of `LanguageModel.score`."""
        if self._context is None:
            firsts = range(0, len(ids) - 1, self._width)
            return [[Window(first, first + 1, min(first + self._width, len(ids) - 1))] for first in firsts]
        cut = perplexity.windows(len(ids), self._context, self._stride)
        # The first is a segment of its own, as it predicts a whole context.
        return [cut[:1], *(cut[i : i + self._rows] for i in range(1, len(cut), self._rows))]

    def _batch(self, ids: np.ndarray, piece: list[Window]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens int32 `[rows, width + 1]`, and which of the predictions count, bool `[rows, width]`; of one shape."""
        tokens = np.zeros((self._rows, self._width + 1), np.int32)
        real = np.zeros((self._rows, self._width), bool)
        for row, window in enumerate(piece):
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
        specs = tf.nest.map_structure(lambda one: tf.TensorSpec(one.shape, one.dtype), self.begin())
        shape, number = tf.TensorSpec([rows, width + 1], tf.int32), tf.TensorSpec([], tf.int32)
        # As `Scorer` has it: a loop over tokens gains by XLA, a Transformer little.
        self._program = tf.function(score, jit_compile=network.context is None, autograph=False).get_concrete_function(
            shape, specs, number
        )

    def begin(self) -> Any:
        """What an LSTM knows before a text; a Transformer carries nothing on."""
        return self.network.empty(self._rows, 0) if self.network.context is None else ()

    def score(self, tokens: np.ndarray, state: Any, length: int) -> tuple[np.ndarray, Any]:
        values, state = self._program(tf.constant(tokens), state, tf.constant(length))
        return values.numpy().astype(np.float64), state


def _mixed(mixture: FixedShareMixture, static: np.ndarray, dynamic: np.ndarray, first: int) -> np.ndarray:
    """Log P by the model, the copy and the mixture, `[3, tokens]`.

    Raises:
        NonFinite: the model's is.
    """
    if not np.isfinite(static).all():
        raise NonFinite(f"the model's output after token {first - 1} is not finite; expected a trained model")
    # A copy that is out of bounds gives a token no probability: this one alone, as nothing may look at later ones.
    dynamic = np.where(np.isfinite(dynamic), dynamic, -np.inf)
    return np.stack([static, dynamic, [mixture.add(*both) for both in zip(static.tolist(), dynamic.tolist())]])


def _log_probabilities(network, tokens: tf.Tensor, state: Any, length: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Of tokens `[rows, time + 1]` log P of all but the first, `[rows, time]`; and an LSTM's state after `length`."""
    read, wanted = tokens[:, :-1], tokens[:, 1:]
    if network.context is not None:
        return perplexity.of_tokens(network.forward(read), wanted), state
    outputs, state = network.read(read, state, tf.constant(0), length)
    return perplexity.of_tokens(network.logits(outputs), wanted), state


def _forward(network, model: keras.Model, batch: dict[str, tf.Tensor], training: bool) -> dict[str, Term]:
    """The loss of what counts in a segment, without dropout; `network` computes with the weights of `model`."""
    state = ()
    if network.context is None:
        flat = [batch[f"state{i}"] for i in range(2 * len(network.empty(1, 0)))]
        state = tf.nest.pack_sequence_as(network.empty(1, 0), flat)
    length = tf.constant(batch["tokens"].shape[1] - 1)
    values, _ = _log_probabilities(network, batch["tokens"], state, length)
    return {"loss": Term(-values, batch["real"])}


def _length(piece: list[Window]) -> int:
    """Tokens that an LSTM reads, whose segment is one window."""
    return piece[0].end - piece[0].begin


def _check(settings: DynamicConfig) -> None:
    wanted = {
        "segment": (settings.segment >= 1, "1 or more tokens"),
        "optimizer": (settings.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
        "learning_rate": (0 <= (settings.learning_rate or 0) < math.inf, "0 or more"),
        "decay": (0 <= settings.decay <= 1, "0 to 1"),
        "steps": (settings.steps >= 0, "0 or more"),
        "clip_norm": (0 <= settings.clip_norm < math.inf, "0 or more"),
        "patience": (settings.patience >= 0, "0 or more segments"),
    }
    for name, (good, expected) in wanted.items():
        if not good:
            raise BadInput(f"--{name} is {getattr(settings, name)!r}: expected {expected}")
