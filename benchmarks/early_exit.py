"""Early exit of encoders and LSTMs: computation saved, and predictions changed, on the test split of a run.

    python -m benchmarks.early_exit runs/bert_finetune
    python -m benchmarks.early_exit runs/bert_finetune --risks=0.01,0.02 --rules=confident,patient --kind=errors
    python -m benchmarks.early_exit runs/lstm_sentiment --chunk=16

The run is a classifier of texts by a Transformer encoder (`experiments.bert_finetune`) or by an LSTM in one direction
(`experiments.lstm_sentiment --recipe=plain`). The exits are fitted to the run's training split and the thresholds
chosen on its validation split. All figures are of the test split, on which nothing is chosen:

    layers, tokens        computed for a text on average, and how many the full model computes
    full, early           accuracy in percent
    difference            early minus full accuracy on the same texts, in points; 95 %, by the normal approximation
    changed               predictions that differ from the full model's, in percent: bounded by --kind=changed
    seconds full, early   for texts that fill whole batches of 256, so that no padding of a last batch is saved; from
                          strings to logits, tokenizing included. Full and early alternate, the order changing from
                          round to round; median [min..max]
    times                 full / early in each round; median [min..max]. Anything within 15 % is noise, and on a shared
                          machine more.

`--out` writes all figures.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import report
from benchmarks.harness.report import Spread
from zoo import workdir as folders
from zoo.metrics.logits import two_class_logits
from zoo.models import lstm_layers
from zoo.predict.early_exit import exit_heads
from zoo.predict.early_exit.lstm_exit import LstmExit
from zoo.predict.early_exit.transformer_exit import TransformerExit
from zoo.predict.evaluation import held_out, run_data
from zoo.predict.predictors import loading

_BATCH = 256


def main() -> None:
    options = _parser().parse_args()
    predictor = loading.load(options.workdir)
    heldout = held_out.load(options.workdir, predictor)
    start = time.perf_counter()
    early = _early(options, predictor, heldout)
    print(f"{time.perf_counter() - start:.1f} s to fit and calibrate", flush=True)
    run = folders.read_run(options.workdir)
    test = run_data.run_texts(run).test
    texts, labels = run_data.as_examples(predictor, test)[: options.texts], test.labels[: options.texts]
    full = two_class_logits(predictor.logits(texts)).argmax(axis=1)
    whole = early.saved.whole or float(np.maximum(predictor.columns(texts)["length"], 1).mean())
    record = {
        "machine": report.machine(),
        "settings": vars(options),
        "texts": len(texts),
        "rows": [],
    }
    for rule in options.rules.split(","):
        for risk in map(float, options.risks.split(",")):
            early.choose(risk, options.delta, rule, options.kind)
            print(early.stopping.line(), flush=True)
            row = {"rule": rule, "risk": risk, "whole": whole, **_scores(early, texts, labels, full)}
            row |= _timed(predictor, early, texts[: min(len(texts), options.timed) // _BATCH * _BATCH], options.rounds)
            record["rows"].append(row)
            print(_line(row), flush=True)
    if options.out:
        Path(options.out).parent.mkdir(parents=True, exist_ok=True)
        Path(options.out).write_text(json.dumps(record, indent=1) + "\n", encoding="utf8")


def _early(options, predictor, heldout) -> TransformerExit | LstmExit:
    first = {"risk": float(options.risks.split(",")[0]), "delta": options.delta, "kind": options.kind}
    if any(isinstance(layer, lstm_layers.Lstm) for layer in predictor.model.layers):
        return LstmExit(predictor, heldout, chunk=options.chunk, **first)
    return TransformerExit(predictor, heldout, exit_heads.load_or_fit(options.workdir, predictor), **first)


def _scores(early: TransformerExit | LstmExit, texts: list[str], labels: np.ndarray, full: np.ndarray) -> dict:
    """Depth, accuracies and their paired difference."""
    answers = early.answers(texts)
    predicted = answers.logits.argmax(axis=1)
    gains = (predicted == labels).astype(float) - (full == labels)
    half = 1.96 * float(gains.std(ddof=1)) / len(gains) ** 0.5
    return {
        "depth": float(answers.depths.mean()),
        "depths": np.bincount(answers.depths).tolist(),
        "full": 100 * float((full == labels).mean()),
        "early": 100 * float((predicted == labels).mean()),
        "difference": 100 * float(gains.mean()),
        "low": 100 * (float(gains.mean()) - half),
        "high": 100 * (float(gains.mean()) + half),
        "changed": 100 * float((predicted != full).mean()),
    }


def _timed(predictor, early: TransformerExit | LstmExit, texts: list[str], rounds: int) -> dict:
    """Seconds of each round, after one that compiles."""
    contenders = {"full": predictor.logits, "early": early.logits}
    seconds = {name: [] for name in contenders}
    if not texts:
        return {"seconds": seconds}
    for number in range(rounds + 1):
        for name in sorted(contenders, reverse=bool(number % 2)):
            start = time.perf_counter()
            contenders[name](texts)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {"seconds": seconds}


def _line(row: dict) -> str:
    difference = f"difference {row['difference']:+.2f} [{row['low']:+.2f}..{row['high']:+.2f}]"
    lines = [
        f"  {row['rule']}, risk {row['risk']:g}: {row['depth']:.2f} of {row['whole']:.2f}, "
        f"{row['whole'] / row['depth']:.2f} times fewer; changed {row['changed']:.2f} %",
        f"  accuracy full {row['full']:.2f}, early {row['early']:.2f}, {difference}",
    ]
    full, early = row["seconds"].values()
    if full:
        times = _spread([one / other for one, other in zip(full, early)])
        lines.append(
            f"  seconds full {_spread(full).text('.3f')}, early {_spread(early).text('.3f')}, times {times.text('.2f')}"
        )
    return "\n".join(lines)


def _spread(values: list[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.early_exit", description="What early exit saves and costs.")
    parser.add_argument("workdir", help="folder of a finished run")
    parser.add_argument("--risks", default="0.01,0.02,0.05", help="tolerated risks, with commas; default %(default)s")
    parser.add_argument("--rules", default="confident,patient", help="exit rules, with commas; default %(default)s")
    parser.add_argument(
        "--kind", default="changed", choices=("changed", "errors"), help="risk of what; default %(default)s"
    )
    parser.add_argument(
        "--delta", type=float, default=0.05, help="chance that a threshold exceeds the risk; default %(default)s"
    )
    parser.add_argument(
        "--chunk", type=int, default=16, help="tokens between two exits of an LSTM; default %(default)s"
    )
    parser.add_argument("--texts", type=int, default=None, help="texts of the test split; default all")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds; default %(default)s, 0 for none")
    parser.add_argument("--timed", type=int, default=768, help="most texts of a timed round; default %(default)s")
    parser.add_argument("--out", default="", help="a .json for all figures")
    return parser


if __name__ == "__main__":
    main()
