"""How fast and how large released students are.

python -m benchmarks.latency                                trains every student on made-up short texts
python -m benchmarks.latency --texts rows.jsonl             on rows with `text` and `label`
python -m benchmarks.latency --students tfidf-linear        some of them
python -m benchmarks.latency outputs/.../export/...         measures artifact folders as they are
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from factory.records import Origin, TextRow, text_dataset
from factory.release.predict import FORMAT_VERSION, Predictor
from factory.spec import Label
from factory.students import STUDENTS, make_student

N_SINGLE = 500
N_BATCH = 20_000
WORDS = {
    "music": "play some jazz on the kitchen speaker a song by the album of my favourite rock band",
    "weather": "will it rain or snow tomorrow morning what is the forecast for the weekend in town",
    "booking": "book a table for two at an italian restaurant near the station tonight at seven please",
    "rating": "give this novel four out of five stars i would rate the last chapter two points",
}


@dataclass(frozen=True)
class Measured:
    """One line of the table."""

    name: str
    p50_ms: float
    p95_ms: float
    texts_per_s: float
    open_s: float
    """Seconds from the folder to the first answer, imports left out."""
    mb: float
    """Of `model.onnx` and what turns text into its inputs."""


def made_up_rows(per_label: int) -> list[TextRow]:
    """Draw short texts of 4 to 12 words."""
    rng = np.random.default_rng(0)
    return [
        TextRow(" ".join(rng.choice(words.split(), rng.integers(4, 13))), label, Origin.SYNTHETIC)
        for label, words in WORDS.items()
        for _ in range(per_label)
    ]


def read_rows(path: Path) -> list[TextRow]:
    """Read rows with `text` and `label`."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [TextRow(row["text"], row["label"], Origin.GOLD) for row in rows]


def export(name: str, rows: Sequence[TextRow], folder: Path) -> Path:
    """Train a student and write the part of the artifact that predicts."""
    labels = [Label(name=label) for label in sorted({str(row.label) for row in rows})]
    student = make_student(name, {}).fit(text_dataset(rows), labels, seed=0)
    folder.mkdir()
    config = {"format_version": FORMAT_VERSION, "labels": student.labels_, "inputs": student.to_onnx(folder)}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def measure(name: str, folder: Path, texts: Sequence[str]) -> Measured:
    """Ask single texts, then batches."""
    started = time.perf_counter()
    predictor = Predictor(folder)
    predictor.predict_proba(texts[:1])
    open_s = time.perf_counter() - started
    single_ms = []
    for number in range(N_SINGLE):
        started = time.perf_counter()
        predictor.predict_proba([texts[number % len(texts)]])
        single_ms.append(1000 * (time.perf_counter() - started))
    # As many texts as take about two seconds, at most N_BATCH.
    n_batch = int(min(N_BATCH, max(256, 4000 / float(np.median(single_ms)))))
    batch = [texts[number % len(texts)] for number in range(n_batch)]
    started = time.perf_counter()
    predictor.predict_proba(batch)
    texts_per_s = n_batch / (time.perf_counter() - started)
    files = ("model.onnx", "tokenizer.json", "vocabulary.json")
    n_bytes = sum((folder / file).stat().st_size for file in files if (folder / file).is_file())
    p50, p95 = np.percentile(single_ms, [50, 95])
    return Measured(name, float(p50), float(p95), texts_per_s, open_s, n_bytes / 1e6)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="ARTIFACT_FOLDER")
    parser.add_argument("--texts", type=Path, metavar="FILE.jsonl", help="default: made-up short texts")
    parser.add_argument("--students", nargs="+", choices=list(STUDENTS), default=list(STUDENTS))
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    options = parser.parse_args()
    rows = made_up_rows(100) if options.texts is None else read_rows(options.texts)
    texts = [row.text for row in rows]
    with tempfile.TemporaryDirectory() as scratch:
        named = [(str(folder), folder) for folder in options.folders]
        if not named:
            named = [(name, export(name, rows, Path(scratch) / name)) for name in options.students]
        table = [measure(name, folder, texts) for name, folder in named]
    if options.json:
        for line in table:
            print(json.dumps(asdict(line)))
        return
    print(f"{'':<24}{'p50 ms':>9}{'p95 ms':>9}{'texts/s':>10}{'open s':>9}{'MB':>8}")
    for line in table:
        speeds = f"{line.p50_ms:>9.3f}{line.p95_ms:>9.3f}{line.texts_per_s:>10,.0f}{line.open_s:>9.2f}"
        print(f"{line.name[-24:]:<24}{speeds}{line.mb:>8.1f}")


if __name__ == "__main__":
    main()
