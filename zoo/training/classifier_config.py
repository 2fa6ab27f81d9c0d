"""Flags that all classifiers share."""

import dataclasses

from zoo.config import setting
from zoo.errors import BadInput
from zoo.models import class_imbalance


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
        "What training does about rare classes. weights: classes weigh alike; sqrt_weights: half "
        "way; class_balanced: by effective numbers; balanced_sampling: draws each class equally often; focal: easy "
        "examples count little; logit_adjusted: adds the classes' log frequencies to the logits in training.",
        choices=class_imbalance.METHODS,
        before="none",
    )

    def best_metric(self, otherwise: str = "loss") -> str:
        """The `metric` of a run that sets none; `otherwise`: without --imbalance."""
        return otherwise if self.imbalance == "none" else "f1_macro"

    def refuse_class_flags(self, flag: str) -> None:
        """Refuses the flags on classes where there are none; `flag` says why.

        Raises:
            BadInput: one of them is set.
        """
        if self.imbalance != "none":
            raise BadInput(f"--imbalance={self.imbalance} with {flag}: it is for classes; leave it out")
