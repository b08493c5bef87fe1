"""Data files of a task folder: where they are, and what their rows look like."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from factory.check.reading import value_at
from factory.data import DataFile, Survey, survey
from factory.errors import Problem
from factory.labelling.reviewed import survey_reviewed
from factory.spec import Data
from factory.spec_data import ORDERED_FILE, REVIEWED_FILE, UNLABELLED
from factory.spec_errors import suggestion
from factory.spec_source import Source
from factory.spec_table import Table
from factory.tables.read import survey_table

DATA_FILES = tuple(key for key in Data.model_fields if key != "licence")
"""Keys of the spec that name files."""
WRITTEN_FILES = {"reviewed": REVIEWED_FILE, "ordered": ORDERED_FILE}
"""What commands write beside the spec; found where the spec does not name it."""
LEARNED = ("train", "seeds", "reviewed")
"""Files of rows that people labelled to learn from."""
FEW_HOLDOUT_ROWS = 100
"""Below this a 95% interval of an accuracy is wider than a tenth."""


def find_files(source: Source) -> tuple[dict[str, DataFile], list[Problem]]:
    """Find the data files that the spec names, inside the task folder and nowhere else."""
    files: dict[str, DataFile] = {}
    problems: list[Problem] = []
    for key in DATA_FILES:
        name = value_at(source, ("data", key))
        written = WRITTEN_FILES.get(key)
        if written and ("data", key) not in source.lines and (source.file.parent / written).exists():
            name = written
        if not isinstance(name, str):
            continue
        found = locate(source.file.parent, name.strip())
        if isinstance(found, str):
            problems.append(source.problem(("data", key), found))
        else:
            files[key] = DataFile(found)
    for key, file in files.items():
        if key != "holdout" and "holdout" in files and file.path.samefile(files["holdout"].path):
            problems.append(source.problem(("data", key), "is the holdout, which only the final report may read"))
        if key != "calibration" and "calibration" in files and file.path.samefile(files["calibration"].path):
            message = f"is the same file as data.{key}: thresholds are chosen on rows that nothing else uses"
            problems.append(source.problem(("data", "calibration"), message))
    return files, problems


def locate(folder: Path, name: str) -> Path | str:
    """Return the file, or say what is wrong with it."""
    path = folder / name
    try:
        if not name:
            return "must name a file of the task folder, or be left out"
        if Path(name).is_absolute() or ".." in Path(name).parts:
            return f"{name!r} leads out of the task folder: name a file inside it"
        if not path.resolve().is_relative_to(folder.resolve()):
            return f"{name!r} is a link that leads out of the task folder: copy the file into it"
        if not path.exists():
            others = sorted(other.name for other in folder.iterdir() if other.suffix in (".jsonl", ".csv"))
            return f"no such file {name!r}{suggestion(name, others)}"
        if not path.is_file():
            return f"{name!r} is not a regular file"
        return path if path.stat().st_size else f"{name!r} is empty"
    except (OSError, RuntimeError) as error:  # a name too long, a folder that may not be read, links in a circle
        return f"{name[:60]!r} cannot be read: {error}"


def survey_file(key: str, file: DataFile, names: Sequence[str] | None, table: Table | None) -> Survey:
    """Look through one data file, of texts or of the table given."""
    if table is not None:
        return survey_table(file.path, table, needs_target=key not in UNLABELLED, repeats=key == "holdout")
    if key == "reviewed":
        return survey_reviewed(file.path, names)
    return survey(file.path, labels=None if key in UNLABELLED else names, contradictions=key == "holdout")


def warnings_of(key: str, file: DataFile, names: Sequence[str] | None, found: Survey) -> list[str]:
    """Return what a person should know of a file and may ignore."""
    holdout = _holdout_warnings(file.path.name, names, found) if key == "holdout" and names else []
    return [*found.warnings, *holdout]


def _holdout_warnings(name: str, labels: Sequence[str], found: Survey) -> list[str]:
    warnings = []
    if found.n_rows < FEW_HOLDOUT_ROWS:
        warnings.append(f"{name}: {found.n_rows} rows; with fewer than {FEW_HOLDOUT_ROWS} the intervals are wide")
    missing = [label for label in labels if label not in found.n_by_label]
    if missing:
        warnings.append(f"{name}: no row has the label {', '.join(missing)}: nothing can be said about it")
    if found.n_repeated:
        rows = "1 row repeats" if found.n_repeated == 1 else f"{found.n_repeated} rows repeat"
        warnings.append(f"{name}: {rows} what an earlier row holds")
    return warnings


def one_answer(files: Mapping[str, DataFile], surveys: Mapping[str, Survey]) -> list[Problem]:
    """Complain where all rows to learn from have the same answer."""
    learned = [key for key in LEARNED if key in surveys and surveys[key].n_rows]
    answers = {answer for key in learned for answer in surveys[key].n_by_label}
    if not learned or len(answers) != 1:
        return []
    n_rows, (answer,) = sum(surveys[key].n_rows for key in learned), answers
    what = f"all {n_rows:,} rows to learn from have the answer {answer!r}: there is nothing to learn; bring others"
    return [Problem(files[learned[0]].path, None, "", what)]
