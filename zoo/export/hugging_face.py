"""Hugging Face export: a run's encoder as a BERT of transformers."""

from pathlib import Path
from typing import Any

import numpy as np

from zoo.export.exported_run import RunModel, refuse
from zoo.models import transformer
from zoo.models.hugging_face import folder as pretrained
from zoo.models.hugging_face import weights as bert
from zoo.models.hugging_face.folder import Pretrained, Shape

_CLASSES = {
    "classification": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "tagging": "AutoModelForTokenClassification",
    "pretraining": "AutoModelForMaskedLM",
}

EXAMPLE = '''\
"""Predicts with transformers; README.md says how to call it."""

import json
import sys
from pathlib import Path

import torch
import transformers

folder = Path(__file__).parent
about = json.loads((folder / "signature.json").read_text(encoding="utf8"))
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
model = getattr(transformers, about["class"]).from_pretrained(folder).eval()
for text in sys.argv[1:]:
    texts = text.split("\\t")
    feed = tokenizer(*texts, truncation=True, max_length=about["text"]["max_length"], return_tensors="pt")
    with torch.no_grad():
        print(json.dumps({"logits": model(**feed).logits[0].tolist()}))
'''


def write(run: RunModel, folder: Path) -> None:
    """Writes a folder for AutoModel and AutoTokenizer.

    Raises:
        BadInput: the run's network is not a BERT.
    """
    _check(run)
    weights = bert.weights(run.source)
    shape = Shape(**run.info.shape)
    extra = {name: each for name, each in weights.items() if not name.startswith(("embedding/", "block"))}
    body = {name: each for name, each in weights.items() if name not in extra}
    labels = run.info.tags or () if run.info.classes is None else run.info.classes
    if run.info.task == "classification" and extra["head/kernel"].shape[1] == 1:
        # One logit belongs to the second class; the first class has 0.
        for name in ("head/kernel", "head/bias"):
            extra[name] = np.concatenate([np.zeros_like(extra[name]), extra[name]], axis=-1)  # [..., 2]
    if run.info.task == "regression":
        centre, scale = run.info.centre, run.info.scale
        extra["head/kernel"] = extra["head/kernel"] * np.float32(scale)
        extra["head/bias"] = extra["head/bias"] * np.float32(scale) + np.float32(centre)
    # `pretrained.write` makes the folder itself, so it cannot write into an existing one.
    inner = folder / "bert"
    pretrained.write(inner, Pretrained(shape, body, extra, None, labels), run.tokenizer.to_json())
    for path in inner.iterdir():
        path.rename(folder / path.name)
    inner.rmdir()


def signature(run: RunModel) -> dict[str, Any]:
    """The parts of the signature that differ from the run's own."""
    task, columns = run.info.task, ["input_ids", "attention_mask", "token_type_ids"]
    logits = run.network.output.shape[-1]
    is_pair = task == "classification" and logits == 1
    shape = (
        ["batch", 2 if is_pair else logits] if task in ("classification", "regression") else ["batch", "time", logits]
    )
    meaning = {"regression": "the value in its own units"}.get(task, "softmax over the last axis")
    return {
        "class": _CLASSES[task],
        "inputs": [
            {"name": name, "dtype": "int64", "shape": ["batch", "time"], "is": "by AutoTokenizer"} for name in columns
        ],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": shape, "is": meaning}],
    }


def _check(run: RunModel) -> None:
    """Refuses networks that the BERT of transformers computes differently or not at all."""
    blocks = [layer for layer in run.source.layers if isinstance(layer, transformer.Block)]
    expected = "a post-norm encoder as in BERT"
    if not blocks or run.info.task not in _CLASSES:
        refuse(run.signature, "huggingface", f"expected {expected}; choose another format")
    if blocks[0].norm_first or blocks[0].causal:
        refuse(run.signature, "huggingface", f"its network is pre-norm, expected {expected}; choose another format")
    if "mean" in [layer.name for layer in run.source.layers]:
        refuse(
            run.signature, "huggingface", "it pools by the mean of all tokens, BERT by the first; choose another format"
        )
    if any(layer.name == "ngrams" for layer in run.source.layers):
        refuse(run.signature, "huggingface", "it adds n-gram logits (--ngrams), a BERT has none; choose another format")
    if any(layer.name == "word_logits" for layer in run.source.layers):
        why = "it adds the logits of words' features (--word_features), a BERT has none; choose another format"
        refuse(run.signature, "huggingface", why)
    if not run.info.shape.get("segments"):
        refuse(run.signature, "huggingface", f"it has no segments, expected {expected}; choose another format")
    if run.signature["text"]["id_shift"]:
        refuse(run.signature, "huggingface", "its tokenizer's id 0 is not padding; choose another format")
