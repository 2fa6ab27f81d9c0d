"""JAX in the inference benchmark."""

import functools

import jax
import jax.numpy as jnp

from benchmarks import lstm_jax, mlp_jax, transformer_jax
from benchmarks.inference_data import inference
from benchmarks.worker import Training


def infer(work: str, batch_size: int, precision: str) -> Training:
    """One program for a batch; `precision` is that of the encoder's products."""
    made = {"mlp": _mlp, "lstm": _lstm, "encoder": functools.partial(_encoder, precision)}[work]
    weights, forward = made()
    return inference(work, functools.partial(jax.jit(forward), weights), batch_size)


def _mlp():
    def forward(weights, x):
        *hidden, (kernel, bias) = weights
        for w, b in hidden:
            x = jax.nn.relu(x @ w + b)
        return x @ kernel + bias

    return mlp_jax._state()[0], forward


def _lstm():
    def forward(weights, tokens):
        kernel, bias = weights["head"]
        lengths = jnp.full([len(tokens)], tokens.shape[1])
        return lstm_jax._last(weights, tokens, lengths, 1) @ kernel + bias

    return lstm_jax._state()[0], forward


def _encoder(precision: str):
    def forward(weights, tokens):
        return transformer_jax._logits(weights, {"tokens": tokens}, None, jnp.dtype(precision))

    return transformer_jax._weights("inference"), forward
