"""Speed of a Transformer encoder, in training and inference, in this engine and in its peers, side by side.

    python -m benchmarks.transformer finetune bfloat16        # and float32
    python -m benchmarks.transformer mlm bfloat16             # and float32
    python -m benchmarks.transformer inference bfloat16       # and float32; batches of 1 and 128
    python -m benchmarks.transformer finetune bfloat16 --contenders='engine*,products,fit*' --rounds=20
    python -m benchmarks.transformer mlm bfloat16 --torch_python=ENV/bin/python --jax_python=ENV/bin/python

To install the peers: `pip install -e '.[bench]'` brings torch, jax, optax and psutil, `pip install keras-hub` KerasHub.
Each contender runs in its own process; a peer may also have its own environment, named by `--torch_python`,
`--jax_python` or `--hub_python`. A missing peer is listed as such. A contender holds 1 to 2 GB; where memory
is short, race some at a time.

Measured: 4 layers 256 wide, 4 heads, 1,024 inside, post-norm, exact GELU, texts of 128 tokens without padding (the
engine checks for it, its peers do not); 256 synthetic examples in memory, shuffled each epoch.

    finetune    vocabulary 30,522, a pooler and one logit for two classes. Dropout of 0.1 on embeddings, attention, both
                halves of each layer and the head; AdamW with decay of matrices, warm-up and linear decay, the gradient
                clipped by its global norm; loss and accuracy of each step.
    mlm         vocabulary 10,000; 19 of the 128 tokens are masked and have logits, by a dense layer and the embedding
                matrix. The rest as above, without the head's dropout.
    inference   the model of `finetune`: logits of one batch after the other, as an array.

In a bfloat16 race the engine and contenders with `bfloat16` in their name multiply in it and keep float32 weights; the
others use float32. A float32 race has only the latter.

All workers start and warm up one after the other; then each runs for about `--seconds` per round (`fit*` and `hub*` at
least an epoch of 256 examples), in turn, the order rotating.

    engine              as in an experiment by default: islands of XLA between matrix products of TensorFlow.
    engine_step         forward and backward pass in one XLA program.
    engine_no_dropout   without dropout, to show its cost.
    products            only products of 2,048 x 2,048 matrices, with as many operations as the step's own products: its
                        time / engine's is the fraction of the machine's peak that the engine reaches.

How to read the table, median [min..max] over the rounds:

    ms/step, examples/s   wall time, with everything that a long run pays: shuffling, feeding, metrics.
    time / engine's       time in a round / the engine's in the same round: 2 is half as fast as the engine. Trust
                          it rather than ms/step when the machine is shared; trust neither when the last line shows a
                          busy machine.
    peak MB               most memory of the process so far, the interpreter included.
    1st step s            from the start of the process to the end of the first call: import, data, tracing, compiling.
    loss                  in the last round, at the start 0.69, of `mlm` 9.2: shows that a contender learns. No contest:
                          more steps were done where steps are faster.

`--out` writes the figures of all chunks, the machine and the versions.
"""

import argparse
import itertools

from benchmarks.harness import command_line
from benchmarks.harness.command_line import BASE
from benchmarks.harness.race import Contender

_WORKS = ("finetune", "mlm", "inference")
_PRECISIONS = ("float32", "bfloat16")
_TORCH = {"python": "torch", "install": "pip install torch"}
_JAX = {"python": "jax", "install": "pip install jax optax"}
_HUB = {"python": "hub", "install": "pip install keras-hub"}


def contenders(work: str, precision: str) -> list[Contender]:
    """All of a race, in the order of the table."""
    precisions = ("float32",) if precision == "float32" else ("bfloat16", "float32")
    entries = _inferring(precisions) if work == "inference" else _training(precisions)
    options = {"work": work}
    return [Contender(c.name, c.group, c.place, {**options, **c.options}, c.python, c.install) for c in entries]


def _training(precisions: tuple[str, ...]) -> list[Contender]:
    own, entries = {"precision": precisions[0]}, []
    entries.append(Contender(BASE, "zoo", "transformer.engine.engine", own))
    entries.append(Contender("engine_step", "zoo", "transformer.engine.engine", {**own, "compile": "step"}))
    entries.append(Contender("engine_no_dropout", "no dropout", "transformer.engine.engine", {**own, "dropout": 0.0}))
    entries += _products(precisions[0])
    for name in precisions:
        entries.append(Contender(_named("fit", name), "model.fit", "transformer.peer_fit.fit", {"precision": name}))
    for name, jit_compile in itertools.product(precisions, (False, True)):
        label = _named("fit_8_xla" if jit_compile else "fit_8_graph", name)
        options = {"precision": name, "steps_per_execution": 8, "jit_compile": jit_compile}
        entries.append(Contender(label, "fit tuned", "transformer.peer_fit.fit", options))
    for name in precisions:
        options = {"precision": name, "hub": True}
        entries.append(Contender(_named("hub", name), "KerasHub", "transformer.peer_fit.fit", options, **_HUB))
    entries += _torches("transformer.peer_torch.train", precisions)
    for name, generator in itertools.product(precisions, ("threefry2x32", "rbg")):
        label = _named("jax_rbg" if generator == "rbg" else "jax", name)
        options = {"precision": name, "generator": generator}
        entries.append(Contender(label, "JAX", "transformer.peer_jax.train", options, **_JAX))
    return entries


def _inferring(precisions: tuple[str, ...]) -> list[Contender]:
    own, entries = {"precision": precisions[0]}, []
    entries.append(Contender(BASE, "zoo", "transformer.engine.infer", own))
    entries.append(Contender("engine_xla", "zoo", "transformer.engine.infer", {**own, "jit_compile": True}))
    entries += _products(precisions[0])
    for name in precisions:
        entries.append(
            Contender(_named("predict", name), "predict", "transformer.peer_fit.predict", {"precision": name})
        )
        options = {"precision": name, "hub": True}
        entries.append(Contender(_named("hub", name), "KerasHub", "transformer.peer_fit.predict", options, **_HUB))
    entries += _torches("transformer.peer_torch.infer", precisions)
    for name in precisions:
        entries.append(Contender(_named("jax", name), "JAX", "transformer.peer_jax.infer", {"precision": name}, **_JAX))
    return entries


def _products(precision: str) -> list[Contender]:
    options = {"precision": precision}
    return [
        Contender("products", "peak", "transformer.engine.products", options),
        Contender("products_xla", "peak", "transformer.engine.products", {**options, "jit_compile": True}),
    ]


def _torches(place: str, precisions: tuple[str, ...]) -> list[Contender]:
    entries = []
    for name, compiled in itertools.product(precisions, (False, True)):
        label = _named("torch_compile" if compiled else "torch_eager", name)
        # A group for each precision, as the best of each is reported.
        group = _named("PyTorch", name).replace("_", " ")
        entries.append(Contender(label, group, place, {"precision": name, "compiled": compiled}, **_TORCH))
    return entries


def _named(name: str, precision: str) -> str:
    return name if precision == "float32" else f"{name}_{precision}"


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("work", choices=_WORKS)
    parser.add_argument("precision", choices=_PRECISIONS)
    options, rest = parser.parse_known_args()
    name = f"transformer {options.work} {options.precision}"
    about, chosen = __doc__.splitlines()[0], contenders(options.work, options.precision)
    batch_sizes = "1,128" if options.work == "inference" else "32"
    command_line.run(name, about, chosen, ("torch", "jax", "hub"), rest, batch_sizes)


if __name__ == "__main__":
    main()
