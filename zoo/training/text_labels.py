"""Several labels per text: the flags that the experiments on texts share, and the fields of such an experiment."""

import dataclasses
from typing import Any

import keras

from zoo.config import setting
from zoo.data.datasets import label_sets
from zoo.data.datasets.label_sets import LabelSets
from zoo.data.datasets.text_splits import TextDataset
from zoo.data.text.special_tokens import PAIR_SEPARATOR
from zoo.errors import BadInput
from zoo.metrics import decisions, evaluation_report, label_comparison
from zoo.metrics.label_thresholds import LabelGoal
from zoo.tensorboard import task_views
from zoo.training import network_share, test_predictions

MULTI_LABEL = "multi_label"


@dataclasses.dataclass(frozen=True)
class TextLabelFlags:
    """Fields for the config of an experiment with a `task`, which may be "multi_label"."""

    label_separator: str = setting(
        "",
        "With --task=multi_label: what stands between the labels in the one --label_column, which may also have JSON "
        "lists. Empty: several columns with 1 or 0.",
        before="",
    )
    empty_is_none: bool = setting(
        False,
        "With --label_separator: an empty cell says that a text has no label, instead of being refused.",
        before=False,
    )

    def label_sets(self) -> LabelSets | None:
        """How the files say which of several labels a text has; None for another task.

        Raises:
            BadInput: a flag does not fit the task.
        """
        if self.task != MULTI_LABEL:
            for name in ("label_separator", "empty_is_none"):
                if getattr(self, name):
                    raise BadInput(f"--{name} with --task={self.task}: it is for --task=multi_label; leave it out")
            return None
        for name in ("label_smoothing", "more_file", "find_label_errors"):
            if getattr(self, name):
                raise BadInput(f"--{name} with --task=multi_label: it is for classes; leave it out")
        self.replace(threshold_for="").refuse_class_flags("--task=multi_label")
        if self.threshold_for:
            decisions.check_metric(self.threshold_for)
        return label_sets.from_flags(self.label_column, self.label_separator, self.empty_is_none)


def shown(texts: list[str]) -> list[str]:
    """Texts as a table has them, pairs with a tab between."""
    return [text.replace(PAIR_SEPARATOR, "\t") for text in texts]


def of_labels(config: Any, dataset: TextDataset, model: keras.Model, show: task_views.Texts) -> dict[str, Any]:
    """Fields of an experiment with several labels per text, all but its `forward`.

    Args:
        config: config with `TextLabelFlags`, `threshold_for` and `baseline`.
        dataset: the texts.
        model: the network, perhaps with n-gram logits.
        show: texts of some examples, for TensorBoard.
    """
    comparison = label_comparison.of_texts(dataset, evaluation_report.multi_label(dataset.classes))
    return {
        "tuned": network_share.of_labels(model),
        "compute_metrics": comparison.compute_metrics,
        "predictions": test_predictions.of_labels(dataset.origins, dataset.classes, shown(dataset.test.texts)),
        "visualize": task_views.multi_label(dataset.classes, show),
        "decision": LabelGoal(config.threshold_for) if config.threshold_for else None,
        "baseline": comparison.metrics if config.baseline else None,
        "conclusion": comparison.conclusion if config.baseline else None,
    }
