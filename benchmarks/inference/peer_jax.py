"""JAX in the inference race."""

import functools

import jax
import jax.numpy as jnp

from benchmarks.harness.worker import Training
from benchmarks.inference.data import inference
from benchmarks.lstm import peer_jax
from benchmarks.mlp import peer_jax as mlp_jax
from benchmarks.transformer import peer_jax as transformer_jax


def infer(work: str, batch_size: int, precision: str) -> Training:
    """One program for a batch; `precision` applies to the encoder's matrix products."""
    make = {"mlp": _mlp, "lstm": _lstm, "encoder": functools.partial(_encoder, precision)}[work]
    weights, forward = make()
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
        return peer_jax._last(weights, tokens, lengths, 1) @ kernel + bias

    return peer_jax._state()[0], forward


def _encoder(precision: str):
    def forward(weights, tokens):
        return transformer_jax._logits(weights, {"tokens": tokens}, None, jnp.dtype(precision))

    return transformer_jax._weights("inference"), forward
