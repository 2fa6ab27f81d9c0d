"""Nearest labelled texts: what their votes gain, on the models' own texts and on shifted ones.

    python -m benchmarks.multi_step.neighbours runs/harness                 # three seeds, then section-neighbours.md

Trains the text models of the harness (`harness_models`) that the folder lacks, a minute each on one core, and answers
up to a thousand test texts as they are, without two words in five, their first halves, and those of another data set:
the models of SST-2 and of IMDB on the beginnings of each other's texts. Answers, all from the vectors before the last
layer:

- *neighbours*: `--refine=neighbours` (zoo/adaptation/stages/neighbours.py);
- *half*: votes and model weigh the same, whatever the validation split says;
- *training texts*: half the votes of training texts, as many as 4,000, instead of validation ones;
- *re-weighted*: half, and each labelled text weighs as much more as it looks like the stream: the odds of a logistic
  regression that tells labelled vectors from the stream's (Bickel et al., "Discriminative learning under covariate
  shift", 2009);
- *standardized*: half, and the stream's vectors get the validation split's mean and standard deviation.

The last three see the whole stream. Intervals (95 %) are a paired bootstrap over the texts of all seeds, which differ.
Figures are kept as JSON in the folder and not measured again.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.multi_step import harness_models, harness_shifts
from benchmarks.review_domains import interval
from zoo.adaptation.refiner import Refiner
from zoo.adaptation.stages.neighbours import LabelledVectors, Neighbours
from zoo.metrics.logits import class_probabilities, two_class_logits
from zoo.predict.evaluation import held_out, run_data
from zoo.predict.predictors import loading
from zoo.predict.predictors.cloning import reading
from zoo.predict.predictors.predictor import Classifier
from zoo.workdir import read_run

MODELS = ("sst2", "imdb", "snownlp")
_OTHER = {"sst2": "imdb", "imdb": "sst2"}
_TEXTS, _TRAINING, _BATCH = 1000, 4000, 200
# Words of a review for a model of sentences: about two sentences.
_WORDS = 40
# Strength of the regression's penalty, and bounds of the odds: a few hundred texts tell no larger ones.
_PENALTY, _LARGEST_ODDS = 1e-3, 20.0
_TINY = 1e-9
_HEAD = """## Nearest labelled texts

`--refine=neighbours` on text models of the harness, by the votes of 300 to 1,100 validation texts; up to 1,000 test
texts a seed, written by `python -m benchmarks.multi_step.neighbours`, which explains the answers. Accuracy in percent,
gains in points, log loss plain → with votes. *of imdb*, *of sst2*: the other data set's texts. The number of neighbours
and the width were chosen on one larger LSTM of IMDB, seed 10.
"""


def main() -> None:
    """Measures the missing figures and writes the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder of the harness: its runs, and the figures")
    parser.add_argument("--models", default=",".join(MODELS), help=f"some of {', '.join(MODELS)}")
    parser.add_argument("--seeds", default="0,1,2")
    arguments = parser.parse_args()
    for seed in map(int, arguments.seeds.split(",")):
        for name in arguments.models.split(","):
            path = arguments.work / f"neighbours-{name}-{seed}.json"
            if not path.exists():
                path.write_text(json.dumps(_measured(arguments.work, name, seed)))
    text = section(arguments.work)
    (arguments.work / "section-neighbours.md").write_text(text)
    print(text)


def section(work: Path) -> str:
    """The section: accuracy in percent and gains in points by model, stream and kind of answer; log losses."""
    lines = [
        "| model, seeds | texts | plain | answer | gain in points (95 %) | log loss |",
        "|---|---|---|---|---|---|",
    ]
    for name in MODELS:
        runs = [json.loads(path.read_text()) for path in sorted(work.glob(f"neighbours-{name}-*.json"))]
        for stream in runs[0] if runs else ():
            cells = [run[stream] for run in runs]
            first = f"{name}, {len(runs)}" if stream == next(iter(runs[0])) else ""
            lines += _rows(first, stream, cells)
    return f"{_HEAD}\n" + "\n".join(lines) + "\n"


def _rows(first: str, stream: str, cells: list[dict[str, Any]]) -> Iterator[str]:
    def joined(answer: str, kind: str) -> np.ndarray:
        return np.concatenate([cell[answer][kind] for cell in cells])

    plain = joined("plain", "right")
    start = f"| {first} | {stream} | {100 * plain.mean():.2f} |"
    for answer in cells[0]:
        if answer != "plain":
            right = joined(answer, "right")
            low, high = interval(plain, right)
            losses = " → ".join(f"{joined(each, 'loss').mean():.3f}" for each in ("plain", answer))
            gain = 100 * (right.mean() - plain.mean())
            yield f"{start} {answer} | {gain:+.2f} ({100 * low:+.2f} to {100 * high:+.2f}) | {losses} |"
            start = "| | | |"


def _measured(work: Path, name: str, seed: int) -> dict[str, Any]:
    """By stream and answer: whether each text is right, and its log loss."""
    run = harness_models.trained(work, name, seed)
    predictor = loading.load(run)
    source = held_out.load(run, predictor)
    refiner = Refiner(predictor, [Neighbours()], source)
    reader = reading(predictor, predictor.model.layers[-1].input)
    vectors = reader.logits(source.examples).astype(np.float64)
    training = run_data.run_texts(read_run(run)).train
    chosen = np.random.default_rng(seed).permutation(len(training.labels))[:_TRAINING]
    texts = [training.texts[index] for index in chosen.tolist()]
    stores = vectors, reader.logits(texts).astype(np.float64)
    labels = source.labels, training.labels[chosen]
    labelled = [LabelledVectors(*each, len(predictor.classes)) for each in zip(stores, labels, strict=True)]
    result = {}
    for stream, x, y in _streams(name, seed, predictor):
        plain = class_probabilities(two_class_logits(predictor.logits(x)))
        seen = reader.logits(x).astype(np.float64)
        scaled = (seen - seen.mean(axis=0)) / (seen.std(axis=0) + _TINY)
        votes = {
            "half": labelled[0].votes(seen),
            "training texts": labelled[1].votes(seen),
            "re-weighted": labelled[0].votes(seen, _log_odds(vectors, seen)),
            "standardized": labelled[0].votes(scaled * vectors.std(axis=0) + vectors.mean(axis=0)),
        }
        refiner.reset()
        parts = [refiner.answer(x[first : first + _BATCH]) for first in range(0, len(x), _BATCH)]
        answers = {"plain": plain, "neighbours": np.concatenate(parts)}
        answers |= {each: (plain + shares) / 2 for each, shares in votes.items()}
        result[stream] = {each: _scores(probabilities, y) for each, probabilities in answers.items()}
        shares = {each: f"{np.mean(scores['right']):.4f}" for each, scores in result[stream].items()}
        print(name, seed, stream, refiner.trace[-1].reason, shares, flush=True)
    return result


def _streams(name: str, seed: int, predictor: Classifier) -> Iterator[tuple[str, list[str], np.ndarray]]:
    """Test texts and their labels: as they are, shortened, and those of another set."""
    data = harness_models.data(name, seed)
    x, y = _known(data.test_x, data.test_y, predictor)
    yield "as they are", x, y
    for shift, change in harness_shifts.shifts(data, predictor).items():
        yield shift, change(x, np.random.default_rng(seed)), y
    if name in _OTHER:
        other = harness_models.data(_OTHER[name], seed)
        # Both data sets are of two classes; IMDB calls them neg and pos, SST-2 0 and 1: in the same order.
        order = sorted(set(other.test_y.tolist()))
        labels = np.array([predictor.classes[order.index(label)] for label in other.test_y.tolist()])
        texts = [" ".join(text.split()[:_WORDS]) for text in other.test_x]
        yield f"of {_OTHER[name]}", *_known(texts, labels, predictor)


def _known(texts: list[str], labels: np.ndarray, predictor: Classifier) -> tuple[list[str], np.ndarray]:
    """The first thousand texts of classes that the model knows."""
    kept = np.flatnonzero(np.isin(labels, predictor.classes))[:_TEXTS].tolist()
    return [texts[index] for index in kept], np.array([predictor.classes.index(labels[index]) for index in kept])


def _log_odds(vectors: np.ndarray, stream: np.ndarray) -> np.ndarray:
    """Logarithms of the odds `[labelled]` that a labelled vector is one of the stream."""
    mean, deviation = vectors.mean(axis=0), vectors.std(axis=0) + _TINY
    both = (np.concatenate([vectors, stream]) - mean) / deviation
    model = LogisticRegression(C=_PENALTY).fit(both, np.arange(len(both)) >= len(vectors))
    odds = model.decision_function(both[: len(vectors)])
    return np.clip(odds - np.median(odds), -np.log(_LARGEST_ODDS), np.log(_LARGEST_ODDS))


def _scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, list]:
    of_label = probabilities[np.arange(len(labels)), labels]
    right = (probabilities.argmax(axis=1) == labels).astype(int)
    return {"right": right.tolist(), "loss": (-np.log(np.maximum(of_label, _TINY))).round(6).tolist()}


if __name__ == "__main__":
    main()
