"""Pose search (`--refine=input`): each image is rotated, scaled and shifted until it looks like a class.

The transformation of Jaderberg et al., "Spatial transformer networks", 2015, without the network that would have to be
trained for it: the four numbers of each image are searched at prediction time (pose_search.py). The search does not
maximise confidence, which some wrong rotation can always win. It minimises the squared Mahalanobis distance of the
features to the nearest class mean of validation (Lee et al., "A simple unified framework for detecting
out-of-distribution samples and adversarial attacks", 2018, section 2.1), plus a penalty on large changes. Whether the
predictions are then typical is checked on other numbers, the logits, and for all recent images together: see
`zoo.adaptation.guards`.

The search makes any image more typical, a noisy one, too. A pose is proved by how much of the distance to the classes
it takes away, how near the images then are, and how much surer the model is of them. How far other damage gets, which
no pose explains, depends on the network: it is measured on validation images before the first change is kept.
"""

from typing import Any

import numpy as np

from zoo.adaptation import guards, image_inputs
from zoo.adaptation.distinct_examples import distinct
from zoo.adaptation.example_cache import ExampleCache
from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.adaptation.stages.pose_search import PoseSearch
from zoo.data.datasets.image_corruptions import corrupted
from zoo.metrics.logits import two_class_logits
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.cloning import copied
from zoo.predict.predictors.predictor import Classifier

# No search below this ratio of the median distance to that of validation.
_USUAL = 1.3
# A pose is proved by a remainder (`_remainder`) below this. Limit, formula and margin were chosen on damaged training
# images of eight networks, so that no change that they let pass raised the error. `benchmarks.multi_step.pose_study`
# has what they let pass on other networks and test images.
_LIMIT = 0.135
_TINY = 1e-9
# Fewest different recent images for a decision, which rests on a median.
_FEWEST = 16
# Damage that no pose explains, its severity, and the validation images for each: their medians and errors are certain
# enough, and six hundred searches take one or two seconds. Blurred and brighter images come less near.
_DAMAGE = (("noise", 3), ("noise", 5), ("impulses", 3), ("impulses", 5), ("occlusion", 3), ("stripes", 3))
_IMAGES = 100
# A search that makes fewer of these errors than that does not help.
_HELPS = 0.02
# Share of the least remainder after such damage: other severities, and other images, leave less by chance.
_MARGIN = 0.6


class Pose:
    """Shows the model each image rotated, scaled and shifted to look most like a class.

    Attributes:
        max_score_ratio: 1: the score must fall. How much is one of three numbers that prove a pose.
    """

    name, target = "pose", "input"
    max_score_ratio, restarts_each_batch = 1.0, True

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Measures the features of each class.

        Raises:
            BadInput: the model does not take images.
        """
        image_inputs.require(predictor, "input")
        self._guards, self._source, self._model = guards.Guards(source), source, copied(predictor)
        self._search = PoseSearch(predictor, source)
        # Features that never vary have no distance.
        self._usual = max(float(np.median(self._search.distances(source.examples))), _TINY)
        self._distances = ExampleCache(self._search.distances)
        self._on, self._cache, self._limit = False, [], None

    def propose(self, context: StreamContext) -> str:
        """Searches the poses of the recent images, if their features are far from those of validation."""
        recent, batch = context.recent, context.batch
        earlier, self._cache = self._cache, []
        if (number := distinct(recent)) < _FEWEST:
            return f"{number} different images are too few, expected {_FEWEST}"
        distances = (self._search.distances if context.changed else self._distances)(recent)
        if float(np.median(distances)) < _USUAL * self._usual:
            return "the images have not shifted"
        aligned = self._align_recent(context, earlier)
        self._cache = [(recent, aligned), (batch, aligned[len(recent) - len(batch) :])]
        ratio = self._guards.score(context.forward(aligned)).ratio_to(self._guards.score(context.logits))
        remainder = self._remainder(distances, self._search.distances(aligned), ratio)
        limit = self._network_limit() if remainder < _LIMIT else _LIMIT
        if remainder >= limit:
            return f"no pose explains the images: the search leaves {remainder:.3f}, expected less than {limit:.3f}"
        self._on = True
        return ""

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logits of the aligned images; of the images themselves while the stage is off."""
        return inner(self._align(examples)) if self._on else inner(examples)

    def state(self) -> bool:
        """Whether images are aligned."""
        return self._on

    def load(self, state: bool) -> None:
        """Turns it on or off."""
        self._on = state

    def aligned(self, images: np.ndarray) -> np.ndarray:
        """The images in the poses that look most like a class, of the same shape and dtype."""
        return self._search.aligned(images)

    def _remainder(self, before: np.ndarray, after: np.ndarray, ratio: float) -> float:
        """What the search leaves; small after a successful one.

        The square of the share of the median distance that is left, times that distance in units of validation's, times
        the root of the ratio of the scores.
        """
        left = float(np.median(after))
        return (left / float(np.median(before))) ** 2 * left / self._usual * ratio**0.5

    def _network_limit(self) -> float:
        """The limit of the remainder; less, where other damage leaves little more than that by this network."""
        if self._limit is None:
            images, labels = self._source.examples[:_IMAGES], self._source.labels[:_IMAGES]
            search, self._limit = PoseSearch(self._model, self._source), _LIMIT
            for name, severity in _DAMAGE:
                damaged = _damaged(images, name, severity)
                shown = damaged, search.aligned(damaged)
                logits = [two_class_logits(self._model.logits(each)) for each in shown]
                wrong = [float((each.argmax(axis=1) != labels).mean()) for each in logits]
                if wrong[1] > wrong[0] - _HELPS:
                    before, after = (self._guards.score(each) for each in logits)
                    distances = (search.distances(each) for each in shown)
                    self._limit = min(self._limit, _MARGIN * self._remainder(*distances, after.ratio_to(before)))
        return self._limit

    def _align_recent(self, context: StreamContext, earlier: list) -> np.ndarray:
        """The recent images, aligned; those aligned for the change before are not searched again."""
        kept = len(context.recent) - len(context.batch)
        if not earlier or not kept or kept > len(earlier[0][0]):
            return self.aligned(context.recent)
        images, old = (values[len(values) - kept :] for values in earlier[0])
        # Other images, where a batch between them was not tried or another stream was loaded.
        if not np.array_equal(images, context.recent[:kept]):
            return self.aligned(context.recent)
        return np.concatenate([old, self.aligned(context.recent[kept:])])

    def _align(self, examples: Any) -> np.ndarray:
        cached = next((aligned for images, aligned in self._cache if images is examples), None)
        return self.aligned(examples) if cached is None else cached


def _damaged(images: np.ndarray, name: str, severity: int) -> np.ndarray:
    """Corrupted images of the same dtype; floats are scaled to bytes and back."""
    if images.dtype == np.uint8:
        return corrupted(images, name, severity)
    low, high = float(images.min()), float(images.max())
    scale = (high - low or 1.0) / 255
    pixels = np.rint((images - low) / scale).astype(np.uint8)
    return (low + scale * corrupted(pixels, name, severity)).astype(images.dtype)
