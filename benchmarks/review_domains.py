"""Domain shift of reviews: gain of pseudo-labels (`zoo feedback`) and of task-adaptive pretraining.

    python -m benchmarks.review_domains feedback runs/imdb0 runs/imdb1 runs/imdb2 --out=runs/domains
    python -m benchmarks.review_domains adaptation runs/sst0 runs/sst1 runs/sst2 --out=runs/domains

`feedback`: runs of `experiments.lstm_sentiment --dataset=imdb_reviews` (long reviews) meet SST-2 (single sentences).
The run labels 5,000 fixed training sentences of SST-2; the most confident half of each class is added to the run's own
training split for another round from its weights (`zoo feedback`, and the command that it prints). Evaluated on SST-2's
dev split, 872 sentences, before and after. The round is a quarter of a pass, without an average of the weights, which
would hardly move: see `--flags`. `--control` adds such a round without these sentences, as more training alone may
change something.

`adaptation`: runs of `experiments.bert_finetune --dataset=glue/sst2` meet IMDB. They learn from 2,000 reviews of its
unsupervised split by masked words (`zoo.adaptation.task_adaptive_pretraining`, its defaults); evaluated on 2,000 of
its test reviews, by accuracy and cross-entropy.

Nothing is chosen on the reported data: all settings are the defaults, chosen before. The intervals (95 %) are a paired
bootstrap over the test examples, right or wrong before and after. The last row is of all seeds together: each example's
mean over them. Needs `imdb_reviews` and `glue/sst2` of TensorFlow Datasets.

Cost on two cores: `feedback` about a minute a run, half of it for the test of 25,000 reviews, `adaptation` about three.
Each result is kept in `--out`, and not computed again.

Expected of `feedback`, three seeds: SST-2 from 73.6 to 74.5 % (+0.9 points, 0.0 to 1.7), by the control -0.2 (-1.0 to
0.7); 88 % of the pseudo-labels are right; IMDB itself falls by half a point.

Of `adaptation`, three seeds of MiniLM: IMDB from 77.1 to 76.8 % (-0.35 points, -0.95 to 0.25), log loss from 0.62 to
0.53, masked words from 6.96 to 6.72 nats.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

RESAMPLES = 10_000
_NEW, _TEST = 5000, 2000
_REVIEWS = 2000
_FLAGS = "--steps=100 --epochs=0 --ema=0"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one of the two studies; prints a table and keeps its data in `--out`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.review_domains", description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=("feedback", "adaptation"))
    parser.add_argument("runs", nargs="+", help="folders of finished runs, one for each seed")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/review_domains"), help="folder of the results and of further runs"
    )
    parser.add_argument(
        "--share", type=float, default=0.5, help="feedback: fraction of each class to use (default: 0.5)"
    )
    parser.add_argument(
        "--flags", default=_FLAGS, help=f"feedback: extra flags of the further round (default: {_FLAGS})"
    )
    parser.add_argument("--control", action="store_true", help="feedback: also a further round without new sentences")
    parser.add_argument("--epochs", type=float, default=1.0, help="adaptation: passes over the reviews (default: 1)")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    study = {"feedback": _feedback, "adaptation": _adaptation}[options.study]
    results = [_kept(study, run, options) for run in options.runs]
    for line in table([Path(run).name for run in options.runs], results):
        print(line)


def interval(before: np.ndarray, after: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of mean(after) - mean(before) by a paired bootstrap over examples (Efron, 1979)."""
    from zoo.metrics import classification

    gaps = after.astype(np.float64) - before
    intervals = classification.bootstrap(
        lambda counts: {"gap": counts @ gaps / len(gaps)}, len(gaps), RESAMPLES, seed, 0.95
    )
    return intervals["gap"]


def table(names: Sequence[str], results: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table: accuracy before and after each change, on the same examples."""
    changes = [name for name in results[0]["right"] if name != "before"]
    lines = ["| run | before | change | after | difference (95 %) | notes |", "|---|---|---|---|---|---|"]
    for change in changes:
        pairs = [[np.array(each["right"][name], float) for name in ("before", change)] for each in results]
        if len(pairs) > 1:
            pairs.append([np.mean([pair[side] for pair in pairs], axis=0) for side in (0, 1)])
        notes = [each["notes"][change] for each in results] + [""]
        for name, (before, after), note in zip([*names, f"all {len(results)}"], pairs, notes):
            low, high = interval(before, after)
            gap = 100 * (after.mean() - before.mean())
            lines.append(
                f"| {name} | {100 * before.mean():.2f} % | {change} | {100 * after.mean():.2f} % | {gap:+.2f} "
                f"({100 * low:+.2f} to {100 * high:+.2f}) | {note} |"
            )
    return lines


def _kept(study: Callable, run: str, options: argparse.Namespace) -> dict[str, Any]:
    path = options.out / f"{options.study}-{Path(run).name}.json"
    if not path.exists():
        start = time.perf_counter()
        result = study(run, options) | {"seconds": round(time.perf_counter() - start)}
        aside = path.with_suffix(".partial")
        aside.write_text(json.dumps(result))
        os.replace(aside, path)
    return json.loads(path.read_text())


def _feedback(run: str, options: argparse.Namespace) -> dict[str, Any]:
    import zoo
    from zoo.adaptation import pseudo_labels
    from zoo.data.datasets import sst2_phrases, text_classification

    sst = text_classification.load("glue/sst2")
    whole = np.flatnonzero(sst2_phrases.sentences(sst.train.texts))
    chosen = np.sort(np.random.default_rng(0).permutation(whole)[:_NEW]).tolist()
    new, truth = [sst.train.texts[position] for position in chosen], sst.train.labels[chosen]
    out = (options.out / f"{Path(run).name}.csv").absolute()
    pseudo = pseudo_labels.collect(run, new, options.share)
    pseudo_labels.write(out, pseudo)
    label_of = dict(zip(new, truth.tolist()))
    good = np.mean([label_of[text] == label for text, label in zip(pseudo.examples, pseudo.labels.tolist())])
    right = {"before": _right(zoo.load(run), sst.test)}
    summary = f"{len(pseudo.labels):,} of {len(new):,} taken, {100 * good:.1f} % of them right"
    notes, words = {}, shlex.split(pseudo_labels.command(run, out))
    for change, left in (("feedback", ""), ("control", "--more_file")):
        if change == "control" and not options.control:
            continue
        workdir = (options.out / f"{Path(run).name}-{change}").absolute()
        kept = [word for word in words if not (left and word.startswith(left))]
        _process([*kept, *shlex.split(options.flags), f"--workdir={workdir}"])
        right[change] = _right(zoo.load(workdir), sst.test)
        notes[change] = f"{summary if change == 'feedback' else 'none'}; IMDB {_tested(run)} -> {_tested(workdir)}"
    return {"right": right, "notes": notes}


def _adaptation(run: str, options: argparse.Namespace) -> dict[str, Any]:
    import zoo
    from zoo.adaptation import task_adaptive_pretraining
    from zoo.data.datasets import text_classification as reviews
    from zoo.data.datasets.text_splits import select
    from zoo.predict.evaluation import held_out

    predictor = zoo.load(run)
    imdb = reviews.load("imdb_reviews", unlabelled=True)
    draw = np.random.default_rng(0)
    in_test = np.zeros(len(imdb.test.texts), bool)
    in_test[draw.permutation(len(in_test))[:_TEST]] = True
    # The texts of the training split come first.
    texts = imdb.unlabelled[len(imdb.train.texts) :]
    texts = [texts[position] for position in draw.permutation(len(texts))[:_REVIEWS].tolist()]
    test = select(imdb.test, in_test)
    adapted = task_adaptive_pretraining.adapt(
        predictor,
        texts,
        held_out.load(run, predictor),
        task_adaptive_pretraining.replay(run, predictor),
        epochs=options.epochs,
    )
    for line in adapted.trace:
        print(line, flush=True)
    chances = {"before": predictor.probabilities(test.texts), "adaptation": adapted.predictor.probabilities(test.texts)}
    right = {name: (each.argmax(axis=1) == test.labels).astype(int).tolist() for name, each in chances.items()}
    last = adapted.trace[-1]
    losses = f"masked words {adapted.trace[0].masked_loss:.2f} -> {last.masked_loss:.2f}"
    kept = f"{sum(line.accepted for line in adapted.trace)} of {len(adapted.trace)} rounds kept"
    was, now = (
        float(-np.log(np.maximum(each[np.arange(len(each)), test.labels], 1e-12)).mean()) for each in chances.values()
    )
    loss = f"log loss {was:.3f} -> {now:.3f}"
    return {"right": right, "notes": {"adaptation": f"{kept}; SST-2 validation {last.accuracy:.4f}; {losses}; {loss}"}}


def _right(predictor: Any, split: Any) -> list[int]:
    return (predictor.probabilities(split.texts).argmax(axis=1) == split.labels).astype(int).tolist()


def _tested(workdir: str | Path) -> str:
    result = json.loads((Path(workdir) / "result.json").read_text())
    return f"{100 * result['test/accuracy']:.2f} %"


def _process(words: Sequence[str]) -> None:
    words = [sys.executable if word == "python" else word for word in words]
    print(shlex.join(words), flush=True)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
