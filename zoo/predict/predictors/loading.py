"""Loads what a run left in its folder."""

from pathlib import Path

import keras

from zoo import files
from zoo import workdir as folders
from zoo.errors import BadInput
from zoo.model_info import missing_classes, read_model_info
from zoo.predict.predictors import array_inputs, fill_mask, tagger, text_classifier
from zoo.predict.predictors import litert as runtimes
from zoo.predict.predictors.array_classifier import ArrayClassifier
from zoo.predict.predictors.fill_mask import FillMask
from zoo.predict.predictors.tagger import Tagger
from zoo.predict.predictors.text_classifier import TextClassifier, TextRegressor

# Of what an encoder may have learned besides classes.
_LOADS = {"regression": text_classifier.load_values, "tagging": tagger.load, "pretraining": fill_mask.load}


def load(
    workdir: str | Path, runtime: str = "auto"
) -> "ArrayClassifier | TextClassifier | TextRegressor | Tagger | FillMask":
    """Loads what a run left in its folder: a classifier of arrays or of texts, or what else an encoder has learned.

    Args:
        workdir: of the run.
        runtime: of classifiers, for one example at a time: "litert" converts the model, once, which takes seconds;
            "auto" is LiteRT where that was done before; "compiled" is always the model itself, as for all batches of
            more examples. See `zoo.predict.predictors.litert`.

    Raises:
        BadInput: there is no model, it cannot be read, it is of another task, or LiteRT is asked for and not installed.
    """
    workdir = files.absolute(workdir)
    info = read_model_info(workdir)
    task, classes = info.task, info.classes or ()
    if task is None:
        raise missing_classes(workdir)
    if task == "language_model":
        raise BadInput(f"{workdir} holds a language model: use zoo score for texts, or zoo generate for a prompt")
    if task in _LOADS:
        return _LOADS[task](workdir, info, read_model(workdir / folders.MODEL))
    if task != "classification":
        raise BadInput(f"{workdir} holds a model for {task}, expected one for classification")
    model = read_model(workdir / folders.MODEL)
    reads_text = info.input == "text"
    # Of two classes of texts there may be one logit, that of the second.
    if model.output_shape[-1] != len(classes) and not (reads_text and (model.output_shape[-1], len(classes)) == (1, 2)):
        raise BadInput(
            f"{workdir}: {folders.MODEL} has {model.output_shape[-1]} outputs, {folders.ABOUT} has {len(classes)} "
            "classes; expected the two files of one run"
        )
    found = (
        text_classifier.load(workdir, info, model, classes)
        if reads_text
        else ArrayClassifier(model, classes, info.largest, info.features)
    )
    found.lite = runtimes.lite(model, workdir / folders.MODEL, runtime, segments=info.pair)
    return found


def read_model(path: Path) -> keras.Model:
    """The model that a run left.

    Raises:
        BadInput: it is not there, or cannot be read.
    """
    if not path.is_file():
        raise BadInput(f"{path.parent} has no {path.name}: expected the --workdir of a finished run")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:
        # A flipped bit can surface anywhere in zip, JSON, HDF5 or Keras; all of it means the same to a user.
        raise BadInput(f"{path} cannot be read ({array_inputs.one_line(error)}); restore it or train again") from error
