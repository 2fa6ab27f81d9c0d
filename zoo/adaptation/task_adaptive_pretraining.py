"""An encoder that classifies texts goes on learning the language of the texts that it meets, without their labels.

    known = source.load(workdir, predictor)
    found = adapt(predictor, texts, known, replay(workdir, predictor))
    found.predictor.probabilities(texts)

Masked words of the new texts (task-adaptive pretraining: Gururangan et al., "Don't stop pretraining", 2020, section 4),
on the classifier's own encoder: a task without labels beside the one with them, as in test-time training (Sun et al.,
2020). The classifier's head is kept. So that it still fits, the source's own texts are replayed, and its own answers to
them are the targets (Li and Hoiem, "Learning without forgetting", 2016, section 3).

After each of some rounds the change is judged: by the accuracy on the run's validation split, which is labelled, and by
`zoo.adaptation.guards` on the new texts. What is refused is taken back, and nothing more is tried. The source model is
never touched.
"""

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.adaptation import guards
from zoo.data import bucketing
from zoo.data.batches import Batches
from zoo.data.text import masking
from zoo.engine import optimizers, schedules
from zoo.engine.engine import Engine, means
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities, two_class_logits
from zoo.models import encoder_heads
from zoo.models.transformer import Block
from zoo.predict.evaluation import run_data
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors import text_inputs
from zoo.predict.predictors.cloning import copied
from zoo.predict.predictors.text_classifier import TextClassifier
from zoo.predict.predictors.text_inputs import Example
from zoo.terms import Term
from zoo.workdir import read_run

# Of the head of masked words, which starts from nothing beneath the embedding's matrix: BERT's own layer has no
# pretrained weights after fine-tuning, and learns alone at a rate that would ruin the encoder.
_WARM_RATE = 1e-3
# New texts that the guards look at: their answers' shares are known to a few hundredths.
_JUDGED = 400
# Widths of batches; each is a compilation.
_WIDTHS = 2


class EpochTrace(NamedTuple):
    """A round of the adaptation.

    Attributes:
        step: the last one of the round.
        masked_loss: cross-entropy of the new texts' masked words, in nats, mean of the round.
        replay_loss: how far the answers to the source's texts are from what they were: KL divergence in nats.
        accuracy: on the validation split.
        classes: how many are answered to the new texts; see `guards.answered`.
        accepted: whether the round is kept.
        reason: why.
        seconds: that it took, judging included.
    """

    step: int
    masked_loss: float
    replay_loss: float
    accuracy: float
    classes: float
    accepted: bool
    reason: str
    seconds: float


class Adapted(NamedTuple):
    """What came of an adaptation.

    Attributes:
        predictor: a copy with the weights of the last round that was kept; the source's own weights where none was.
        trace: of each round that was tried.
    """

    predictor: TextClassifier
    trace: list[EpochTrace]

    @property
    def accepted(self) -> bool:
        """Whether a round was kept."""
        return any(line.accepted for line in self.trace)


def adapt(
    predictor: TextClassifier,
    texts: Sequence[Example],
    source: HeldOut,
    replayed: Sequence[Example],
    *,
    epochs: float = 1.0,
    rounds: int = 4,
    learning_rate: float = 2e-5,
    batch_size: int = 32,
    mask_rate: float = 0.15,
    replay_weight: float = 1.0,
    warm_steps: int = 200,
    tolerance: float = 0.01,
    seed: int = 0,
) -> Adapted:
    """Trains a copy of a classifier's encoder by masked words of texts without labels.

    Args:
        predictor: of a run of `experiments/bert_finetune.py`.
        texts: new ones, or pairs of them.
        source: the run's validation split; see `source.load`.
        replayed: texts of the run's training split; see `replay`. Labels are not used.
        epochs: passes over the new texts, over all rounds. One, as a text that is masked a second time says less.
        rounds: after each of which the change is judged.
        learning_rate: of Adam, constant; the least of BERT's fine-tuning rates, as the weights are nearly right.
        batch_size: new texts in a step, and as many replayed ones.
        mask_rate: share of the tokens that are hidden, as in BERT.
        replay_weight: of the replay beside the masked words.
        warm_steps: before all, of the head of masked words alone on the replayed texts: a fine-tuned model has lost it.
        tolerance: by which the accuracy on the validation split may fall in all; a point is one standard error of a
            thousand examples at 0.9.
        seed: of order, masks and the head of masked words.

    Raises:
        BadInput: the predictor has no encoder or no [MASK], there is no text, or an argument is out of its range.
        NonFinite: the source model's output is.
    """
    _check(predictor, texts, replayed, epochs, rounds, learning_rate, tolerance)
    work = copied(predictor)
    words = _with_words(work.model, seed)
    rules = masking.MaskingRules(
        predictor.tokenizer.id_of("[MASK]"), predictor.frame, predictor.tokenizer.vocabulary_size, mask_rate
    )
    _warm(words, rules, _batches(predictor.columns(replayed), batch_size, seed), warm_steps, seed)
    batches = _batches(_columns(predictor, texts, replayed, seed), batch_size, seed)
    forward = functools.partial(_forward, rules=rules, classifier=work.model, replay_weight=replay_weight)
    engine = _engine(words, forward, ("masked", "pull"), learning_rate, seed)
    total = max(1, round(epochs * batches.steps_per_epoch))
    edges = np.unique(np.linspace(0, total, rounds + 1).round().astype(int)).tolist()
    judge = _Judge(predictor, work, texts, source, tolerance, seed)
    kept, trace = work.model.get_weights(), []
    for first, last in itertools.pairwise(edges):
        start = time.perf_counter()
        found = means(engine.train(batches, first, last - first))
        accuracy, classes, accepted, reason = judge()
        losses = found["masked"], found["replay"]
        trace.append(EpochTrace(last, *losses, accuracy, classes, accepted, reason, time.perf_counter() - start))
        if not accepted:
            break
        kept = work.model.get_weights()
    adapted = copied(predictor)
    adapted.model.set_weights(kept)
    return Adapted(adapted, trace)


def replay(workdir: str | Path, predictor: TextClassifier, most: int = 5000, seed: int = 0) -> list[Example]:
    """Texts of a run's training split, for `adapt`: all, or so many by chance.

    Raises:
        BadInput: the run's data set cannot be read any more.
    """
    found = run_data.as_examples(predictor, run_data.run_texts(read_run(workdir), more=False).train)
    chosen = np.random.default_rng(seed).permutation(len(found))[:most]
    return [found[place] for place in chosen.tolist()]


class _Judge:
    """Whether the working copy is kept as it is."""

    def __init__(self, predictor, work, texts, source, tolerance, seed):
        self._work, self._source, self._guards = work, source, guards.Guards(source)
        chosen = np.random.default_rng(seed).permutation(len(texts))[:_JUDGED]
        self._texts = [texts[place] for place in chosen.tolist()]
        self._before = two_class_logits(predictor.logits(self._texts))
        self._least = _accuracy(source.logits, source.labels) - tolerance

    def __call__(self) -> tuple[float, float, bool, str]:
        logits = two_class_logits(self._work.logits(self._source.examples))
        after, accuracy = two_class_logits(self._work.logits(self._texts)), _accuracy(logits, self._source.labels)
        if accuracy < self._least:
            reason = f"accuracy on the validation split falls to {accuracy:.4f}, expected {self._least:.4f} or more"
            return accuracy, guards.answered(after), False, reason
        # What is learned has evidence of its own: answers need not look like the source's to be better.
        verdict = self._guards.judge(self._before, after)
        return accuracy, guards.answered(after), verdict.accepted, verdict.reason


def _check(predictor, texts, replayed, epochs, rounds, learning_rate, tolerance) -> None:
    if predictor.task != "classification" or not predictor.reads_text or predictor.frame is None:
        raise BadInput(
            "the predictor is no encoder with classes: expected that of a run of experiments/bert_finetune.py"
        )
    if predictor.tokenizer.id_of("[MASK]") is None:
        raise BadInput("the tokenizer has no [MASK]; expected one of a BERT, or one trained here")
    text_inputs.check(texts, bool(predictor.pair_column))
    for name, some in (("texts", texts), ("replayed", replayed)):
        if not len(some):
            raise BadInput(f"{name} has no text: expected one or more")
    for name, value in (("epochs", epochs), ("rounds", rounds), ("learning_rate", learning_rate)):
        if not value > 0:
            raise BadInput(f"{name} is {value:g}: expected more than 0")
    if not 0 <= tolerance < 1:
        raise BadInput(f"tolerance is {tolerance:g}: expected 0 or more, and less than 1")


def _with_words(classifier: keras.Model, seed: int) -> keras.Model:
    """The encoder inside of a classifier with a head of masked words on it; the layers are the classifier's own."""
    blocks = [layer for layer in classifier.layers if isinstance(layer, Block)]
    last = classifier.get_layer("norm") if blocks[-1].norm_first else blocks[-1]
    output = last.output[0] if isinstance(last.output, (list, tuple)) else last.output
    words = encoder_heads.pretrainer(keras.Model(classifier.inputs, output))
    # As BERT starts, but by this seed and not by Keras' own, so that the same call gives the same copy.
    kernel = words.get_layer("mask_dense").kernel
    kernel.assign(np.random.default_rng(seed).normal(0.0, 0.02, kernel.shape))
    return words


def _warm(words: keras.Model, rules: masking.MaskingRules, batches: Batches, steps: int, seed: int) -> None:
    """Trains the head of masked words beneath the embedding's matrix, the encoder standing still."""
    if not steps:
        return
    for layer in words.layers:
        layer.trainable = layer.name in encoder_heads.HEAD
    _engine(words, functools.partial(_forward, rules=rules), ("masked",), _WARM_RATE, seed).train(batches, 0, steps)
    for layer in words.layers:
        layer.trainable = True


def _engine(words: keras.Model, forward: Callable, objective: tuple[str, ...], rate: float, seed: int) -> Engine:
    optimizer = optimizers.make("adam", schedules.make("constant", rate, decay_steps=1), None)
    # The copy was made under no other strategy.
    strategy, groups = tf.distribute.get_strategy(), optimizers.groups(words, optimizer)
    return Engine(strategy, words, forward, objective, groups, seed=seed, clip_norm=1.0, compile="islands")


def _forward(model, batch, training: bool, *, rules, classifier=None, replay_weight: float = 0.0) -> dict[str, Term]:
    """Cross-entropy of masked words, and of a classifier the divergence from the answers that it was taught."""
    hidden = masking.masked(batch["tokens"], rules)
    logits = model([hidden.tokens, batch["segments"], hidden.positions], training=training)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(hidden.labels, logits)
    found = {"masked": Term(loss, hidden.weights)}
    if classifier is not None:
        logits = classifier([batch["replayed"], batch["replayed_segments"]], training=training)
        logits = two_class_logits(logits)
        gap = tf.math.log(tf.maximum(batch["taught"], 1e-12)) - tf.nn.log_softmax(logits)
        divergence = tf.reduce_sum(batch["taught"] * gap, axis=-1)
        found |= {"replay": Term(divergence), "pull": Term(replay_weight * divergence)}
    return found


def _columns(predictor: TextClassifier, texts: Sequence[Example], replayed: Sequence[Example], seed: int) -> dict:
    """Rows of new texts, and beside each a replayed one with the source's answer."""
    draw = np.random.default_rng(seed)
    chosen = draw.choice(len(replayed), len(texts), replace=len(replayed) < len(texts))
    old = predictor.columns([replayed[place] for place in chosen.tolist()])
    taught = class_probabilities(predictor.logits([replayed[place] for place in chosen.tolist()]))
    return {
        **predictor.columns(texts),
        "replayed": old["tokens"],
        "replayed_segments": old.get("segments", np.zeros_like(old["tokens"])),
        "taught": taught.astype(np.float32),
    }


def _batches(columns: dict[str, np.ndarray], batch_size: int, seed: int) -> Batches:
    columns = dict(columns)
    lengths, tokens = columns.pop("length"), columns["tokens"]
    columns.setdefault("segments", np.zeros_like(tokens))
    # No wider than the longest: the position table may end there.
    widths = sorted({min(width, tokens.shape[1]) for width in bucketing.widths(lengths, most=_WIDTHS)})
    return Batches(columns, min(batch_size, len(tokens)), seed, lengths, widths, ("tokens", "segments"))


def _accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == labels).mean())
