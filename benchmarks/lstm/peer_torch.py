"""PyTorch in the LSTM race."""

import torch
from torch import nn

from benchmarks.harness.worker import Metrics, Training
from benchmarks.lstm import data


def train(batch_size: int, alike: bool, packed: bool = False, threads: int = 0) -> Training:
    """The usual loop at its fastest: fused Adam, batches gathered by index from memory instead of a DataLoader.

    Without `torch.compile`, which skips an LSTM, or else unrolls all its time steps and compiles for minutes.

    Args:
        batch_size: examples per step.
        alike: whether batches have about one length and are cut to their longest text, or are in random order.
        packed: whether to pass a `PackedSequence`, without padding, for which PyTorch has another kernel on a CPU.
        threads: threads per operation; 0 for PyTorch's own choice, all cores, which may be slower for a small network.
    """
    if threads:
        torch.set_num_threads(threads)
    # As TensorFlow and JAX do by default: gradients that vanish over 200 steps become denormal, which a CPU is slow at.
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    reviews = data.load()
    tokens, lengths, labels = (torch.from_numpy(column) for column in reviews)
    model = Reader(packed)
    optimizer = torch.optim.Adam(model.parameters(), lr=data.LEARNING_RATE, fused=True)
    order = data.Order(reviews.lengths, batch_size, alike)

    def forward(x: torch.Tensor, ends: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(x, ends)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, y)
        return loss, ((logits > 0) == (y > 0)).float().mean()

    def step(index: torch.Tensor) -> torch.Tensor:
        ends = lengths[index]
        x = tokens[index, : int(ends.max())] if alike or packed else tokens[index]
        loss, accuracy = forward(x, ends, labels[index])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return torch.stack([loss.detach(), accuracy])

    def epochs(count: int) -> Metrics:
        sums = torch.zeros(2)
        for _ in range(count):
            for index in torch.from_numpy(order.epoch()):
                sums += step(index)
        return Metrics(*(sums / (count * order.steps)).tolist())

    def first() -> Metrics:
        return Metrics(*step(torch.from_numpy(order.epoch())[0]).tolist())

    return Training(first, train=lambda steps: epochs(steps // order.steps), quantum=order.steps)


class Reader(nn.Module):
    """From tokens `[batch, time]` to logits `[batch]`."""

    def __init__(self, packed: bool):
        super().__init__()
        self.embed = nn.Embedding(data.TOKENS, data.WIDTH)
        self.lstm = nn.LSTM(data.WIDTH, data.WIDTH)
        self.head = nn.Linear(data.WIDTH, 1)
        self._packed = packed

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        # Time first, as oneDNN needs it: `batch_first=True` would copy.
        embedded = self.embed(tokens.T)  # [time, batch, width]
        if self._packed:
            packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths, enforce_sorted=False)
            last = self.lstm(packed)[1][0][0]
        else:
            last = self.lstm(embedded)[0][lengths - 1, torch.arange(len(lengths))]
        return self.head(last)[:, 0]
