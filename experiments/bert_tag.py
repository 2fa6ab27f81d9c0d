"""Token classification by a Transformer encoder: named entities, parts of speech, or tags of your own.

    python -m experiments.bert_tag                                          # names in the People's Daily, 1998
    python -m experiments.bert_tag --dataset=people_daily/pos               # its 44 parts of speech
    python -m experiments.bert_tag --train_file=train.conll --eval_file=dev.conll --test_file=test.conll \
        --init_from=minilm --learning_rate=1e-4

The tag of a word is predicted at its first piece (Devlin et al., "BERT", 2019, section 5.3). Metrics are those of whole
entities, as in seqeval, over all words: a sentence longer than --context is read in several rows. `eval/` is on the
validation split, `test/` on the test split, once at the end; `--baseline` adds logistic regression over each word and
its neighbours.

Test split, mean of three seeds with its 95 % interval:

    entity F1 43.2 +- 2.2 %, linear 10.0 %, five minutes a seed: names in tweets (WNUT-17), MiniLM
        --train_file=wnut17train.conll --eval_file=emerging.dev.conll --test_file=emerging.test.annotated
        --init_from=minilm --learning_rate=1e-4 --epochs=6 --metric=f1 --export=best --context=64 --precision=bfloat16
    accuracy 93.54 +- 0.06 %, linear 94.2 %, six minutes a seed: parts of speech, 2 layers from scratch
        --dataset=people_daily/pos --preset=tiny --norm_first --tokenizer=bpe --vocabulary=20000 --precision=bfloat16
        --recipe=plain --epochs=6 --learning_rate=1e-3
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import zoo
from zoo import Experiment, Term, setting
from zoo import workdir as folders
from zoo.data.batches import bucketed
from zoo.data.datasets import tagging
from zoo.data.text import encoding, special_tokens, word_alignment, word_features, word_splitting
from zoo.experiment import TunedShare
from zoo.metrics import entities, linear_baselines
from zoo.metrics.logits import cross_entropies
from zoo.models import encoder_heads, logits_mixture, r_drop
from zoo.tensorboard import feature_vectors, task_views
from zoo.terms import Output
from zoo.training import encoder_config, word_fit
from zoo.training.encoder_config import EncoderConfig
from zoo.training.regularization_flags import RDropFlags

# Steps that a network of few sentences is trained for, and the most epochs. With 1,350 sentences of the People's Daily
# the validation F1 of --preset=tiny was 6 % after 3 epochs (129 steps) and 14 % after 9, and still rose; the loss too.
_MIN_STEPS, _MAX_EPOCHS = 1000, 30.0
# Steps beside the features of words: with 1,350 sentences the validation F1 was best after 5 epochs (220 steps).
_MIN_STEPS_BESIDE = 400
# Weight of the encoder's logits beside those of the features of words, until one is chosen at the end. With 1,350 and
# 3,000 sentences entities were found best with 0.1 to 0.3, in tweets with more, parts of speech with 0.7 to 1
# (validation sentences).
_SHARES = {tagging.IOB2: 0.25, tagging.PLAIN: 0.75}
# Most training words for which the linear model is a default: 63,000 took 4 s of two cores, a run a minute or more.
_BASELINE_WORDS = 100_000
# Most training words for which the features of words are: 27 numbers of a word, and passes over them on one core.
_LINEAR_WORDS = 300_000


@dataclasses.dataclass(frozen=True)
class TagConfig(RDropFlags, EncoderConfig):
    """Config of the run, the encoder and the sentences."""

    recipe: str = setting(
        "auto",
        "Values of --epochs, --metric, --export, --word_features and --baseline that are unset. plain: 3 epochs as in "
        "BERT, the last weights, an encoder alone, no baseline. auto: more epochs for few sentences, the best weights "
        "by F1 (accuracy for tags without entities) on the validation sentences, a baseline where it is cheap, and the "
        "features of words where it is and the encoder is new.",
        choices=("auto", "plain"),
        before="plain",
    )
    epochs: float | None = setting(
        None, "Passes over the training data. 0: from --steps. Unset: from --recipe.", minimum=0, may_change=True
    )
    metric: str | None = setting(None, "Evaluation metric that decides which weights are best. Unset: from --recipe.")
    export: str | None = setting(
        None,
        "Weights in model.keras: those of the last step, or the best by --metric; auto: the best if --patience is set. "
        "Unset: from --recipe.",
        choices=("auto", "last", "best"),
        may_change=True,
    )
    learning_rate: float | None = setting(
        None, "Peak rate. Unset: 0.0005, from scratch; pretrained weights need a fifth of it.", minimum=0, unset=5e-4
    )
    dataset: str = setting("people_daily/names", f"One of {', '.join(tagging.NAMES)}; see --train_file for your own.")
    train_file: str = setting("", "Your own file in CoNLL format instead of --dataset.")
    eval_file: str = setting("", "Validation sentences for --train_file. Empty: a tenth of its sentences.")
    test_file: str = setting("", "Test sentences for --train_file. Empty: a tenth of its sentences.")
    token_column: int = setting(1, "Column of the words in the files, 1 for the first, -1 for the last.")
    tag_column: int = setting(-1, "Column of the tags in the files.")
    fix_tags: bool = setting(
        False, "Accept entity tags that break their scheme, as CoNLL's script reads them; they are counted."
    )
    word_features: bool | None = setting(
        None,
        "Add the logits of a linear tagger, of the features of a word and its neighbours, to the encoder's, which "
        "learns what that lacks. Unset: from --recipe.",
        before=False,
    )
    baseline: bool | None = setting(
        None, "Also fit logistic regression over each word and its neighbours. Unset: from --recipe.", may_change=True
    )


class Part(NamedTuple):
    """A split.

    Attributes:
        aligned: rows of tokens and tags; a sentence that is longer than a row has several.
        owners: int32 `[rows]`, the sentence of each row.
        sentences: the sentences.
        rows: words and tags of each row.
    """

    aligned: word_alignment.Aligned
    owners: np.ndarray
    sentences: tagging.Sentences
    rows: tagging.Sentences


def forward(model, batch, training: bool, alone=None) -> dict[str, Term | Output]:
    """Cross-entropy and accuracy over the first pieces of words.

    With `alone`, the encoder without the word logits, it learns beside those of held-out words (the column `linear`):
    beside logits that have learned from the same words it would learn nothing. Its share is chosen by the evaluation's
    logits.
    """
    tags = batch["tags"]
    if training and alone is not None:
        logits = alone(_inputs(batch), training=True) + batch["linear"]
    else:
        logits = model(_inputs(batch), training=training)
    real = tf.cast(tags != word_alignment.IGNORED, tf.float32)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(tags, 0), logits)
    predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
    accuracy = tf.cast(tf.equal(predicted, tags), tf.float32)
    terms = {"loss": Term(loss, real), "piece_accuracy": Term(accuracy, real), "predicted": Output(predicted)}
    return {**terms, "logits": Output(logits)} if training or alone is not None else terms


def _inputs(batch):
    features = [batch["features"]] if "features" in batch else []
    return [batch["tokens"], tf.zeros_like(batch["tokens"]), *features]


def build(config: TagConfig) -> Experiment:
    """Loads and tokenizes the sentences, and builds an encoder with a head."""
    origin = encoder_config.read_origin(config)
    flags = ("train_file", "eval_file", "test_file", "token_column", "tag_column", "fix_tags")
    dataset = tagging.load(config.dataset, **{name: getattr(config, name) for name in flags})
    config = config.filled(**recipe_values(config, dataset))
    notes, cache = list(dataset.notes), encoding.cache_folder()
    tokenizer = encoder_config.load_tokenizer(
        config, origin, [" ".join(words) for words in dataset.train.words], cache, notes
    )
    shape = encoder_config.network_shape(config, origin, tokenizer)
    splits = {"train": dataset.train, "eval": dataset.validation, "test": dataset.test}
    parts = {name: _part(config, split, dataset.tags, tokenizer) for name, split in splits.items()}
    linear = None
    if config.word_features:
        linear = word_fit.fit(*parts["train"].rows, dataset.tags, dataset.scheme, cache, notes)
    model = encoder_heads.tagger(
        encoder_config.make_encoder(config, origin, shape, notes),
        len(dataset.tags),
        dropout=config.dropout,
        words=linear and linear.layer(),
        share=_SHARES[dataset.scheme],
    )
    notes += [f"{part.aligned.lost} words of {name} have no token" for name, part in parts.items() if part.aligned.lost]
    by_sentence = _by_sentence([parts["eval"], parts["test"]], dataset.tags)
    # Column "sentence": the row's position among the rows of eval and test together.
    first = {"train": 0, "eval": 0, "test": len(parts["eval"].owners)}
    batches = {
        name: bucketed(
            part.aligned.columns
            | {"sentence": first[name] + np.arange(len(part.owners), dtype=np.int32)}
            | _word_columns(part, linear, name == "train"),
            config.batch_size,
            config.seed if name == "train" else None,
        )
        for name, part in parts.items()
    }
    info = {"task": "tagging", "tags": list(dataset.tags), "scheme": dataset.scheme} | _words_of(config, dataset, notes)
    initialization = encoder_config.initialization(config, origin, model)
    if linear:
        # Those of an earlier run belong to other sentences.
        initialization["reinitialize"] = [*initialization.get("reinitialize", ()), "word_logits"]
    return Experiment(
        model=model,
        forward=r_drop.regularized(
            functools.partial(forward, alone=encoder_heads.without_words(model) if linear else None), config.r_drop
        ),
        objective=("loss", *r_drop.terms(config.r_drop)),
        train=batches["train"],
        evals={"eval": batches["eval"]},
        tests={"test": batches["test"]},
        compute_metrics=_entity_metrics(by_sentence, dataset.scheme),
        visualize=task_views.tagger(dataset.tags, word_alignment.IGNORED, tokenizer.tokens),
        projector_points=feature_vectors.of_tags(
            model, batches["eval"].columns, dataset.tags, word_alignment.IGNORED, _inputs, tokenizer.tokens
        ),
        head=encoder_heads.HEAD,
        compile="islands",
        tuned=_tuned_share(model, by_sentence, dataset.scheme) if linear else None,
        model_info=encoder_config.model_info(config, origin, shape, tokenizer) | info,
        files={folders.TOKENIZER: tokenizer.to_json()},
        baseline=(lambda: linear_baselines.tags(dataset)) if config.baseline else None,
        conclusion=functools.partial(conclusion, config, dataset) if config.baseline else None,
        config=config,
        notes=notes,
        **initialization,
    )


def recipe_values(config: TagConfig, dataset: tagging.TaggingDataset) -> dict[str, Any]:
    """Values for the flags that are unset: see --recipe."""
    if config.recipe == "plain":
        return {"epochs": 3.0, "metric": "loss", "export": "auto", "word_features": False, "baseline": False}
    sentences, words = len(dataset.train.words), sum(map(len, dataset.train.words))
    # A pretrained encoder is the better of the two: see the results above.
    has_features = words <= _LINEAR_WORDS and not config.init_from
    has_features = has_features if config.word_features is None else config.word_features
    steps = _MIN_STEPS_BESIDE if has_features else _MIN_STEPS
    epochs = min(max(steps * config.batch_size / sentences, 3.0), _MAX_EPOCHS)
    metric = "f1" if dataset.scheme == tagging.IOB2 else "accuracy"
    values = {"epochs": float(round(epochs)), "metric": metric, "export": "best"}
    return values | {"word_features": has_features, "baseline": words <= _BASELINE_WORDS}


def conclusion(config: TagConfig, dataset: tagging.TaggingDataset, result: Mapping[str, float]) -> list[str]:
    """Says which of network and linear model is better on the test split, and what helps a network that is not."""
    name, shown = ("f1", "entity F1") if dataset.scheme == tagging.IOB2 else ("accuracy", "accuracy")
    own, linear = result[f"test/{name}"], result[f"test/baseline_{name}"]
    between = f"{shown} on the test sentences: {own:.1%} for this network, {linear:.1%} for the linear model"
    if own > linear:
        return [between]
    ways = ["more training sentences", "the linear model itself"]
    if not config.init_from:
        # All-MiniLM-L6-v2 has read English alone.
        ways.insert(0, "a pretrained encoder (--init_from=minilm for English, or the folder of a BERT)")
    few = f"{len(dataset.train.words):,} training sentences are too few for this network. Better: {', '.join(ways)}"
    return [between, few]


def _part(config: TagConfig, split: tagging.Sentences, tags: Sequence[str], tokenizer) -> Part:
    rows_of = word_alignment.split_rows(split.words, tokenizer, config.context - 2)
    owners = np.repeat(np.arange(len(rows_of), dtype=np.int32), list(map(len, rows_of)))
    words = [row for rows in rows_of for row in rows]
    rest = [iter(each) for each in split.tags]
    row_tags = [list(itertools.islice(rest[owner], len(row))) for owner, row in zip(owners, words)]
    frame = tuple(special_tokens.from_tokenizer(tokenizer))
    aligned = word_alignment.aligned(words, row_tags, tags, tokenizer, config.context, frame)
    return Part(aligned, owners, split, tagging.Sentences(words, row_tags))


def _word_columns(part: Part, linear: word_fit.WordWeights | None, is_train: bool) -> dict[str, np.ndarray]:
    """Held-out logits of the linear tagger for the training, and the features of words for its evaluation."""
    if linear is None:
        return {}
    positions, width = part.aligned.positions, part.aligned.columns["tokens"].shape[1]
    if is_train:
        return {"linear": word_features.placed(linear.held_out, positions, width)}
    return {"features": word_features.column(part.rows.words, positions, width, len(linear.table))}


def _words_of(config: TagConfig, dataset: tagging.TaggingDataset, notes: list[str]) -> dict[str, Any]:
    """How `zoo predict` splits a text into words, for model.json: as the training sentences were split."""
    if not config.train_file:
        return {"words": "characters" if config.dataset == tagging.NAMES[0] else "spaces"}
    if word_splitting.are_characters(dataset.train.words):
        return {"words": "characters"}
    rule = word_splitting.learned(dataset.train.words)
    share = word_splitting.kept_whole(dataset.train.words, rule)
    notes.append(f"zoo predict splits texts into words as the training words are split: {share:.1%} of its sentences")
    return {"words": "learned", "word_rule": word_splitting.as_json(rule)}


def _by_sentence(parts: Sequence[Part], tags: Sequence[str]):
    """Returns a function from predictions `[rows, time]` and their columns to true and predicted tags of sentences."""
    positions = [row for part in parts for row in part.aligned.positions]
    true = [sentence for part in parts for sentence in part.sentences.tags]
    starts = np.cumsum([0, *(len(part.sentences.words) for part in parts)])
    owners = np.concatenate([part.owners + start for part, start in zip(parts, starts)]).tolist()

    def by_sentence(ids: np.ndarray, columns) -> tuple[list[Sequence[str]], list[Sequence[str]]]:
        rows = columns["sentence"]
        by_row = word_alignment.by_word(ids, [positions[row] for row in rows], tags)
        predicted: dict[int, list[str]] = {}
        for index in np.argsort(rows).tolist():
            predicted.setdefault(owners[rows[index]], []).extend(by_row[index])
        return [true[sentence] for sentence in predicted], list(predicted.values())

    return by_sentence


def _entity_metrics(by_sentence, scheme: str):
    """Returns a `compute_metrics` over whole sentences; the predictions are rows of tokens."""

    def compute_metrics(means, outputs, columns, final: bool) -> dict[str, float]:
        return entities.evaluate(*by_sentence(outputs["predicted"], columns), scheme, final)

    return compute_metrics


def _tuned_share(model: keras.Model, by_sentence, scheme: str) -> TunedShare:
    """The encoder's share: by F1 for entities, for which the logit of O is lowered, else by the cross-entropy."""
    layer = model.get_layer(logits_mixture.LAYER)
    if scheme == tagging.IOB2:

        def losses(logits, columns) -> np.ndarray:
            return 1 - entities.f1_by_sentence(*by_sentence(logits.argmax(axis=-1), columns), scheme)

        return TunedShare(layer, losses, "1 - F1")
    return TunedShare(layer, _row_losses)


def _row_losses(logits: np.ndarray, columns) -> np.ndarray:
    """The cross-entropy of each row's words, over the mean number of words."""
    tags = columns["tags"][:, : logits.shape[1]]
    is_word = tags != word_alignment.IGNORED
    return np.sum(cross_entropies(logits, np.maximum(tags, 0)) * is_word, axis=1) / is_word.sum(axis=1).mean()


if __name__ == "__main__":
    zoo.main(build, TagConfig, workdir="runs/bert_tag")
