"""Training speed of an LSTM on reviews of many lengths, in this engine and in its peers, side by side.

    python -m benchmarks.lstm                                             # all, in this environment
    python -m benchmarks.lstm --contenders=engine,'fit*' --rounds=20 --out=runs/benchmarks/lstm_fit.json
    python -m benchmarks.lstm --torch_python=ENV/bin/python --jax_python=ENV/bin/python

To install the peers: `pip install -e '.[bench]'` brings torch, jax, optax and psutil. Each contender runs in its
own process; a peer may also have its own environment, named by `--torch_python` or `--jax_python`. A missing peer is
listed as such.

Measured: Embedding(10,000, 64), LSTM(64), Dense(1); binary cross-entropy of the logit, Adam with all of the
embedding in each step, float32. 4,096 synthetic reviews in memory, of 4 to 200 tokens: half have fewer than 120, a
fifth have 200. Every contender shuffles them each epoch in its own way, and computes loss and accuracy in every step.
A step's time depends on the length of its reviews, so each chunk has whole epochs: at least one, and as many as last
about `--seconds`. All workers start and warm up one after the other; then each runs a chunk per round,
in turn, the order rotating.

The name says how a contender treats the lengths:

    padded    batches in random order, all padded to 200; the state is taken at the end of each review.
    packed    without padding, by PyTorch's `PackedSequence`.
    masked    with padding, at which Keras's mask keeps the LSTM's state.
    sorted    batches of about one length, new ones every epoch, in random order. PyTorch and `fit` without XLA cut them
              to the longest; XLA compiles every width, so there they are padded to one of five.

`fit` is `model.fit` as it comes: arrays padded to 200, the embedding's mask, one step per execution.

How to read the table, median [min..max] over the rounds:

    ms/step, examples/s   wall time, with everything that a long run pays: shuffling, feeding, metrics.
    time / engine's       time in a round / the engine's in the same round: 2 is half as fast as the engine. Trust
                          it rather than ms/step when the machine is shared; trust neither when the last line shows a
                          busy machine, least of all for contenders with two threads, which wait for each other.
    peak MB               most memory of the process so far, the interpreter and the data included.
    1st step s            from the start of the process to the end of the first call: import, data, tracing, compiling.
                          That call has as many steps as are executed at once: 32 in `fit_*`, up to 32 in `jax_padded*`,
                          up to 4 in `jax_sorted*`. The other widths are compiled later, before the first round.
    loss                  in the last round, 0.69 at the start: shows that a contender learns. No contest: more steps
                          were done where steps are faster, and libraries differ in how they initialize.

`--out` writes the figures of all chunks, the machine and the versions.
"""

import itertools

from benchmarks.harness import command_line
from benchmarks.harness.command_line import BASE
from benchmarks.harness.race import Contender


def contenders() -> list[Contender]:
    """All contenders, in the order of the table."""
    return [
        Contender(BASE, "zoo", "lstm.engine.engine"),
        Contender("fit", "model.fit", "lstm.peer_fit.fit"),
        *_fits(),
        *_torches(),
        *_jaxes(),
    ]


def _fits() -> list[Contender]:
    """`model.fit` with what its users can tune."""
    entries = []
    for alike, masked, jit_compile in itertools.product([False, True], [True, False], [True, False]):
        words = ["sorted" if alike else "padded", *["masked"] * masked, "xla" if jit_compile else "graph"]
        options = {"alike": alike, "masked": masked, "steps_per_execution": 32, "jit_compile": jit_compile}
        entries.append(Contender("_".join(["fit", *words]), "fit tuned", "lstm.peer_fit.fit", options))
    return entries


def _torches() -> list[Contender]:
    entries = []
    for alike, packed, threads in itertools.product([False, True], [False, True], [0, 1]):
        words = ["sorted"] * alike + ["packed"] * packed or ["padded"]
        name = "_".join(["torch", *words, *["1_thread"] * threads])
        options = {"alike": alike, "packed": packed, "threads": threads}
        entries.append(Contender(name, "PyTorch", "lstm.peer_torch.train", options, "torch", "pip install torch"))
    return entries


def _jaxes() -> list[Contender]:
    entries = []
    for alike, unroll in itertools.product([False, True], [1, 4]):
        name = f"jax_{'sorted' if alike else 'padded'}{'_unrolled' if unroll > 1 else ''}"
        # Few batches of an epoch have the same width.
        options = {"alike": alike, "steps_per_call": 4 if alike else 32, "unroll": unroll}
        entries.append(Contender(name, "JAX", "lstm.peer_jax.scan", options, "jax", "pip install jax optax"))
    return entries


if __name__ == "__main__":
    command_line.run("lstm", __doc__.splitlines()[0], contenders(), ("torch", "jax"))
