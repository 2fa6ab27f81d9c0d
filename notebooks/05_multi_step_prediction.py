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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/05_multi_step_prediction.ipynb)
#
# # Multi-step prediction (test-time adaptation): a corrupted digit, a review
#
# Test data may differ from the training data (distribution shift). Predict, change something (the statistics of layers,
# the input, the output's calibration), evaluate without labels, keep the change or undo it, and use it for the next
# prediction. This is test-time adaptation (Sun et al., 2020; Wang et al., 2021) with guards that may refuse a change.
# Figures for twelve corruptions, with the failures, are in `docs/multi_step_prediction.md`.

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
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import zoo
from experiments.mlp_classifier import MlpConfig, build
from zoo.adaptation.stages.pose import Pose
from zoo.adaptation.stages.statistics import BatchStatistics
from zoo.data.datasets import images
from zoo.data.datasets.image_corruptions import corrupted
from zoo.predict.evaluation import held_out
from zoo.predict.predictors.cloning import digest

runs = Path(tempfile.mkdtemp())
config = MlpConfig(hidden=(128, 128), norm="batch", epochs=0, steps=300, batch_size=128)
result = zoo.run(build, config, runs / "digits")
{"test/accuracy": result["test/accuracy"]}

# %% [markdown]
# ## A stream of corrupted digits
#
# The network was trained on clean digits. Now they are brighter and have less contrast, and it predicts the same class
# for nearly all of them. It gets no labels.

# %%
predictor = zoo.load(runs / "digits")
heldout = held_out.load(runs / "digits", predictor)
test = images.load("mnist_5k").test
order = np.random.default_rng(0).permutation(len(test["y"]))
x, y = corrupted(test["x"][order], "brightness", 5), test["y"][order]
stream = [x[first : first + 100] for first in range(0, 500, 100)]

before = digest(predictor.model)
refined = zoo.refine(predictor, stream, [BatchStatistics()], heldout)
plain = predictor.probabilities(x)
errors = {
    "plain": float((plain.argmax(1) != y).mean()),
    "refined": float((refined.probabilities.argmax(1) != y).mean()),
}
assert errors["refined"] < errors["plain"] / 3
assert digest(predictor.model) == before, "the trained weights are never touched"
errors

# %% [markdown]
# One digit before and after, and the trace: the change tried on each batch, the guards' estimates, and the reason for
# keeping it.

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
number = int(np.flatnonzero((plain.argmax(1) != y) & (refined.probabilities.argmax(1) == y))[0])
axes[0].imshow(x[number], cmap="gray", vmin=0, vmax=255)
axes[0].set(title=f"a {y[number]}, corrupted", xticks=[], yticks=[])
for axis, probabilities, name in ((axes[1], plain, "plain"), (axes[2], refined.probabilities, "refined")):
    axis.bar(range(10), probabilities[number], color=["tab:green" if c == y[number] else "tab:grey" for c in range(10)])
    axis.set(title=name, ylim=(0, 1), xticks=range(10))
plt.show()
for line in refined.trace:
    print(line.batch, line.stage, "kept" if line.accepted else "refused", line.reason)
    print(
        f"   expected error {line.before.error:.2f} -> {line.after.error:.2f}, "
        f"distance from usual predictions {line.before.distance:.1f} -> {line.after.distance:.1f}"
    )

# %% [markdown]
# ## The same stream without corruption
#
# Without a shift nothing changes: the predictions are bit for bit those of the plain network.

# %%
clean = test["x"][order]
same = zoo.refine(predictor, [clean[:250], clean[250:]], [BatchStatistics(), Pose()], heldout)
assert not any(line.accepted for line in same.trace)
{line.stage: line.reason for line in same.trace}

# %% [markdown]
# ## Changing the input
#
# Rotated digits: statistics do not fix them, and that stage refuses. The stage `Pose` searches for the rotation, scale
# and translation at which each image is most like a class.

# %%
turned = corrupted(test["x"][order], "rotation", 4)[:200]
refined = zoo.refine(predictor, [turned[:100], turned[100:]], [Pose()], heldout)
plain = predictor.probabilities(turned)
errors = {
    "plain": float((plain.argmax(1) != y[:200]).mean()),
    "refined": float((refined.probabilities.argmax(1) != y[:200]).mean()),
}
assert errors["refined"] < errors["plain"]

pose = Pose()
pose.begin(predictor, heldout)
aligned = pose.aligned(turned[:8])
figure, axes = plt.subplots(2, 8, figsize=(10, 2.8), layout="constrained")
for column in range(8):
    for row, (shown, predictions) in enumerate(((turned, plain), (aligned, refined.probabilities))):
        axes[row, column].imshow(shown[column], cmap="gray")
        axes[row, column].set(title=f"{predictions[column].argmax()}?", xticks=[], yticks=[])
axes[0, 0].set_ylabel("input")
axes[1, 0].set_ylabel("aligned")
plt.show()
errors

# %% [markdown]
# ## Reviews under label shift
#
# A small LSTM classifies Chinese reviews, half of which were good in training. In the stream nine of ten are bad. The
# stages on the output estimate this from the predictions alone: a temperature calibrates the probabilities, and the
# prior follows the class proportions.

# %%
from experiments import lstm_sentiment
from zoo.adaptation.stages.output import Prior, Temperature
from zoo.predict.evaluation.run_data import run_texts
from zoo.workdir import read_run

config = lstm_sentiment.LstmConfig(
    recipe="plain", epochs=0, steps=150, batch_size=64, learning_rate=0.003, pooling="max"
)
zoo.run(lstm_sentiment.build, config, runs / "reviews")
reader = zoo.load(runs / "reviews")
heldout = held_out.load(runs / "reviews", reader)
reviews = run_texts(read_run(runs / "reviews")).test
draw = np.random.default_rng(0)
bad, good = (draw.permutation(np.flatnonzero(reviews.labels == label)) for label in (0, 1))
chosen = draw.permutation(np.concatenate([bad[:540], good[:60]]))
texts, labels = [reviews.texts[index] for index in chosen], reviews.labels[chosen]
stream = [texts[first : first + 50] for first in range(0, 600, 50)]

plain = reader.probabilities(texts)
refined = zoo.refine(reader, stream, [Temperature(), Prior()], heldout)
accuracy = {
    "plain": float((plain.argmax(1) == labels).mean()),
    "refined": float((refined.probabilities.argmax(1) == labels).mean()),
}
assert accuracy["refined"] > accuracy["plain"]
accuracy

# %%
number = int(np.flatnonzero((plain.argmax(1) != labels) & (refined.probabilities.argmax(1) == labels))[-1])
print(texts[number][:60], "| truth:", reader.classes[labels[number]])
for name, probabilities in (("plain", plain), ("refined", refined.probabilities)):
    print(name, {reader.classes[label]: round(float(probabilities[number][label]), 3) for label in range(2)})

# %% [markdown]
# ## Early exit
#
# The last kind of stage computes less: the LSTM stops where the rest of a text can hardly change the prediction. Its
# threshold is chosen on the validation split, so that at most 1 % of predictions change, with probability 0.95. If that
# cannot be promised, it reads the whole text.

# %%
from zoo.adaptation.stages.compute import Compute

texts = reviews.texts[:400]
refined = zoo.refine(reader, [texts[:200], texts[200:]], [Compute(runs / "reviews")], heldout)
changed = int((refined.probabilities.argmax(1) != reader.probabilities(texts).argmax(1)).sum())
print(refined.trace[-1].reason)
print(f"changed predictions: {changed} of {len(texts)}")
assert changed <= 20

# %% [markdown]
# ## The curves of both runs in TensorBoard

# %%
# %load_ext tensorboard
if BROWSER:  # same as `%tensorboard --logdir FOLDER`
    from IPython import get_ipython

    get_ipython().run_line_magic("tensorboard", f"--logdir {runs}")
