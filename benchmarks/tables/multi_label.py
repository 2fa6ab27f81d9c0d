"""Study of several labels per example on tables: against logistic regression and gradient boosting of each label.

    python -m benchmarks.tables.multi_label --out=runs/multi_label

The tables are for development: scikit-learn's `make_multilabel_classification` (counts of words in documents of
several topics), and synthetic ones: tags of restaurants with categories, dates and missing values, and labels that
follow from other labels. Each seed has a split of its own. The figures are means of the seeds of micro
F1 and of macro average precision in %, and the network's lead with the 95 % Student interval over the seeds. Both
baselines are those of every run (`zoo.metrics.label_comparison`). Results are kept in `--out` and not computed again.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.datasets import make_multilabel_classification

import zoo
from experiments import mlp_multilabel

_MODELS = {"network": "", "logistic": "baseline_", "boosting": "boosting_", "trivial": "trivial_"}
_METRICS = ("f1_micro", "average_precision")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results")
    parser.add_argument("--seeds", type=int, default=3, help="seeds, each with a split of its own")
    parser.add_argument("--only", default="", help="parts of the tables' names, with commas")
    arguments = parser.parse_args()
    for name, table, labels in tables():
        if any(part in name for part in arguments.only.split(",")):
            results = [outcome(name, table, labels, seed, arguments.out) for seed in range(arguments.seeds)]
            for metric in _METRICS:
                print(line(name, metric, results), flush=True)


def tables() -> Iterator[tuple[str, pd.DataFrame, list[str]]]:
    """Names, tables, and their label columns."""
    for rows, features, count, labels in ((600, 20, 5, 2), (4000, 30, 10, 3)):
        x, y = make_multilabel_classification(rows, features, n_classes=count, n_labels=labels, random_state=0)
        yield _table(f"topics_{rows}", pd.DataFrame(x).add_prefix("word"), y)
    yield _table("restaurants_1500", *_restaurants(np.random.default_rng(0), 1500))
    yield _table("chain_3000", *_chain(np.random.default_rng(1), 3000))


def _table(name: str, features: pd.DataFrame, y: np.ndarray) -> tuple[str, pd.DataFrame, list[str]]:
    labels = [f"label{number}" for number in range(y.shape[1])]
    return name, features.join(pd.DataFrame(np.asarray(y, int), columns=labels)), labels


def _restaurants(draw: np.random.Generator, rows: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Numbers, categories, dates and missing values; six tags, of which two need a product of columns."""
    table = pd.DataFrame(
        {
            "price": draw.gamma(4.0, 8.0, rows).round(1),
            "kind": draw.choice(["pizza", "sushi", "café", "bar", "grill"], rows, p=[0.3, 0.2, 0.2, 0.2, 0.1]),
            "opened": pd.Timestamp("2005-01-01") + pd.to_timedelta(draw.integers(0, 7000, rows), unit="D"),
            "closes": draw.normal(22.0, 2.0, rows).round(1),
            "garden": draw.random(rows) < 0.3,
            "noise": draw.normal(size=rows),
        }
    )
    year = (table["opened"] - pd.Timestamp("2005-01-01")).dt.days / 365.0
    price, late = (table["price"] - 32.0) / 16.0, (table["closes"] - 22.0) / 2.0
    is_bar, is_cafe = table["kind"].isin(["bar", "grill"]), table["kind"] == "café"
    scores = [
        1.5 * late + 2.0 * is_bar - 1.5,
        -2.0 * price - 0.5,
        1.5 * table["garden"] + 1.5 * is_cafe - 1.5,
        2.0 * price * np.where(table["garden"], 1.0, -1.0) - 1.0,
        (year - 10.0) / 3.0 - late,
        np.where(is_cafe, -late, late) * 1.5 - 2.0,
    ]
    y = np.stack([score + 0.7 * draw.logistic(size=rows) > 0 for score in scores], axis=1)
    for name in ("price", "kind", "closes"):
        table[name] = table[name].astype(object).where(draw.random(rows) > 0.08, None)
    return table, y


def _chain(draw: np.random.Generator, rows: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Eight labels of which each depends on the one before it, and on a column."""
    x = draw.normal(size=(rows, 12))
    y = np.zeros((rows, 8), bool)
    before = np.zeros(rows)
    for label in range(8):
        score = 1.5 * x[:, label] + 2.0 * before * x[:, label + 1] - 0.7
        y[:, label] = score + 0.5 * draw.logistic(size=rows) > 0
        before = y[:, label] - 0.5
    return pd.DataFrame(x).add_prefix("x"), y


def outcome(name: str, table: pd.DataFrame, labels: list[str], seed: int, out: Path) -> dict[str, float]:
    """The result of a run on the rows in another order, which gives it another split."""
    folder = out / name / str(seed)
    result = folder / "outcome.json"
    if result.exists():
        return json.loads(result.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    table.sample(frac=1.0, random_state=seed).to_csv(folder / "data.csv", index=False)
    keras.backend.clear_session()
    flags = {"dataset": str(folder / "data.csv"), "label_column": ",".join(labels), "seed": seed, "graph": False}
    config = mlp_multilabel.MultilabelConfig(**flags, show="none")
    found = zoo.run(mlp_multilabel.build, config, folder / "run")
    names = [f"test/{prefix}{metric}" for prefix in _MODELS.values() for metric in _METRICS]
    kept = {name: found[name] for name in names}
    result.write_text(json.dumps(kept))
    return kept


def line(name: str, metric: str, results: list[dict[str, float]]) -> str:
    """A row of the table in docs/multi_label.md."""
    values = {
        model: 100 * np.array([each[f"test/{prefix}{metric}"] for each in results]) for model, prefix in _MODELS.items()
    }
    cells = [f"{values[model].mean():.1f}" for model in _MODELS]
    for baseline in ("logistic", "boosting"):
        leads = values["network"] - values[baseline]
        # Of one seed there is no interval: NaN.
        half = stats.t.ppf(0.975, len(leads) - 1) * stats.sem(leads)
        cells.append(f"{leads.mean():+.1f} ± {half:.1f}")
    return f"| {name} | {metric} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
