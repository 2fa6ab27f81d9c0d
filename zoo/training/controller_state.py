"""What a run with `--controller` remembers: what it has chosen, and what it has seen."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from zoo import piecewise
from zoo.piecewise import Piece


@dataclasses.dataclass
class ControllerState:
    """What has been decided so far.

    Attributes:
        pieces: the values of each control (`zoo.engine.controls`) so far and as planned; empty before the first
            decision.
        decisions: what was tried at each decision, how good it was and what was chosen, as JSON has it.
    """

    pieces: dict[str, list[Piece]] = dataclasses.field(default_factory=dict)
    decisions: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "ControllerState":
        """What a checkpoint's record has."""
        pieces = {name: piecewise.parse(name, text) for name, text in record.get("pieces", {}).items()}
        return cls(pieces, [dict(decision) for decision in record.get("decisions", [])])

    def record(self) -> dict[str, Any]:
        """What `from_record` reads."""
        pieces = {name: piecewise.as_text(each) for name, each in self.pieces.items()}
        return {"pieces": pieces, "decisions": self.decisions}

    @property
    def last_step(self) -> int:
        """The step of the last decision; -1 before the first."""
        return self.decisions[-1]["step"] if self.decisions else -1
