"""Flags that all classifiers share: rare classes, and how probabilities become a class."""

import dataclasses
from collections.abc import Sequence

from zoo.config import setting
from zoo.data.datasets import image_files
from zoo.data.datasets.image_folders import ImageOptions
from zoo.data.splits import shortened
from zoo.errors import BadInput
from zoo.metrics import cost_matrix, decisions
from zoo.metrics.decisions import Goal
from zoo.models import class_imbalance

# Flags on classes, with the value of one that is unset.
_CLASS_FLAGS = (
    ("imbalance", "none"),
    ("cost", ""),
    ("threshold_for", ""),
    ("positive_class", ""),
    ("find_label_errors", False),
)


@dataclasses.dataclass(frozen=True)
class ClassifierFlags:
    """Fields for the config of a classifier: `class MyConfig(ClassifierFlags, Config)`."""

    metric: str | None = setting(
        None,
        "Evaluation metric that decides which weights are best. Unset: loss, and with --imbalance f1_macro, as the "
        "loss counts a class by its examples.",
    )
    imbalance: str = setting(
        "none",
        "What training does about rare classes (docs/imbalance.md). weights: classes weigh alike; sqrt_weights: half "
        "way; class_balanced: by effective numbers; balanced_sampling: draws each class equally often; focal: easy "
        "examples count little; logit_adjusted: adds the classes' log frequencies to the logits in training.",
        choices=class_imbalance.METHODS,
        before="none",
    )
    cost: str = setting(
        "",
        "A .csv of costs, a row for each true class and a column for each decision: classes are decided by expected "
        "cost. Empty: the most probable class.",
        may_change=True,
        before="",
    )
    threshold_for: str = setting(
        "",
        "For two classes: the probability from which on the positive class is decided is tuned on the validation split "
        f"to {decisions.METRICS}. Empty: the most probable class.",
        may_change=True,
        before="",
    )
    positive_class: str = setting(
        "", "The class that --threshold_for is about. Empty: the second one.", may_change=True, before=""
    )

    find_label_errors: bool = setting(
        False,
        "Cross-validate (--folds, 5 where it is not set) and list the labels that are probably wrong in "
        "label_errors.csv (docs/label_errors.md).",
        may_change=True,
        before=False,
    )

    def best_metric(self, otherwise: str = "loss") -> str:
        """The `metric` of a run that sets none; `otherwise`: without --imbalance."""
        return otherwise if self.imbalance == "none" else "f1_macro"

    def refuse_class_flags(self, flag: str) -> None:
        """Refuses the flags on classes where there are none; `flag` says why.

        Raises:
            BadInput: one of them is set.
        """
        for name, unset in _CLASS_FLAGS:
            value = getattr(self, name)
            if value != unset:
                raise BadInput(f"--{name}={value} with {flag}: it is for classes; leave it out")

    def decision_goal(self, classes: Sequence[str]) -> Goal | None:
        """What decisions are for, as an `Experiment(decision=...)`; None for the most probable class.

        Args:
            classes: class names in the order of the labels.

        Raises:
            BadInput: the flags contradict each other or the classes, or the file of costs is not understood.
        """
        if self.cost and self.threshold_for:
            raise BadInput("--cost and --threshold_for: both decide the class; expected one of the two")
        if self.positive_class and not self.threshold_for:
            raise BadInput(f"--positive_class={self.positive_class} is for --threshold_for; leave it out")
        if self.cost:
            return Goal(cost_matrix.read(self.cost, classes))
        if not self.threshold_for:
            return None
        decisions.check_metric(self.threshold_for)
        if len(classes) != 2:
            raise BadInput(f"--threshold_for is for two classes, the data has {len(classes)}; use --cost")
        if self.positive_class and self.positive_class not in classes:
            raise BadInput(f"--positive_class is {self.positive_class!r}: expected one of {shortened(classes)}")
        positive = classes.index(self.positive_class) if self.positive_class else 1
        return Goal(metric=self.threshold_for, positive=positive)


@dataclasses.dataclass(frozen=True)
class ImageFlags:
    """Fields for the config of a classifier that reads folders of images: `class MyConfig(ImageFlags, Config)`."""

    image_size: tuple[int, ...] = setting(
        (),
        "Side of the images of a folder, or height,width. Unset: their own where all have one of at most 64 x 64, else "
        "64 x 64, which small networks learn on a CPU.",
        minimum=1,
        before=(),
    )
    resize: str = setting(
        "crop",
        "How the images of a folder get that size. crop: the central part, as most photos show their subject there, "
        "undistorted; pad: all of it, between black bars; stretch: all of it, distorted.",
        choices=image_files.RESIZE,
        before="crop",
    )
    skip_damaged: bool = setting(
        False, "Leave out images that cannot be decoded, and count them, instead of refusing the folder.", before=False
    )

    def image_options(self) -> ImageOptions:
        """How the images of a folder are read."""
        return ImageOptions(self.image_size, self.resize, self.skip_damaged)
