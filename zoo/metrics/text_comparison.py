"""A text classifier beside TF-IDF with logistic regression on the same test split: the lead, and the last lines."""

from collections.abc import Mapping

import numpy as np

from zoo.data.datasets.text_splits import TextDataset
from zoo.errors import BadInput
from zoo.metrics import evaluation_report, linear_baselines
from zoo.metrics.logits import two_class_logits


class TextComparison:
    """Compares a run's classifier with the linear baseline.

    Args:
        dataset: the run's texts.
        advice: what else may help a network that is not better.
    """

    def __init__(self, dataset: TextDataset, advice: str):
        self._dataset, self._advice = dataset, advice
        self._compute = evaluation_report.classifier(dataset.classes)
        self._is_right: np.ndarray | None = None
        self._problem = ""

    def compute_metrics(self, means, outputs, columns, final: bool) -> dict[str, float]:
        """An `Experiment.compute_metrics`: those of a classifier; keeps the test split's predictions."""
        if final:
            logits = two_class_logits(np.asarray(outputs["logits"]))
            self._is_right = logits.argmax(axis=-1) == np.asarray(columns["y"])
        return self._compute(means, outputs, columns, final)

    def metrics(self) -> dict[str, float]:
        """An `Experiment.baseline`: that of `linear_baselines.tfidf`, and the model's lead with its 95 % interval."""
        try:
            predicted = linear_baselines.tfidf_predictions(self._dataset)
        except BadInput as error:
            # The run is done: it has no baseline, and nothing is lost.
            self._problem = str(error)
            return {}
        labels = self._dataset.test.labels
        result = linear_baselines.text_scores(predicted, labels, len(self._dataset.classes))
        if self._is_right is None or len(self._is_right) != len(labels):
            return result
        names = ("accuracy_over_baseline", "accuracy_over_baseline_low", "accuracy_over_baseline_high")
        lead = linear_baselines.accuracy_lead(self._is_right, predicted == labels)
        return result | {f"test/{name}": value for name, value in zip(names, lead)}

    def conclusion(self, result: Mapping[str, float]) -> list[str]:
        """An `Experiment.conclusion`: which model is better on the test split, and what may help one that is not."""
        if self._problem:
            return [self._problem]
        if "test/accuracy_over_baseline" not in result:
            return []
        lead, low, high = (100 * result[f"test/accuracy_over_baseline{end}"] for end in ("", "_low", "_high"))
        accuracy, baseline = 100 * result["test/accuracy"], 100 * result["test/baseline_accuracy"]
        lines = [
            f"test accuracy: {accuracy:.1f} %; TF-IDF with logistic regression: {baseline:.1f} %; lead {lead:+.1f} "
            f"points (95 % interval {low:+.1f} to {high:+.1f})"
        ]
        if lead <= 0:
            texts = len(self._dataset.train.texts)
            lines.append(f"{texts:,} training texts are few for a network; what may help: more of them, {self._advice}")
        return lines
