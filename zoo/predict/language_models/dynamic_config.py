"""Settings of dynamic evaluation, with their defaults and limits; see `dynamic_evaluation`."""

import math
from typing import NamedTuple

from zoo.errors import BadInput
from zoo.predict.language_models.context_retrieval import LENGTHS

OPTIMIZERS = ("sgd", "rms")
# Learning rates by optimizer, for a Transformer and an LSTM, from benchmarks.dynamic_evaluation on validation text with
# seed 0: sgd's are the best of 0.03, 0.1 and 0.3, each at an end of that range; rms was only tried with the LSTM, where
# 3e-4 was the best of two rates and not better than sgd.
RATES = {"sgd": (0.03, 0.3), "rms": (0.0003, 0.0003)}


class DynamicConfig(NamedTuple):
    """Settings of dynamic evaluation.

    The learning rates (see `RATES`) and a decay of 0 were chosen on validation text, where decay lost some of the gain,
    and retrieval with all lengths of context, up to 16, gained everywhere. The other defaults are untested: 64 tokens
    are the context of `experiments.language_model`, a second step costs as much as half a segment, and the mixture
    limits the loss even without patience.

    Attributes:
        segment: tokens to score before learning from them; a Transformer rounds up to whole windows.
        learning_rate: learning rate of the steps; None is the network's default in `RATES`.
        optimizer: "sgd", or "rms" for gradients normalised by their size on training text, see `DynamicOptimizer`.
        decay: share of the way back to the model's weights in each step.
        steps: steps on each segment.
        clip_norm: largest norm of the gradient of the mean loss, 1 as in training; 0 does not clip.
        patience: number of segments; if the copy was worse over the last ones, it restarts from the model's weights. 0
            never restarts.
        stride: stride of a Transformer's windows, see `LanguageModel.score`; None is half the context, or the segment
            where that is shorter.
        longest_context: tokens of the longest context whose earlier occurrences are retrieved, see `ContextRetrieval`;
            0 retrieves none.
    """

    segment: int = 64
    learning_rate: float | None = None
    optimizer: str = "sgd"
    decay: float = 0.0
    steps: int = 1
    clip_norm: float = 1.0
    patience: int = 0
    stride: int | None = None
    longest_context: int = 16


def completed(settings: DynamicConfig, is_lstm: bool) -> DynamicConfig:
    """The settings, with the network's default learning rate instead of None.

    Raises:
        BadInput: a setting is out of range.
    """
    _check(settings)
    rate = RATES[settings.optimizer][is_lstm]
    return settings if settings.learning_rate is not None else settings._replace(learning_rate=rate)


def _check(settings: DynamicConfig) -> None:
    checks = {
        "segment": (settings.segment >= 1, "1 or more tokens"),
        "optimizer": (settings.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
        "learning_rate": (0 <= (settings.learning_rate or 0) < math.inf, "0 or more"),
        "decay": (0 <= settings.decay <= 1, "0 to 1"),
        "steps": (settings.steps >= 0, "0 or more"),
        "clip_norm": (0 <= settings.clip_norm < math.inf, "0 or more"),
        "patience": (settings.patience >= 0, "0 or more segments"),
        "longest_context": (0 <= settings.longest_context <= LENGTHS[-1], f"0 to {LENGTHS[-1]} tokens"),
    }
    for name, (good, expected) in checks.items():
        if not good:
            raise BadInput(f"--{name} is {getattr(settings, name)!r}: expected {expected}")
