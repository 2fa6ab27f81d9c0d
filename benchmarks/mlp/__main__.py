"""Training speed of an MLP, 784-64-64-10 with Adam, in this engine and in its peers, side by side.

    python -m benchmarks.mlp                                             # all, in this environment
    python -m benchmarks.mlp --contenders=engine,bare,'fit*' --rounds=20 --out=runs/benchmarks/fit.json
    python -m benchmarks.mlp --torch_python=ENV/bin/python --jax_python=ENV/bin/python --orbit_python=ENV/bin/python

To install the peers: `pip install -e '.[bench]'` brings torch, jax, optax and psutil. Each contender runs in its
own process; a peer may also have its own environment, named by `--torch_python`, `--jax_python` or
`--orbit_python`. Orbit needs one, as it asks for an older TensorFlow: `python -m venv ENV`, then
`ENV/bin/pip install tf-models-official`. A missing peer is listed as such.

Measured: 60,000 synthetic examples in memory, float32; every contender shuffles them each epoch in its own way, and
computes loss and accuracy in every step. All workers start and warm up one after the other; then each runs
for about `--seconds` per round (`fit*` at least an epoch), in turn, the order rotating. One batch size after the other,
as the workers of one already hold some 15 GB together.

How to read the table, median [min..max] over the rounds:

    ms/step, examples/s   wall time, with everything that a long run pays: shuffling, feeding, metrics.
    time / engine's       time in a round / the engine's in the same round: 2 is half as fast as the engine, and
                          1 / `bare` is what the engine adds to the bare compiled loop. Trust it rather than ms/step
                          when the machine is shared; trust neither when the last line shows a busy machine.
    peak MB               most memory of the process so far, the interpreter and 190 MB of data included.
    1st step s            from the start of the process to the end of the first call: import, data, tracing, compiling.
                          That call has 1,000 steps in `bare` and `jax_scan`, as many as are executed at once in `fit*`.
    loss                  in the last round, 2.3 at the start: shows that a contender learns. No contest: more steps
                          were done where steps are faster, and the random start decides much so early in a run.

`--out` writes the figures of all chunks, the machine and the versions.
"""

from benchmarks.harness import command_line
from benchmarks.harness.command_line import BASE
from benchmarks.harness.race import Contender

_TORCH = {"python": "torch", "install": "pip install torch"}
_JAX = {"python": "jax", "install": "pip install jax optax"}
_ORBIT = {"python": "orbit", "install": "pip install tf-models-official, in its own environment"}


def contenders() -> list[Contender]:
    """All contenders, in the order of the table."""
    return [
        Contender(BASE, "zoo", "mlp.engine.engine"),
        Contender("bare", "bare", "mlp.peer_tensorflow.bare"),
        *_fits(),
        Contender("tf_function", "tf.function", "mlp.peer_tensorflow.function", {"jit_compile": False}),
        Contender("tf_function_xla", "tf.function", "mlp.peer_tensorflow.function", {"jit_compile": True}),
        Contender("tf_eager", "eager TensorFlow", "mlp.peer_tensorflow.eager"),
        Contender("torch_eager", "PyTorch", "mlp.peer_torch.train", {"compiled": False}, **_TORCH),
        Contender(
            "torch_eager_1_thread", "PyTorch", "mlp.peer_torch.train", {"compiled": False, "threads": 1}, **_TORCH
        ),
        Contender("torch_compile", "PyTorch", "mlp.peer_torch.train", {"compiled": True}, **_TORCH),
        Contender(
            "torch_compile_1_thread", "PyTorch", "mlp.peer_torch.train", {"compiled": True, "threads": 1}, **_TORCH
        ),
        Contender("jax_scan", "JAX", "mlp.peer_jax.scan", **_JAX),
        Contender("jax_step", "JAX", "mlp.peer_jax.step", **_JAX),
        Contender("orbit", "Orbit", "mlp.peer_orbit.train", {"jit_compile": False}, **_ORBIT),
        Contender("orbit_xla", "Orbit", "mlp.peer_orbit.train", {"jit_compile": True}, **_ORBIT),
    ]


def _fits() -> list[Contender]:
    """`model.fit` as it comes (one step per execution; without XLA on a CPU), and with its two switches."""
    fits = [Contender("fit", "model.fit", "mlp.peer_fit.fit")]
    for steps, jit_compile in [(1, True), (32, True), (32, False), (1000, True), (1000, False)]:
        switches = {"steps_per_execution": steps, "jit_compile": jit_compile}
        name = f"fit_{steps}_{'xla' if jit_compile else 'graph'}"
        fits.append(Contender(name, "model.fit", "mlp.peer_fit.fit", switches))
    return fits


if __name__ == "__main__":
    command_line.run("mlp", __doc__.splitlines()[0], contenders(), ("torch", "jax", "orbit"))
