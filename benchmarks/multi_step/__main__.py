"""Multi-step prediction (test-time adaptation) on shifted data: figures, and the page docs/multi_step_prediction.md.

    python -m benchmarks.multi_step runs/multi_step                          # all parts, then the page
    python -m benchmarks.multi_step runs/multi_step --parts=corruptions      # one part
    python -m benchmarks.multi_step runs/multi_step --parts=page             # the page from what was measured

Trains the runs that the folder lacks first: three seeds of four networks, with the commands of docs/results.md
(MNIST and Fashion-MNIST: batch normalisation; IMDB and SST-2: LSTMs). Two to three hours on two cores in all, training
included; each part's figures are kept as JSON in the folder and not measured again. All figures are of test images and
texts; thresholds of stages and guards were chosen on training images.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.multi_step import images, labels, page

SEEDS = (0, 1, 2)
_MLP = "--norm=batch --hidden=512,512 --label_smoothing=0.1 --optimizer=adamw --schedule=cosine --epochs=40"
_LSTM = "--tokenizer=word --bidirectional --pooling=max --dropout=0.6 --ema=0.998 --learning_rate=0.002 --batch_size=64"
_TRAININGS = {
    "mnist": f"experiments.mlp_classifier --dataset=mnist --dropout=0.3 {_MLP}",
    "fashion_mnist": f"experiments.mlp_classifier --dataset=fashion_mnist --dropout=0.4 {_MLP}",
    "glue/sst2": "experiments.lstm_sentiment --recipe=plain --dataset=glue/sst2 --vocabulary=14000 "
    f"--embedding_dropout=0.4 --input_dropout=0.4 --schedule=cosine --epochs=4 {_LSTM}",
    "imdb_reviews": "experiments.lstm_sentiment --recipe=plain --dataset=imdb_reviews --vocabulary=30000 --width=128 "
    "--units=128 --max_length=600 --cut=head_tail --embedding_dropout=0.5 --input_dropout=0.3 --clip_norm=1 "
    f"--warmup_steps=200 --schedule=cosine --epochs=6 {_LSTM}",
}
IMAGES = ("mnist", "fashion_mnist")
# Images of a cell; the sixty-one cells and their sorted streams take about five minutes a run.
_EXAMPLES = 400


def main() -> None:
    """Measures the missing parts and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder of the runs and the figures")
    parser.add_argument("--parts", default="corruptions,orders,streams,changes,label_shift,calibration,page")
    parser.add_argument("--datasets", help="only these, with commas between")
    parser.add_argument("--seeds", help="only these, with commas between; a process grows with each run by some GB")
    parser.add_argument("--page", type=Path, default=Path("docs/multi_step_prediction.md"))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    for part in arguments.parts.split(","):
        if part == "page":
            page.write(arguments.work, arguments.page)
        else:
            _measure(arguments.work, part, arguments.datasets, arguments.seeds)


def _measure(work: Path, part: str, only: str | None, seeds: str | None) -> None:
    datasets = IMAGES if part in ("corruptions", "orders", "streams", "changes") else tuple(_TRAININGS)
    for dataset in datasets if only is None else only.split(","):
        for seed in SEEDS if seeds is None else map(int, seeds.split(",")):
            path = work / f"{part}-{dataset.replace('/', '-')}-{seed}.json"
            if not path.exists():
                figures = _PARTS[part](str(_trained(work, dataset, seed)), dataset)
                path.write_text(json.dumps(figures))


def _trained(work: Path, dataset: str, seed: int) -> Path:
    folder = work / f"{dataset.replace('/', '-')}-{seed}"
    if not (folder / "result.json").exists():
        command = [sys.executable, "-m", *_TRAININGS[dataset].split(), f"--seed={seed}", f"--workdir={folder}"]
        print(*command, flush=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


_PARTS: dict[str, Callable[[str, str], Any]] = {
    "corruptions": lambda run, dataset: images.corruptions(run, dataset, _EXAMPLES),
    "orders": lambda run, dataset: images.orders(run, dataset, _EXAMPLES),
    "streams": images.streams,
    "changes": images.changes,
    "label_shift": lambda run, dataset: labels.label_shift(run, 2000),
    "calibration": lambda run, dataset: labels.calibration(run),
}

if __name__ == "__main__":
    main()
