"""Study of the regressor on tables: against ridge regression and histogram gradient boosting, by default flags.

    python -m benchmarks.tables.values --out=runs/values

The tables are for development: scikit-learn's diabetes patients and synthetic ones. Each seed has a split of its own.
The figures are the mean RMSE of the seeds, and by how many percent the network's is smaller, with the 95 % Student
interval over the seeds. Both baselines are those of every run (`zoo.metrics.value_baselines`). Results are kept in
`--out` and not computed again.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.datasets import load_diabetes, make_friedman1, make_friedman2, make_friedman3

import zoo
from experiments import mlp_regressor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results")
    parser.add_argument("--seeds", type=int, default=3, help="seeds, each with a split of its own")
    parser.add_argument("--only", default="", help="parts of the tables' names, with commas")
    arguments = parser.parse_args()
    for name, table in tables():
        if any(part in name for part in arguments.only.split(",")):
            results = [outcome(name, table, seed, arguments.out) for seed in range(arguments.seeds)]
            print(line(name, results), flush=True)


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """Names and tables, whose last column has the values."""
    diabetes = load_diabetes(scaled=False, as_frame=True)
    yield "diabetes_442", diabetes.data.assign(value=diabetes.target)
    yield "friedman1_600", _frame(*make_friedman1(600, 10, noise=1.0, random_state=0))
    yield "friedman2_2000", _frame(*make_friedman2(2000, noise=50.0, random_state=0))
    yield "friedman3_1000", _frame(*make_friedman3(1000, noise=0.1, random_state=0))
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 20))
    yield "linear_300", _frame(x, x @ draw.normal(size=20) + 2.0 * draw.normal(size=300))
    x = draw.normal(size=(5000, 8))
    steps = 2.0 * (x[:, 0] > 0) + 3.0 * (x[:, 1] > 0.5) * (x[:, 2] < 0) + np.floor(x[:, 3])
    yield "steps_5000", _frame(x, steps + 0.5 * draw.normal(size=5000))
    yield "mixed_1500", _mixed(draw, 1500)


def _mixed(draw: np.random.Generator, rows: int) -> pd.DataFrame:
    """Numbers, categories, dates and missing values, of which each matters."""
    table = pd.DataFrame(
        {
            "size": draw.gamma(4.0, 20.0, rows),
            "kind": draw.choice(["flat", "house", "loft", "villa"], rows, p=[0.6, 0.25, 0.1, 0.05]),
            "sold": pd.Timestamp("2020-01-01") + pd.to_timedelta(draw.integers(0, 1500, rows), unit="D"),
            "garden": draw.random(rows) < 0.3,
            "noise": draw.normal(size=rows),
        }
    )
    factor = table["kind"].map({"flat": 1.0, "house": 1.2, "loft": 1.5, "villa": 2.5})
    year = (table["sold"] - pd.Timestamp("2020-01-01")).dt.days / 365.0
    value = table["size"] * factor * (1.0 + 0.08 * year) + 20.0 * table["garden"] + 5.0 * draw.normal(size=rows)
    for name in ("size", "kind", "garden"):
        table[name] = table[name].astype(object).where(draw.random(rows) > 0.1, None)
    return table.assign(value=value)


def _frame(x: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(x, columns=[f"x{number}" for number in range(x.shape[1])]).assign(value=y)


def outcome(name: str, table: pd.DataFrame, seed: int, out: Path) -> dict[str, float]:
    """The result of a run on the rows in another order, which gives it another split."""
    folder = out / name / str(seed)
    result = folder / "outcome.json"
    if result.exists():
        return json.loads(result.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    table.sample(frac=1.0, random_state=seed).to_csv(folder / "data.csv", index=False)
    keras.backend.clear_session()
    config = mlp_regressor.RegressorConfig(dataset=str(folder / "data.csv"), label_column="value", seed=seed)
    found = zoo.run(mlp_regressor.build, config, folder / "run")
    kept = {model: found[f"test/{prefix}rmse"] for model, prefix in _MODELS.items()}
    result.write_text(json.dumps(kept))
    return kept


_MODELS = {"network": "", "ridge": "baseline_", "boosting": "boosting_"}


def line(name: str, results: list[dict[str, float]]) -> str:
    """A row of the table in docs/tables.md."""
    cells = [f"{np.mean([each[model] for each in results]):.4g}" for model in _MODELS]
    for baseline in ("ridge", "boosting"):
        gains = np.array([100.0 * (1.0 - each["network"] / each[baseline]) for each in results])
        # Of one seed there is no interval: NaN.
        half = stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains)
        cells.append(f"{gains.mean():+.1f} ± {half:.1f}")
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
