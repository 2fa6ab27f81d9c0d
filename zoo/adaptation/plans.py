"""Plans of test-time adaptation by name (`--refine`): the stages that suit a run's model, in their order."""

import functools
from collections.abc import Callable
from pathlib import Path

from zoo.adaptation import image_inputs
from zoo.adaptation.stage import Stage
from zoo.errors import BadInput
from zoo.predict.predictors.predictor import Classifier

NAMES = (
    *("auto", "output", "statistics", "coral", "parameters", "input", "views", "perturbation", "compute"),
    *("coherence", "interpolation", "t3a", "lame", "batch_prior", "neighbours"),
)


def stages(names: list[str], predictor: Classifier, workdir: str | Path, learner: str = "tent") -> list[Stage]:
    """The stages of a plan.

    `auto` takes the stages that help under distribution shift and leave unshifted data alone: statistics (where the
    validation split has each class; not for texts), coral and pose (for images), columns (`input` of a table), output
    and coherence. Parameters, views, perturbation, t3a, lame, batch_prior and neighbours are not in it: no gain from
    them is shown beside these; nor is interpolation, to which statistics are superior on streams of few classes. Fitted
    to the last features of a model of texts, statistics gained nothing on other reviews, and lost seven points on
    shortened texts under label shift.

    Args:
        names: some of `NAMES`, each once, in any order.
        predictor: the run's classifier.
        workdir: folder of the run.
        learner: name in `zoo.adaptation.stages.parameters.LEARNERS`.

    Raises:
        BadInput: a name is unknown, repeated, or excluded by another one.
    """
    _check(names)
    auto, is_table = names == ["auto"], not predictor.reads_text and len(predictor.shape) == 1
    if auto:
        names = ["output", "coherence"]
        names += [] if predictor.reads_text else ["statistics"]
        names += ["coral"] if image_inputs.are_images(predictor) else []
        names += ["input"] if is_table or image_inputs.are_images(predictor) else []
    makers = _makers(workdir, learner, is_table, optional=auto)
    return [make() for name, of_name in makers.items() if name in names for make in of_name]


def _check(names: list[str]) -> None:
    """Refuses unknown and repeated names, and names that exclude each other."""
    unknown = [name for name in names if name not in NAMES]
    if unknown or len(set(names)) != len(names) or ("auto" in names and len(names) > 1):
        raise BadInput(f"--refine={','.join(names)}: expected auto, or some of {', '.join(NAMES[1:])}, each once")
    if "compute" in names and not {"compute", "output"} >= set(names):
        raise BadInput(
            f"--refine={','.join(names)}: the promise of compute (early exit) holds for the trained model only; "
            "expected it alone or with output"
        )
    if {"statistics", "interpolation"} <= set(names):
        raise BadInput(
            f"--refine={','.join(names)}: statistics and interpolation both set the batch normalisations; expected one"
        )


def _makers(workdir: str | Path, learner: str, is_table: bool, optional: bool) -> dict[str, list[Callable[[], Stage]]]:
    """What makes the stages of each name, in the order of a plan."""
    # Imported here: each brings packages that only it needs.
    from zoo.adaptation.stages.batch_prior import BatchPrior
    from zoo.adaptation.stages.coherence import Coherence
    from zoo.adaptation.stages.columns import Columns
    from zoo.adaptation.stages.compute import Compute
    from zoo.adaptation.stages.coral import Coral
    from zoo.adaptation.stages.interpolation import Interpolation
    from zoo.adaptation.stages.lame import Lame
    from zoo.adaptation.stages.neighbours import Neighbours
    from zoo.adaptation.stages.output import Prior, Temperature
    from zoo.adaptation.stages.parameters import LEARNERS, Parameters
    from zoo.adaptation.stages.perturbation import Perturbation
    from zoo.adaptation.stages.pose import Pose
    from zoo.adaptation.stages.statistics import BatchStatistics
    from zoo.adaptation.stages.t3a import T3a
    from zoo.adaptation.stages.views import Views

    return {
        "statistics": [functools.partial(BatchStatistics, optional=optional)],
        "coral": [functools.partial(Coral, optional=optional)],
        "interpolation": [Interpolation],
        "parameters": [functools.partial(Parameters, LEARNERS[learner])],
        "t3a": [T3a],
        "input": [functools.partial(Columns, optional=optional) if is_table else Pose],
        "views": [Views],
        "perturbation": [Perturbation],
        "compute": [functools.partial(Compute, workdir)],
        "neighbours": [Neighbours],
        "output": [Temperature, Prior],
        "batch_prior": [BatchPrior],
        "lame": [Lame],
        "coherence": [Coherence],
    }
