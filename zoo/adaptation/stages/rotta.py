"""RoTTA (`--learner=rotta`): a mean teacher on a memory that holds all classes alike, of recent and certain examples.

Yuan, Xie and Li, "Robust test-time adaptation in dynamic scenarios", 2023, section 3. The memory (category-balanced
sampling with timeliness and uncertainty) keeps what a stream of one class after the other would replace; the student
sees a changed view of its images and learns the teacher's probabilities, of old examples less. Two differences, as for
CoTTA: only scales and shifts learn, and the statistics stay as the stages before have fitted them (the paper moves them
by a twentieth per step). The memory is filled from the recent examples at each batch.
"""

import math

import numpy as np

from zoo.adaptation.stages.cotta import MeanTeacher

# The paper's settings (section 4.1): a memory of 64, and an average of 0.999.
ROTTA = MeanTeacher(restored=0.0, memory=64)


def balanced_memory(predicted: np.ndarray, entropies: np.ndarray, classes: int, size: int) -> np.ndarray:
    """Rows of the examples that the memory holds at the end of a stream, int `[at most size]`, ascending.

    An example enters its class' share (size / classes) while that and the memory have room. Otherwise it replaces the
    worst of its class, or, if its class has less than its share, of the largest classes, if that one is worse.

    Args:
        predicted: classes `[examples]`, in the order of the stream.
        entropies: entropies of the predictions in nats, `[examples]`.
        classes: number of classes.
        size: examples that the memory holds.
    """
    held: list[list[int]] = [[] for _ in range(classes)]

    def badness(row: int, now: int) -> float:
        return 1 / (1 + math.exp(-(now - row) / size)) + entropies[row] / math.log(classes)

    for now, label in enumerate(predicted.tolist()):
        if len(held[label]) < size / classes and sum(map(len, held)) < size:
            held[label].append(now)
            continue
        most = max(map(len, held))
        full = [label] if len(held[label]) >= size / classes else [k for k in range(classes) if len(held[k]) == most]
        worst, of = max(((row, k) for k in full for row in held[k]), key=lambda one: badness(one[0], now))
        if badness(worst, now) > badness(now, now):
            held[of].remove(worst)
            held[label].append(now)
    return np.array(sorted(row for rows in held for row in rows), int)


def timeliness(ages: np.ndarray) -> np.ndarray:
    """Weights of examples, less the older they are.

    Args:
        ages: examples that came since, as multiples of the memory's size, `[examples]`.
    """
    return np.exp(-ages) / (1 + np.exp(-ages))
