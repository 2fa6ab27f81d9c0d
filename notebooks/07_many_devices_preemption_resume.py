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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/07_many_devices_preemption_resume.ipynb)
#
# # Many devices, preemption and resuming
#
# In data-parallel training each replica computes the gradient of its part of the batch, and the sums are added up
# (all-reduce). Done carelessly the result differs from one device: means of means weight a short batch wrongly,
# clipping before the sum clips differently, dropout draws the same mask on each replica. Here sums are reduced and
# divided once, by the global weight. This notebook tries it with logical devices of one CPU, kills a run, and resumes
# it.

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
import json
import signal
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import zoo

# %% [markdown]
# ## The folder of the runs
#
# Colab's disk is lost with its machine; a folder on your Drive stays. After a disconnect run the same cells again, and
# the run resumes from its newest checkpoint there. Set `DRIVE = True` for that; it asks for permission.

# %%
DRIVE = False
if DRIVE and "google.colab" in sys.modules:
    from google.colab import drive

    drive.mount("/content/drive")
    runs = Path("/content/drive/MyDrive/zoo-runs")
else:
    runs = Path(tempfile.mkdtemp())
print(runs)

# %% [markdown]
# ## One device and two
#
# TensorFlow's devices are set once per process, so each run is a separate process, by the command line. The run has
# dropout, clipping and weight decay, but no batch normalisation, and its last batch is short (4,000 is not a multiple
# of 96).

# %%
FLAGS = [
    "--steps=300", "--batch_size=96", "--dropout=0.2", "--optimizer=adamw", "--clip_norm=0.5",
    "--checkpoint_every=20", "--log_every=5",
]  # fmt: skip


def command(name, *more):
    return [sys.executable, "-m", "experiments.mlp_classifier", f"--workdir={runs / name}", *FLAGS, *more]


def train(name, *more):
    """Runs the command; its last line is a JSON object with the final metrics."""
    start = time.perf_counter()
    process = subprocess.run(command(name, *more), cwd=project, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    print(f"{name}: {time.perf_counter() - start:.0f} s, including TensorFlow's start-up")
    return json.loads(process.stdout.splitlines()[-1])


project = Path("zoo-project" if "google.colab" in sys.modules else "..").resolve()
results = {"one": train("one"), "two": train("two", "--cpu_devices=2")}


def weights(name):
    return zoo.load(runs / name).model.get_weights()


apart = max(float(np.abs(a - b).max()) for a, b in zip(weights("one"), weights("two")))
print(f"largest difference of any weight: {apart:.1e}")
print({name: round(result["test/loss"], 6) for name, result in results.items()})
assert apart < 1e-5

# %% [markdown]
# Not bitwise the same: two replicas add float32 numbers in another order. But for that, the training is the same.
#
# ## Killed
#
# The same command again, in another folder, and SIGKILL as soon as its second checkpoint exists. No program can handle
# that signal, like the loss of a preemptible machine. A checkpoint is written under another name, checksummed and
# renamed, so that an incomplete one is never read.


# %%
def kill_at(name, checkpoint):
    process = subprocess.Popen(command(name), cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list((runs / name / "checkpoints").glob(f"step-*{checkpoint}")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode


code = kill_at("killed", 40)
left = sorted(path.name for path in (runs / "killed" / "checkpoints").iterdir())
print("exit code", code, "| left behind:", left)
assert code == -signal.SIGKILL and not (runs / "killed" / "result.json").exists()

# %% [markdown]
# ## And resumed
#
# The same command once more. It ends with bitwise the same weights and metrics as the undisturbed run, and its
# TensorBoard history has no gaps.

# %%
results["killed"] = train("killed")
assert all(np.array_equal(a, b) for a, b in zip(weights("one"), weights("killed")))
same = {name: value for name, value in results["one"].items() if "second" not in name}
assert same == {name: value for name, value in results["killed"].items() if "second" not in name}
"bitwise the same"

# %%
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def curve(folder, tag):
    """Steps and values of a TensorBoard curve."""
    points = EventAccumulator(str(folder), {"tensors": 0}).Reload().Tensors(tag)
    return [point.step for point in points], [float(tf.make_ndarray(point.tensor_proto)) for point in points]


whole, resumed = (curve(runs / name / "train", "loss") for name in ("one", "killed"))
assert whole == resumed
figure, axis = plt.subplots(figsize=(8, 3), layout="constrained")
axis.plot(*whole, color="tab:blue", linewidth=5, alpha=0.35, label="undisturbed")
axis.plot(*resumed, color="black", linewidth=1.2, label="killed and resumed")
killed_at = int(left[-1].split("-")[-1]) if left[-1].startswith("step-") else 40
axis.axvline(killed_at, color="tab:red", linestyle="--", linewidth=1)
axis.text(killed_at, axis.get_ylim()[1], " newest checkpoint when it was killed", color="tab:red", va="top", fontsize=9)
axis.set(xlabel="step", ylabel="training loss (nats)")
axis.legend(frameon=False, loc="center right")
axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# On a machine with several GPUs the flag is `--strategy=mirrored`; with several machines `TF_CONFIG` names the workers
# and the workdir is a shared folder. A run that began on one device may resume on two: checkpoints are independent of
# devices.

# %%
more = FLAGS.copy()
FLAGS[0] = "--steps=360"
longer = train("killed", "--cpu_devices=2")
FLAGS[:] = more
print({name: round(longer[name], 4) for name in ("step", "test/loss", "test/accuracy")})
assert longer["step"] > results["killed"]["step"] and longer["test/accuracy"] > 0.8

# %%
# %load_ext tensorboard
if BROWSER:  # same as `%tensorboard --logdir FOLDER`
    from IPython import get_ipython

    get_ipython().run_line_magic("tensorboard", f"--logdir {runs}")
