"""Conformance of every kind of predictor to `Predictor`: read, stream, predict, evaluate, export, clone."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import zoo
from tests.helpers import finished
from zoo.cli.predict_formats import formatted
from zoo.errors import BadInput
from zoo.export import exported_run
from zoo.model_info import ModelInfo, read_model_info
from zoo.predict.evaluation.evaluate import evaluate
from zoo.predict.predictors.cloning import copied, digest
from zoo.predict.predictors.mask_predict import MaskPredict
from zoo.predict.predictors.predictor import Classifier, Predictor

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
FEATURES = np.random.default_rng(1).normal(3, 9, (5, 5)).astype(np.float32)
TEXTS = ["a good film", "", "not so good, but a film", "这本书很好", "film " * 30]
PAIRS = [("a good film", "is it good"), ("", "这本书"), ("not so good", "")]
GAPS = ["a [MASK] film", "[MASK] good, but a [MASK]", "film " * 30 + "[MASK]"]


class Kind(NamedTuple):
    """A kind of predictor.

    Attributes:
        run: leaves a finished run in a folder.
        task: task of the run.
        examples: examples to predict.
        labels: one label per example for evaluation, as in a file; None where the task has no evaluation.
        metric: a metric of the evaluation.
        wrap: makes the predictor of the run's own.
    """

    run: Callable[[Path], Path]
    task: str
    examples: Any
    labels: list | None
    metric: str = "accuracy"
    wrap: Callable[[Any], Any] = lambda predictor: predictor


def encoder(task, **options):
    return lambda folder: finished.encoder(folder, task, **options)


MOODS = ["bad", "good", "good", "bad", "bad"]
KINDS = {
    "image": Kind(finished.image, "classification", PIXELS, [0, 1, 2, 0, 1]),
    "table": Kind(finished.table, "classification", FEATURES, [0, 1, 1, 0, 1]),
    "lstm": Kind(finished.reviews, "classification", TEXTS, MOODS),
    "encoder": Kind(encoder("classification"), "classification", TEXTS, MOODS),
    "pairs": Kind(encoder("classification", pair=True), "classification", PAIRS, MOODS[:3]),
    "value": Kind(encoder("regression"), "regression", TEXTS, [1.0, 2.5, 3.0, -4.0, 5.0], "mae"),
    "tagger": Kind(encoder("tagging"), "tagging", TEXTS, ["O B-x I-x", "", "O O B-x O O O", "O", "O " * 30], "f1"),
    "masked": Kind(encoder("pretraining"), "pretraining", GAPS, None),
    "rounds": Kind(encoder("pretraining"), "pretraining", GAPS, None, wrap=lambda predictor: MaskPredict(predictor, 3)),
}
MEMBERS = {*Predictor.__annotations__, "read", "lines", "predict"}
CLASSIFIER = {*Classifier.__annotations__, "logits", "probabilities", "with_model"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("kinds")
    folders = {name: kind.run(place / name) for name, kind in KINDS.items()}
    for folder in folders.values():
        (folder / "run.json").write_text(json.dumps({"config": {}, "identity": {}, "folder": str(place)}))
    return folders


@pytest.fixture(scope="module", params=KINDS)
def subject(request, runs):
    """The kind, the folder of its run and its predictor."""
    kind = KINDS[request.param]
    return kind, runs[request.param], kind.wrap(zoo.load(runs[request.param]))


def unlabelled(place, kind):
    """The examples in a file without labels."""
    if isinstance(kind.examples, np.ndarray):
        np.save(place / "examples.npy", kind.examples)
        return place / "examples.npy"
    rows = [dict(zip(("text", "pair"), (each,) if isinstance(each, str) else each)) for each in kind.examples]
    (place / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place / "examples.jsonl"


def labelled(place, kind):
    """The examples in a file with labels."""
    if isinstance(kind.examples, np.ndarray):
        np.savez(place / "labelled.npz", x=kind.examples, y=np.array(kind.labels))
        return place / "labelled.npz"
    if kind.task == "tagging":
        sentences = [zip(text.split(), tags.split()) for text, tags in zip(kind.examples, kind.labels) if text]
        blocks = ["".join(f"{word} {tag}\n" for word, tag in sentence) for sentence in sentences]
        (place / "labelled.conll").write_text("\n".join(blocks))
        return place / "labelled.conll"
    rows = [json.loads(line) for line in unlabelled(place, kind).read_text().splitlines()]
    rows = [row | {"label": label} for row, label in zip(rows, kind.labels)]
    (place / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place / "labelled.jsonl"


def leaves(value, path=()):
    """All parts of a JSON value that are no containers, by their paths."""
    if isinstance(value, (dict, list, tuple)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for name, part in items for key, leaf in leaves(part, (*path, name)).items()}
    return {path: value}


def said(predictor, examples, top=1):
    """The predictions as JSON and lines."""
    answers = [formatted(predictor, each, top) for each in predictor.predict(examples, top)]
    assert all(isinstance(column, str) and "\n" not in column for answer in answers for column in answer.columns)
    return [json.loads(json.dumps(answer.json)) for answer in answers]


def test_members(subject):
    kind, folder, predictor = subject
    assert all(hasattr(predictor, name) for name in MEMBERS)
    assert all(hasattr(predictor, name) for name in CLASSIFIER) == (kind.task == "classification")
    assert predictor.task == kind.task == read_model_info(folder).task
    assert predictor.reads_text != isinstance(kind.examples, np.ndarray)
    assert bool(predictor.pair_column) == isinstance(kind.examples[0], tuple)
    assert predictor.model.count_params() == zoo.load(folder).model.count_params()


def test_model_json_has_known_keys_only(subject):
    _, folder, _ = subject
    assert json.loads((folder / "model.json").read_text()).keys() <= {
        each.name for each in dataclasses.fields(ModelInfo)
    }


def test_read_and_stream_give_the_examples(subject, tmp_path):
    kind, _, predictor = subject
    found = predictor.read(unlabelled(tmp_path, kind))
    np.testing.assert_array_equal(np.array(found), np.array(kind.examples))
    if isinstance(kind.examples, np.ndarray):
        lines = [json.dumps({"x": each.tolist(), "id": number}) for number, each in enumerate(kind.examples)]
    else:
        lines = [
            json.dumps(dict(zip(("text", "pair"), [each] if isinstance(each, str) else each)) | {"id": number})
            for number, each in enumerate(kind.examples)
        ]
    *good, bad = predictor.lines(f"{line}\n".encode() for line in [*lines, "{"])
    assert [line.id for line in good] == list(range(len(lines))) and not any(line.error for line in good)
    np.testing.assert_array_equal(np.concatenate([np.array(line.examples) for line in good]), np.array(kind.examples))
    assert bad.examples is None and bad.error
    # To a tagger, a file of any other name is one of CoNLL.
    refusal = "cannot be read" if kind.task == "tagging" else "unknown kind of file"
    with pytest.raises(BadInput, match=refusal):
        predictor.read(tmp_path / "examples.exe")


def test_predictions_do_not_depend_on_the_batch(subject):
    kind, _, predictor = subject
    together = said(predictor, kind.examples, top=2)
    assert len(together) == len(kind.examples) and said(predictor, kind.examples[:0]) == []
    alone = [said(predictor, kind.examples[number : number + 1], top=2)[0] for number in range(len(kind.examples))]
    one, other = leaves(together), leaves(alone)
    assert one.keys() == other.keys()
    for path, value in one.items():
        assert other[path] == (pytest.approx(value, abs=1e-4) if isinstance(value, float) else value), path


def test_evaluate_or_its_refusal(subject, tmp_path):
    kind, folder, _ = subject
    if kind.labels is None:
        with pytest.raises(BadInput, match="holds a pretrained encoder"):
            evaluate(folder)
        return
    result = evaluate(folder, str(labelled(tmp_path, kind)))
    assert result["examples"] == len(kind.examples) - (kind.task == "tagging") and result[kind.metric] >= 0
    if kind.task != "tagging":
        assert result["loss"] > 0
    if isinstance(kind.examples, np.ndarray) or kind.task == "tagging":
        with pytest.raises(BadInput, match="expected no --text_column"):
            evaluate(folder, text_column="text")
    if not isinstance(kind.examples, np.ndarray):
        with pytest.raises(BadInput, match="expected no --weight_column"):
            evaluate(folder, weight_column="weight")


def output(model, inputs):
    """The first output of a model, which is the task's."""
    found = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    return np.asarray(found[0] if isinstance(found, (list, tuple)) else found)


def test_export_computes_the_same(subject):
    kind, folder, _ = subject
    run = exported_run.read(folder)
    assert run.signature["task"] == kind.task and run.info == read_model_info(folder)
    feed = finished.feed(run.network)
    inputs = [feed[each.name] for each in run.network.inputs]
    ours = [feed.get(each.name, np.zeros_like(inputs[0])) for each in run.source.inputs]
    ours = list(feed.values()) if len(ours) == 1 else ours
    found, expected = output(run.network, inputs), output(run.source, ours)
    if "tokens" in feed and found.ndim == 3 and kind.task == "tagging":
        # A model's output at padding is arbitrary.
        found, expected = found[feed["tokens"] != 0], expected[feed["tokens"] != 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_clone_is_equal_and_apart(subject):
    kind, _, predictor = subject
    if kind.task != "classification":
        assert not hasattr(predictor, "with_model")
        return
    copy, before = copied(predictor), digest(predictor.model)
    assert type(copy) is type(predictor) and copy.classes == predictor.classes
    assert copy.takes_images == predictor.takes_images == (kind.examples is PIXELS)
    np.testing.assert_array_equal(copy.logits(kind.examples), predictor.logits(kind.examples))
    copy.model.set_weights([weight + 1 for weight in copy.model.get_weights()])
    assert digest(predictor.model) == before != digest(copy.model)
