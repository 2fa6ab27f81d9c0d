"""JAX with Optax in the Transformer race."""

import functools

import jax
import jax.numpy as jnp
import optax

from benchmarks.harness.worker import Metrics, Training
from benchmarks.transformer import data


def train(work: str, batch_size: int, precision: str, generator: str) -> Training:
    """One program for a step, called from Python.

    Args:
        work: "finetune" or "mlm".
        batch_size: examples per step.
        precision: float32, or bfloat16 for the operands of all matrix products.
        generator: generator of random numbers: "threefry2x32", JAX's own default, or "rbg", XLA's, which is faster.
    """
    jax.config.update("jax_default_prng_impl", generator)
    columns = {name: jnp.asarray(column) for name, column in data.load(work).items()}
    order, optimizer = data.batches(batch_size), _optimizer()

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state, columns, index):
        weights, moments, step, sums = state
        batch = {name: column[index] for name, column in columns.items()}
        key = jax.random.fold_in(jax.random.key(0), step)
        gradient = jax.value_and_grad(_loss, has_aux=True)
        (loss, accuracy), gradients = gradient(weights, batch, key, jnp.dtype(precision))
        updates, moments = optimizer.update(gradients, moments, weights)
        return optax.apply_updates(weights, updates), moments, step + 1, sums + jnp.stack([loss, accuracy])

    weights = _weights(work)
    state = weights, optimizer.init(weights), jnp.zeros((), jnp.int32), jnp.zeros(2)

    def run(steps: int) -> Metrics:
        nonlocal state
        for _ in range(steps):
            state = update(state, columns, next(order))
        means = (state[-1] / steps).tolist()
        state = *state[:-1], jnp.zeros(2)
        return Metrics(*means)

    return Training(first=lambda: run(1), train=run)


def infer(work: str, batch_size: int, precision: str) -> Training:
    """Logits of one batch after the other."""
    weights = _weights(work)
    forward = jax.jit(lambda weights, tokens: _logits(weights, {"tokens": tokens}, None, jnp.dtype(precision)))
    return data.inference(functools.partial(forward, weights), batch_size)


def _loss(weights, batch, key, dtype):
    """Loss and accuracy."""
    logits, y = _logits(weights, batch, key, dtype), batch["y"]
    if "places" in batch:
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        return loss, (logits.argmax(-1) == y).mean()
    return optax.sigmoid_binary_cross_entropy(logits[..., 0], y).mean(), ((logits[..., 0] > 0) == (y > 0)).mean()


def _logits(weights, batch, key, dtype):
    """Logits of one batch; no dropout without a key."""
    drawn = 0

    def drop(x):
        nonlocal drawn
        drawn += 1
        if key is None:
            return x
        keep = jax.random.bernoulli(jax.random.fold_in(key, drawn), 1 - data.DROPOUT, x.shape)
        return jnp.where(keep, x / (1 - data.DROPOUT), 0.0)

    def dense(x, kernel, bias):
        return (x.astype(dtype) @ kernel.astype(dtype)).astype(jnp.float32) + bias

    def attended(x, block):
        q, k, v = jnp.moveaxis(dense(x, *block["qkv"]).reshape(*x.shape[:2], 3, data.HEADS, -1).astype(dtype), 2, 0)
        # [batch, heads, time, time]
        scores = jnp.einsum("bthd,bshd->bhts", q, k).astype(jnp.float32) * q.shape[-1] ** -0.5
        probabilities = drop(jax.nn.softmax(scores)).astype(dtype)
        return dense(jnp.einsum("bhts,bshd->bthd", probabilities, v).reshape(x.shape), *block["output"])

    x = drop(_norm(weights["tokens"][batch["tokens"]] + weights["positions"], *weights["norm"]))
    for block in weights["blocks"]:
        x = _norm(x + drop(attended(x, block)), *block["attention_norm"])
        middle = jax.nn.gelu(dense(x, *block["inner"]), approximate=False)
        x = _norm(x + drop(dense(middle, *block["outer"])), *block["norm"])
    if "places" in batch:
        x = jnp.take_along_axis(x, batch["places"][:, :, None], axis=1)  # [batch, places, width]
        x = _norm(jax.nn.gelu(dense(x, *weights["dense"]), approximate=False), *weights["head_norm"])
        return dense(x, weights["tokens"].T, weights["bias"])
    return dense(drop(jnp.tanh(dense(x[:, 0], *weights["dense"]))), *weights["head"])


def _norm(x, gamma, beta):
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + data.EPSILON) * gamma + beta


def _weights(work: str):
    keys = iter(jax.random.split(jax.random.key(0), 100))
    width, inner, rows = data.WIDTH, data.INNER, data.VOCABULARY[work]

    def small(*shape):
        return jax.random.normal(next(keys), shape) * 0.02

    def dense(inputs, outputs):
        return small(inputs, outputs), jnp.zeros(outputs)

    def norm():
        return jnp.ones(width), jnp.zeros(width)

    def block():
        products = {"qkv": dense(width, 3 * width), "output": dense(width, width)}
        products |= {"inner": dense(width, inner), "outer": dense(inner, width)}
        return products | {"attention_norm": norm(), "norm": norm()}

    weights = {"tokens": small(rows, width), "positions": small(data.TIME, width), "norm": norm()}
    weights |= {"blocks": [block() for _ in range(data.LAYERS)], "dense": dense(width, width)}
    return weights | ({"head_norm": norm(), "bias": jnp.zeros(rows)} if work == "mlm" else {"head": dense(width, 1)})


def _optimizer() -> optax.GradientTransformation:
    """AdamW with decay of matrices only, after clipping."""

    def rate(step):
        return data.LEARNING_RATE * jnp.minimum((step + 1) / data.WARMUP_STEPS, 1.0) * (1 - step / data.TOTAL_STEPS)

    def matrices(weights):
        return jax.tree.map(lambda weight: weight.ndim > 1, weights)

    adamw = optax.adamw(rate, weight_decay=data.WEIGHT_DECAY, mask=matrices)
    return optax.chain(optax.clip_by_global_norm(data.CLIP_NORM), adamw)
