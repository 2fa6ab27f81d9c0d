"""PyTorch in the Transformer race."""

import contextlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.harness.worker import Metrics, Training
from benchmarks.transformer import data


def train(work: str, batch_size: int, precision: str, compiled: bool) -> Training:
    """The usual loop at its fastest: fused AdamW, fused attention, batches gathered by index from memory.

    Args:
        work: "finetune" or "mlm".
        batch_size: examples per step.
        precision: float32, or bfloat16 by `torch.autocast`.
        compiled: whether to use `torch.compile` for the forward and backward pass.
    """
    torch.manual_seed(0)
    columns = {name: torch.from_numpy(column).long() for name, column in data.load(work).items()}
    model, order = Reader(work), data.batches(batch_size)
    optimizer, schedule = _optimizer(model)

    def forward(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        with _precision(precision):
            logits = model(batch["tokens"], batch.get("places"))
        logits, y = logits.float(), batch["y"]
        if work == "mlm":
            loss = functional.cross_entropy(logits.flatten(0, 1), y.flatten())
            return loss, (logits.argmax(-1) == y).float().mean()
        loss = functional.binary_cross_entropy_with_logits(logits[:, 0], y.float())
        return loss, ((logits[:, 0] > 0) == (y > 0)).float().mean()

    forward = torch.compile(forward) if compiled else forward

    def run(steps: int) -> Metrics:
        total_loss, total_accuracy = torch.zeros(()), torch.zeros(())
        for _ in range(steps):
            index = torch.from_numpy(next(order))
            loss, accuracy = forward({name: column[index] for name, column in columns.items()})
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), data.CLIP_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total_loss += loss.detach()
            total_accuracy += accuracy
        return Metrics(total_loss.item() / steps, total_accuracy.item() / steps)

    return Training(first=lambda: run(1), train=run)


def infer(work: str, batch_size: int, precision: str, compiled: bool) -> Training:
    """Logits of one batch after the other, as arrays."""
    torch.manual_seed(0)
    model = Reader(work).eval()
    model = torch.compile(model) if compiled else model

    @torch.inference_mode()
    def forward(tokens: np.ndarray) -> np.ndarray:
        with _precision(precision):
            return model(torch.from_numpy(tokens).long(), None).float().numpy()

    return data.inference(forward, batch_size)


class Reader(nn.Module):
    """From tokens, and for `mlm` masked positions, to logits."""

    def __init__(self, work: str):
        super().__init__()
        width = data.WIDTH
        self.tokens = nn.Embedding(data.VOCABULARY[work], width)
        self.positions = nn.Parameter(torch.randn(data.TIME, width) * 0.02)
        self.norm, self.dropout = _norm(), nn.Dropout(data.DROPOUT)
        self.blocks = nn.ModuleList(Block() for _ in range(data.LAYERS))
        self.dense, self.masked = nn.Linear(width, width), work == "mlm"
        self.head_norm = _norm() if self.masked else nn.Identity()
        self.head = nn.Linear(width, data.VOCABULARY[work] if self.masked else 1)
        for part in self.modules():
            if isinstance(part, (nn.Linear, nn.Embedding)):
                nn.init.normal_(part.weight, std=0.02)
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)
        if self.masked:
            self.head.weight = self.tokens.weight

    def forward(self, tokens: torch.Tensor, places: torch.Tensor | None) -> torch.Tensor:
        x = self.dropout(self.norm(self.tokens(tokens) + self.positions))
        for block in self.blocks:
            x = block(x)
        if self.masked:
            x = x.gather(1, places[:, :, None].expand(-1, -1, data.WIDTH))  # [batch, places, width]
            return self.head(self.head_norm(functional.gelu(self.dense(x))))
        return self.head(self.dropout(torch.tanh(self.dense(x[:, 0]))))


class Block(nn.Module):
    """Attention and a feed-forward layer, post-norm: `[batch, time, width]`."""

    def __init__(self):
        super().__init__()
        self.qkv, self.output = nn.Linear(data.WIDTH, 3 * data.WIDTH), nn.Linear(data.WIDTH, data.WIDTH)
        self.inner, self.outer = nn.Linear(data.WIDTH, data.INNER), nn.Linear(data.INNER, data.WIDTH)
        self.attention_norm, self.norm, self.dropout = _norm(), _norm(), nn.Dropout(data.DROPOUT)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, time, width = x.shape
        # [batch, heads, time, depth] each
        query, key, value = self.qkv(x).view(batch, time, 3, data.HEADS, -1).permute(2, 0, 3, 1, 4)
        rate = data.DROPOUT if self.training else 0.0
        attended = functional.scaled_dot_product_attention(query, key, value, dropout_p=rate)
        attended = self.output(attended.transpose(1, 2).reshape(batch, time, width))  # [batch, time, width]
        x = self.attention_norm(x + self.dropout(attended))
        return self.norm(x + self.dropout(self.outer(functional.gelu(self.inner(x)))))


def _optimizer(model: nn.Module):
    """AdamW with decay of matrices only, and its schedule."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": data.WEIGHT_DECAY},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, data.LEARNING_RATE, fused=True)

    def rate(step: int) -> float:
        return min((step + 1) / data.WARMUP_STEPS, 1.0) * max(1 - step / data.TOTAL_STEPS, 0.0)

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


def _precision(name: str):
    return torch.autocast("cpu", torch.bfloat16) if name == "bfloat16" else contextlib.nullcontext()


def _norm() -> nn.LayerNorm:
    return nn.LayerNorm(data.WIDTH, eps=data.EPSILON)
