"""Conformance table: families of `keras.applications` and KerasHub's backbones in the engine.

    pip install "zoo-keras[conformance]"
    python -m benchmarks.conformance --out=runs/conformance
    python -m benchmarks.conformance --out=runs/conformance --only=ResNet,Bert --compile=auto   # a second table
    python -m benchmarks.conformance --out=runs/conformance --page=docs/conformance.md

Each model runs in a process of its own, so that one that crashes or finds no memory ends alone. Results are kept in
`--out`, one file each, and not computed again. Without KerasHub its backbones are left out. Half an hour on two cores.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import tensorflow as tf

from benchmarks.conformance import checks, keras_hub_subjects, subjects, table
from benchmarks.conformance.subjects import APPLICATIONS, KERAS_HUB, Subject
from zoo.engine import devices

_TIMEOUT = 1800


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--only", default="", help="names of models, with commas")
    parser.add_argument("--compile", default="none", help="what XLA compiles; auto: as in a run, and slower here")
    parser.add_argument("--page", type=Path, help="page to write, as docs/conformance.md")
    arguments = parser.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    for each in _chosen(arguments.only):
        subject = each._replace(compile=arguments.compile)
        if not _result(out, subject.file).exists():
            _in_a_process(subject, out)
            print(_result(out, subject.file).read_text(), flush=True)
    for group in (APPLICATIONS, KERAS_HUB):
        _load_all(group, out)
    rows = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    print(table.table([row for row in rows if row["compile"] == arguments.compile]))
    if arguments.page:
        arguments.page.write_text(table.page(rows), encoding="utf8")


def _chosen(only: str) -> list[Subject]:
    names = [name for name in only.split(",") if name]
    backbones = []
    if importlib.util.find_spec("keras_hub"):
        importlib.import_module("keras_hub")
        backbones = keras_hub_subjects.backbones()
    return [each for each in subjects.applications() + backbones if not names or each.name in names]


def _in_a_process(subject: Subject, out: Path) -> None:
    """Tries a subject, and writes why it could not be tried where its process fails.

    The process is a copy of this one, which has imported TensorFlow and not started it.
    """
    process = multiprocessing.get_context("fork").Process(target=_try, args=(subject, out))
    process.start()
    process.join(_TIMEOUT)
    if process.exitcode is None:
        process.kill()
        process.join()
        _write(out, subject, {"trains": f"more than {_TIMEOUT} s"})
    elif process.exitcode:
        _write(out, subject, {"trains": f"the process ended with {process.exitcode}"})


def _try(subject: Subject, out: Path) -> None:
    start = time.process_time()
    devices.strategy("cpu", 2)
    # A graph runs once here, and optimising it takes longer.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    results = checks.row(subject, out)
    _write(out, subject, {**results, "seconds": time.process_time() - start})


def _load_all(group: str, out: Path) -> None:
    """What a process without the zoo makes of the saved models; it replaces `saved`, and the files are removed."""
    files = [path.stem for path in sorted(out.glob(f"{group}-*.keras")) if _result(out, path.stem).exists()]
    if not files:
        return
    command = [sys.executable, str(Path(__file__).with_name("plain_keras.py")), str(out.absolute()), group, *files]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        file, result = json.loads(line)
        path = _result(out, file)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"saved": result}, indent=1), encoding="utf8")
        for ending in (".keras", ".npz"):
            (out / f"{file}{ending}").unlink()
    if done.returncode:
        print(done.stderr, file=sys.stderr)


def _result(out: Path, file: str) -> Path:
    return out / f"{file}.json"


def _write(out: Path, subject: Subject, results: dict) -> None:
    about = {"group": subject.group, "name": subject.name, "compile": subject.compile}
    text = json.dumps(about | results, indent=1)
    _result(out, subject.file).write_text(text, encoding="utf8")


if __name__ == "__main__":
    main()
