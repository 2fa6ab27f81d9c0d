"""TensorFlow Datasets (TFDS): downloaded once, then read into memory."""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import BadInput


def read(name: str, parts: Sequence[str], instead: str) -> tuple[dict[str, dict[str, np.ndarray]], Any]:
    """Reads splits of a data set in the order of its files, the same on every machine.

    Args:
        name: name of the data set in TFDS.
        parts: names of its splits.
        instead: a data set that needs no network, to suggest in an error message.

    Returns:
        The columns `[examples, ...]` of each split, texts as bytes; and the `features` of TFDS.

    Raises:
        BadInput: the data set is not on this machine and cannot be downloaded.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder(name)
    if not Path(builder.data_dir).exists():
        _require_network(name, builder.data_dir, instead)
    try:
        builder.download_and_prepare()
        columns = {
            part: tfds.as_numpy(builder.as_dataset(split=part, batch_size=-1, shuffle_files=False)) for part in parts
        }
    except Exception as error:
        # A download can fail in any layer of TFDS; to a user all failures mean the same.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"--dataset={name} cannot be read from {builder.data_dir}: {reason}") from error
    return columns, builder.info.features


def _require_network(name: str, folder: str, instead: str) -> None:
    """Tries to connect once, for 5 s: TFDS itself would retry for minutes and leave partial files."""
    try:
        socket.create_connection(("storage.googleapis.com", 443), timeout=5).close()
    except OSError as error:
        raise BadInput(
            f"--dataset={name} is not prepared in {folder} and cannot be downloaded ({error}); with a "
            f"network run `python -c \"import tensorflow_datasets as t; t.load('{name}')\"`, or set TFDS_DATA_DIR to "
            f"a folder that has it, or use --dataset={instead}"
        ) from None
