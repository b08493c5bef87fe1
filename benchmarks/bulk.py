"""How long bulk prediction takes, and how much memory.

python -m benchmarks.bulk                              a million short texts, a static-embedding student
python -m benchmarks.bulk --texts rows.jsonl           trained on rows with `text` and `label`, whose texts are repeated
python -m benchmarks.bulk --student sentence-linear --rows 20000 --format csv
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.latency import export, made_up_rows, read_rows
from factory.serving.bulk import FORMATS
from factory.students import STUDENTS

CHUNK_ROWS = 100_000
PROGRAM = """
import resource, sys
from pathlib import Path
from factory.release.predict import Predictor
from factory.serving.bulk import answer_here, predict_file
source, target, artifact = map(Path, sys.argv[1:])
done = predict_file(source, target, answer_here(Predictor(artifact)), model="benchmark")
print(done.n_rows, done.seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
"""A process of its own, so that its memory is that of bulk prediction alone."""


def rows_of(texts: Sequence[str], n_rows: int) -> Iterator[tuple[int, str]]:
    """Repeat texts, each time with another number behind them, so that no two are the same."""
    for number in range(n_rows):
        yield number, f"{texts[number % len(texts)]} {number // len(texts)}"


def write(path: Path, texts: Sequence[str], n_rows: int) -> None:
    """Write rows with `id` and `text`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = rows_of(texts, n_rows)
    if path.suffix == ".parquet":
        with pq.ParquetWriter(path, pa.schema({"id": pa.int64(), "text": pa.string()})) as writer:
            while some := [row for _, row in zip(range(CHUNK_ROWS), rows, strict=False)]:
                ids, words = zip(*some, strict=True)
                writer.write_table(pa.table({"id": ids, "text": words}))
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            csv.writer(file).writerows([("id", "text"), *rows])
        else:
            file.writelines(json.dumps({"id": number, "text": text}) + "\n" for number, text in rows)


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, metavar="FILE.jsonl", help="default: made-up short texts")
    parser.add_argument("--student", choices=list(STUDENTS), default="static-embedding")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--format", choices=[suffix[1:] for suffix in FORMATS], default="parquet")
    options = parser.parse_args()
    labelled = made_up_rows(100) if options.texts is None else read_rows(options.texts)
    with tempfile.TemporaryDirectory() as scratch:
        artifact = export(options.student, labelled, Path(scratch) / "artifact")
        source, target = (Path(scratch) / f"{name}.{options.format}" for name in ("in", "out"))
        write(source, [row.text for row in labelled], options.rows)
        started = time.perf_counter()
        command = [sys.executable, "-c", PROGRAM, str(source), str(target), str(artifact)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        seconds = time.perf_counter() - started
        n_rows, peak_mb = int(said[0]), int(said[2]) / 1024
        print(
            f"{options.student}, {n_rows:,} rows, {options.format} {source.stat().st_size / 1e6:.0f} MB to "
            f"{target.stat().st_size / 1e6:.0f} MB: {seconds:.1f} s with start-up, {n_rows / seconds:,.0f} rows/s, "
            f"peak memory {peak_mb:,.0f} MB"
        )


if __name__ == "__main__":
    main()
