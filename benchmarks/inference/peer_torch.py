"""PyTorch in the inference race."""

import numpy as np
import torch

from benchmarks.harness.worker import Training
from benchmarks.inference.data import inference
from benchmarks.lstm import peer_torch
from benchmarks.mlp import peer_torch as mlp_torch
from benchmarks.transformer import peer_torch as transformer_torch


def infer(work: str, batch_size: int, precision: str, compiled: bool, threads: int = 0) -> Training:
    """Logits in `inference_mode`, array in and array out.

    Args:
        work: "mlp", "lstm" or "encoder".
        batch_size: examples per step.
        precision: float32, or bfloat16 by `torch.autocast`.
        compiled: whether to use `torch.compile`, which leaves an LSTM as it is.
        threads: threads per operation; 0 for PyTorch's own choice, all cores, which may be slower for a small network.
    """
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = {"mlp": mlp_torch._network, "lstm": _Last, "encoder": lambda: _Encoder("inference")}[work]().eval()
    model = torch.compile(model) if compiled else model

    @torch.inference_mode()
    def forward(batch: np.ndarray) -> np.ndarray:
        with transformer_torch._precision(precision):
            return model(torch.from_numpy(batch)).float().numpy()

    return inference(work, forward, batch_size)


class _Last(peer_torch.Reader):
    """Without padding: all texts have one length."""

    def __init__(self):
        super().__init__(packed=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.embed(tokens.T))[0][-1])


class _Encoder(transformer_torch.Reader):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().forward(tokens.long(), None)
