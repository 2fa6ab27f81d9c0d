"""Scalars, images and texts of a user's own, beside those of the run (`Experiment.on_log`)."""

from collections.abc import Callable, Mapping

import numpy as np

from zoo.errors import BadInput
from zoo.tensorboard.event_files import History
from zoo.tensorboard.views import EvaluationView


class OwnSummaries:
    """Writes to the event files of a run, so that a resumed run has neither gaps nor duplicates.

    Args:
        history: event files of the run; None writes nothing.
        run: folder, the name of the data set.
        step: step of all that is written.
    """

    def __init__(self, history: History | None, run: str, step: int):
        self._history, self._run, self._step = history, run, step

    def scalar(self, tag: str, value: float) -> None:
        """Adds a point to a curve."""
        if self._history is not None:
            self._history.scalars(self._run, self._step, {tag: float(value)})

    def image(self, tag: str, pixels: np.ndarray) -> None:
        """Adds an image.

        Args:
            tag: its name.
            pixels: uint8 `[height, width, 3]`.

        Raises:
            BadInput: another shape or type.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3:
            raise BadInput(
                f"the image {tag!r} is {pixels.dtype} {list(pixels.shape)}: expected uint8 [height, width, 3]"
            )
        if self._history is not None:
            self._history.view(self._run, self._step, EvaluationView(images={tag: pixels}))

    def text(self, tag: str, markdown: str) -> None:
        """Adds a text in Markdown."""
        if self._history is not None:
            self._history.view(self._run, self._step, EvaluationView(texts={tag: markdown}))


OnLog = Callable[[int, Mapping[str, float], OwnSummaries], bool | None]
