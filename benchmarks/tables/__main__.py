"""Study of the MLP on tables: against logistic regression and histogram gradient boosting, by default flags.

    python -m benchmarks.tables --out=runs/tables
    python -m benchmarks.tables --out=runs/plain --only=rules,linear -- --recipe=plain

The tables are for development only: scikit-learn's own and synthetic ones (`benchmarks/tables/data.py`). The defaults
of `experiments.mlp_classifier` for tables were chosen on a prototype with tables of these kinds. Flags after `--` go to
the experiment. Both baselines learn from the same examples: logistic regression with its strength chosen on the
validation split; `HistGradientBoostingClassifier` by its defaults, from the training and the validation split together.

The figure is the mean test accuracy of the seeds, which draw their own split, in %. The interval (95 %) is that of the
mean difference over test examples and seeds. Results are kept in `--out` and not computed again.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from absl import flags as absl_flags
from sklearn.ensemble import HistGradientBoostingClassifier

import zoo
from benchmarks.tables import data
from experiments import mlp_classifier
from zoo import config_flags
from zoo.data.datasets import images
from zoo.metrics import linear_baselines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results")
    parser.add_argument("--seeds", type=int, default=3, help="seeds, each with a split of its own")
    parser.add_argument("--only", default="", help="parts of the tables' names, with commas")
    parser.add_argument("flags", nargs="*", help="flags of the experiment, after --")
    arguments = parser.parse_args()
    rows = []
    for table in data.tables():
        if any(part in table.name for part in arguments.only.split(",")):
            outcomes = [outcome(table, seed, arguments.out, arguments.flags) for seed in range(arguments.seeds)]
            rows.append(summary(table.name, outcomes))
            print(_line(rows[-1]), flush=True)
    print(_verdict(rows))


def outcome(table: data.Table, seed: int, out: Path, given: Sequence[str]) -> dict[str, list[bool]]:
    """Which test examples the network, logistic regression and boosting answer correctly."""
    folder = out / table.name / str(seed)
    result = folder / "outcome.json"
    if result.exists():
        return json.loads(result.read_text())
    (x, y), (x_test, y_test) = data.split(table, seed)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "data.npz", x=x, y=y, x_test=x_test, y_test=y_test)
    keras.backend.clear_session()
    config = _config([f"--dataset={folder / 'data.npz'}", f"--seed={seed}", "--nobaseline", "--nograph", *given])
    zoo.run(mlp_classifier.build, config, folder / "run")
    splits = images.load(str(folder / "data.npz"))
    boosting = HistGradientBoostingClassifier(random_state=seed)
    boosting.fit(*(np.concatenate([splits.train[name], splits.validation[name]]) for name in ("x", "y")))
    predicted = {
        "network": zoo.load(folder / "run").logits(splits.test["x"]).argmax(axis=1),
        "logistic": linear_baselines.linear_predictions(splits),
        "boosting": boosting.predict(splits.test["x"]),
    }
    correct = {name: (labels == splits.test["y"]).tolist() for name, labels in predicted.items()}
    result.write_text(json.dumps(correct))
    return correct


def summary(name: str, outcomes: Sequence[dict[str, list[bool]]]) -> dict:
    """Mean accuracies in %, and the network's lead over each baseline with half its interval."""
    correct = {model: np.concatenate([each[model] for each in outcomes]).astype(float) for model in outcomes[0]}
    row = {"table": name} | {model: 100 * float(np.mean(each)) for model, each in correct.items()}
    for baseline in ("logistic", "boosting"):
        difference = 100 * (correct["network"] - correct[baseline])
        row[f"over_{baseline}"] = float(np.mean(difference))
        row[f"half_{baseline}"] = float(1.96 * np.std(difference) / np.sqrt(len(difference)))
    return row


def _config(arguments: Sequence[str]) -> mlp_classifier.MlpConfig:
    values = absl_flags.FlagValues()
    config_flags.define_flags(mlp_classifier.MlpConfig, "", values)
    values([sys.argv[0], *arguments])
    return config_flags.from_flags(mlp_classifier.MlpConfig, values)


def _line(row: dict) -> str:
    accuracies = "".join(f" | {row[model]:6.2f}" for model in ("network", "logistic", "boosting"))
    leads = "".join(f" | {row[f'over_{each}']:+6.2f} +- {row[f'half_{each}']:.2f}" for each in ("logistic", "boosting"))
    return f"| {row['table']:16}{accuracies}{leads} |"


def _verdict(rows: Sequence[dict]) -> str:
    below = sum(row["over_logistic"] < 0 for row in rows)
    significant = sum(row["over_logistic"] + row["half_logistic"] < 0 for row in rows)
    near = sum(row["over_boosting"] >= -1 for row in rows)
    return (
        f"below logistic regression on {below} of {len(rows)} tables, beyond the interval on {significant}; less than "
        f"a point below boosting, or above it, on {near}"
    )


if __name__ == "__main__":
    main()
