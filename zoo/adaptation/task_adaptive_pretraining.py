"""Task-adaptive pretraining: a text classifier's encoder learns from new texts without labels, by masked words.

    source = held_out.load(workdir, predictor)
    adapted = adapt(predictor, texts, source, replay(workdir, predictor))
    adapted.predictor.probabilities(texts)

Masked language modelling of the new texts (Gururangan et al., "Don't stop pretraining", 2020, section 4) trains the
classifier's own encoder: an unsupervised task in addition to the supervised one, as in test-time training (Sun et al.,
2020). The classification head does not learn. So that it still fits, texts of the source domain are replayed, with the
source model's probabilities as targets (Li and Hoiem, "Learning without forgetting", 2016, section 3).

After each round two checks decide whether the change is kept: the accuracy on the run's labelled validation split, and
`zoo.adaptation.guards` on the new texts. A refused round is undone and ends the adaptation. The source model is never
touched.
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

# Learning rate of the masked-word head, which fine-tuning has discarded: it starts from random weights and first learns
# alone, at a rate that would ruin the encoder.
_WARM_RATE = 1e-3
# New texts that the guards compare: class frequencies are then known to a few hundredths.
_GUARDED = 400
# Widths of batches; each is compiled once.
_WIDTHS = 2
_SEQUENCES = ("tokens", "segments")


class EpochTrace(NamedTuple):
    """One round of the adaptation.

    Attributes:
        step: last step of the round.
        masked_loss: cross-entropy of the masked words of the new texts, in nats, mean of the round.
        replay_loss: KL divergence of the predictions on the source's texts from the source model's, in nats.
        accuracy: accuracy on the validation split.
        classes: effective number of classes predicted for the new texts (`guards.effective_classes`).
        accepted: whether the round is kept.
        reason: why, in words.
        seconds: time that the round took, checks included.
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
    """An adapted classifier.

    Attributes:
        predictor: a copy with the weights of the last round kept; with the source's weights if none was.
        trace: one entry per round that was tried.
    """

    predictor: TextClassifier
    trace: list[EpochTrace]

    @property
    def accepted(self) -> bool:
        """Whether any round was kept."""
        return any(entry.accepted for entry in self.trace)


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
    """Trains a copy of a classifier's encoder on masked words of unlabelled texts.

    Args:
        predictor: classifier of a run of `experiments/bert_finetune.py`.
        texts: new texts, or pairs of texts.
        source: validation split of the run; see `held_out.load`.
        replayed: texts of the run's training split; see `replay`. Their labels are not used.
        epochs: passes over the new texts, in all rounds together. One, as a text masked a second time teaches less.
        rounds: number of parts of the training, each followed by the checks.
        learning_rate: Adam's, constant; the smallest of BERT's fine-tuning rates, as the weights are nearly right.
        batch_size: new texts in a step; the same number of replayed texts is added.
        mask_rate: share of the tokens that are masked, as in BERT.
        replay_weight: weight of the replay loss; the masked-word loss has weight 1.
        warm_steps: steps that train the masked-word head alone on the replayed texts first, as fine-tuning discards it.
        tolerance: how far the accuracy on the validation split may fall in all; 0.01 is one standard error of a
            thousand examples at 0.9.
        seed: decides order, masks and the initial masked-word head.

    Raises:
        BadInput: the predictor has no encoder or no [MASK], there is no text, or an argument is out of range.
        NonFinite: the source model's output is not finite.
    """
    _check(predictor, texts, replayed, epochs, rounds, learning_rate, tolerance)
    work = copied(predictor)
    masked_lm = _with_masked_lm_head(work.model, seed)
    rules = masking.MaskingRules(
        predictor.tokenizer.id_of("[MASK]"), predictor.frame, predictor.tokenizer.vocabulary_size, mask_rate
    )
    # Behind the first tokens, an encoder with n-grams beside it reads nothing.
    longest = work.model.get_layer("embedding").first or predictor.max_length
    _train_head(masked_lm, rules, _batches(predictor.columns(replayed), longest, batch_size, seed), warm_steps, seed)
    batches = _batches(_columns(predictor, texts, replayed, seed), longest, batch_size, seed)
    _freeze_all_but(work.model, masked_lm)
    forward = functools.partial(_forward, rules=rules, classifier=work.model, replay_weight=replay_weight)
    engine = _engine(masked_lm, forward, ("masked", "pull"), learning_rate, seed)
    total = max(1, round(epochs * batches.steps_per_epoch))
    edges = np.unique(np.linspace(0, total, rounds + 1).round().astype(int)).tolist()
    check_round = _RoundCheck(predictor, work, texts, source, tolerance, seed)
    kept, trace = work.model.get_weights(), []
    for first, last in itertools.pairwise(edges):
        start = time.perf_counter()
        metrics = means(engine.train(batches, first, last - first))
        accuracy, classes, accepted, reason = check_round()
        losses = metrics["masked"], metrics["replay"]
        trace.append(EpochTrace(last, *losses, accuracy, classes, accepted, reason, time.perf_counter() - start))
        if not accepted:
            break
        kept = work.model.get_weights()
    adapted = copied(predictor)
    adapted.model.set_weights(kept)
    return Adapted(adapted, trace)


def replay(workdir: str | Path, predictor: TextClassifier, most: int = 5000, seed: int = 0) -> list[Example]:
    """Texts of a run's training split for `adapt`: all of them, or `most` drawn at random.

    Raises:
        BadInput: the run's data set cannot be read any more.
    """
    examples = run_data.as_examples(predictor, run_data.run_texts(read_run(workdir), more=False).train)
    chosen = np.random.default_rng(seed).permutation(len(examples))[:most]
    return [examples[index] for index in chosen.tolist()]


def _freeze_all_but(classifier: keras.Model, trained: keras.Model) -> None:
    """Freezes what the classifier has for itself, its head: the replay loss reads it and does not train it."""
    shared = {id(variable) for variable in trained.variables}
    for variable in classifier.variables:
        if id(variable) not in shared:
            variable.trainable = False


class _RoundCheck:
    """Decides whether the working copy is kept: accuracy, effective classes, accepted, reason."""

    def __init__(self, predictor, work, texts, source, tolerance, seed):
        self._work, self._source, self._guards = work, source, guards.Guards(source)
        chosen = np.random.default_rng(seed).permutation(len(texts))[:_GUARDED]
        self._texts = [texts[index] for index in chosen.tolist()]
        self._before = two_class_logits(predictor.logits(self._texts))
        self._least = _accuracy(source.logits, source.labels) - tolerance

    def __call__(self) -> tuple[float, float, bool, str]:
        logits = two_class_logits(self._work.logits(self._source.examples))
        after, accuracy = two_class_logits(self._work.logits(self._texts)), _accuracy(logits, self._source.labels)
        if accuracy < self._least:
            reason = f"accuracy on the validation split falls to {accuracy:.4f}, expected {self._least:.4f} or more"
            return accuracy, guards.effective_classes(after), False, reason
        # No limit on the score: predictions need not look like the source's to be better.
        verdict = self._guards.judge(self._before, after)
        return accuracy, guards.effective_classes(after), verdict.accepted, verdict.reason


def _check(predictor, texts, replayed, epochs, rounds, learning_rate, tolerance) -> None:
    if predictor.task != "classification" or not predictor.reads_text or predictor.frame is None:
        raise BadInput(
            "the predictor is not an encoder with classes: expected that of a run of experiments/bert_finetune.py"
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


def _with_masked_lm_head(classifier: keras.Model, seed: int) -> keras.Model:
    """A classifier's encoder with a masked-word head; they share the encoder's layers."""
    blocks = [layer for layer in classifier.layers if isinstance(layer, Block)]
    last = classifier.get_layer("norm") if blocks[-1].norm_first else blocks[-1]
    output = last.output[0] if isinstance(last.output, (list, tuple)) else last.output
    masked_lm = encoder_heads.pretrainer(keras.Model(classifier.inputs, output))
    # Initialised as in BERT, but from this seed instead of Keras' own, so that the same call gives the same copy.
    kernel = masked_lm.get_layer("mask_dense").kernel
    kernel.assign(np.random.default_rng(seed).normal(0.0, 0.02, kernel.shape))
    return masked_lm


def _train_head(masked_lm: keras.Model, rules: masking.MaskingRules, batches: Batches, steps: int, seed: int) -> None:
    """Trains the masked-word head, with the encoder frozen."""
    if not steps:
        return
    for layer in masked_lm.layers:
        layer.trainable = layer.name in encoder_heads.HEAD
    forward = functools.partial(_forward, rules=rules)
    _engine(masked_lm, forward, ("masked",), _WARM_RATE, seed).train(batches, 0, steps)
    for layer in masked_lm.layers:
        layer.trainable = True


def _engine(masked_lm: keras.Model, forward: Callable, objective: tuple[str, ...], rate: float, seed: int) -> Engine:
    optimizer = optimizers.make("adam", schedules.make("constant", rate, decay_steps=1), None)
    # The copy was made under this strategy.
    strategy, groups = tf.distribute.get_strategy(), optimizers.groups(masked_lm, optimizer)
    return Engine(strategy, masked_lm, forward, objective, groups, seed=seed, clip_norm=1.0, compile="islands")


def _forward(model, batch, training: bool, *, rules, classifier=None, replay_weight: float = 0.0) -> dict[str, Term]:
    """Cross-entropy of masked words, and with a classifier the KL divergence from the source model's probabilities."""
    masked = masking.masked(batch["tokens"], rules)
    logits = model([masked.tokens, batch["segments"], masked.positions], training=training)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(masked.labels, logits)
    terms = {"masked": Term(loss, masked.weights)}
    if classifier is not None:
        logits = classifier([batch["replayed"], batch["replayed_segments"]], training=training)
        logits = two_class_logits(logits)
        gap = tf.math.log(tf.maximum(batch["taught"], 1e-12)) - tf.nn.log_softmax(logits)
        divergence = tf.reduce_sum(batch["taught"] * gap, axis=-1)
        terms |= {"replay": Term(divergence), "pull": Term(replay_weight * divergence)}
    return terms


def _columns(predictor: TextClassifier, texts: Sequence[Example], replayed: Sequence[Example], seed: int) -> dict:
    """Rows of new texts, each with a replayed text and the source model's probabilities of its classes."""
    draw = np.random.default_rng(seed)
    chosen = draw.choice(len(replayed), len(texts), replace=len(replayed) < len(texts))
    drawn = [replayed[index] for index in chosen.tolist()]
    old, taught = predictor.columns(drawn), class_probabilities(predictor.logits(drawn))
    return {
        **predictor.columns(texts),
        "replayed": old["tokens"],
        "replayed_segments": old.get("segments", np.zeros_like(old["tokens"])),
        "taught": taught.astype(np.float32),
    }


def _batches(columns: dict[str, np.ndarray], longest: int, batch_size: int, seed: int) -> Batches:
    columns = {name: each[:, :longest] if name in _SEQUENCES else each for name, each in columns.items()}
    lengths, tokens = np.minimum(columns.pop("length"), longest), columns["tokens"]
    columns.setdefault("segments", np.zeros_like(tokens))
    # No wider than the longest text: the position table may end there.
    widths = sorted({min(width, tokens.shape[1]) for width in bucketing.widths(lengths, most=_WIDTHS)})
    return Batches(columns, min(batch_size, len(tokens)), seed, lengths, widths, _SEQUENCES)


def _accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == labels).mean())
