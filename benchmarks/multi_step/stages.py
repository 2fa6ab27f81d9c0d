"""Single stages of multi-step prediction: learners, prototypes, neighbours, statistics, views and perturbations.

    python -m benchmarks.multi_step.stages runs/multi_step                  # test data, three seeds, then the section
    python -m benchmarks.multi_step.stages runs/multi_step --split=train    # data that choices are made on
    python -m benchmarks.multi_step.stages runs/multi_step --parts=section  # the section from what was measured

The folder, or that of --runs, has the runs trained by `benchmarks.multi_step`. Images: noise and rotation of severity
3, and the clean ones, in random order; noise also sorted by class; 400 images in batches of 200. Texts: the LSTMs of
IMDB on sentences of SST-2, and of SST-2 on the beginnings of IMDB's reviews. Figures are kept as JSON in the folder, by
part, and not measured again; `section-stages.md` has the tables. Two to three minutes of one core a run.
"""

import argparse
import functools
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zoo.adaptation import plans
from zoo.adaptation.refiner import Refiner
from zoo.adaptation.stages.batch_prior import BatchPrior
from zoo.adaptation.stages.lame import Lame
from zoo.adaptation.stages.t3a import T3a
from zoo.data.datasets import images, text_classification
from zoo.data.datasets.image_corruptions import corrupted
from zoo.metrics.logits import two_class_logits
from zoo.predict.evaluation import held_out as sources
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors import loading
from zoo.predict.predictors.cloning import digest

_SEEDS = (0, 1, 2)
_IMAGES, _TEXTS = ("mnist", "fashion_mnist"), ("imdb_reviews", "glue-sst2")
_TITLES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
_TITLES |= {"imdb_reviews": "IMDB's model on SST-2", "glue-sst2": "SST-2's model on IMDB"}
_SEVERITY, _BATCH, _EXAMPLES = 3, 200, 400
# A corruption that BN statistics fix and one that they do not; and the one that is also sorted by class.
_DAMAGE, _SORTED = ("noise", "rotation"), ("noise",)
# Words of a review for a model of sentences: about two sentences.
_WORDS = 40
_BOOTSTRAP = 2000
_AUTO = ["statistics", "coral", "input", "output", "coherence"]
_LEARNERS, _FIRST_LEARNERS = ("shot", "deyo", "roid", "rotta"), ("tent", "sar", "eata", "cotta")
# By part, title: names of --refine, and the learner. The cheap ones first.
_IMAGE_PARTS = {
    "stages": {
        "statistics": (["statistics"], "tent"),
        **{name: ([name], "tent") for name in ("interpolation", "t3a", "coherence", "lame", "batch_prior")},
        **{
            f"statistics, {name}": (["statistics", name], "tent")
            for name in ("t3a", "coherence", "lame", "batch_prior")
        },
    },
    "auto": {"auto": (["auto"], "tent")},
    "learners": {
        **{f"statistics, parameters: {name}": (["statistics", "parameters"], name) for name in _LEARNERS},
        **{f"parameters: {name}": (["parameters"], name) for name in _LEARNERS},
    },
    "beside_auto": {"auto with t3a, lame, parameters: shot": ([*_AUTO, "t3a", "lame", "parameters"], "shot")},
    "others": {
        **{name: ([name], "tent") for name in ("views", "perturbation")},
        **{f"statistics, parameters: {name}": (["statistics", "parameters"], name) for name in _FIRST_LEARNERS},
    },
}
_TEXT_NAMES = ("statistics", "auto", "perturbation", "coherence", "t3a", "lame", "batch_prior")
_TEXT_PLANS = {name: ([name], "tent") for name in _TEXT_NAMES}


# Columns of the tables by the cells' names.
_COLUMNS = {"data": "data, seeds", "plan": "plan", "error": "error", "sorted": "sorted", "clean": "clean"}
_GAINS = {"on plain": "gain on plain", "on statistics": "on statistics"}
_IMAGE_COLUMNS = _COLUMNS | _GAINS | {"always": "always", "kept": "kept"}
_TEXT_COLUMNS = {name: title for name, title in _IMAGE_COLUMNS.items() if name != "sorted"}
_ABOUT_IMAGES = (
    f"Errors in percent, mean of the seeds: damaged images ({', '.join(_DAMAGE)}, severity {_SEVERITY}) in random "
    f"order, sorted by class ({', '.join(_SORTED)}), and clean ones; {_EXAMPLES} images in batches of {_BATCH}. "
)
_ABOUT_TEXTS = (
    "Errors in percent, mean of the seeds: texts of another data set than the model's, and of its own (clean). "
)
_ABOUT = (
    "*Gain*: points by which the error of the damaged images in random order, or of the other data set, is less than "
    "that of the plan named, with its paired bootstrap interval (95 %). *Always*: the error if the last stage's "
    "changes are always kept, as its paper has it. *Kept*: share of the changes that the guards let pass."
)

_PARTS = {part: (_IMAGES, chosen) for part, chosen in _IMAGE_PARTS.items()} | {"texts": (_TEXTS, _TEXT_PLANS)}
_TITLES_OF_PLANS = dict.fromkeys(["plain", *(title for _, chosen in _PARTS.values() for title in chosen)])


def main() -> None:
    """Measures the missing figures and writes the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder of the figures")
    parser.add_argument("--runs", type=Path, help="folder of the runs, DATASET-SEED (default: the figures' own)")
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--parts", default="stages,auto,learners,beside_auto,others,texts,section")
    arguments = parser.parse_args()
    runs, parts = arguments.runs or arguments.work, arguments.parts.split(",")
    arguments.work.mkdir(parents=True, exist_ok=True)
    for part in parts:
        datasets, plans_of_data = _PARTS.get(part, ((), {}))
        for (title, plan), seed, dataset in itertools.product(plans_of_data.items(), _SEEDS, datasets):
            path = arguments.work / f"stages-{arguments.split}-{part}-{dataset}-{seed}.json"
            figures = json.loads(path.read_text()) if path.exists() else {"wrong": {}, "always": {}, "kept": {}}
            if title not in figures["wrong"]:
                measured = _measured(runs / f"{dataset}-{seed}", dataset, arguments.split, title, *plan)
                path.write_text(json.dumps({kind: figures[kind] | measured[kind] for kind in figures}))
    if "section" in parts:
        (arguments.work / "section-stages.md").write_text(section(arguments.work, arguments.split))


def section(work: Path, split: str = "test") -> str:
    """The Markdown sections with the tables of all figures, of images and of texts; empty without any."""
    tables = (
        _table(work, split, _IMAGES, "Single stages", _IMAGE_COLUMNS, _ABOUT_IMAGES + _ABOUT),
        _table(work, split, _TEXTS, "Single stages of text models", _TEXT_COLUMNS, _ABOUT_TEXTS + _ABOUT),
    )
    return "\n".join(table for table in tables if table)


def _table(work: Path, split: str, datasets: tuple[str, ...], title: str, columns: dict[str, str], about: str) -> str:
    figures = {dataset: list(_runs(work, split, dataset)) for dataset in datasets}
    rows = [row for dataset, runs in figures.items() if runs for row in _rows(dataset, runs)]
    if not rows:
        return ""
    lines = [f"| {' | '.join(columns.values())} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(row[name] for name in columns)} |" for row in rows]
    return f"## {title}\n\n{about}\n\n" + "\n".join(lines) + "\n"


def _measured(run: Path, dataset: str, split: str, title: str, names: list[str], learner: str) -> dict[str, Any]:
    """Errors by plan and cell, `plan: {cell: [0, 1, ...]}`; the same without guards; fractions of changes kept."""
    start = time.perf_counter()
    predictor, heldout, cells = _loaded(run, dataset, split)
    before = digest(predictor.model)
    plain = {name: _mistakes(two_class_logits(predictor.logits(x)), y) for name, x, y in cells}
    # One refiner for all cells, as its loss is compiled once.
    stages = plans.stages(names, predictor, run, learner)
    refiner = Refiner(predictor, stages, heldout)
    wrong = {name: _mistakes(_answers(refiner, x), y) for name, x, y in cells}
    always: dict[str, Any] = {}
    kept: dict[str, float] = {}
    if "auto" not in title:
        kept[title] = float(np.mean([line.accepted for line in refiner.trace if line.stage == stages[-1].name]))
        if names[-1] not in ("statistics", "coherence"):
            always[title] = _unguarded(refiner, stages, [cell for cell in cells if cell[0].startswith("iid")])
    errors = np.mean([np.mean(each) for each in wrong.values()])
    print(run.name, title, f"{errors:.4f} {time.perf_counter() - start:.0f} s", flush=True)
    assert digest(predictor.model) == before, "the source weights have changed"
    return {"wrong": {"plain": plain, title: wrong}, "always": always, "kept": kept}


@functools.cache
def _loaded(run: Path, dataset: str, split: str) -> tuple[Any, HeldOut, list[tuple[str, Any, np.ndarray]]]:
    """The predictor, its validation split, and the cells."""
    predictor = loading.load(run)
    cells = list((_damaged if dataset in _IMAGES else _other)(dataset, split))
    return predictor, sources.load(run, predictor), cells


def _unguarded(refiner: Refiner, stages: list[Any], cells: list[tuple]) -> dict[str, list[int]]:
    """Errors if the last stage's changes are always kept; the other stages keep their guards."""
    last = stages[-1]
    last.max_score_ratio, propose = None, last.propose
    # The guards of the stages that decide for themselves.
    if isinstance(last, T3a):
        last.limit = None
    elif isinstance(last, (Lame, BatchPrior)):
        last.needs_proof = False
    else:
        last.propose = lambda context: propose(context) and ""
    return {name: _mistakes(_answers(refiner, x), y) for name, x, y in cells}


def _answers(refiner: Refiner, x: Any) -> np.ndarray:
    refiner.reset()
    return np.concatenate([refiner.answer(x[first : first + _BATCH]) for first in range(0, len(x), _BATCH)])


def _mistakes(outputs: np.ndarray, y: np.ndarray) -> list[int]:
    return (outputs.argmax(axis=1) != y).astype(int).tolist()


def _damaged(dataset: str, split: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    part = getattr(images.load(dataset), split)
    # Another draw than in `benchmarks.multi_step.images`.
    chosen = np.random.default_rng(7).permutation(len(part["y"]))[:_EXAMPLES]
    x, y = part["x"][chosen], part["y"][chosen]
    order = np.argsort(y, kind="stable")
    yield "clean", x, y
    for name in _DAMAGE:
        yield f"iid {name}", corrupted(x, name, _SEVERITY), y
    for name in _SORTED:
        yield f"sorted {name}", corrupted(x, name, _SEVERITY)[order], y[order]


def _other(dataset: str, split: str) -> Iterator[tuple[str, list[str], np.ndarray]]:
    for name, label in (("glue/sst2", "glue-sst2"), ("imdb_reviews", "imdb_reviews")):
        part = getattr(text_classification.load(name), split)
        chosen = np.random.default_rng(7).permutation(len(part.labels))[:_EXAMPLES]
        texts = [part.texts[index] for index in chosen.tolist()]
        if label == dataset:
            yield "clean", texts, part.labels[chosen]
        else:
            cut = [" ".join(text.split()[:_WORDS]) if name == "imdb_reviews" else text for text in texts]
            yield f"iid {name}", cut, part.labels[chosen]


def _runs(work: Path, split: str, dataset: str) -> Iterator[dict[str, Any]]:
    """The figures of each seed, of all parts that were measured."""
    for seed in _SEEDS:
        merged: dict[str, Any] = {"wrong": {}, "always": {}, "kept": {}}
        for part in _PARTS:
            path = work / f"stages-{split}-{part}-{dataset}-{seed}.json"
            if path.exists():
                for kind, figures in json.loads(path.read_text()).items():
                    merged[kind] |= figures
        if merged["wrong"]:
            yield merged


def _rows(dataset: str, runs: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """The cells of the table's rows by column."""
    known = set().union(*(run["wrong"] for run in runs))
    for number, plan in enumerate(title for title in _TITLES_OF_PLANS if title in known):
        having = [run for run in runs if plan in run["wrong"]]
        groups = zip(("error", "sorted", "clean"), _groups(having, "wrong", plan), strict=True)
        row = {group: f"{100 * each.mean():.1f}" if each.size else "" for group, each in groups}
        errors = _by_example(having, plan, "iid")
        for other, same in (("plain", ("plain",)), ("statistics", ("plain", "statistics"))):
            is_compared = plan not in same and all(other in run["wrong"] for run in having)
            row[f"on {other}"] = _gain(_by_example(having, other, "iid"), errors) if is_compared else ""
        always = _groups(having, "always", plan)[0] if plan in having[0]["always"] else None
        row["always"] = "" if always is None else f"{100 * always.mean():.1f}"
        row["kept"] = f"{np.mean([run['kept'][plan] for run in having]):.0%}" if plan in having[0]["kept"] else ""
        row["data"] = f"{_TITLES[dataset]}, {len(runs)}" if not number else ""
        row["plan"] = plan if len(having) == len(runs) else f"{plan} (seeds: {len(having)})"
        yield row


def _groups(runs: list[dict[str, Any]], kind: str, plan: str) -> list[np.ndarray]:
    """Errors of all seeds on corrupted, sorted and clean examples."""
    return [
        np.array([cell for run in runs for name, cell in run[kind][plan].items() if name.startswith(group)])
        for group in ("iid", "sorted", "clean")
    ]


def _by_example(runs: list[dict[str, Any]], plan: str, group: str) -> np.ndarray:
    """Error rate of each example over seeds and corruptions, `[examples]`."""
    return np.mean(
        [cell for run in runs for name, cell in run["wrong"][plan].items() if name.startswith(group)], axis=0
    )


def _gain(before: np.ndarray, after: np.ndarray) -> str:
    gains = before - after
    draw = np.random.default_rng(0).integers(0, len(gains), (_BOOTSTRAP, len(gains)))
    low, high = np.quantile(gains[draw].mean(axis=1), [0.025, 0.975])
    return f"{100 * gains.mean():+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


if __name__ == "__main__":
    main()
