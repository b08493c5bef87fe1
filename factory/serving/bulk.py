"""Label a file of any size in constant memory, part by part; a job that was killed goes on where it was.

Beside the target lies `.<target>.parts/` until the target is whole:

    job.json                what is asked of whom: parts of another job are never used
    part-00000042           the rows of a part with their answers, put there in one rename
"""

import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.events import Progressed, StageFinished, StageStarted, Warned, emit
from factory.release.predict import Predictor, WrongInput
from factory.serving.bulk_formats import ANSWER_COLUMNS, PART_ROWS, Answers, Csv, Format, Jsonl, Part
from factory.serving.bulk_parquet import Parquet

STAGE = "predict"
QUIET_S = 2.0
"""What takes no longer is done without a word."""
FORMATS: dict[str, type[Jsonl] | type[Csv] | type[Parquet]] = {".parquet": Parquet, ".csv": Csv, ".jsonl": Jsonl}

Question = tuple[int, list[Any]]
"""Number of a part, and its texts; of a table its rows."""
Questions = Iterable[Question]
AnswerAll = Callable[[Questions], Iterator[tuple[int, Answers]]]
"""Answers parts in any order, each once, and takes the next only when it has room for it."""


@dataclass(frozen=True)
class Job:
    """What a part depends on."""

    source: str
    size: int
    mtime_ns: int
    column: str
    model: str
    """Content hash of the release."""
    part_rows: int = PART_ROWS
    format: int = 1


@dataclass(frozen=True)
class Done:
    """How a job ended."""

    n_rows: int
    n_parts: int
    n_resumed: int
    """Parts that were there already."""
    seconds: float


def predict_file(
    source: Path,
    target: Path,
    answer_all: AnswerAll,
    *,
    model: str,
    column: str | None = "text",
    answers: tuple[str, ...] = ANSWER_COLUMNS,
) -> Done:
    """Write the rows of a file with their labels into another of the same format.

    Args:
        source: A `.parquet`, `.csv` or `.jsonl` file.
        target: Written beside its place and renamed when it is whole.
        answer_all: Who answers; here, or on a cluster.
        model: Content hash of the release that answers.
        column: Where the texts are; None where whole rows of a table are asked.
        answers: The columns that are added.

    Returns:
        How many rows there are, and what was left to do.

    Raises:
        FactoryError: The source cannot be read, has no such column, would unpack to more than is allowed, or has a row
            that cannot be answered; or somebody else writes the same target.
    """
    started = time.monotonic()
    if not source.is_file():
        raise FactoryError(f"{source}: expected a file to read")
    if target.is_dir() or (target.exists() and not target.is_file()):
        raise FactoryError(f"{target}: expected a file to write")
    stat = source.stat()
    format_ = _format(source, target, column, answers)
    job = Job(str(source.resolve()), stat.st_size, stat.st_mtime_ns, column or "", model)
    final = target.resolve()  # a link stays, and what it points to is replaced
    with _parts_folder(final, job) as folder:
        n_resumed = sum(1 for _ in folder.glob("part-*"))
        run = _Run(format_, folder)
        try:
            for number, found in answer_all(run.questions()):
                run.put_away(number, found)
        except WrongPart as error:
            raise FactoryError(
                f"{source}: row {run.row_of(error.number, error.position):,}: {error.message}",
                hint="mend the row and run the same command again; nothing was written",
            ) from error
        run.check()
        if source.stat().st_mtime_ns != stat.st_mtime_ns or source.stat().st_size != stat.st_size:
            raise FactoryError(f"{source}: was changed while it was read", hint="run the same command again")
        whole = folder / "whole"
        format_.join([folder / _name(number) for number in range(len(run.counts))], whole)
        whole.replace(final)
        shutil.rmtree(folder)
    done = Done(sum(run.counts), len(run.counts), n_resumed, time.monotonic() - started)
    if done.seconds > QUIET_S:
        emit(StageFinished(STAGE, cached=False, seconds=done.seconds, summary=f"{done.n_rows:,} rows"))
    return done


class WrongPart(Exception):
    """A row of a part cannot be answered."""

    def __init__(self, number: int, position: int, message: str) -> None:
        super().__init__(message)
        self.number, self.position, self.message = number, position, message


def _format(source: Path, target: Path, column: str | None, answers: tuple[str, ...]) -> Format:
    kinds = [path.suffix.lower() for path in (source, target)]
    if kinds[0] not in FORMATS or kinds[0] != kinds[1]:
        known = ", ".join(FORMATS)
        raise FactoryError(f"{source} to {target}: expected two files of one format: {known}")
    if target.exists() and target.samefile(source):
        raise FactoryError(f"{target}: expected another file than the one that is read")
    return FORMATS[kinds[0]](source, column, answers)


class _Run:
    """One run of a job: reads parts, hands out those that are missing, puts away what comes back."""

    def __init__(self, format_: Format, folder: Path) -> None:
        self._format, self._folder = format_, folder
        self._waiting: dict[int, Part] = {}
        self._started = time.monotonic()
        self._is_silent = True
        self.counts: list[int] = []
        """Rows of each part."""

    def questions(self) -> Questions:
        """Read the file, and yield the parts that are not there yet."""
        for part in self._format.parts():
            self.counts.append(len(part.texts))
            if (self._folder / _name(part.number)).is_file():
                self._tell()
                continue
            self._waiting[part.number] = part
            yield part.number, [text for text in part.texts if text is not None]

    def row_of(self, number: int, position: int) -> int:
        """Return the number of a row in the file, from 1, of a position among those of a part that were asked."""
        asked = [place for place, text in enumerate(self._waiting[number].texts) if text is not None]
        return sum(self.counts[:number]) + asked[position] + 1

    def put_away(self, number: int, answers: Answers) -> None:
        """Write a part under its name, in one rename."""
        part = self._waiting.pop(number)
        scratch = self._folder / f".{_name(number)}"
        self._format.write(part, _in_place(part, answers), scratch)
        scratch.replace(self._folder / _name(number))
        self._tell()

    def check(self) -> None:
        """Refuse to end while parts are out."""
        if self._waiting:
            raise FactoryError(f"{len(self._waiting)} parts were not answered", hint="run the same command again")

    def _tell(self) -> None:
        if time.monotonic() - self._started < QUIET_S:
            return
        total = self._format.n_rows
        if self._is_silent:
            emit(StageStarted(STAGE, because=f"{total:,} rows" if total else "rows are counted on the way"))
            self._is_silent = False
        n_waiting = sum(len(part.texts) for part in self._waiting.values())
        emit(Progressed(STAGE, sum(self.counts) - n_waiting, total, "rows"))


def answer_here(predictor: Predictor) -> AnswerAll:
    """Answer in this process, a part at a time."""

    def answer_all(questions: Questions) -> Iterator[tuple[int, Answers]]:
        for number, texts in questions:
            try:
                yield number, predictor.predict(texts)
            except WrongInput as error:
                raise WrongPart(number, error.position, error.message) from error

    return answer_all


def _in_place(part: Part, answers: Answers) -> Answers:
    """Give rows without a text no answer."""
    if len(answers) == len(part.texts):
        return answers
    rest = iter(answers)
    return [None if text is None else next(rest) for text in part.texts]


def _name(number: int) -> str:
    return f"part-{number:08}"


@contextmanager
def _parts_folder(target: Path, job: Job) -> Iterator[Path]:
    """Lend the folder of a job's parts, kept from all others; empty if what is there is of another job."""
    folder = target.with_name(f".{target.name}.parts")
    note = folder / "job.json"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FactoryError(f"{target}: another process writes it", hint="wait for it, or stop it") from error
        said = _dump(job)
        if not note.is_file() or note.read_text(encoding="utf-8") != said:
            old = sorted(folder.glob("part-*"))
            if old:
                emit(Warned(STAGE, f"{target}: begins anew: {len(old)} parts are of another input or version"))
            for path in old:
                path.unlink()
            scratch = folder / ".job.json"
            scratch.write_text(said, encoding="utf-8")
            Path(scratch).replace(note)
        try:
            yield folder
        finally:
            if folder.is_dir() and not any(folder.glob("part-*")):
                shutil.rmtree(folder)  # nothing is left of a job that failed before its first part


def _dump(job: Job) -> str:
    return json.dumps(asdict(job), indent=1) + "\n"
