"""The budget of test-time adaptation."""

from typing import NamedTuple


class Budget(NamedTuple):
    """Limits on the changes that are tried; None: no limit. Once one is reached, prediction goes on without changes.

    Attributes:
        steps: number of changes, kept or not.
        seconds: time spent on changes.
        examples: length of the stream after which no change is tried.
    """

    steps: int | None = None
    seconds: float | None = None
    examples: int | None = None

    def is_spent(self, steps: int, seconds: float, examples: int) -> bool:
        """Whether one of the limits is reached."""
        used = steps, seconds, examples
        return any(limit is not None and used >= limit for used, limit in zip(used, self, strict=True))


UNLIMITED = Budget()
