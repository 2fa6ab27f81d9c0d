"""Multi-layer perceptron on images or tables of numbers.

    python -m experiments.mlp_classifier                                   # 4,000 MNIST digits that pip brings
    python -m experiments.mlp_classifier --dataset=table.csv --label_column=species

Metrics: `eval/` on the validation split, `test/` on the test split, evaluated once at the end; `--baseline` adds
logistic regression on the same split, and gradient boosting for tables.

Test accuracy, mean of seeds 0, 1, 2 with its 95 % interval; one to two minutes a seed on two cores; with
`--hidden=512,512 --norm=batch --label_smoothing=0.1 --optimizer=adamw --schedule=cosine --epochs=40`:

    --dataset=mnist --dropout=0.3            98.76 +- 0.11 %
    --dataset=fashion_mnist --dropout=0.4    90.55 +- 0.24 %
"""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

import zoo
from zoo import Batches, Experiment, Term, files, setting
from zoo.config import SCHEDULES
from zoo.data import class_balance
from zoo.data.datasets import extra_examples, image_folders, images
from zoo.data.splits import Splits
from zoo.errors import BadInput
from zoo.metrics import evaluation_report, linear_baselines
from zoo.metrics.class_comparison import ClassComparison
from zoo.models import class_imbalance, mlp, r_drop, tabular
from zoo.models.class_imbalance import ClassImbalance
from zoo.tensorboard import feature_vectors, task_views
from zoo.terms import Output
from zoo.training import table_data, test_predictions
from zoo.training.classifier_config import ClassifierFlags, ImageFlags
from zoo.training.regularization_flags import RDropFlags
from zoo.training.table_data import TableConfig

# Numbers of a table up to which the baselines take less time than the run.
_QUICK = 1_000_000
# Numbers up to which the start at logistic regression takes seconds.
_LINEAR_START = 5_000_000


@dataclasses.dataclass(frozen=True)
class MlpConfig(RDropFlags, ClassifierFlags, ImageFlags, TableConfig):
    """Config of the run and the network."""

    recipe: str = setting(
        "auto",
        "What the flags that are unset mean. plain: the network of Keras' first example; table: an ensemble for tables "
        "(docs/tables.md); auto: table for examples of float columns, else plain.",
        choices=("auto", "plain", "table"),
        before="plain",
    )
    epochs: float | None = setting(
        None,
        "Passes over the training data. 0: from --steps. Unset: 30 (plain), which let 4,000 digits converge; table: "
        "600 to 4,000 steps.",
        minimum=0,
        may_change=True,
    )
    batch_size: int | None = setting(
        None,
        "Examples per step, over all devices. Unset: 128, common for small models; table: fewer for small tables.",
        minimum=1,
    )
    optimizer: str | None = setting(None, "Unset: adam, which needs the least tuning; table: adamw.")
    learning_rate: float | None = setting(None, "Peak rate. Unset: 0.001, Adam's own default; table: 0.002.", minimum=0)
    schedule: str | None = setting(
        None, "Learning-rate schedule after the warm-up. Unset: constant; table: cosine.", choices=SCHEDULES
    )
    warmup_fraction: float | None = setting(
        None,
        "Fraction of the schedule's steps that warm up, unless --warmup_steps is set. Unset: 0; table: 0.05.",
        minimum=0,
        less_than=1,
    )
    metric: str | None = setting(
        None,
        "Evaluation metric that decides which weights are best. Unset: loss; table: brier, which few confident "
        "errors do not decide; with --imbalance: f1_macro.",
    )
    patience: int | None = setting(
        None,
        "Evaluations without a better --metric before the run stops early; 0: never. Unset: 0; table: 15.",
        minimum=0,
        may_change=True,
    )
    eval_every: int | None = setting(
        None,
        "Steps between two evaluations. 0: every epoch. Unset: 0; table: sixty evaluations a run.",
        minimum=0,
        may_change=True,
    )
    dataset: str = setting(
        "mnist_5k",
        f"One of {', '.join(images.NAMES)}, a table (.csv, .tsv, .parquet, .arrow, .xlsx, .jsonl; several: "
        "'part-*.csv'), a .npz, a folder of class folders with images, or a folder of x.npy and y.npy.",
        alias="train_file",
    )
    more_file: str = setting(
        "", "A .npz with x, y and perhaps weight, added to the training split only; `zoo feedback` writes one."
    )
    hidden: tuple[int, ...] | None = setting(
        None, "Widths of the hidden layers. Unset: 64,64; 784-64-64-10 is Keras' own first example.", minimum=1
    )
    members: int | None = setting(
        None, "Networks side by side, whose mean answers. Unset: 1; table: 8.", minimum=1, before=1
    )
    bins: int | None = setting(
        None, "Pieces of a column's encoding between quantiles. Unset: 0; table: 8.", minimum=0, maximum=256, before=0
    )
    dropout: float | None = setting(
        None,
        "Dropout rate after each hidden layer. Unset: 0, as the plain network is small; table: 0.3.",
        minimum=0,
        less_than=1,
    )
    norm: str = setting("none", "Normalisation before each activation.", choices=mlp.NORMS)
    label_smoothing: float | None = setting(
        None,
        "Share of the target spread over all classes (Szegedy et al., 2016). Unset: 0; table: 0.1.",
        minimum=0,
        less_than=1,
    )
    baseline: bool | None = setting(
        None,
        "Also fit logistic regression to the same split, and gradient boosting where it takes half a minute at most; "
        "minutes on MNIST, without boosting. Unset: for tables of up to a million numbers.",
        may_change=True,
    )


def forward(
    model,
    batch,
    training: bool,
    label_smoothing: float = 0.0,
    ensemble=None,
    imbalance: ClassImbalance = class_imbalance.PLAIN,
) -> dict[str, Term | Output]:
    """Cross-entropy (smoothed in training only, so that eval/loss compares) and accuracy, weighted by example.

    Evaluations have the score of Brier (1950), too: the squared error of the probabilities.

    In training each member of an `ensemble` has its own loss, which keeps them different, and logits, and `imbalance`
    changes the loss of rare classes.
    """
    weight = batch.get("weight", 1.0)
    if training and ensemble is not None:
        answers = ensemble(batch["x"], training=True)  # [batch, members, classes]
        logits = tf.reduce_mean(answers, axis=1)
        loss = tf.reduce_mean(_training_losses(answers, batch["y"], label_smoothing, imbalance), axis=1)
    else:
        answers = logits = model(batch["x"], training=training)
        if training:
            loss = _training_losses(logits, batch["y"], label_smoothing, imbalance)
        else:
            loss = _losses(logits, batch["y"], 0.0)
    correct = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), batch["y"])
    outputs = {"loss": Term(loss, weight), "accuracy": Term(tf.cast(correct, tf.float32), weight)}
    if not training:
        errors = tf.nn.softmax(logits) - tf.one_hot(batch["y"], logits.shape[-1])
        outputs["brier"] = Term(tf.reduce_sum(tf.square(errors), axis=-1), weight)
    return outputs | {"logits": Output(answers)}


def _training_losses(logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float, imbalance: ClassImbalance):
    """What training minimizes, `[batch, ...]`, of logits `[batch, ..., classes]`."""
    logits = imbalance.logits(logits)
    by_logits = labels if logits.shape.rank == 2 else tf.expand_dims(labels, 1)
    return imbalance.losses(_losses(logits, by_logits, label_smoothing), logits, labels)


def _losses(logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float) -> tf.Tensor:
    """Cross-entropies `[batch, ...]` of logits `[batch, ..., classes]`."""
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.broadcast_to(labels, tf.shape(logits)[:-1]), logits)
    if label_smoothing:
        # Against the uniform distribution the cross-entropy is the mean of -log p over the classes.
        spread = tf.reduce_logsumexp(logits, axis=-1) - tf.reduce_mean(logits, axis=-1)
        loss = (1.0 - label_smoothing) * loss + label_smoothing * spread
    return loss


def build(config: MlpConfig) -> Experiment:
    """Loads the data and builds a network that fits it."""
    data = table_data.load(config, image_options=config.image_options())
    # Preprocessing is fitted without more_file: a run that starts from another run has the same.
    x = data.train["x"]
    config, own = _filled(config, x, data.scale), data
    if config.more_file:
        data = extra_examples.arrays(data, config.more_file)
    labels, weights = data.train["y"], data.train.get("weight")
    imbalance = class_imbalance.make(config.imbalance, labels, len(data.classes), weights)
    model, ensemble = _network(config, own, imbalance)
    metrics = evaluation_report.classifier(data.classes)
    plain = data if data.schema is None else table_data.linear(data)
    boosted = data if table_data.is_table(x, data.scale) else None
    comparison = ClassComparison(plain, metrics, boosted) if config.baseline else None
    shown = feature_vectors.pixels(data.scale) if feature_vectors.are_pictures(x.shape, data.scale) else None
    about = {"task": "classification", "classes": list(data.classes), "largest": data.scale} | table_data.about(
        config, data
    )
    about |= image_folders.model_info(files.absolute(config.dataset), config.image_options())
    return Experiment(
        model=model,
        forward=r_drop.regularized(
            functools.partial(forward, label_smoothing=config.label_smoothing, ensemble=ensemble, imbalance=imbalance),
            config.r_drop,
        ),
        objective=("loss", *r_drop.terms(config.r_drop)),
        train=Batches(
            data.train, config.batch_size, config.seed, balance=class_balance.sampled(config.imbalance, labels)
        ),
        evals={"eval": Batches(data.validation, config.batch_size)},
        tests={"test": Batches(data.test, config.batch_size)},
        visualize=task_views.classifier(data.classes, images=shown),
        projector_points=feature_vectors.of_classes(model, data.validation, data.classes, images=shown),
        model_info=about,
        compute_metrics=comparison.compute_metrics if comparison else metrics,
        baseline=comparison.metrics if comparison else None,
        conclusion=comparison.conclusion if comparison else None,
        decision=config.decision_goal(data.classes),
        predictions=test_predictions.of_classes(data.origins, data.classes),
        notes=data.notes,
        config=config,
    )


def _filled(config: MlpConfig, x: np.ndarray, scale: float) -> MlpConfig:
    """The config with the recipe's values for its unset flags, see docs/tables.md."""
    is_table = table_data.is_table(x, scale)
    if config.recipe == "table" and not is_table:
        raise BadInput("--recipe=table is for float columns in memory, [examples, columns]; leave the flag out")
    if config.recipe == "auto":
        config = config.replace(recipe="table" if is_table else "plain")
    if config.recipe == "plain":
        for name, one in (("members", 1), ("bins", 0)):
            if getattr(config, name) not in (None, one):
                raise BadInput(f"--{name} is {getattr(config, name)}: it is for tables, --recipe=table; leave it out")
        values = {"epochs": 30.0, "batch_size": 128, "optimizer": "adam", "learning_rate": 1e-3, "eval_every": 0}
        values |= {
            "schedule": "constant",
            "warmup_fraction": 0.0,
            "members": 1,
            "bins": 0,
            "dropout": 0.0,
            "label_smoothing": 0.0,
        }
        return config.filled(
            **values, metric=config.best_metric(), patience=0, hidden=(64, 64), baseline=is_table and x.size <= _QUICK
        )
    config = config.filled(batch_size=table_data.batch_size(len(x)))
    return config.filled(
        **table_data.schedule(len(x), config.batch_size, config.steps),
        label_smoothing=0.1,
        metric=config.best_metric("brier"),
        weight_decay=0.2,
        hidden=(64, 64),
        members=8,
        bins=8,
        dropout=0.3,
        baseline=x.size <= _QUICK,
    )


def _linear_start(data: Splits, encoding, imbalance: ClassImbalance) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression on the scaled columns, moved to where training with `imbalance` leads."""
    linear = table_data.encoded(data, encoding)
    kernel, bias = linear_baselines.logistic_weights(linear.train, linear.validation, len(data.classes))
    return kernel, class_imbalance.moved_bias(bias, imbalance)


def _network(config: MlpConfig, data: Splits, imbalance: ClassImbalance):
    """The model; and the same up to the logits of each member, None where there is one network."""
    x, classes, scale = data.train["x"], len(data.classes), data.scale
    layers = {"dropout": config.dropout, "norm": config.norm}
    if config.recipe == "table":
        encoding = table_data.encoding(data, config.bins)
        linear = _linear_start(data, encoding, imbalance) if x.size <= _LINEAR_START else None
        options = {"members": config.members, "linear": linear, **layers}
        model = tabular.ensemble(encoding, x.shape[1], classes, config.hidden, **options)
        return model, tabular.member_logits(model)
    if data.schema is not None:
        preprocessing = table_data.encoding(data, 0)
    else:
        preprocessing = mlp.scaling(scale) if scale else mlp.standardizing(x)
    layers |= {"dtype": x.dtype.name, "preprocessing": preprocessing}
    return mlp.mlp(x.shape[1:], classes, config.hidden, **layers), None


if __name__ == "__main__":
    zoo.main(build, MlpConfig, workdir="runs/mlp_classifier")
