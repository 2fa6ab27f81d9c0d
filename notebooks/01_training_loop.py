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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/01_training_loop.ipynb)
#
# # The training loop: from an eager `GradientTape` to the engine
#
# A network is trained by one idea, repeated: predict, measure the loss, follow its gradient back through the layers
# (Rumelhart, Hinton and Williams, 1986), change the weights a little, here by Adam (Kingma and Ba, 2015). This
# notebook writes that loop by hand for a 784-64-64-10 classifier, as the Keras guides do, compiles it, and then hands
# it to the engine: what does each step gain?

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
import time
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import zoo
from experiments import mlp_classifier
from experiments.mlp_classifier import MlpConfig
from zoo.data.datasets import images

runs = Path(tempfile.mkdtemp())
data = images.load("mnist_5k")  # 5,000 of MNIST's digits (LeCun et al., 1998), which pip brings
{name: len(getattr(data, name)["y"]) for name in ("train", "validation", "test")}

# %% [markdown]
# ## The network and its batches
#
# The config holds everything that the run depends on. `build` makes the network and the batches from it. A batch is a
# function of the step: `train.at(7)` is the same on every machine and after every restart.

# %%
config = MlpConfig(hidden=(64, 64), epochs=6, batch_size=128)


def fresh():
    """The network with the initial weights of the engine's run, and its batches."""
    keras.utils.set_random_seed(config.seed)
    return mlp_classifier.build(config)


experiment = fresh()
experiment.model.summary(line_length=70)
assert experiment.model.count_params() == 784 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10
steps = int(config.epochs * experiment.train.steps_per_epoch)

# %% [markdown]
# ## By hand, eagerly
#
# Each line runs immediately, so it is easy to print and debug. The last batch of an epoch is short: its missing rows
# have weight 0, and the mean is over the others.


# %%
def step(model, optimizer, batch, weights):
    with tf.GradientTape() as tape:
        logits = model(batch["x"], training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], logits)
        loss = tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return loss


def train(step, model, optimizer, batches):
    """The losses, and the median milliseconds a step, so that the first call's compilation does not count."""
    losses, times = [], []
    for number in range(steps):
        batch, weights = batches.at(number)
        batch = {name: tf.constant(column) for name, column in batch.items()}
        start = time.perf_counter()
        losses.append(float(step(model, optimizer, batch, tf.constant(weights))))
        times.append(time.perf_counter() - start)
    return losses, 1000 * float(np.median(times))


def accuracy(model):
    return float(np.mean(model.predict(data.test["x"], verbose=0).argmax(axis=1) == data.test["y"]))


eager = fresh()
losses, milliseconds = {}, {}
losses["eager"], milliseconds["eager"] = train(step, eager.model, keras.optimizers.Adam(1e-3), eager.train)
print(f"{milliseconds['eager']:.2f} ms a step, test accuracy {accuracy(eager.model):.3f}")

# %% [markdown]
# ## In a graph
#
# `tf.function` traces the step once and then runs the graph, without Python in between. One line, the same numbers.
# The optimizer's variables must exist before the trace, hence `build`.

# %%
traced = fresh()
optimizer = keras.optimizers.Adam(1e-3)
optimizer.build(traced.model.trainable_variables)
losses["tf.function"], milliseconds["tf.function"] = train(tf.function(step), traced.model, optimizer, traced.train)
print(f"{milliseconds['tf.function']:.2f} ms a step, test accuracy {accuracy(traced.model):.3f}")
assert np.allclose(losses["eager"], losses["tf.function"], atol=1e-3)

# %% [markdown]
# ## By the engine
#
# Many steps are one compiled program (XLA), which gathers its rows from the data in memory. The task is the same code
# without the loop: `forward` returns one loss for each example, and the engine sums, weights, divides and applies.

# %%
result = zoo.run(mlp_classifier.build, config.replace(log_every=16), runs / "whole")
{name: value for name, value in result.items() if name.startswith(("step", "train", "eval", "test"))}

# %% [markdown]
# How fast is it? A longer run makes compilation a small part; the rate is that of its last part.

# %%
longer = config.replace(epochs=100, log_every=1000, eval_every=10**6)
rate = zoo.run(mlp_classifier.build, longer, runs / "longer")["train/examples_per_second"]
milliseconds["engine"] = 1000 * config.batch_size / rate
print({name: round(value, 3) for name, value in milliseconds.items()}, "ms a step")

# %% [markdown]
# And it is the same training: with the same initial weights and batches, the loop by hand and the engine end with the
# same weights, but for float32 sums in another order, a difference that Adam enlarges a little in every step.

# %%
engine = keras.models.load_model(runs / "whole" / "model.keras")
apart = [np.max(np.abs(a - b)) for a, b in zip(engine.get_weights()[-6:], traced.model.get_weights()[-6:])]
print(f"furthest weights: {max(apart):.1e}; test accuracy {accuracy(traced.model):.3f} and {accuracy(engine):.3f}")
assert max(apart) < 1e-3 and abs(accuracy(engine) - accuracy(traced.model)) < 0.01
assert result["test/accuracy"] > 0.85

# %%
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def curve(folder, tag):
    """Steps and values of a TensorBoard curve."""
    points = EventAccumulator(str(folder), {"tensors": 0}).Reload().Tensors(tag)
    return [point.step for point in points], [float(tf.make_ndarray(point.tensor_proto)) for point in points]


figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
left.plot(range(1, steps + 1), losses["eager"], color="tab:blue", alpha=0.45, linewidth=1, label="eager, each step")
left.plot(*curve(runs / "whole" / "train", "loss"), color="tab:orange", label="engine, mean of 16 steps")
left.plot(*curve(runs / "whole" / "eval", "loss"), "k.--", label="engine, validation")
left.set(xlabel="step", ylabel="cross-entropy (nats)", ylim=(0, None), title="one training, three times")
left.legend(frameon=False)
bars = right.barh(list(milliseconds), list(milliseconds.values()), color=["tab:blue", "tab:green", "tab:orange"])
right.bar_label(bars, fmt=" %.2f")
right.invert_yaxis()
right.set(xlabel="milliseconds a step (logarithmic)", title="what a step costs", xscale="log", xlim=(0.01, 1000))
for axis in (left, right):
    axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## What else it gains: the run is a function of its config
#
# A killed loop starts again from scratch, or from a checkpoint that has the weights but not the position in the data
# and the next dropout masks. Here a run of 50 steps plays the killed run; the same command resumes it, with dropout,
# and ends with bitwise the same weights as the whole run (07 kills a real process).

# %%
dropped = config.replace(dropout=0.2, checkpoint_every=25)
whole = zoo.run(mlp_classifier.build, dropped, runs / "dropped")
zoo.run(mlp_classifier.build, dropped.replace(epochs=0, steps=50), runs / "resumed")
resumed = zoo.run(mlp_classifier.build, dropped, runs / "resumed")
weights = [keras.models.load_model(runs / name / "model.keras").get_weights() for name in ("dropped", "resumed")]
assert all(np.array_equal(a, b) for a, b in zip(*weights)), "bitwise"
assert resumed["test/loss"] == whole["test/loss"]
whole["test/accuracy"], resumed["test/accuracy"]

# %% [markdown]
# Several micro-batches a step (gradient accumulation, `accumulate`) need less memory and are the same run, dropout
# included: a mask is a hash of seed, step, layer and the example's position in the batch, not the next number of a
# generator.

# %%
parts = zoo.run(mlp_classifier.build, dropped.replace(accumulate=4), runs / "parts")
print(f"loss {whole['test/loss']:.6f} in one piece, {parts['test/loss']:.6f} in four")
assert abs(parts["test/loss"] - whole["test/loss"]) < 1e-3

# %% [markdown]
# ## Predictions
#
# The saved model includes its preprocessing: raw pixels in, probabilities out. Below are the wrong predictions on test
# digits with the highest confidence; some of the digits are hard for us, too.

# %%
predictor = zoo.load(runs / "whole")
probabilities = predictor.probabilities(data.test["x"])
wrong = np.flatnonzero(probabilities.argmax(axis=1) != data.test["y"])
worst = wrong[np.argsort(-probabilities[wrong].max(axis=1))][:8]
figure, axes = plt.subplots(1, 8, figsize=(10, 1.8), layout="constrained")
for axis, number in zip(axes, worst):
    axis.imshow(data.test["x"][number], cmap="gray_r")
    predicted = probabilities[number]
    axis.set_title(f"{predicted.argmax()}: {predicted.max():.0%}\ntruly {data.test['y'][number]}", fontsize=9)
    axis.axis("off")
plt.show()

# %% [markdown]
# ## The curves in TensorBoard

# %%
# %load_ext tensorboard
if BROWSER:  # same as `%tensorboard --logdir FOLDER`
    from IPython import get_ipython

    get_ipython().run_line_magic("tensorboard", f"--logdir {runs}")
