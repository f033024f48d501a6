"""The bare conversion that prepared splits are compared with: pyarrow on one thread, csv to Parquet, in a process of its own.

`python -m tests.bench.bare_parquet FILE` prints the seconds, without those of imports.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from tests.serving import ROOT

BLOCK_BYTES = 1024 * 1024


def measure(path: Path) -> float:
    """Seconds of one conversion in a fresh process."""
    command = [sys.executable, "-m", "tests.bench.bare_parquet", str(path)]
    return float(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)


def convert(path: Path) -> float:
    pa.set_cpu_count(1)
    started = time.perf_counter()
    options = pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)
    with (
        tempfile.NamedTemporaryFile(suffix=".parquet") as out,
        pyarrow.csv.open_csv(path, options) as reader,
        pq.ParquetWriter(out.name, reader.schema, compression="zstd") as writer,
    ):
        for batch in reader:
            writer.write_batch(batch)
    return time.perf_counter() - started


if __name__ == "__main__":
    print(convert(Path(sys.argv[1])))
