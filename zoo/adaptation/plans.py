"""Plans of `zoo.adaptation.refiner` by name: what suits a run's model, in its order."""

import functools
from pathlib import Path

from zoo.adaptation.refiner import Stage
from zoo.errors import BadInput
from zoo.predict.predictors.predictor import Classifier

NAMES = ("auto", "output", "statistics", "parameters", "input", "views", "perturbation", "compute")


def stages(names: list[str], predictor: Classifier, workdir: str | Path, learner: str = "tent") -> list[Stage]:
    """The stages of a plan.

    `auto` is all that helps where it applies and is known to leave alone what did not shift: statistics, for images
    their pose, and the output. Learning parameters is not among them: no gain of it is shown.

    Args:
        names: of `NAMES`, each once, in any order.
        predictor: of the run.
        workdir: of the run.
        learner: of `zoo.adaptation.stages.losses.LEARNERS`, what the parameters are learned by.

    Raises:
        BadInput: a name is none, or stands twice, or beside others that it does not go with.
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown or len(set(names)) != len(names) or ("auto" in names and len(names) > 1):
        raise BadInput(f"--refine={','.join(names)}: expected auto, or some of {', '.join(NAMES[1:])}, each once")
    if "compute" in names and not {"compute", "output"} >= set(names):
        raise BadInput(
            f"--refine={','.join(names)}: what compute leaves out is promised for the trained model; expected "
            "it alone or with output"
        )
    if names == ["auto"]:
        names = ["statistics", "output"] + (["input"] if predictor.takes_images else [])
    # Imported here: each brings what only it needs.
    from zoo.adaptation.stages.compute import Compute
    from zoo.adaptation.stages.losses import LEARNERS
    from zoo.adaptation.stages.output import Prior, Temperature
    from zoo.adaptation.stages.parameters import Parameters
    from zoo.adaptation.stages.perturbation import Perturbation
    from zoo.adaptation.stages.pose import Pose
    from zoo.adaptation.stages.statistics import BatchStatistics
    from zoo.adaptation.stages.views import Views

    of_name = {
        "statistics": [BatchStatistics],
        "parameters": [functools.partial(Parameters, LEARNERS[learner])],
        "input": [Pose],
        "views": [Views],
        "perturbation": [Perturbation],
        "compute": [functools.partial(Compute, workdir)],
        "output": [Temperature, Prior],
    }
    return [make() for name, makers in of_name.items() if name in names for make in makers]
