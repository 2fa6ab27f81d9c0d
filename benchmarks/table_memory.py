"""Memory that a large table takes until it is split into training, validation and test examples.

    python -m benchmarks.table_memory                    # a .csv of 1 GB
    python -m benchmarks.table_memory --gigabytes=0.1

The table has 16 columns of numbers with four decimals, one of categories, one of whole numbers, and the label. It is
written to a temporary folder and read in a process of its own, as the experiments read it. The figure is the growth of
that process' peak resident memory over what it has after its imports.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

_GIGABYTE, _KILOBYTE, _ROWS = 10**9, 1024, 50_000


def write(path: Path, size: int) -> None:
    """Writes a .csv of about `size` bytes, a block of rows at a time."""
    import pyarrow as pa
    import pyarrow.csv as csv

    generator = np.random.default_rng(0)
    with open(path, "wb") as file:
        while file.tell() < size:
            x = generator.normal(size=(_ROWS, 16)).round(4)
            columns = {f"x{place}": x[:, place] for place in range(16)}
            columns["city"] = generator.choice(["Rome", "Oslo", "Paris"], _ROWS)
            columns["count"] = generator.integers(0, 1000, _ROWS)
            columns["label"] = np.where(x[:, 0] + x[:, 1] > 0, "yes", "no")
            csv.write_csv(pa.table(columns), file, csv.WriteOptions(include_header=file.tell() == 0))


def peak() -> int:
    """The peak of the process' resident memory so far, in bytes."""
    # Not of `resource`, which counts the process that started this one.
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * _KILOBYTE


def read(path: Path) -> dict[str, float]:
    """What reading a table costs, in this process."""
    import pyarrow.compute
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401  (memory of the libraries is not the table's)

    from zoo.data.datasets import images

    before, started = peak(), time.perf_counter()
    data = images.load(str(path))
    size = path.stat().st_size
    return {
        "file_mb": round(size / 1e6),
        "rows": sum(len(part["y"]) for part in (data.train, data.validation, data.test)),
        "growth_mb": round((peak() - before) / 1e6),
        "times_the_file": round((peak() - before) / size, 2),
        "seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the table")
    parser.add_argument("--file", help="a table of one's own to read in this process instead")
    arguments = parser.parse_args()
    if arguments.file:
        print(json.dumps(read(Path(arguments.file))))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        write(path, int(arguments.gigabytes * _GIGABYTE))
        words = [sys.executable, "-m", "benchmarks.table_memory", f"--file={path}"]
        sys.exit(subprocess.run(words, env=os.environ).returncode)


if __name__ == "__main__":
    main()
