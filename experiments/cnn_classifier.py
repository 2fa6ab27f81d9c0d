"""Convolutional network on images: a small residual network, or one of `keras.applications`.

    python -m experiments.cnn_classifier                                      # 4,000 MNIST digits that pip brings
    python -m experiments.cnn_classifier --dataset=image_folder --image_size=96 --augment=photos
    python -m experiments.cnn_classifier --dataset=image_folder --image_size=96 --network=MobileNetV2

A data set of your own is a folder with a folder of PNG or JPEG files for each class, see docs/images.md. The default
has 175,522 parameters and takes one to two minutes on two cores.

Metrics: `eval/` on the validation split, `test/` on the test split, evaluated once at the end; `--baseline` adds
logistic regression on the same split.
"""

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf

import zoo
from zoo import Batches, Config, Experiment, Term, files, setting
from zoo.config import SCHEDULES
from zoo.data import class_balance
from zoo.data.datasets import extra_examples, image_folders, images
from zoo.data.splits import Splits
from zoo.errors import BadInput
from zoo.metrics import evaluation_report
from zoo.metrics.class_comparison import ClassComparison
from zoo.models import class_imbalance, convnet, image_augmentation, mlp, r_drop
from zoo.models.class_imbalance import ClassImbalance
from zoo.models.image_augmentation import Augmentation, Mixed
from zoo.tensorboard import feature_vectors, task_views
from zoo.terms import Output
from zoo.training import test_predictions
from zoo.training.classifier_config import ClassifierFlags, ImageFlags
from zoo.training.fold_flags import FoldFlags
from zoo.training.regularization_flags import RDropFlags

# What --augment means for the flags that are unset.
_AUGMENT = {
    "none": {"flip": False, "shift": 0.0, "crop": 1.0, "cutout": 0.0},
    "shift": {"flip": False, "shift": 0.1, "crop": 1.0, "cutout": 0.0},
    "photos": {"flip": True, "shift": 0.0, "crop": 0.5, "cutout": 0.25},
}
# Examples of floats from which mean and variance are taken.
_SAMPLE = 10_000


@dataclasses.dataclass(frozen=True)
class CnnConfig(RDropFlags, ClassifierFlags, ImageFlags, FoldFlags, Config):
    """Config of the run and the network."""

    epochs: float = setting(
        20.0,
        "Passes over the training data. 0: from --steps. 20 let 4,000 digits converge.",
        minimum=0,
        may_change=True,
    )
    batch_size: int = setting(64, "Examples per step, over all devices; small data sets need many steps.", minimum=1)
    optimizer: str = setting("adamw", "Adam with decoupled weight decay, which images need.")
    learning_rate: float | None = setting(
        None, "Peak rate. Unset: 0.003, as batch normalisation allows a high one.", minimum=0, unset=3e-3
    )
    weight_decay: float | None = setting(0.05, "Decoupled decay of matrices, times the rate.", minimum=0)
    schedule: str = setting("cosine", "Learning-rate schedule after the warm-up.", choices=SCHEDULES)
    warmup_fraction: float = setting(
        0.05, "Fraction of the steps that warm up, unless --warmup_steps is set.", minimum=0, less_than=1
    )
    dataset: str = setting(
        "mnist_5k",
        f"One of {', '.join(images.NAMES)}, a folder of class folders with images, a .npz file, or a folder of x.npy "
        "and y.npy.",
        alias="train_file",
    )
    eval_file: str = setting("", "Validation examples for --train_file, of its kind. Empty: a tenth of its examples.")
    test_file: str = setting("", "Test examples for --train_file, of its kind. Empty: a tenth of its examples.")
    more_file: str = setting(
        "", "A .npz with x, y and perhaps weight, added to the training split only; `zoo feedback` writes one."
    )
    width: int | None = setting(None, "Channels of the first of three stages. Unset: 24.", minimum=1)
    depth: int | None = setting(None, "Residual blocks per stage. Unset: 1.", minimum=1)
    network: str = setting("", "A network of keras.applications instead, such as MobileNetV2. Empty: the residual one.")
    weights: str = setting(
        "random",
        "Initial weights of --network. imagenet: Keras' pretrained ones, downloaded.",
        choices=("random", "imagenet"),
    )
    dropout: float = setting(0.0, "Dropout rate before the last layer.", minimum=0, less_than=1)
    stochastic_depth: float = setting(
        0.0,
        "Probability that an image skips the last residual block in training, in earlier ones proportionally less "
        "(Huang et al., 2016). 0: none, as it is for deep networks.",
        minimum=0,
        less_than=1,
        before=0.0,
    )
    label_smoothing: float = setting(
        0.0, "Share of the target spread over all classes (Szegedy et al., 2016).", minimum=0, less_than=1
    )
    augment: str = setting(
        "none",
        "Random changes of training images: values of the unset flags below. shift: --shift=0.1, for digits and all "
        "that has a right way up; photos: --flip --crop=0.5 --cutout=0.25.",
        choices=tuple(_AUGMENT),
    )
    flip: bool | None = setting(None, "Mirror half of the images, left to right. Unset: see --augment.")
    shift: float | None = setting(
        None, "Largest shift along each axis, as a share of the side. Unset: see --augment.", minimum=0, less_than=1
    )
    crop: float | None = setting(
        None, "Smallest share of the area in a random crop; 1: none. Unset: see --augment.", minimum=0.01, maximum=1
    )
    cutout: float | None = setting(
        None, "Side of a grey square in half of the images; 0: none. Unset: see --augment.", minimum=0, maximum=1
    )
    mixup: float = setting(
        0.0, "Mix pairs of images: parameter of the Beta distribution of the shares, often 0.2; 0: none.", minimum=0
    )
    cutmix: float = setting(
        0.0, "Paste a part of one image of a pair into the other: the same of the areas, often 1; 0: none.", minimum=0
    )
    baseline: bool = setting(
        False, "Also fit logistic regression to the same split; minutes on MNIST.", may_change=True
    )


def forward(
    model,
    batch,
    training: bool,
    label_smoothing: float = 0.0,
    imbalance: ClassImbalance = class_imbalance.PLAIN,
    augmentation: Augmentation = Augmentation(),  # noqa: B008 (a tuple)
    alpha: float = 0.0,
) -> dict[str, Term | Output]:
    """Cross-entropy and accuracy, weighted by example; evaluations have the score of Brier (1950), too.

    Label smoothing, `imbalance`, augmentation and R-Drop with weight `alpha` are for training only. The loss of a
    mixture of two images is that of both labels by their shares; its accuracy is that of the larger share.
    """
    mixed = image_augmentation.augment(batch["x"], augmentation, batch.get("weight")) if training else Mixed(batch["x"])
    one_pass = functools.partial(_terms, mixed=mixed, label_smoothing=label_smoothing, imbalance=imbalance)
    return r_drop.regularized(one_pass, alpha)(model, batch, training)


def _terms(
    model, batch, training: bool, mixed: Mixed, label_smoothing: float, imbalance: ClassImbalance
) -> dict[str, Term | Output]:
    labels, weight = batch["y"], batch.get("weight", 1.0)
    logits = model(mixed.x, training=training)
    if training:
        loss = _loss(logits, labels, label_smoothing, imbalance)
        if mixed.partner is not None:
            other = _loss(logits, tf.gather(labels, mixed.partner), label_smoothing, imbalance)
            loss = mixed.share * loss + (1.0 - mixed.share) * other
    else:
        loss = _loss(logits, labels, 0.0, class_imbalance.PLAIN)
    correct = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), labels)
    outputs = {"loss": Term(loss, weight), "accuracy": Term(tf.cast(correct, tf.float32), weight)}
    if not training:
        errors = tf.nn.softmax(logits) - tf.one_hot(labels, logits.shape[-1])
        outputs["brier"] = Term(tf.reduce_sum(tf.square(errors), axis=-1), weight)
    return outputs | {"logits": Output(logits)}


def _loss(logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float, imbalance: ClassImbalance) -> tf.Tensor:
    """Cross-entropies `[batch]`, smoothed and changed for rare classes."""
    logits = imbalance.logits(logits)
    targets = tf.one_hot(labels, logits.shape[-1]) * (1.0 - label_smoothing) + label_smoothing / logits.shape[-1]
    return imbalance.losses(tf.nn.softmax_cross_entropy_with_logits(targets, logits), logits, labels)


def build(config: CnnConfig) -> Experiment:
    """Loads the data and builds a network for it."""
    config = config.filled(metric=config.best_metric(), **_AUGMENT[config.augment])
    config = config if config.network else config.filled(width=24, depth=1)
    data = images.load(
        config.dataset,
        eval_file=config.eval_file,
        test_file=config.test_file,
        image_options=config.image_options(),
        fold=config.tested_fold(),
    )
    x = data.train["x"]
    if x.ndim not in (3, 4):
        raise BadInput(
            f"--dataset={config.dataset} has examples of shape {list(x.shape[1:])}: expected images, "
            "[height, width] or [height, width, channels]; experiments.mlp_classifier takes tables"
        )
    model = _network(config, data)
    if config.more_file:
        data = extra_examples.arrays(data, config.more_file)
    labels, weights = data.train["y"], data.train.get("weight")
    imbalance = class_imbalance.make(config.imbalance, labels, len(data.classes), weights)
    augmentation = Augmentation(**{name: getattr(config, name) for name in Augmentation._fields})
    metrics = evaluation_report.classifier(data.classes)
    comparison = ClassComparison(data, metrics) if config.baseline else None
    shown = feature_vectors.pixels(data.scale) if feature_vectors.are_pictures(x.shape, data.scale) else None
    about = {"task": "classification", "classes": list(data.classes), "largest": data.scale}
    return Experiment(
        model=model,
        forward=functools.partial(
            forward,
            label_smoothing=config.label_smoothing,
            imbalance=imbalance,
            augmentation=augmentation,
            alpha=config.r_drop,
        ),
        objective=("loss", *r_drop.terms(config.r_drop)),
        train=Batches(
            data.train, config.batch_size, config.seed, balance=class_balance.sampled(config.imbalance, labels)
        ),
        evals={"eval": Batches(data.validation, config.batch_size)},
        tests={"test": Batches(data.test, config.batch_size)},
        visualize=task_views.classifier(data.classes, images=shown),
        projector_points=feature_vectors.of_classes(model, data.validation, data.classes, images=shown),
        model_info=about | image_folders.model_info(files.absolute(config.dataset), config.image_options()),
        compute_metrics=comparison.compute_metrics if comparison else metrics,
        baseline=comparison.metrics if comparison else None,
        conclusion=comparison.conclusion if comparison else None,
        decision=config.decision_goal(data.classes),
        predictions=test_predictions.of_classes(data.origins, data.classes),
        notes=data.notes,
        config=config,
    )


def _network(config: CnnConfig, data: Splits) -> keras.Model:
    x, classes = data.train["x"], len(data.classes)
    options = {"dropout": config.dropout, "dtype": x.dtype.name}
    if not config.network:
        if config.weights != "random":
            raise BadInput(f"--weights={config.weights} is for networks of keras.applications: set --network as well")
        preprocessing = mlp.scaling(data.scale) if data.scale else _standardizing(x)
        shape = x.shape[1:]
        options["stochastic_depth"] = config.stochastic_depth
        return convnet.residual_network(
            shape, classes, config.width, config.depth, preprocessing=preprocessing, **options
        )
    if config.stochastic_depth:
        raise BadInput("--stochastic_depth is for the residual network: --network has blocks of its own; leave it out")
    for name in ("width", "depth"):
        if getattr(config, name) is not None:
            raise BadInput(f"--{name} is {getattr(config, name)}: --network={config.network} has its own; leave it out")
    if not data.scale or x.shape[3:] not in ((), (1,), (3,)):
        raise BadInput(
            f"--network={config.network} takes grey or colour pixels: expected x in uint8, [examples, height, width] "
            "or [examples, height, width, 3]"
        )
    weights = "" if config.weights == "random" else config.weights
    return convnet.application(config.network, x.shape[1:], classes, weights=weights, scale=data.scale, **options)


def _standardizing(x: np.ndarray) -> keras.layers.Layer:
    """Scales floats to mean 0 and variance 1 over all pixels of a sample."""
    sample = np.asarray(x[:: max(1, len(x) // _SAMPLE)], np.float64)
    deviation = float(sample.std()) or 1.0
    return keras.layers.Rescaling(1.0 / deviation, -float(sample.mean()) / deviation, dtype="float32")


if __name__ == "__main__":
    zoo.main(build, CnnConfig, workdir="runs/cnn_classifier")
