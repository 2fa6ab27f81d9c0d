# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/06_your_own_model_and_data.ipynb)
#
# # Your own data, and your own model
#
# The experiments read your files: a table (.csv), arrays (.npz), texts (.csv, .tsv, .jsonl, .txt). If that is not
# enough, write your own experiment: a `Config`, a `build` and a `forward`. Devices, checkpoints, resuming, TensorBoard
# and flags come with the engine.

# %%
# In Colab: fetches the project and installs it without its dependencies, to keep Colab's own TensorFlow; three small
# packages bring data and search. Elsewhere it does nothing.
import os
import subprocess
import sys

REPOSITORY = "OWNER/REPO"  # the project on GitHub; `python notebooks/pair.py --repository=...` writes it
if "google.colab" in sys.modules:
    if not os.path.isdir("zoo-project"):
        address = f"https://github.com/{REPOSITORY}"
        subprocess.run(["git", "clone", "--quiet", "--depth=1", address, "zoo-project"], check=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", "--editable", "zoo-project"], check=True)
        subprocess.run([*pip, "mlxtend", "snownlp", "bm25s"], check=True)
    sys.path.insert(0, os.path.abspath("zoo-project"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
BROWSER = "google.colab" in sys.modules or "JPY_SESSION_NAME" in os.environ  # a browser shows it

# %%
import csv
import dataclasses
import tempfile
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from sklearn import datasets

import zoo
from experiments import language_model, mlp_classifier
from zoo.data.datasets import images

runs = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A table
#
# One column holds the class, all others are numbers. Here the 178 wines of three growers (Aeberhard et al., 1992),
# written as your own file would be. 10 % become the validation and 10 % the test split; features are standardised by
# the training split alone, inside the model.

# %%
wine = datasets.load_wine()
with open(runs / "wine.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow([*wine.feature_names, "grower"])
    writer.writerows([*features, f"grower {label}"] for features, label in zip(wine.data, wine.target))

config = mlp_classifier.MlpConfig(
    dataset=str(runs / "wine.csv"), label_column="grower", hidden=(32,), epochs=60, batch_size=32, baseline=True
)
result = zoo.run(mlp_classifier.build, config, runs / "wine")
print({name: round(value, 3) for name, value in result.items() if name.startswith("test")})
predictor = zoo.load(runs / "wine")
print(predictor.classes[int(predictor.probabilities(wine.data[:1].astype(np.float32)).argmax())], "| truth: grower 0")
assert result["test/accuracy"] > 0.8

# %% [markdown]
# An error in the input is one line that says what is wrong, where, and how to fix it.

# %%
from zoo.errors import BadInput

try:
    zoo.run(mlp_classifier.build, config.replace(label_column="growers"), runs / "mistyped")
except BadInput as error:
    print(error)
else:
    raise AssertionError("a missing column was accepted")

# %% [markdown]
# ## Arrays
#
# `x` and `y`, optionally `weight`, `x_test` and `y_test`. uint8 means pixels of 0 to 255.

# %%
digits = datasets.load_digits()
np.savez(runs / "digits.npz", x=(digits.images * 15).astype(np.uint8), y=digits.target)
config = mlp_classifier.MlpConfig(dataset=str(runs / "digits.npz"), epochs=20, batch_size=64)
result = zoo.run(mlp_classifier.build, config, runs / "digits")
print({name: round(value, 3) for name, value in result.items() if name.startswith("test")})
assert result["test/accuracy"] > 0.85

# %% [markdown]
# ## Texts
#
# A .csv with texts and classes goes to `experiments.lstm_sentiment` or `bert_finetune` (`train_file=`,
# `text_column=`, `label_column=`; see 02), and a plain text to the language model. Here it learns
# this project's own README, byte by byte: a toy, but any .txt will do.

# %%
readme = next(path for path in (Path("../README.md"), Path("zoo-project/README.md")) if path.exists())
(runs / "mine.txt").write_text(readme.read_text(encoding="utf8"), encoding="utf8")
config = language_model.LanguageModelConfig(
    train_file=str(runs / "mine.txt"), tokenizer="byte", network="lstm", layers=1, learning_rate=3e-3, batch_size=16,
    steps=300, warmup_steps=20, recipe="plain",
)  # fmt: skip
result = zoo.run(language_model.build, config, runs / "mine")
print(f"{result['test/bits_per_byte']:.2f} bits a byte; an uncompressed byte has 8")

from zoo.predict.language_models import language_model as language

[sample] = language.load(runs / "mine").generate("The ", tokens=120, temperature=0.7, seed=1)
print("The " + sample.text)
assert result["test/bits_per_byte"] < 6

# %% [markdown]
# ## Your own model
#
# A convolutional network (LeCun et al., 1998) on 28 x 28 digits with a second task: it also reconstructs the image from
# its last features. The `objective` names the terms that are summed into the loss.


# %%
@dataclasses.dataclass(frozen=True)
class ConvConfig(zoo.Config):
    """Config of the run and the network; every field becomes a flag."""

    epochs: float = zoo.setting(3.0, "Passes over the training data.", minimum=0, may_change=True)
    filters: int = zoo.setting(16, "Filters of the first convolution.", minimum=1)
    reconstruct: float = zoo.setting(1.0, "Weight of the reconstruction.", minimum=0)


def forward(model, batch, training, reconstruct):
    """The whole task on one device's part of the batch: a value for each example; the engine sums them."""
    logits, image = model(batch["x"], training=training)
    target = tf.cast(batch["x"], tf.float32) / 255.0
    right = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), batch["y"])
    return {
        "classes": zoo.Term(tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], logits)),
        "image": zoo.Term(reconstruct * tf.reduce_mean((image - target) ** 2, axis=[1, 2])),
        "accuracy": zoo.Term(tf.cast(right, tf.float32)),
    }


def build(config):
    """Builds the model and loads the data; called again when the run resumes."""
    data = images.load("mnist_5k")
    pixels = keras.Input((28, 28), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255.0)(keras.layers.Reshape((28, 28, 1))(pixels))
    for filters in (config.filters, 2 * config.filters):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    features = keras.layers.Dropout(0.3)(keras.layers.Dense(64, "relu")(keras.layers.Flatten()(x)))
    image = keras.layers.Reshape((28, 28))(keras.layers.Dense(784, "sigmoid")(features))
    return zoo.Experiment(
        model=keras.Model(pixels, [keras.layers.Dense(10)(features), image]),
        forward=lambda *arguments: forward(*arguments, reconstruct=config.reconstruct),
        objective=("classes", "image"),
        train=zoo.Batches(data.train, config.batch_size, seed=config.seed),
        evals={"eval": zoo.Batches(data.validation, 256)},
        tests={"test": zoo.Batches(data.test, 256)},
    )


result = zoo.run(build, ConvConfig(epochs=6, learning_rate=2e-3), runs / "conv")
print({name: round(value, 4) for name, value in result.items() if name.startswith("test")})
assert result["test/accuracy"] > 0.85

# %% [markdown]
# The exported model is plain Keras. Above the test digits, below their reconstructions from 64 numbers.

# %%
model = keras.models.load_model(runs / "conv" / "model.keras")
test = images.load("mnist_5k").test
shown = np.random.default_rng(0).choice(len(test["y"]), 10, replace=False)
logits, reconstructed = (np.asarray(output) for output in model(test["x"][shown]))
figure, axes = plt.subplots(2, 10, figsize=(10, 2.3), layout="constrained")
for column, number in enumerate(shown):
    axes[0, column].imshow(test["x"][number], cmap="gray_r")
    axes[0, column].set_title(f"{logits[column].argmax()}", fontsize=10)
    axes[1, column].imshow(reconstructed[column], cmap="gray_r", vmin=0, vmax=1)
for axis in axes.flat:
    axis.axis("off")
plt.show()

# %% [markdown]
# As a program: put the classes above in `mine.py` with the two lines below, and every field is a flag (`python
# mine.py --filters=32 --cpu_devices=2 --help`).
#
# ```python
# if __name__ == "__main__":
#     zoo.main(build, ConvConfig, workdir="runs/mine")
# ```

# %%
# %load_ext tensorboard
if BROWSER:  # same as `%tensorboard --logdir FOLDER`
    from IPython import get_ipython

    get_ipython().run_line_magic("tensorboard", f"--logdir {runs}")
