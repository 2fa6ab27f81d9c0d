"""Files for TensorBoard's embedding projector: vectors, labels, and thumbnails of the examples."""

from pathlib import Path

import numpy as np
from PIL import Image

from zoo import files
from zoo.tensorboard.views import ProjectorPoints

_FOLDER = "projector"
# The projector accepts one sprite image of at most 8,192 pixels per side.
_SHEET = 8192


def write(folder: Path, points: ProjectorPoints) -> None:
    """Writes points into a run's folder with an event file, where the projector looks for them.

    Raises:
        BadInput: a file cannot be written.
    """
    # Imported here: needed once, at the end of a run.
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    inside = folder / _FOLDER
    inside.mkdir(parents=True, exist_ok=True)
    rows = ("\t".join(f"{number:.5g}" for number in row) for row in np.asarray(points.vectors, np.float64))
    files.write(inside / "vectors.tsv", "\n".join(rows) + "\n")
    files.write(inside / "labels.tsv", _labels(points))
    config = ProjectorConfig()
    embedding = config.embeddings.add(tensor_name="features", tensor_path=f"{_FOLDER}/vectors.tsv")
    embedding.tensor_shape.extend(points.vectors.shape)
    embedding.metadata_path = f"{_FOLDER}/labels.tsv"
    if points.images is not None:
        height, width = _sprite(inside / "images.png", points.images)
        embedding.sprite.image_path = f"{_FOLDER}/images.png"
        embedding.sprite.single_image_dim.extend((width, height))
    files.write(folder / "projector_config.pbtxt", text_format.MessageToString(config))


def _labels(points: ProjectorPoints) -> str:
    """One row per point; a single column has no header."""
    header = [list(points.labels)] if len(points.labels) > 1 else []
    rows = [*header, *zip(*points.labels.values(), strict=True)]
    return "".join("\t".join(" ".join(str(cell).split()) or "-" for cell in row) + "\n" for row in rows)


def _sprite(path: Path, images: np.ndarray) -> tuple[int, int]:
    """Writes all pictures into one square sheet, row by row; returns the height and width of one."""
    side = int(np.ceil(np.sqrt(len(images))))
    step = max(1, -(-side * max(images.shape[1:3]) // _SHEET))
    images = images[:, ::step, ::step]
    height, width = images.shape[1:3]
    sheet = Image.new("RGB", (side * width, side * height))
    for i, pixels in enumerate(images):
        sheet.paste(Image.fromarray(pixels).convert("RGB"), (i % side * width, i // side * height))
    sheet.save(path)
    return height, width
