"""TensorBoard summaries: one protocol buffer per plugin (scalars, text, images, histograms, curves, HParams)."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_DOUBLE, DT_FLOAT, DT_STRING
from tensorboard.plugins.histogram import metadata as histograms
from tensorboard.plugins.image import metadata as images
from tensorboard.plugins.scalar import metadata as scalars
from tensorboard.plugins.text import metadata as texts

from zoo.tensorboard.views import EvaluationView, PrecisionRecallInputs

_SCALAR = scalars.create_summary_metadata(display_name=None, description=None)
_BUCKETS = 30  # TensorBoard's default.
_THRESHOLDS = 101  # Hundredths; TensorBoard's default of 201 draws the same line.


def scalar(tag: str, value: float) -> Summary.Value:
    """A point of a curve."""
    tensor = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto(), float_val=[value])
    return Summary.Value(tag=tag, metadata=_SCALAR, tensor=tensor)


def text(tag: str, markdown: str) -> Summary.Value:
    """A text in Markdown."""
    tensor = _strings([markdown.encode("utf8")])
    tensor.tensor_shape.Clear()
    return Summary.Value(tag=tag, metadata=texts.create_summary_metadata(None, None), tensor=tensor)


def image(tag: str, pixels: np.ndarray) -> Summary.Value:
    """An image, uint8 `[height, width, 3]`."""
    file = io.BytesIO()
    # Stronger compression takes ten times as long and saves a third.
    Image.fromarray(pixels).save(file, "PNG", compress_level=3)
    sizes = [str(size).encode() for size in (pixels.shape[1], pixels.shape[0])]
    metadata = images.create_summary_metadata(display_name=None, description=None)
    return Summary.Value(tag=tag, metadata=metadata, tensor=_strings([*sizes, file.getvalue()]))


def histogram(tag: str, array: Any) -> Summary.Value:
    """A histogram of an array: counts in buckets of equal width from the minimum to the maximum."""
    numbers = np.asarray(array, np.float32).ravel()
    counts, edges = np.histogram(numbers, _BUCKETS)
    buckets = np.stack([edges[:-1], edges[1:], counts], axis=1).astype(np.float64)
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in buckets.shape])
    tensor = TensorProto(dtype=DT_DOUBLE, tensor_shape=shape, tensor_content=buckets.tobytes())
    return Summary.Value(tag=tag, metadata=histograms.create_summary_metadata(None, None), tensor=tensor)


def precision_recall(tag: str, curve: PrecisionRecallInputs) -> Summary.Value:
    """A precision-recall curve at thresholds from 0 to 1."""
    from tensorboard.plugins.pr_curve import summary

    labels, scores = np.asarray(curve.labels, bool), np.asarray(curve.scores, np.float64)
    pb = summary.pb(tag, labels, scores, num_thresholds=_THRESHOLDS, weights=curve.weights, display_name=tag)
    value = Summary.FromString(pb.SerializeToString()).value[0]
    value.tag = tag
    return value


def of_view(view: EvaluationView) -> list[Summary.Value]:
    """The images, texts and curves of one evaluation."""
    return [
        *(image(tag, pixels) for tag, pixels in view.images.items()),
        *(text(tag, markdown) for tag, markdown in view.texts.items()),
        *(precision_recall(tag, curve) for tag, curve in view.curves.items()),
    ]


def keras_graph(layers: str) -> Summary.Value:
    """A Keras model's JSON for the conceptual graph; tag, plugin and content as in Keras' TensorBoard callback."""
    metadata = SummaryMetadata(plugin_data={"plugin_name": "graph_keras_model", "content": b"1"})
    tensor = _strings([layers.encode("utf8")])
    tensor.tensor_shape.Clear()
    return Summary.Value(tag="keras", metadata=metadata, tensor=tensor)


def hyperparameters(values: Mapping[str, Any], name: str) -> Summary.Value:
    """A session of the HParams tab; values that are not numbers are shown as text."""
    # Imported here: the plugin is needed once per run and would slow down every start.
    from tensorboard.plugins.hparams import api as hparams

    plain = {key: value if isinstance(value, (bool, int, float)) else str(value) for key, value in values.items()}
    summary = hparams.hparams_pb(plain, trial_id=name)
    return Summary.FromString(summary.SerializeToString()).value[0]


def _strings(values: Sequence[bytes]) -> TensorProto:
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(values))])
    return TensorProto(dtype=DT_STRING, tensor_shape=shape, string_val=values)
