"""Flags of regularization that only some experiments have: R-Drop, and random changes of training texts."""

import dataclasses
from collections.abc import Sequence

from zoo.config import setting
from zoo.data.text.token_augmentation import TokenAugmentation


@dataclasses.dataclass(frozen=True)
class RDropFlags:
    """Field for the config of an experiment with dropout: `class MyConfig(RDropFlags, Config)`."""

    r_drop: float = setting(
        0.0,
        "Weight of the divergence between two passes of each training example with other dropout masks (R-Drop; Wu et "
        "al., 2021, who took 0.1 to 5). 0: one pass, in about half the time.",
        minimum=0,
        before=0.0,
    )


@dataclasses.dataclass(frozen=True)
class TokenAugmentationFlags:
    """Fields for the config of an experiment whose labels belong to whole texts: `class MyConfig(..., Config)`."""

    token_drop: float = setting(
        0.0,
        "Probability that a token of a training text is left out, drawn again each time it is read (random deletion of "
        "EDA; Wei and Zou, 2019, who took 0.05 to 0.5). 0: none.",
        minimum=0,
        less_than=1,
        before=0.0,
    )
    token_swap: float = setting(
        0.0,
        "Probability that a token of a training text trades places with another one (random swap of EDA, whose share "
        "of swaps is half of it). 0: none.",
        minimum=0,
        less_than=1,
        before=0.0,
    )

    def token_augmentation(self, special_ids: Sequence[int] = ()) -> TokenAugmentation:
        """How training texts are changed; `special_ids` stay where they are."""
        return TokenAugmentation(self.token_drop, self.token_swap, tuple(special_ids))
