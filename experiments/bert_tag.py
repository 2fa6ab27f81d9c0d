"""Tags of words by a Transformer encoder: names of persons, places and organisations, parts of speech, or your own.

    python -m experiments.bert_tag                                          # names in the People's Daily, 1998
    python -m experiments.bert_tag --dataset=people_daily/pos               # its 44 parts of speech
    python -m experiments.bert_tag --train_file=train.conll --eval_file=dev.conll --test_file=test.conll \
        --init_from=minilm --learning_rate=1e-4

A word's tag stands at its first piece (Devlin et al., "BERT", 2019, section 5.3). Metrics are those of whole entities,
as seqeval's, over all words: what was cut off counts as wrong. `eval/` is the validation split, `test/` is read once at
the end; `--baseline` adds logistic regression over each word and its neighbours.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import zoo
from experiments import encoders
from experiments.bert_finetune import bucketed
from experiments.encoders import EncoderConfig
from zoo import Experiment, Term, setting
from zoo import workdir as folders
from zoo.data.datasets import tagging
from zoo.data.text import encoding, special_tokens, word_alignment
from zoo.metrics import entities, linear_baselines
from zoo.models import encoder_heads
from zoo.tensorboard import feature_vectors, task_views
from zoo.terms import Output


@dataclasses.dataclass(frozen=True)
class TagConfig(EncoderConfig):
    """The run's config, the encoder's and the sentences'."""

    epochs: float = setting(
        3.0, "Passes over the training data, as in BERT. 0: from --steps.", minimum=0, may_change=True
    )
    learning_rate: float = setting(5e-4, "Peak rate: from scratch; pretrained weights want a fifth of it.", minimum=0)
    dataset: str = setting("people_daily/names", f"One of {', '.join(tagging.NAMES)}; see --train_file for your own.")
    train_file: str = setting("", "Your own file in CoNLL format in the place of --dataset.")
    eval_file: str = setting("", "Validation sentences for --train_file. Empty: a tenth of it.")
    test_file: str = setting("", "Test sentences for --train_file. Empty: a tenth of it.")
    token_column: int = setting(1, "Of the files: the words' column, 1 for the first, -1 for the last.")
    tag_column: int = setting(-1, "Of the files: the tags' column.")
    baseline: bool = setting(False, "Also fit logistic regression over each word and its neighbours.", may_change=True)


class Part(NamedTuple):
    """A split as rows of tokens, and its sentences."""

    aligned: word_alignment.Aligned
    sentences: tagging.Sentences


def forward(model, batch, training: bool) -> dict[str, Term | Output]:
    """Cross-entropy and accuracy over the first pieces of words."""
    tags = batch["tags"]
    logits = model(_inputs(batch), training=training)
    real = tf.cast(tags != word_alignment.IGNORED, tf.float32)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(tags, 0), logits)
    predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
    accuracy = tf.cast(tf.equal(predicted, tags), tf.float32)
    return {"loss": Term(loss, real), "piece_accuracy": Term(accuracy, real), "predicted": Output(predicted)}


def _inputs(batch):
    return [batch["tokens"], tf.zeros_like(batch["tokens"])]


def build(config: TagConfig) -> Experiment:
    """The sentences, their tokens, an encoder with a head, and the task."""
    begun = encoders.start(config)
    same = ("train_file", "eval_file", "test_file", "token_column", "tag_column")
    found = tagging.load(config.dataset, **{name: getattr(config, name) for name in same})
    notes, cache = list(found.notes), encoding.cache_folder()
    known = encoders.words(config, begun, [" ".join(words) for words in found.train.words], cache, notes)
    shape = encoders.shape(config, begun, known)
    model = encoder_heads.tagger(encoders.encoder(config, begun, shape, notes), len(found.tags), dropout=config.dropout)
    splits = {"train": found.train, "eval": found.validation, "test": found.test}
    parts = {name: _part(config, split, found.tags, known) for name, split in splits.items()}
    notes += [f"{part.aligned.lost} words of {name} have no token" for name, part in parts.items() if part.aligned.lost]
    judged = [parts["eval"], parts["test"]]
    # A row says which sentence it is, of those of both splits.
    first = {"train": 0, "eval": 0, "test": len(parts["eval"].sentences.words)}
    batches = {
        name: bucketed(
            part.aligned.columns | {"sentence": first[name] + np.arange(len(part.sentences.words), dtype=np.int32)},
            config.batch_size,
            config.seed if name == "train" else None,
        )
        for name, part in parts.items()
    }
    about = {"task": "tagging", "tags": list(found.tags), "scheme": found.scheme, "words": _words_of(config)}
    return Experiment(
        model=model,
        forward=forward,
        train=batches["train"],
        evals={"eval": batches["eval"]},
        tests={"test": batches["test"]},
        compute_metrics=_judge(judged, found.tags, found.scheme),
        visualize=task_views.tagger(found.tags, word_alignment.IGNORED, known.tokens),
        projector_points=feature_vectors.of_tags(
            model, batches["eval"].columns, found.tags, word_alignment.IGNORED, _inputs, known.tokens
        ),
        head=encoder_heads.HEAD,
        compile="islands",
        model_info=encoders.about(config, begun, shape, known) | about,
        files={folders.TOKENIZER: known.to_json()},
        baseline=(lambda: linear_baselines.tags(found)) if config.baseline else None,
        notes=notes,
        **encoders.starts(config, begun, model),
    )


def _part(config: TagConfig, split: tagging.Sentences, tags: Sequence[str], known) -> Part:
    rows = word_alignment.aligned(
        split.words, split.tags, tags, known, config.context, tuple(special_tokens.from_tokenizer(known))
    )
    return Part(rows, split)


def _words_of(config: TagConfig) -> str:
    """How `zoo predict` finds the words of a text: as those of the training sentences were cut."""
    if config.train_file:
        return "signs"
    return "characters" if config.dataset == tagging.NAMES[0] else "spaces"


def _judge(parts: Sequence[Part], tags: Sequence[str], scheme: str):
    """Judges the tags of whole sentences, from the predictions at their rows."""
    places = [each for part in parts for each in part.aligned.positions]
    true = [each for part in parts for each in part.sentences.tags]

    def judge(means, outputs, columns, final: bool) -> dict[str, float]:
        rows = columns["sentence"]
        predicted = word_alignment.by_word(outputs["predicted"], [places[row] for row in rows], tags)
        return entities.evaluate([true[row] for row in rows], predicted, scheme, final)

    return judge


if __name__ == "__main__":
    zoo.main(build, TagConfig, workdir="runs/bert_tag")
