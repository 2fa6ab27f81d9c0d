"""PyTorch in the MLP race."""

import torch
from torch import nn

from benchmarks.harness.worker import Metrics, Training
from benchmarks.mlp import data


def train(batch_size: int, compiled: bool, threads: int = 0) -> Training:
    """The usual loop at its fastest: fused Adam, batches gathered by index from memory instead of a DataLoader.

    Args:
        batch_size: examples per step.
        compiled: whether to use `torch.compile` for the forward and backward pass.
        threads: threads per operation; 0 for PyTorch's own choice, all cores, which may be slower for a small network.
    """
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    x, y = (torch.from_numpy(column) for column in data.load())
    model, y = _network(), y.long()
    optimizer = torch.optim.Adam(model.parameters(), lr=data.LEARNING_RATE, fused=True)

    def forward(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(x)
        return nn.functional.cross_entropy(logits, y), (logits.argmax(-1) == y).float().mean()

    forward = torch.compile(forward) if compiled else forward
    batches = _batches(batch_size)

    def train(steps: int) -> Metrics:
        total_loss, total_accuracy = torch.zeros(()), torch.zeros(())
        for _ in range(steps):
            index = next(batches)
            loss, accuracy = forward(x[index], y[index])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total_loss += loss.detach()
            total_accuracy += accuracy
        return Metrics(total_loss.item() / steps, total_accuracy.item() / steps)

    return Training(first=lambda: train(1), train=train)


def _network() -> nn.Module:
    width = data.HIDDEN
    first, second = nn.Linear(data.FEATURES, width), nn.Linear(width, width)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(width, data.CLASSES))


def _batches(batch_size: int):
    whole = data.EXAMPLES // batch_size
    while True:
        yield from torch.randperm(data.EXAMPLES)[: whole * batch_size].view(whole, batch_size)
