"""Multi-label classification of tables: each example has any number of labels.

    python -m experiments.mlp_multilabel --dataset=films.csv --label_column=comedy,drama,crime
    python -m experiments.mlp_multilabel --dataset=films.csv --label_column=genres --label_separator="|"

The network is that of docs/tables.md with a sigmoid for each label (docs/multi_label.md). Metrics: `eval/` on the
validation split, `test/` on the test split, evaluated once at the end: F1 (micro and macro), subset accuracy, Hamming
loss, average precision and AUC with intervals, what needs no model beside them, and logistic regression and gradient
boosting for each label (`--nobaseline` turns these off).
"""

import dataclasses
import functools

import tensorflow as tf

import zoo
from zoo import Batches, Experiment, Term, setting
from zoo.data.datasets import label_sets
from zoo.data.splits import Splits
from zoo.errors import BadInput
from zoo.metrics import decisions, evaluation_report, label_comparison
from zoo.metrics.label_thresholds import LabelGoal
from zoo.models import r_drop, tabular
from zoo.names import escaped
from zoo.tensorboard import task_views
from zoo.terms import Output
from zoo.training import table_data, test_predictions
from zoo.training.regularization_flags import RDropFlags
from zoo.training.table_recipe import TableRecipe

# Numbers times labels up to which the start at logistic regression, and the baselines, take seconds.
_LINEAR_START, _QUICK = 20_000_000, 5_000_000


@dataclasses.dataclass(frozen=True)
class MultilabelConfig(RDropFlags, TableRecipe):
    """Config of the run and the network; what is unset is the recipe of docs/tables.md."""

    dataset: str = setting(
        "",
        "A table (.csv, .tsv, .parquet, .arrow, .xlsx, .jsonl; several: 'part-*.csv'), a .npz, or a folder of x.npy "
        "and y.npy; y is 0 or 1, [examples, labels].",
        alias="train_file",
    )
    label_column: str = setting(
        "label", "Columns with 1 or 0, one for each label, with commas between them; or one with --label_separator."
    )
    label_separator: str = setting("", "What stands between the labels in the cells of the one --label_column.")
    empty_is_none: bool = setting(
        False, "With --label_separator: an empty cell says that an example has no label, instead of being refused."
    )
    threshold_for: str = setting(
        "",
        "The probability from which on a label is predicted is tuned on the validation split, for each label, to "
        f"{decisions.METRICS}. Empty: 0.5, which makes the fewest errors.",
        may_change=True,
    )
    dropout: float = setting(0.3, "Dropout rate after each hidden layer.", minimum=0, less_than=1)
    baseline: bool | None = setting(
        None,
        "Also fit a logistic regression and a gradient boosting for each label to the same split, the latter where it "
        "takes half a minute at most. Unset: where numbers times labels are at most five million.",
        may_change=True,
    )


def forward(model, batch, training: bool, ensemble=None) -> dict[str, Term | Output]:
    """The mean cross-entropy of an example's labels, weighted by example.

    In training each member of an `ensemble` has its own loss, which keeps them different, and logits.
    """
    weight = batch.get("weight", 1.0)
    if training and ensemble is not None:
        logits = ensemble(batch["x"], training=True)  # [batch, members, labels]
        losses = tf.reduce_mean(_losses(logits, batch["y"][:, None]), axis=1)
    else:
        logits = model(batch["x"], training=training)  # [batch, labels]
        losses = _losses(logits, batch["y"])
    return {"loss": Term(losses, weight), "logits": Output(logits)}


def _losses(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Mean cross-entropies `[...]` of logits `[..., labels]`."""
    labels = tf.broadcast_to(labels, tf.shape(logits))
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits), axis=-1)


def build(config: MultilabelConfig) -> Experiment:
    """Loads the data and builds a network that fits it."""
    if not config.dataset:
        raise BadInput("--dataset is empty: expected a table of your own, or a .npz")
    if config.threshold_for:
        decisions.check_metric(config.threshold_for)
    labels = label_sets.from_flags(config.label_column, config.label_separator, config.empty_is_none)
    data = table_data.load(config, labels=labels)
    x = data.train["x"]
    if not table_data.is_table(x, data.scale):
        raise BadInput(f"--dataset={config.dataset} has x {x.dtype}{list(x.shape)}: expected float columns in memory")
    config = config.filled(batch_size=table_data.batch_size(len(x)))
    config = config.filled(
        **table_data.schedule(len(x), config.batch_size, config.steps),
        weight_decay=0.2,
        baseline=x.size * len(data.classes) <= _QUICK,
    )
    model, ensemble = _network(config, data)
    metrics = evaluation_report.multi_label(data.classes)
    comparison = label_comparison.of_tables(data, table_data.linear(data), metrics) if config.baseline else None
    return Experiment(
        model=model,
        forward=r_drop.regularized(functools.partial(forward, ensemble=ensemble), config.r_drop, r_drop.of_labels),
        objective=("loss", *r_drop.terms(config.r_drop)),
        train=Batches(data.train, config.batch_size, config.seed),
        evals={"eval": Batches(data.validation, config.batch_size)},
        tests={"test": Batches(data.test, config.batch_size)},
        visualize=task_views.multi_label(data.classes, _shown(data.features)),
        compute_metrics=comparison.compute_metrics if comparison else metrics,
        baseline=comparison.metrics if comparison else None,
        conclusion=comparison.conclusion if comparison else None,
        decision=LabelGoal(config.threshold_for) if config.threshold_for else None,
        predictions=test_predictions.of_labels(data.origins, data.classes),
        model_info={"task": "multi_label", "classes": list(data.classes)} | table_data.about(config, data),
        notes=(*data.notes, _about(data)),
        config=config,
    )


def _network(config: MultilabelConfig, data: Splits):
    """The model, which begins at a logistic regression of each label; and the same up to each member's logits."""
    encoding = table_data.encoding(data, config.bins)
    options = {"dropout": config.dropout, "norm": config.norm, "members": config.members}
    linear, x = None, data.train["x"]
    if x.size * len(data.classes) <= _LINEAR_START:
        encoded = table_data.encoded(data, encoding)
        linear = label_comparison.logistic_weights(encoded.train, encoded.validation)
    model = tabular.ensemble(encoding, x.shape[1], len(data.classes), config.hidden, linear=linear, **options)
    return model, tabular.member_logits(model)


def _about(data: Splits) -> str:
    """How many labels there are, and how many an example has."""
    y = data.train["y"]
    return f"{y.shape[1]} labels; a training example has {y.sum(axis=1).mean():.2g} of them on average"


def _shown(features):
    """Examples as texts, for TensorBoard."""

    def texts(columns, rows):
        names = features or [str(number) for number in range(columns["x"].shape[1])]
        return [", ".join(f"{escaped(name)}={value:.6g}" for name, value in zip(names, columns["x"][i])) for i in rows]

    return texts


if __name__ == "__main__":
    zoo.main(build, MultilabelConfig, workdir="runs/mlp_multilabel")
