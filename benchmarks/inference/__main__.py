"""Speed of inference of a trained model, in the zoo and in its peers, side by side.

    python -m benchmarks.inference mlp          # 784-64-64-10; or lstm, or encoder: batches of 1 and 128
    python -m benchmarks.inference encoder --contenders='engine,compiled*,torch*' --batch_sizes=1 --rounds=20
    python -m benchmarks.inference mlp --torch_python=ENV/bin/python --jax_python=ENV/bin/python

To install the peers: `pip install -e '.[bench,export]'`. Each contender runs in its own process; a peer may also
have its own environment. A missing peer is listed as such.

Measured: a call that takes an array of the batch's examples and returns an array of their logits.

    mlp         784 float32 numbers, 64-64-10.
    lstm        120 tokens without padding; Embedding(10,000, 64), LSTM(64), Dense(1).
    encoder     128 tokens without padding; 4 layers, 256 wide, 4 heads, post-norm, exact GELU, a pooler, one logit.

    engine              as `zoo.load` predicts with a converted run: LiteRT for single examples, if the first five show
                        that it agrees and is faster, else the compiled model (the encoder is trained in bfloat16, which
                        LiteRT does not agree with).
    compiled            the compiled model, always.
    lite, onnx          the exported file in its own runtime. An LSTM's LiteRT file takes one example at a time.
    predict             `model.predict` with one batch; predict_on_batch is without its set-up.

Contenders with `bfloat16` in their name multiply in bfloat16, the others in float32. For the table's columns see
`benchmarks.transformer`; here `loss` is the mean size of the last logits, which differ as the weights do.
"""

import argparse
import itertools

from benchmarks.harness import command_line
from benchmarks.harness.command_line import BASE
from benchmarks.harness.race import Contender
from benchmarks.inference.data import WORKS

_TORCH = {"python": "torch", "install": "pip install torch"}
_JAX = {"python": "jax", "install": "pip install jax optax"}


def contenders(work: str) -> list[Contender]:
    """All contenders, in the order of the table."""
    encoder = work == "encoder"
    precisions = ("float32", "bfloat16") if encoder else ("float32",)
    entries = [Contender(BASE, "zoo", "inference.engine.engine", {"precision": precisions[-1]})]
    for name in precisions:
        entries.append(Contender(_named("compiled", name), "zoo", "inference.engine.compiled", {"precision": name}))
    entries.append(Contender("lite", "zoo", "inference.engine.lite", install="pip install -e '.[export]'"))
    entries.append(Contender("onnx", "ONNX", "inference.engine.onnx", install="pip install -e '.[export]'"))
    for label, whole in (("predict", True), ("predict_on_batch", False)):
        entries.append(Contender(label, "predict", "inference.engine.predict", {"whole": whole}))
    for name, compiled, threads in itertools.product(precisions, (False, True), (0, 1)):
        # PyTorch leaves an LSTM uncompiled.
        if compiled and work == "lstm":
            continue
        label = ("torch_compile" if compiled else "torch_eager") + ("_1_thread" if threads else "")
        options = {"precision": name, "compiled": compiled, "threads": threads}
        entries.append(Contender(_named(label, name), "PyTorch", "inference.peer_torch.infer", options, **_TORCH))
    for name in precisions:
        entries.append(Contender(_named("jax", name), "JAX", "inference.peer_jax.infer", {"precision": name}, **_JAX))
    return [_of(work, entry) for entry in entries]


def _of(work: str, contender: Contender) -> Contender:
    return Contender(**{**vars(contender), "options": {"work": work, **contender.options}})


def _named(name: str, precision: str) -> str:
    return name if precision == "float32" else f"{name}_{precision}"


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("work", choices=WORKS)
    options, rest = parser.parse_known_args()
    about = __doc__.splitlines()[0]
    command_line.run(f"inference {options.work}", about, contenders(options.work), ("torch", "jax"), rest, "1,128")


if __name__ == "__main__":
    main()
