"""Examples that come again and again: they are one each, for stages that learn a distribution."""

import numpy as np
import pytest

from tests.helpers.digits import bright, run, unseen
from zoo.adaptation.distinct_examples import distinct
from zoo.adaptation.stage import StreamContext
from zoo.adaptation.stages.coral import Coral
from zoo.adaptation.stages.input_shift import InputShift
from zoo.adaptation.stages.pose import Pose
from zoo.adaptation.stages.statistics import BatchStatistics
from zoo.predict.evaluation import held_out
from zoo.predict.predictors import loading


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = run(tmp_path_factory.mktemp("distinct") / "run")
    found = loading.load(folder)
    return found, held_out.load(folder, found)


def test_each_kind_of_examples_is_counted():
    images = np.zeros((3, 2, 2), np.uint8)
    images[1] = 1
    assert distinct(images) == 2 and distinct(["a", "b", "a"]) == 2 and distinct([("a", "b"), ("b", "a")]) == 2


@pytest.mark.parametrize("stage", [BatchStatistics(), Coral(), Pose()], ids=lambda stage: stage.name)
def test_a_dozen_images_teach_nothing_however_often_they_come(trained, stage):
    found, known = trained
    x = np.tile(bright(unseen()[0][:12]), (20, 1, 1))
    stage.begin(found, known)
    reason = stage.propose(StreamContext(x, x, found.logits(x), found.logits, False))
    assert reason.startswith("12 different")


def test_repetitions_do_not_make_a_shift_more_certain(trained):
    found, known = trained
    few = unseen()[0][:40]
    shift = InputShift(found, known)
    once, often = (shift.measure(x, found.logits(x), True) for x in (few, np.repeat(few, 10, axis=0)))
    assert often == pytest.approx(once, rel=1e-3)
