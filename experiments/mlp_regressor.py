"""Regression of values from the columns of a table: an ensemble of multi-layer perceptrons.

    python -m experiments.mlp_regressor                                          # 442 patients of scikit-learn
    python -m experiments.mlp_regressor --dataset=houses.csv --label_column=price

Values are standardised for training and turned back in metrics and predictions. Metrics: `eval/` on the validation
split, `test/` on the test split, evaluated once at the end: `rmse`, `mae`, `r2` with intervals; ridge regression and
gradient boosting on the same split (`--nobaseline` turns them off).
"""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

import zoo
from zoo import Batches, Experiment, Term, setting
from zoo.data.datasets import images
from zoo.data.splits import Splits
from zoo.errors import BadInput
from zoo.metrics import evaluation_report, value_baselines
from zoo.models import tabular
from zoo.names import escaped
from zoo.tensorboard import task_views
from zoo.terms import Output
from zoo.training import table_data, test_predictions
from zoo.training.table_recipe import TableRecipe

LOSSES = ("mse", "mae", "huber")


@dataclasses.dataclass(frozen=True)
class RegressorConfig(TableRecipe):
    """Config of the run and the network; what is unset is the recipe of docs/tables.md."""

    dataset: str = setting(
        images.DIABETES,
        f"{images.DIABETES}, a table (.csv, .tsv, .parquet, .arrow, .xlsx, .jsonl; several: 'part-*.csv'), a .npz, "
        "or a folder of x.npy and y.npy.",
        alias="train_file",
    )
    label_column: str = setting("label", "Column of a table with the values to predict.")
    loss: str = setting(
        "mse",
        "mse: the mean is predicted; mae: the median, which few far values do not move; huber: mse up to one standard "
        "deviation, mae beyond.",
        choices=LOSSES,
    )
    dropout: float = setting(0.1, "Dropout rate after each hidden layer.", minimum=0, less_than=1)
    baseline: bool = setting(
        True, "Also fit ridge regression and gradient boosting to the same split; seconds.", may_change=True
    )


def forward(model, batch, training: bool, loss: str = "mse", ensemble=None) -> dict[str, Term | Output]:
    """The loss of standardised values, weighted by example; in training each member of an `ensemble` has its own."""
    weight = batch.get("weight", 1.0)
    if training and ensemble is not None:
        members = ensemble(batch["x"], training=True)[:, :, 0]  # [batch, members]
        losses = tf.reduce_mean(_losses(members - batch["y"][:, None], loss), axis=1)
        logits = tf.reduce_mean(members, axis=1)[:, None]
    else:
        logits = model(batch["x"], training=training)  # [batch, 1]
        losses = _losses(logits[:, 0] - batch["y"], loss)
    return {"loss": Term(losses, weight), "logits": Output(logits)}


def _losses(errors: tf.Tensor, loss: str) -> tf.Tensor:
    size = tf.abs(errors)
    if loss == "mae":
        return size
    squares = 0.5 * tf.square(errors)
    # Huber, "Robust estimation of a location parameter", 1964, with its edge at one standard deviation of the values.
    return squares if loss == "mse" else tf.where(size <= 1.0, squares, size - 0.5)


def build(config: RegressorConfig) -> Experiment:
    """Loads the data and builds a network that fits it."""
    data = table_data.load(config, values=True)
    x = data.train["x"]
    if not table_data.is_table(x):
        raise BadInput(f"--dataset={config.dataset} has x {x.dtype}{list(x.shape)}: expected float columns in memory")
    config = config.filled(batch_size=table_data.batch_size(len(x)))
    config = config.filled(**table_data.schedule(len(x), config.batch_size, config.steps), weight_decay=0.2)
    centre, scale = unit(data.train["y"])
    model, ensemble = _network(config, data, (centre, scale))
    baselines = value_baselines.Comparison(data, table_data.linear(data)) if config.baseline else None
    report = evaluation_report.regression(scale, centre)
    parts = {
        name: Batches(part | {"y": (part["y"] - centre) / scale}, config.batch_size, seed=seed)
        for name, part, seed in (
            ("train", data.train, config.seed),
            ("eval", data.validation, None),
            ("test", data.test, None),
        )
    }
    return Experiment(
        model=model,
        forward=functools.partial(forward, loss=config.loss, ensemble=ensemble),
        train=parts["train"],
        evals={"eval": parts["eval"]},
        tests={"test": parts["test"]},
        visualize=task_views.regression(_shown(data.features), scale, centre),
        compute_metrics=baselines.remembering(report, scale, centre) if baselines else report,
        baseline=baselines.metrics if baselines else None,
        conclusion=baselines.conclusion if baselines else None,
        predictions=test_predictions.of_values(data.origins, scale, centre),
        model_info={"task": "regression", "centre": centre, "scale": scale} | table_data.about(config, data),
        notes=data.notes,
        config=config,
    )


def unit(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of values `[examples]`; 1 where all are equal."""
    values = np.asarray(values, np.float64)
    return float(values.mean()), float(values.std()) or 1.0


def _network(config: RegressorConfig, data: Splits, of: tuple[float, float]):
    """The model, and the same up to each member's answer."""
    encoding = table_data.encoding(data, config.bins)
    options = {"dropout": config.dropout, "norm": config.norm, "members": config.members}
    linear = value_baselines.ridge_weights(table_data.encoded(data, encoding), *of)
    model = tabular.ensemble(encoding, data.train["x"].shape[1], 1, config.hidden, linear=linear, **options)
    return model, tabular.member_logits(model)


def _shown(features):
    """Examples as texts, for TensorBoard."""

    def texts(columns, rows):
        names = features or [str(number) for number in range(columns["x"].shape[1])]
        return [", ".join(f"{escaped(name)}={value:.6g}" for name, value in zip(names, columns["x"][i])) for i in rows]

    return texts


if __name__ == "__main__":
    zoo.main(build, RegressorConfig, workdir="runs/mlp_regressor")
