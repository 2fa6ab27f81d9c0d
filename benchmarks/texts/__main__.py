"""Study of text classification: the default of `lstm_sentiment` against TF-IDF with logistic regression.

    python -m benchmarks.texts --out=runs/texts
    python -m benchmarks.texts --out=runs/texts --only=sst2_1000,names --seeds=1
    python -m benchmarks.texts --out=runs/linear --linear_half
    python -m benchmarks.texts --out=runs/encoder --experiment=bert_finetune -- --preset=tiny --context=128

The texts are for development only (`benchmarks/texts/data.py`). Each run is the command of a user, with its default
flags; flags after `--` are added. Its baseline learns from the same examples, with its strength chosen on the same
validation split. `--linear_half` trains no network: it takes the n-gram layer of the default model alone.

Printed are accuracies in %, means of the seeds, which draw their own training and test examples; their difference with
the 95 % interval over the seeds (Student's t), and the one over test texts (of paired answers, those of the seeds taken
as independent); and the seconds of a run, beside those of `--recipe=plain`. Results are kept in `--out`, as
results.json and results.md too, and not computed again.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.texts import data, linear_half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seeds", type=int, default=3, help="seeds, each with examples of its own")
    parser.add_argument("--plain_seeds", type=int, default=1, help="seeds of --recipe=plain, for its time")
    parser.add_argument("--only", default="", help="sets such as sst2_1000, or parts of their names, with commas")
    parser.add_argument("--linear_half", action="store_true", help="the n-gram layer alone, without a network")
    parser.add_argument("--experiment", default="lstm_sentiment", choices=("lstm_sentiment", "bert_finetune"))
    parser.add_argument("flags", nargs="*", help="flags of the experiment, after --")
    arguments = parser.parse_args()
    has_plain = arguments.experiment == "lstm_sentiment" and not arguments.linear_half
    plain_seeds = arguments.plain_seeds if has_plain else 0
    rows = []
    print(*_HEADER, sep="\n", flush=True)
    for texts in data.text_sets(arguments.only.split(",")):
        run = [] if arguments.linear_half else [arguments.experiment, *arguments.flags]
        name = "linear_half" if arguments.linear_half else "default"
        outcomes = [outcome(texts, seed, arguments.out, name, run) for seed in range(arguments.seeds)]
        plain = [*run, "--recipe=plain", "--nobaseline"]
        others = [outcome(texts, seed, arguments.out, "plain", plain) for seed in range(plain_seeds)]
        rows.append(summary(texts, outcomes, others))
        print(_line(rows[-1]), flush=True)
        # As soon as there are some: the study takes hours.
        _write(arguments.out, rows)
    print(f"\n{_verdict(rows)}")


def outcome(texts: data.TextSet, seed: int, out: Path, name: str, run: Sequence[str]) -> dict:
    """The result of a run, and its `seconds` with the start of Python; the trained model is not kept.

    Args:
        texts: the development set.
        seed: draws the examples, and is the seed of the run.
        out: folder of the study.
        name: says which kind of run it is.
        run: the experiment's name, and flags; empty for the linear half alone.
    """
    folder = out / texts.name / str(seed)
    path = folder / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text())
    files = [folder / f"{part}.jsonl" for part in data.Split._fields]
    folder.mkdir(parents=True, exist_ok=True)
    for file, (some, labels) in zip(files, data.split(texts, seed)):
        rows = ({"text": text, "label": label} for text, label in zip(some, labels))
        file.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf8")
    result = _trained(files, seed, folder / name, run) if run else linear_half.result(tuple(files), seed)
    path.write_text(json.dumps(result, indent=1))
    return result


def _trained(files: Sequence[Path], seed: int, workdir: Path, run: Sequence[str]) -> dict:
    shutil.rmtree(workdir, ignore_errors=True)
    parts = ("train", "eval", "test")
    flags = [*(f"--{part}_file={file}" for part, file in zip(parts, files)), f"--seed={seed}", f"--workdir={workdir}"]
    start = time.perf_counter()
    command = [sys.executable, "-m", f"experiments.{run[0]}", *flags, *run[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    seconds = time.perf_counter() - start
    result = json.loads((workdir / "result.json").read_text()) | {"seconds": seconds, "run": list(run)}
    shutil.rmtree(workdir)
    return result


def summary(texts: data.TextSet, outcomes: Sequence[dict], plain: Sequence[dict]) -> dict:
    """A row of the table: means in % and seconds, see the module's docstring."""
    leads, low, high = 100 * np.array([[each[name] for name in data.LEAD] for each in outcomes]).T
    halves = (high - low) / 2
    return {
        "set": texts.name,
        "classes": len(set(texts.labels)),
        "model": 100 * _mean(each["test/accuracy"] for each in outcomes),
        "baseline": 100 * _mean(each["test/baseline_accuracy"] for each in outcomes),
        "lead": float(leads.mean()),
        "leads": leads.tolist(),
        "half_over_seeds": _half_over_seeds(leads),
        "half_over_texts": float(np.sqrt(np.sum(halves**2)) / len(halves)),
        "seconds": _mean(each["seconds"] for each in outcomes),
        "plain": 100 * _mean(each["test/accuracy"] for each in plain) if plain else None,
        "plain_seconds": _mean(each["seconds"] for each in plain) if plain else None,
    }


def _half_over_seeds(leads: np.ndarray) -> float | None:
    """Half the 95 % interval of the mean; None for a single seed."""
    if len(leads) < 2:
        return None
    return float(stats.t.ppf(0.975, len(leads) - 1) * leads.std(ddof=1) / math.sqrt(len(leads)))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


_COLUMNS = ["set", "classes", "model", "baseline", "lead", "±seeds", "±texts", "seconds", "plain", "seconds"]
_HEADER = (f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|")


def _line(row: dict) -> str:
    numbers = [
        ("model", "{:.1f}"),
        ("baseline", "{:.1f}"),
        ("lead", "{:+.1f}"),
        ("half_over_seeds", "{:.1f}"),
        ("half_over_texts", "{:.1f}"),
        ("seconds", "{:.0f}"),
        ("plain", "{:.1f}"),
        ("plain_seconds", "{:.0f}"),
    ]
    cells = ["" if row[name] is None else form.format(row[name]) for name, form in numbers]
    return f"| {' | '.join([row['set'], str(row['classes']), *cells])} |"


def _write(out: Path, rows: Sequence[dict]) -> None:
    (out / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    (out / "results.md").write_text("\n".join([*_HEADER, *map(_line, rows)]) + "\n")


def _verdict(rows: Sequence[dict]) -> str:
    above = sum(row["lead"] > 0 for row in rows)
    far = sum(row["lead"] < -1 for row in rows)
    worst, mean = min(row["lead"] for row in rows), _mean(row["lead"] for row in rows)
    return (
        f"above the baseline on {above} of {len(rows)} sets, more than a point below on {far}; lead at least "
        f"{worst:+.1f}, {mean:+.1f} on average"
    )


if __name__ == "__main__":
    main()
