"""Export formats: SavedModel, Keras, LiteRT, ONNX and Hugging Face folders of a run's model.

The conversions to LiteRT and ONNX are in `zoo.models.converters`: prediction, on which export builds, converts to
LiteRT, too.
"""

import importlib.util
import inspect
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from zoo import errors, files
from zoo import workdir as folders
from zoo.data.text import word_features
from zoo.errors import BadInput
from zoo.export import example_script, exported_run, hugging_face, model_card
from zoo.export.exported_run import RunModel
from zoo.models import converters

SIGNATURE = "signature.json"


class Format(NamedTuple):
    """One of `FORMATS`.

    Attributes:
        write: function that writes the model into a folder.
        model: name of the model's file or folder.
        run: function of `example_script` that runs the model; None where the format has its own example.
        needs: packages that run the model, as `pip install` names them.
        made_by: packages that write it, in addition to TensorFlow.
    """

    write: Callable[[RunModel, Path], None]
    model: str
    run: Callable | None
    needs: str
    made_by: tuple[str, ...] = ()


def export(workdir: str | Path, format: str, out: str | Path | None = None) -> Path:
    """Writes a finished run's model as a folder for another runtime.

    The folder has the model, `signature.json` (inputs, outputs, classes), `README.md`, `example.py`, which does not
    import zoo, and the tokenizer of a run on texts. Weights are float32, whatever precision the run was trained in.

    Args:
        workdir: folder of the run.
        format: one of `FORMATS`.
        out: folder to write, new, empty or an earlier export; None: `WORKDIR/export/FORMAT`.

    Returns:
        The folder.

    Raises:
        BadInput: the run or format does not exist, the format cannot hold the run, a package is missing, or the folder
            has other files in it or cannot be written.
    """
    workdir = files.absolute(workdir)
    chosen = check(format)
    folder = (files.absolute(out) if out else workdir / "export" / format).resolve()
    _check_folder(folder)
    run = exported_run.read(workdir)
    aside = folder.with_name(f".partial-{folder.name}-{os.getpid()}")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        chosen.write(run, aside)
        _describe(run, format, chosen, aside)
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror}; make room or choose another folder") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def check(format: str) -> Format:
    """Returns a format by its name.

    Raises:
        BadInput: the name is unknown, or a package that writes the format is not installed.
    """
    if format not in FORMATS:
        raise BadInput(f"--format is {format!r}: {errors.nearest(format, tuple(FORMATS))}")
    missing = [name for name in FORMATS[format].made_by if importlib.util.find_spec(name) is None]
    if missing:
        raise BadInput(f"--format={format} needs {' and '.join(missing)}: run `pip install zoo-keras[export]`")
    return FORMATS[format]


def _savedmodel(run: RunModel, folder: Path) -> None:
    with converters.quiet():
        converters.with_named_output(run.network).export(str(folder / "model"), format="tf_saved_model", verbose=False)


def _keras(run: RunModel, folder: Path) -> None:
    run.network.save(folder / "model.keras")


def _litert(run: RunModel, folder: Path) -> None:
    converters.litert(run.network, folder / "model.tflite")


def _onnx(run: RunModel, folder: Path) -> None:
    converters.onnx(run.network, folder / "model.onnx")


FORMATS = {
    "savedmodel": Format(_savedmodel, "model", example_script.run_savedmodel, "tensorflow"),
    "keras": Format(_keras, "model.keras", example_script.run_keras, "keras tensorflow"),
    "litert": Format(_litert, "model.tflite", example_script.run_litert, "ai-edge-litert"),
    "onnx": Format(_onnx, "model.onnx", example_script.run_onnx, "onnxruntime", ("onnx", "tf2onnx")),
    "huggingface": Format(hugging_face.write, "model.safetensors", None, "transformers torch"),
}


def _describe(run: RunModel, format: str, chosen: Format, folder: Path) -> None:
    """Writes the signature, the README, the example and the tokenizer into the model's folder."""
    signature = {"format": format, "model": chosen.model, **run.signature}
    if format == "huggingface":
        signature |= hugging_face.signature(run)
    elif format == "litert" and converters.has_lstm(run.network):
        for each in (*signature["inputs"], *signature["outputs"]):
            each["shape"] = [1, *each["shape"][1:]]
    files.write(folder / SIGNATURE, json.dumps(signature, indent=1, ensure_ascii=False) + "\n")
    if run.tokenizer is not None and format != "huggingface":
        files.write(folder / folders.TOKENIZER, run.tokenizer.to_json())
    if "word_features" in signature:
        files.write(folder / exported_run.WORD_FEATURES, inspect.getsource(word_features))
    files.write(folder / "example.py", _example(run, chosen) if chosen.run else hugging_face.EXAMPLE)
    files.write(folder / "README.md", model_card.text(signature, chosen.needs))


def _example(run: RunModel, chosen: Format) -> str:
    """The source of example.py, made of functions that are tested as they are."""
    inputs = example_script.arrays_in if run.tokenizer is None else example_script.texts_in
    inputs = example_script.table_in if "table" in run.signature else inputs
    inputs = example_script.words_in if "word_features" in run.signature else inputs
    rows = [example_script.table_rows] if inputs is example_script.table_in else []
    used = (*rows, inputs, chosen.run, example_script.answers, example_script.main)
    parts = [inspect.getsource(part) for part in used]
    about = f'"""Predicts with {chosen.model}; README.md says how to call it."""\n'
    last = f'if __name__ == "__main__":\n    main({inputs.__name__}, {chosen.run.__name__})\n'
    return "\n\n".join(["\n".join([about, example_script.HEAD]), *parts, last])


def _check_folder(folder: Path) -> None:
    """Refuses to overwrite other files."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out {folder} is a file; expected a folder to write: choose another")
    if folder.exists() and any(folder.iterdir()) and not (folder / SIGNATURE).is_file():
        raise BadInput(f"--out {folder} has something else in it; expected a new folder or an earlier export")
