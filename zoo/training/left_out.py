"""Batches that a run leaves out after it went back (`--on_nonfinite=rollback`), and which batch each step reads."""

import dataclasses
from collections.abc import Mapping
from typing import Any

# Batches that one rollback leaves out at most: Chowdhery et al., "PaLM", 2022, section 5.1, left out some hundreds.
_MOST = 256


@dataclasses.dataclass
class LeftOut:
    """What a run remembers of its rollbacks.

    Attributes:
        batches: numbers of the batches that no step reads, sorted; a batch has the number of the step that would read
            it in a run without rollbacks.
        rollbacks: times that the run went back.
        anchor: step of the checkpoint that it goes back to; None in a run that does not.
    """

    batches: list[int] = dataclasses.field(default_factory=list)
    rollbacks: int = 0
    anchor: int | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "LeftOut":
        """What a checkpoint's record has."""
        memory = cls(**record)
        return dataclasses.replace(memory, batches=[int(number) for number in memory.batches])

    def batch(self, step: int) -> int:
        """The number of the batch that a step reads: that of the step, further on by those left out before it."""
        for number in self.batches:
            step += number <= step
        return step

    def steps_until(self, step: int) -> int | None:
        """Steps from this one on that read batches one after the other; None: all."""
        batch = self.batch(step)
        return next((number - batch for number in self.batches if number > batch), None)

    def after(self, step: int, recorded: "LeftOut") -> "LeftOut":
        """What is remembered after one more rollback.

        Args:
            step: step whose loss or gradient was not finite. Its batch is left out; where the run goes back to the
                same checkpoint again, so are as many more as double the number of the time before.
            recorded: what the checkpoint remembers.
        """
        width, batches, number = (
            min(2 ** (self.rollbacks - recorded.rollbacks), _MOST),
            set(self.batches),
            self.batch(step),
        )
        while width:
            width -= number not in batches
            batches.add(number)
            number += 1
        return LeftOut(sorted(batches), self.rollbacks + 1, recorded.anchor)
