"""Which score without labels tells best whether a change of the model helps: a study on damaged training images.

    python -m benchmarks.multi_step.guard_study runs/multi_step mnist-10 fashion_mnist-10 mnist-11 fashion_mnist-11

Each RUN in the folder is a run of the perceptron of `benchmarks.multi_step` with another seed than the figures' (no
test image is looked at): its *training* images are damaged in twelve ways, at severity 3, as 400 images of all
classes, as 200 images of half of the classes, and with only 500 validation images to judge by. Five answers compete for
each of these streams: the model itself, batch-norm statistics fitted to the classes' validation proportions or to
estimated ones, images in searched poses, and the copy that learns from recoloured images. `guards-RUN.json` keeps the
scores and the true errors of all answers, `section-guards.md` has the table: what an answer chosen by each score alone
would err. About ten minutes a run on one core.
"""

import argparse
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from benchmarks.multi_step import guard_page
from zoo.adaptation import guards
from zoo.adaptation.stages.normalization import NormalizationFit
from zoo.adaptation.stages.pose import Pose
from zoo.adaptation.stages.pose_search import warped
from zoo.adaptation.stages.recoloured_training import RecolouredTraining
from zoo.data.datasets import images
from zoo.data.datasets.image_corruptions import NAMES, corrupted
from zoo.metrics.logits import softmax, two_class_logits
from zoo.models.layers import Dropout
from zoo.predict.evaluation import held_out
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors import loading
from zoo.predict.predictors.cloning import copied
from zoo.predict.predictors.predictor import Classifier

_SEVERITIES = (3,)
_EXAMPLES, _FEW_VALIDATION = 400, 500
# Forward passes with dropout: as in AETTA, section 3.4.
_PASSES = 10
# Small changes of an image that leave its class alone: angle in radians, log size, shifts as shares of the sides.
_JITTER = np.array([(0.1, 0, 0, 0), (-0.1, 0, 0, 0), (0, 0.08, 0, 0), (0, 0, 0.036, 0), (0, 0, 0, 0.036)])


class Answer(NamedTuple):
    """One of the competing answers.

    Attributes:
        model: the model as changed.
        images: the images as shown to it.
        logits: `[examples, classes]`.
        held: labels and logits of the data that its confidences and distances are compared with.
    """

    model: keras.Model
    images: np.ndarray
    logits: np.ndarray
    held: HeldOut


def main() -> None:
    """Studies the runs that lack figures, then writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder of the runs and the figures")
    parser.add_argument("runs", nargs="+", help="names of runs in it, DATASET-SEED")
    arguments = parser.parse_args()
    for run in arguments.runs:
        path = arguments.work / f"guards-{run}.json"
        if not path.exists():
            path.write_text(json.dumps(list(_study(arguments.work / run, run.rsplit("-", 1)[0]))))
    figures = [json.loads((arguments.work / f"guards-{run}.json").read_text()) for run in arguments.runs]
    (arguments.work / "section-guards.md").write_text(guard_page.section(arguments.runs, figures))


def _study(workdir: Path, dataset: str) -> Iterator[dict[str, Any]]:
    """The cells: for each answer its scores and its true error."""
    predictor = loading.load(workdir)
    full = held_out.load(workdir, predictor)
    train = images.load(dataset).train
    draw = np.random.default_rng(0)
    few = draw.permutation(len(full.labels))[:_FEW_VALIDATION]
    sources = {"all classes": full, "half of the classes": full}
    sources["few validation images"] = HeldOut(full.examples[few], full.labels[few], full.logits[few])
    for name in NAMES:
        for severity in _SEVERITIES:
            for stream, source in sources.items():
                index = draw.permutation(len(train["y"]))[:_EXAMPLES]
                if stream == "half of the classes":
                    index = index[train["y"][index] < len(predictor.classes) // 2]
                x, y = corrupted(train["x"][index], name, severity), train["y"][index]
                cell = {"kind": name, "severity": severity, "stream": stream, "usual": _usual(source)}
                cell["answers"] = _scored(predictor, source, x, y)
                print(name, severity, stream, {k: v["wrong"] for k, v in cell["answers"].items()}, flush=True)
                yield cell


def _usual(source: HeldOut) -> float:
    """The guards' product on validation images."""
    return guards.Guards(source).score(source.logits).product


def _scored(predictor: Classifier, source: HeldOut, x: np.ndarray, y: np.ndarray) -> dict[str, dict[str, float]]:
    """Scores and true error of each answer by its name."""
    answers = dict(_answers(predictor, source, x))
    classes = {name: answer.logits.argmax(axis=1) for name, answer in answers.items()}
    result = {}
    for name, answer in answers.items():
        others = [np.mean(classes[name] != guess) for other, guess in classes.items() if other != name]
        scores = _scores(answer) | {"committee": float(np.mean(others))}
        result[name] = scores | {"wrong": float((classes[name] != y).mean())}
    return result


def _answers(predictor: Classifier, source: HeldOut, x: np.ndarray) -> Iterator[tuple[str, Answer]]:
    plain = copied(predictor)
    yield "plain", Answer(plain.model, x, two_class_logits(plain.logits(x)), source)
    validation = np.bincount(source.labels, minlength=len(predictor.classes)) / len(source.labels)
    for name in ("statistics", "statistics, estimated classes"):
        copy = copied(predictor)
        fit = NormalizationFit(copy, source.examples, source.labels)
        fit.set(x, validation if name == "statistics" else fit.shares(x).shares)
        yield name, Answer(copy.model, x, two_class_logits(copy.logits(x)), source)
    pose = Pose()
    pose.begin(plain, source)
    aligned = pose.aligned(x)
    yield "pose", Answer(plain.model, aligned, two_class_logits(plain.logits(aligned)), source)
    training = RecolouredTraining(predictor, source)
    training.train(x)
    trained = training.state()
    copy = training.model
    yield "coral", Answer(copy, x, training.logits(x), HeldOut(None, trained.labels, trained.logits))


def _scores(answer: Answer) -> dict[str, float]:
    """The scores of one answer: estimates of its error rate, or what should rise with it."""
    reference = guards.Guards(answer.held)
    score = reference.score(answer.logits)
    wrong = float((answer.held.logits.argmax(axis=1) != answer.held.labels).mean())
    confidence = lambda logits: float(softmax(logits).max(axis=1).mean())  # noqa: E731
    classes = answer.logits.argmax(axis=1)
    dropped, estimate = _dropout(answer, classes)
    return {
        # Garg et al., 2022: average thresholded confidence.
        "expected error": score.error,
        "distance": score.distance,
        "product": score.product,
        # Guillory et al., "Predicting with confidence on unseen distributions", 2021: difference of confidences.
        "difference of confidences": wrong + confidence(answer.held.logits) - confidence(answer.logits),
        "dropout disagreement": dropped,
        "AETTA": estimate,
        "augmentation disagreement": _augmented(answer, classes),
    }


def _dropout(answer: Answer, classes: np.ndarray) -> tuple[float, float]:
    """Disagreement with passes under dropout, and the error estimate made of it.

    Lee et al., "AETTA: label-free accuracy estimation for test-time adaptation", 2024, section 3: the disagreement over
    the cube of the relative entropy of the mean prediction of all images, which finds a model that gives one answer to
    everything.
    """
    program = tf.function(functools.partial(_with_dropout, answer.model), autograph=False)
    logits = [two_class_logits(program(tf.constant(answer.images)).numpy()) for _ in range(_PASSES)]
    disagreement = float(np.mean([one.argmax(axis=1) != classes for one in logits]))
    mean = np.mean([softmax(one) for one in logits], axis=(0, 1))
    share = -float(np.sum(mean * np.log(np.maximum(mean, 1e-12)))) / np.log(len(mean))
    return disagreement, min(1.0, disagreement * share**-3.0)


def _with_dropout(model: keras.Model, x: tf.Tensor) -> tf.Tensor:
    """The model's output with dropout, but with the batch normalisations as they are; for a chain of layers."""
    for layer in model.layers[1:]:
        x = layer(x, training=False)
        if isinstance(layer, Dropout):
            x = tf.nn.dropout(x, layer.rate)
    return x


def _augmented(answer: Answer, classes: np.ndarray) -> float:
    """Share of slightly turned, scaled and shifted images that get another class."""
    program = tf.function(lambda x: answer.model(x, training=False), autograph=False)
    shown = [warped(answer.images, np.repeat(change[None], len(classes), axis=0)) for change in _JITTER]
    return float(np.mean([two_class_logits(program(tf.constant(x)).numpy()).argmax(axis=1) != classes for x in shown]))


if __name__ == "__main__":
    main()
