"""The trace of test-time adaptation: what was tried, and why it was kept or not."""

from typing import Any, NamedTuple

from zoo.adaptation import guards


class TraceEntry(NamedTuple):
    """One entry of the trace: the change that a stage tried on one batch.

    Attributes:
        batch: number of the batch, from 0.
        stage: name of the stage.
        before: the guards' score before the change.
        after: the guards' score after it.
        accepted: whether the change was kept.
        reason: why, in words.
        seconds: time that the change took.
        recent: number of recent examples that the change was tried on.
        new_kind: whether an abrupt shift was detected at this batch, or a change of the input held no longer, so that
            the examples before it were forgotten.
    """

    batch: int
    stage: str
    before: guards.Score
    after: guards.Score
    accepted: bool
    reason: str
    seconds: float
    recent: int
    new_kind: bool

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`."""
        return self._asdict() | {"before": self.before._asdict(), "after": self.after._asdict()}
