"""Loading of finished runs: the predictor of a workdir."""

from pathlib import Path

import keras

from zoo import files
from zoo import workdir as folders
from zoo.data.datasets import delimited_format
from zoo.data.datasets.column_schema import TableSchema
from zoo.errors import BadInput
from zoo.metrics.decisions import Decision
from zoo.model_info import ModelInfo, missing_classes, missing_fields, read_model_info
from zoo.predict.predictors import (
    array_inputs,
    array_regressor,
    fill_mask,
    litert,
    multi_label,
    tagger,
    text_classifier,
)
from zoo.predict.predictors.array_classifier import ArrayClassifier
from zoo.predict.predictors.predictor import Classifier, Predictor

# Loaders of the tasks other than classification.
_LOADERS = {"tagging": tagger.load, "pretraining": fill_mask.load}


def load(workdir: str | Path, runtime: str = "auto") -> Predictor:
    """Loads the predictor of a finished run: a classifier, or the predictor of another task.

    Args:
        workdir: folder of the run.
        runtime: for classifiers and single examples: "litert" converts the model, once, which takes seconds; "auto"
            uses LiteRT where that was done before; "compiled" always uses the model itself, as all larger batches do.
            See `zoo.predict.predictors.litert`.

    Raises:
        BadInput: the model is missing, cannot be read or has an unknown task, or LiteRT is not installed.
    """
    workdir = files.absolute(workdir)
    info = read_model_info(workdir)
    task = info.task
    if task is None:
        raise missing_classes(workdir)
    if task == "language_model":
        raise BadInput(f"{workdir} holds a language model: use zoo score for texts, or zoo generate for a prompt")
    if task == "regression":
        model = read_model(workdir / folders.MODEL)
        if info.input == "text":
            return text_classifier.load_values(workdir, info, model)
        return array_regressor.load(workdir, info, model, _columns(workdir, info))
    if task == "multi_label":
        model = read_model(workdir / folders.MODEL)
        return multi_label.load(workdir, info, model, _columns(workdir, info))
    if task in _LOADERS:
        return _LOADERS[task](workdir, info, read_model(workdir / folders.MODEL))
    if task != "classification":
        raise BadInput(f"{workdir} holds a model for {task}, expected one for classification")
    return _classifier(workdir, info, read_model(workdir / folders.MODEL), runtime)


def _classifier(workdir: Path, info: ModelInfo, model: keras.Model, runtime: str) -> Classifier:
    classes, reads_text = info.classes or (), info.input == "text"
    # Two classes of texts may have one logit, that of the second class.
    if model.output_shape[-1] != len(classes) and not (reads_text and (model.output_shape[-1], len(classes)) == (1, 2)):
        raise BadInput(
            f"{workdir}: {folders.MODEL} has {model.output_shape[-1]} outputs, {folders.ABOUT} has {len(classes)} "
            "classes; expected the two files of one run"
        )
    if reads_text:
        predictor = text_classifier.load(workdir, info, model, classes)
    else:
        predictor = ArrayClassifier(model, classes, info.largest, info.features, _columns(workdir, info))
        predictor.resize = info.resize
        predictor.file_format = delimited_format.of_model(info.file_format)
    if info.decision is not None:
        predictor.decision = Decision.from_json(info.decision, len(classes))
    predictor.lite = litert.lite(model, workdir / folders.MODEL, runtime, segments=info.pair)
    return predictor


def _columns(workdir: Path, info: ModelInfo) -> TableSchema | None:
    if info.columns is None:
        return None
    try:
        return TableSchema.from_json(info.columns)
    except (KeyError, TypeError, AttributeError):
        raise missing_fields(workdir, "the table's columns") from None


def read_model(path: Path) -> keras.Model:
    """Loads model.keras of a run.

    Raises:
        BadInput: the file is missing or cannot be read.
    """
    if not path.is_file():
        raise BadInput(f"{path.parent} has no {path.name}: expected the --workdir of a finished run")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:
        # A flipped bit can surface anywhere in zip, JSON, HDF5 or Keras; all of it means the same to a user.
        raise BadInput(f"{path} cannot be read ({array_inputs.one_line(error)}); restore it or train again") from error
