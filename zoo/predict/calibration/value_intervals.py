"""A regression that answers with intervals, which the run's validation split gives."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import BadInput
from zoo.predict.calibration.prediction_intervals import half_width
from zoo.predict.evaluation import run_data
from zoo.workdir import read_run


class Interval(NamedTuple):
    """A predicted value and the ends of its interval."""

    value: float
    low: float
    high: float


class IntervalPredict:
    """A regression whose predictions are `Interval`s; the rest is the regression's.

    Attributes:
        half_width: half the width of each interval.
    """

    def __init__(self, predictor: Any, half_width: float):
        self._predictor = predictor
        self.half_width = half_width

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def predict(self, examples: Any, top: int = 1) -> list[Interval]:
        """The value and the interval of each example; see `Predictor`."""
        return [
            Interval(value, value - self.half_width, value + self.half_width)
            for value in self._predictor.values(examples).tolist()
        ]


def load(workdir: str | Path, predictor: Any, coverage: float) -> IntervalPredict:
    """The intervals of a run, from the errors on its validation split.

    The split had a part in the choice of the weights (early stopping), so the coverage is a little below what is
    promised of examples without a part in training.

    Args:
        workdir: folder of the run.
        predictor: the run's regression.
        coverage: probability that an interval contains the value.

    Raises:
        BadInput: it is no regression, or its data set can no longer be read or is too small.
    """
    if predictor.task != "regression":
        raise BadInput(f"--interval is for regressions; {workdir} holds a model for {predictor.task}")
    run = read_run(workdir)
    try:
        if predictor.reads_text:
            validation = run_data.run_texts(run).validation
            examples, values = run_data.as_examples(predictor, validation), validation.labels
        else:
            columns = run_data.run_arrays(run, values=True).validation
            examples, values = columns["x"], columns["y"]
    except BadInput as error:
        raise BadInput(f"--interval is found with the run's validation split: {error}") from None
    return IntervalPredict(predictor, half_width(predictor.values(examples) - np.asarray(values), coverage))
