"""A `zoo.fit` in a process of its own: killed_fit.py WORKDIR [STEP] kills itself with SIGKILL before that step.

It prints the History and a hash of the weights and the optimizer's state.
"""

import hashlib
import json
import os
import signal
import sys

import keras
import numpy as np

import zoo
from tests.helpers import keras_models
from zoo.engine.engine import Engine

ARGUMENTS = {"batch_size": 8, "epochs": 4, "log_every": 2, "checkpoint_every": 3, "verbose": 0}


def make():
    """Dropout, so that a resumed run shows whether its noise goes on."""
    body = [keras.layers.Dense(7, "tanh"), keras.layers.Dropout(0.3)]
    model = keras_models.sequential(*body)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def kill_before(last: int) -> None:
    real = Engine.train

    def train(engine, batches, step, steps):
        if step + steps > last:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(engine, batches, step, steps)

    Engine.train = train


if __name__ == "__main__":
    if len(sys.argv) > 2:
        kill_before(int(sys.argv[2]))
    keras.utils.set_random_seed(3)
    model = make()
    x, y = keras_models.draw(32, keras_models.WIDTH), keras_models.labels(32)
    history = zoo.fit(model, x, y, validation_data=(x[:9], y[:9]), workdir=sys.argv[1], **ARGUMENTS)
    state = [np.asarray(value) for value in (*model.weights, *model.optimizer.variables)]
    digest = hashlib.sha256(b"".join(each.tobytes() for each in state)).hexdigest()
    print(json.dumps({"history": history.history, "epoch": history.epoch, "weights": digest}))
