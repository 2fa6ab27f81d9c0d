"""Records what seqeval says of random tags, valid and not, for the tests to compare with.

Needs `pip install seqeval==1.2.2`, in an environment of its own; writes tests/fixtures/seqeval.json.
"""

import json
import random
import warnings
from pathlib import Path

from seqeval import metrics
from seqeval.metrics.sequence_labeling import get_entities

TYPES = ("PER", "LOC", "creative-work")
METRICS = {"precision": "precision", "recall": "recall", "f1-score": "f1"}


def sentence(draw, words, letters, types):
    tags = [f"{letter}-{kind}" for kind in types for letter in letters]
    return [draw.choice(tags) if draw.random() < 0.6 else "O" for _ in range(words)]


def case(draw):
    letters, types = draw.choice(["BI", "BI", "BIES", "I"]), TYPES[: draw.choice([1, 2, 3])]
    lengths = [draw.choice([1, 2, 5, 12]) for _ in range(draw.choice([1, 3, 6]))]
    true = [sentence(draw, words, letters, types) for words in lengths]
    # Half of the words right, so that there are entities in common; sometimes a type that is only predicted.
    guessed = [sentence(draw, words, letters, draw.choice([types, TYPES])) for words in lengths]
    predicted = [[a if draw.random() < 0.5 else b for a, b in zip(*pair)] for pair in zip(true, guessed)]
    scores = {"accuracy": metrics.accuracy_score(true, predicted)}
    for name in ("precision", "recall", "f1"):
        score = getattr(metrics, f"{name}_score")
        scores[name] = score(true, predicted, zero_division=0)
    if any(get_entities(true) + get_entities(predicted)):
        report = metrics.classification_report(true, predicted, output_dict=True, zero_division=0)
        macro = report.pop("macro avg")
        scores |= {f"{ours}_macro": macro[theirs] for theirs, ours in METRICS.items()}
        for kind in report.keys() - {"micro avg", "weighted avg"}:
            scores |= {f"{ours}/{kind}": report[kind][theirs] for theirs, ours in METRICS.items()}
            scores[f"support/{kind}"] = report[kind]["support"]
    spans = [[(start, last + 1, kind) for kind, start, last in get_entities(tags)] for tags in predicted]
    return {"true": true, "predicted": predicted, "spans": spans, "scores": dict(sorted(scores.items()))}


def main():
    warnings.simplefilter("ignore")
    draw = random.Random(0)
    lines = ",\n".join(json.dumps(case(draw), default=float) for _ in range(60))
    folder = Path(__file__).parent / "fixtures"
    folder.mkdir(exist_ok=True)
    (folder / "seqeval.json").write_text(f"[\n{lines}\n]\n", encoding="utf8")


if __name__ == "__main__":
    main()
