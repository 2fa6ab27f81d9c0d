"""Data sets of TensorFlow Datasets: downloaded once, then read whole into memory."""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import BadInput


def read(name: str, parts: Sequence[str], instead: str) -> tuple[dict[str, dict[str, np.ndarray]], Any]:
    """Reads splits of a data set in the order of its files, the same on every machine.

    Args:
        name: as TFDS has it.
        parts: names of its splits.
        instead: a data set that needs no network, to be named in an error.

    Returns:
        For each split its columns `[examples, ...]`, texts as bytes; and the features that TFDS has of them.

    Raises:
        BadInput: it is not on this machine and cannot be downloaded.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder(name)
    if not Path(builder.data_dir).exists():
        _require_network(name, builder.data_dir, instead)
    try:
        builder.download_and_prepare()
        found = {
            part: tfds.as_numpy(builder.as_dataset(split=part, batch_size=-1, shuffle_files=False)) for part in parts
        }
    except Exception as error:
        # A download can fail in any layer of TFDS; all of it means the same to a user.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"--dataset={name} cannot be read from {builder.data_dir}: {reason}") from error
    return found, builder.info.features


def _require_network(name: str, folder: str, instead: str) -> None:
    """Asks once, for seconds: TFDS itself would try for minutes and leave partial files."""
    try:
        socket.create_connection(("storage.googleapis.com", 443), timeout=5).close()
    except OSError as error:
        raise BadInput(
            f"--dataset={name} is not prepared in {folder} and cannot be downloaded ({error}); with a "
            f"network run `python -c \"import tensorflow_datasets as t; t.load('{name}')\"`, or set TFDS_DATA_DIR to "
            f"a folder that has it, or use --dataset={instead}"
        ) from None
