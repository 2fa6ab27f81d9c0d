"""model.json of a run: the facts about a model that prediction and export need and model.keras does not hold.

An experiment gives them as `Experiment(model_info={...})`; each key is a field of `ModelInfo`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zoo import workdir as folders
from zoo.errors import BadInput


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """The content of model.json; a field is None where the file lacks it or has a value of the wrong type.

    Attributes:
        task: "classification", "multi_label", "regression", "tagging", "pretraining" or "language_model".
        input: "text" for models of texts.
        classes: class names in the order of the labels, or names of the labels.
        decision: how probabilities become a class, fields of `zoo.metrics.decisions.Decision`; or labels, of
            `zoo.metrics.label_thresholds.LabelThresholds`.
        largest: largest pixel value of the training data; 0 for features of any scale.
        features: column names of the training table.
        columns: `TableSchema.as_json` of a table whose columns are not all complete numbers.
        file_format: `DelimitedFormat.as_json` of the training files, where flags said how they are written.
        resize: how images of any size get that of the input; one of `zoo.data.datasets.image_files.RESIZE`.
        max_length: most tokens that the model reads of a text, special tokens included.
        cut: which tokens of a longer text are read; one of `zoo.data.text.encoding.CUTS`.
        pair: whether an example is a pair of texts.
        frame: ids of [CLS] and [SEP].
        tags: tag names in the order of the labels.
        scheme: tagging scheme; one of `zoo.data.datasets.tag_schemes`.
        words: how a text is split into words; one of `zoo.data.text.word_splitting.WORDS`.
        word_rule: fields of `zoo.data.text.word_splitting.WordRule`, where `words` is "learned".
        centre: value at a logit of 0, for a regression.
        scale: change of the value per unit of the logit, for a regression.
        network: "encoder", "lstm" or "transformer".
        shape: fields of `zoo.models.hugging_face.config.Shape`.
        norm_first: whether the encoder's blocks are pre-norm.
        context: most tokens that a language model reads at once.
        bidirectional: whether the file has a second language model, which reads backwards.
    """

    task: str | None = None
    input: str | None = None
    classes: tuple[str, ...] | None = None
    decision: Mapping[str, Any] | None = None
    largest: float = 0.0
    features: tuple[str, ...] = ()
    columns: Mapping[str, Any] | None = None
    file_format: Mapping[str, Any] | None = None
    resize: str | None = None
    max_length: int | None = None
    cut: str | None = None
    pair: bool = False
    frame: tuple[int, int] | None = None
    tags: tuple[str, ...] | None = None
    scheme: str | None = None
    words: str | None = None
    word_rule: Mapping[str, Any] | None = None
    centre: float | None = None
    scale: float | None = None
    network: str | None = None
    shape: Mapping[str, Any] | None = None
    norm_first: bool | None = None
    context: int | None = None
    bidirectional: bool = False


def read_model_info(workdir: Path) -> ModelInfo:
    """Reads model.json of a run; keys of later versions are ignored.

    Raises:
        BadInput: the folder or the file is missing, the file is torn, or class or feature names are not a list.
    """
    saved = folders.read_json(workdir, folders.ABOUT)
    if not isinstance(saved, dict):
        return ModelInfo()
    fields = {field.name for field in dataclasses.fields(ModelInfo)}
    try:
        return ModelInfo(**{name: _PARSERS.get(name, _as_it_is)(saved[name]) for name in fields & saved.keys()})
    except (TypeError, ValueError, OverflowError):
        raise missing_classes(workdir) from None


def missing_classes(workdir: Path) -> BadInput:
    """The error for a model.json that has no task, or none of the names that belong to it."""
    return BadInput(
        f"{workdir / folders.ABOUT} does not say task and classes: expected what the experiment gives by "
        "Experiment(model_info=...); or the file is damaged, then train again"
    )


def missing_fields(workdir: Path, fields: str) -> BadInput:
    """The error for a model.json that lacks fields, named as in "max_length and cut"."""
    return BadInput(f"{workdir / folders.ABOUT} does not say {fields}; restore it or train again")


def _as_it_is(value: Any) -> Any:
    return value


def _if(good: Callable[[Any], bool]) -> Callable[[Any], Any]:
    """A parser that gives None for a value of the wrong type."""
    return lambda value: value if good(value) else None


def _names(value: Any) -> tuple[str, ...]:
    return tuple(str(name) for name in value)


def _tags(value: Any) -> tuple[str, ...] | None:
    good = isinstance(value, list) and all(isinstance(name, str) and name for name in value)
    return tuple(value) if good else None


def _frame(value: Any) -> tuple[int, int] | None:
    good = isinstance(value, list) and len(value) == 2 and all(type(id) is int for id in value)
    return tuple(value) if good else None


_TEXT = _if(lambda value: isinstance(value, str))
_FINITE = _if(lambda value: isinstance(value, float) and math.isfinite(value))
_PARSERS: dict[str, Callable[[Any], Any]] = {
    "task": _TEXT,
    "classes": _names,
    "decision": _if(lambda value: isinstance(value, dict)),
    "largest": float,
    "features": _names,
    "file_format": _if(lambda value: isinstance(value, dict)),
    "resize": _TEXT,
    "max_length": _if(lambda value: type(value) is int),
    "cut": _TEXT,
    "pair": bool,
    "frame": _frame,
    "tags": _tags,
    "scheme": _TEXT,
    "words": _TEXT,
    "centre": _FINITE,
    "scale": _FINITE,
    "word_rule": _if(lambda value: isinstance(value, dict)),
    "shape": _if(lambda value: isinstance(value, dict)),
    "norm_first": bool,
    "bidirectional": bool,
}
