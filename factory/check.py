"""Everything that can be wrong in a task folder, found at once and before anything is spent."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from factory.data import DataFile, Survey, survey
from factory.encoders import encoder_problem
from factory.errors import Problem, SpecError
from factory.labelling.reviewed import survey_reviewed
from factory.spec import (
    ORDERED_FILE,
    REVIEWED_FILE,
    UNLABELLED,
    Data,
    Kind,
    Label,
    Plugin,
    Rule,
    Spec,
    TeacherSpec,
    parse_spec,
    spec_source,
)
from factory.spec_errors import not_among, problems_of, shown, suggestion
from factory.spec_source import KeyPath, Source
from factory.spec_table import Column, Table
from factory.tables.read import survey_table
from factory.tables.rules import RuleError, parse_rule

T = TypeVar("T")

CHARS_PER_TOKEN = 5
"""More than the embedded teacher's tokenizer gets out of any prose, so that no task that fits is refused."""
TEXT_TOKENS = 256
"""What a prompt needs beside description and labels: the text, the question, the answer."""
DATA_FILES = tuple(key for key in Data.model_fields if key != "licence")
WRITTEN_FILES = {"reviewed": REVIEWED_FILE, "ordered": ORDERED_FILE}
"""What commands write beside the spec; found where the spec does not name it."""
"""Keys of the spec that name files."""
LEARNED = ("train", "seeds", "reviewed")
"""Files of rows that people labelled to learn from."""
FEW_HOLDOUT_ROWS = 100
"""Below this a 95% interval of an accuracy is wider than a tenth."""


@dataclass(frozen=True)
class Task:
    """A task folder in which nothing wrong was found."""

    folder: Path
    spec: Spec
    files: Mapping[str, DataFile]
    """The data files the spec names, by their key: `holdout`, `pool`, ..."""
    warnings: tuple[str, ...] = ()
    """What a person should know and may ignore."""


def check_task(folder: Path) -> Task:
    """Read a task folder and check all of it: structure, plugins, data files.

    Args:
        folder: A task folder, with a `spec.yaml` in it.

    Returns:
        The task, ready to build.

    Raises:
        SpecError: Something is wrong; holds every problem found, in order of file and line.
    """
    source = spec_source(folder)
    spec, problems = parse_spec(source)
    kind = _read_section(source, ("kind",), Kind) or Kind.TEXT_CLASSIFICATION
    for section, table in _tables(kind).items():
        problems += check_plugins(_plugins_in(source, section), table, source)
    labels = _read_section(source, ("labels",), tuple[Label, ...])
    names = None if labels is None else tuple(label.name for label in labels)
    problems += _rule_problems(source, names)
    problems += _voter_problems(source)
    encoder = _read_section(source, ("encoder",), str)
    if encoder and (wrong := encoder_problem(encoder)):
        problems.append(source.problem(("encoder",), wrong))
    problems += _order_problems(source)
    problems += (table_problems := _table_problems(source, kind))
    problems.sort(key=lambda problem: problem.line or 0)
    declared = _value_at(source, ("teachers",))
    for section in (("teacher",), *((("teachers", name)) for name in (declared if isinstance(declared, dict) else ()))):
        problems += check_teacher(source, section)
    if spec is not None and "embedded" in {one.name for one in (spec.teacher, *spec.teachers.values())}:
        problems += _context_problems(spec, source)
    files, misplaced = _data_files(source)
    problems += misplaced
    warnings: list[str] = []
    surveys: dict[str, Survey] = {}
    for key, file in files.items():
        # Without its columns nothing can be said about the file of a table.
        known = spec.table if spec is not None and not table_problems else None
        found = _survey(key, file, names, known) if known is not None or not kind.is_table else None
        problems += found.problems if found else ()
        surveys |= {key: found} if found else {}
        warnings += _survey_warnings(key, file, names, found) if found else ()
    if kind.is_table and not problems:
        problems += _one_answer(files, surveys)
    if spec is None or problems:
        raise SpecError(problems)
    return Task(folder, spec, files, tuple(warnings))


def _one_answer(files: Mapping[str, DataFile], surveys: Mapping[str, Survey]) -> list[Problem]:
    """Complain where all rows to learn from have the same answer."""
    learned = [key for key in LEARNED if key in surveys and surveys[key].n_rows]
    answers = {answer for key in learned for answer in surveys[key].n_by_label}
    if not learned or len(answers) != 1:
        return []
    n_rows, (answer,) = sum(surveys[key].n_rows for key in learned), answers
    what = f"all {n_rows:,} rows to learn from have the answer {answer!r}: there is nothing to learn; bring others"
    return [Problem(files[learned[0]].path, None, "", what)]


def _survey(key: str, file: DataFile, names: Sequence[str] | None, table: Table | None) -> Survey:
    """Look through one data file, of texts or of the table given."""
    if table is not None:
        return survey_table(file.path, table, needs_target=key not in UNLABELLED, repeats=key == "holdout")
    if key == "reviewed":
        return survey_reviewed(file.path, names)
    return survey(file.path, labels=None if key in UNLABELLED else names, contradictions=key == "holdout")


def _survey_warnings(key: str, file: DataFile, names: Sequence[str] | None, found: Survey) -> list[str]:
    holdout = _holdout_warnings(file.path.name, names, found) if key == "holdout" and names else []
    return [*found.warnings, *holdout]


def check_plugins(plugins: Sequence[tuple[KeyPath, Plugin]], table: Mapping[str, Any], source: Source) -> list[Problem]:
    """Check names and parameters of plugins against the table of their floor.

    Args:
        plugins: What the spec asks for, and where it does.
        table: What there is, by name. An entry is a class whose fields are the parameters, or has such a class as
            `params` or `options`.
        source: The file the plugins were named in.

    Returns:
        A problem for each unknown name and each wrong parameter.
    """
    problems = []
    titles: set[str] = set()
    for path, plugin in plugins:
        where = source.existing((*path, "name"))
        title = _title(plugin, table)
        if title in titles:
            problems.append(source.problem(where, f"{title!r} is named twice: results are stored by name"))
        titles.add(title or "")
        if plugin.name not in table:
            known = not_among(plugin.name, list(table)) if table else "not for tables: leave it out"
            message = f"{plugin.name!r} is {known}"
            problems.append(source.problem(where, message))
            continue
        params = _params_of(table[plugin.name])
        try:
            TypeAdapter(params).validate_json(json.dumps(plugin.params), strict=True)
        except ValidationError as error:
            problems += problems_of(error, params, source, at=(*path, "params"))
            continue
        wrong = encoder_problem(plugin.params["encoder"]) if "encoder" in plugin.params else ""
        if wrong:
            problems.append(source.problem((*path, "params", "encoder"), wrong))
    return problems


def _params_of(entry: Any) -> Any:
    return entry if isinstance(entry, type) else getattr(entry, "options", None) or entry.params


def _title(plugin: Plugin, table: Mapping[str, Any]) -> str | None:
    """Return what results are stored by: the name or, of what may be named with several params, a title of both."""
    if plugin.name not in table or not hasattr(params := _params_of(table[plugin.name]), "title"):
        return plugin.name
    try:
        return str(TypeAdapter(params).validate_python(plugin.params).title)
    except ValidationError:
        return None  # which is complained about


def _order_problems(source: Source) -> list[Problem]:
    """Filters run in spec order, but the noise filter judges what all others left: its place is the last."""
    plugins = _plugins_in(source, ("curation",))
    return [
        source.problem(path, "label-noise runs after all other filters: put it last")
        for path, plugin in plugins[:-1]
        if plugin.name == "label-noise"
    ]


def check_teacher(source: Source, section: KeyPath = ("teacher",)) -> list[Problem]:
    """Look at the file that a teacher's model is, where it is one; what a server has is for the server to say.

    Args:
        source: The spec.
        section: Where it describes the teacher.

    Returns:
        What is wrong with the name, the file, or the lines of a script.
    """
    from factory.teacher.scripted import read_script
    from factory.teacher.weights import gguf_problem

    where = (*section, "model")
    teacher = _read_section(source, section, TeacherSpec)
    folder = source.file.parent
    if teacher is not None and teacher.name == "embedded" and teacher.model is not None:
        wrong = gguf_problem(folder / teacher.model)
        return [source.problem(where, f"{shown(teacher.model)} {wrong}")] if wrong else []
    if teacher is None or teacher.name != "scripted":
        return []
    if not teacher.model:
        return [source.problem(where, "the scripted teacher needs a file with replies, such as replies.jsonl")]
    found = _locate(folder, teacher.model)
    if isinstance(found, str):
        return [source.problem(where, found)]
    try:
        read_script(found)
    except SpecError as error:
        return list(error.problems)
    return []


def _context_problems(spec: Spec, source: Source) -> list[Problem]:
    """Tell when a prompt that lists the labels leaves the embedded teacher no room for a text."""
    from factory.teacher.llama_server import CONTEXT_TOKENS

    n_chars = len(spec.description) + sum(2 * len(label.name) + len(label.phrase) for label in spec.labels)
    n_tokens, room = n_chars // CHARS_PER_TOKEN, CONTEXT_TOKENS - TEXT_TOKENS
    if n_tokens <= room:
        return []
    needs = (
        f"description and labels are at least {n_tokens:,} tokens of every prompt, and the embedded teacher has room"
    )
    remedy = "shorten them, have fewer labels, or take another teacher"
    return [source.problem(("labels",), f"{needs} for {room:,} of them: {remedy}")]


def _tables(kind: Kind) -> dict[KeyPath, Mapping[str, Any]]:
    """Return the plugin table behind each list of the spec; what no task of the kind can have is empty."""
    from factory.curation import FILTERS
    from factory.labelling.aggregation import AGGREGATORS
    from factory.labelling.voters import VOTERS
    from factory.students import STUDENTS, TABLE_STUDENTS
    from factory.synthesis import STRATEGIES, TABLE_STRATEGIES
    from factory.synthesis.augmenters import AUGMENTERS

    if kind.is_table:
        return {
            ("augmentation", "strategies"): {},
            ("synthesis", "strategies"): TABLE_STRATEGIES if kind.has_labels else {},
            ("labelling", "voters"): {},
            ("curation",): {},
            ("students",): TABLE_STUDENTS,
        }
    return {
        ("augmentation", "strategies"): AUGMENTERS,
        ("synthesis", "strategies"): STRATEGIES,
        ("labelling", "voters"): VOTERS,
        ("labelling", "aggregation"): AGGREGATORS,
        ("curation",): FILTERS,
        ("students",): STUDENTS,
    }


def _rule_problems(source: Source, labels: Sequence[str] | None) -> list[Problem]:
    """Check the labels and patterns of rules, and that somebody goes by them."""
    from factory.labelling.rules import wrong_rules

    section: KeyPath = ("labelling", "rules")
    rules = _read_section(source, section, tuple[Rule, ...]) or ()
    found = wrong_rules(rules, labels or [rule.label for rule in rules])
    problems = [source.problem((*section, *path), message) for path, message in found]
    voters = {plugin.name for _, plugin in _plugins_in(source, ("labelling", "voters"))}
    has_voter = "rules" in voters
    if rules and not has_voter:
        message = "nobody goes by them: name the voter too, such as voters: [teacher, nearest-description, rules]"
        problems.append(source.problem(section, message))
    if has_voter and not _value_at(source, section):
        problems.append(source.problem(("labelling", "voters"), "the voter `rules` needs labelling.rules"))
    learned = {plugin.name for _, plugin in _plugins_in(source, ("labelling", "aggregation"))} or {"pooled"}
    if voters == {"rules"} and learned & {"dawid-skene", "discounted"}:
        message = f"{min(learned)} learns nothing from rules alone: add a voter, or take mace or majority"
        problems.append(source.problem(("labelling", "aggregation"), message))
    soft: KeyPath = ("labelling", "soft_labels")
    if voters == {"rules"} and learned == {"mace"} and _value_at(source, soft) is True:
        message = "of rules alone, mace finds the label but stays near one half: its distributions teach nothing"
        problems.append(source.problem(soft, message))
    return problems


def _table_problems(source: Source, kind: Kind) -> list[Problem]:
    """Check what only tables have, and what they cannot have."""
    if not kind.is_table:
        return []
    cascade = [source.problem(("cascade",), "is for texts: leave it out")] if ("cascade",) in source.lines else []
    strategies: KeyPath = ("synthesis", "strategies")
    has_rows = any(_value_at(source, ("data", key)) for key in ("train", "seeds"))
    if _value_at(source, strategies) and not has_rows:
        cascade.append(source.problem(strategies, "rows are written like real ones: name some under data.train"))
    return cascade + _column_rule_problems(source)


def _column_rule_problems(source: Source) -> list[Problem]:
    """Check the rules between the columns of a table, where the columns themselves are fine."""
    rules = _read_section(source, ("rules",), tuple[str, ...])
    columns = _read_section(source, ("columns",), tuple[Column, ...])
    left_out = _read_section(source, ("leave_out",), tuple[str, ...]) or ()
    problems = []
    for position, rule in enumerate(rules or ()):
        try:
            parse_rule(rule, [column for column in columns or () if column.name not in left_out])
        except RuleError as error:
            problems.append(source.problem(("rules", position), str(error)))
    return problems if columns else []


def _voter_problems(source: Source) -> list[Problem]:
    """Check that voters ask teachers who are there, and that somebody asks each of those."""
    from factory.labelling.voters import wrong_teachers

    declared = _value_at(source, ("teachers",))
    voters = _plugins_in(source, ("labelling", "voters"))
    has_pool = _value_at(source, ("data", "pool")) is not None
    has_pool &= _value_at(source, ("labelling", "label_pool")) != 0
    has_pool |= _value_at(source, ("data", "ordered")) is not None or (source.file.parent / ORDERED_FILE).exists()
    found = wrong_teachers(voters, declared if isinstance(declared, dict) else (), has_pool=has_pool)
    return [source.problem(source.existing(path), message) for path, message in found]


def _plugins_in(source: Source, section: KeyPath) -> list[tuple[KeyPath, Plugin]]:
    """Return the well-formed plugins of a list, or the one that stands alone; others have been complained about."""
    entries = _value_at(source, section)
    if isinstance(entries, str | dict):
        alone = _read_section(source, section, Plugin)
        return [] if alone is None else [(section, alone)]
    paths: Iterator[KeyPath] = ((*section, index) for index in range(len(entries) if isinstance(entries, list) else 0))
    found = ((path, _read_section(source, path, Plugin)) for path in paths)
    return [(path, plugin) for path, plugin in found if plugin is not None]


def _read_section(source: Source, path: KeyPath, kind: type[T]) -> T | None:
    """Return a part of the spec even when other parts are wrong, or None when this part is."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(_value_at(source, path)), strict=True)
    except ValidationError:
        return None


def _value_at(source: Source, path: KeyPath) -> Any:
    value: Any = source.data
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _data_files(source: Source) -> tuple[dict[str, DataFile], list[Problem]]:
    """Find the data files that the spec names, inside the task folder and nowhere else."""
    files: dict[str, DataFile] = {}
    problems: list[Problem] = []
    for key in DATA_FILES:
        name = _value_at(source, ("data", key))
        written = WRITTEN_FILES.get(key)
        if written and ("data", key) not in source.lines and (source.file.parent / written).exists():
            name = written
        if not isinstance(name, str):
            continue
        found = _locate(source.file.parent, name.strip())
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


def _locate(folder: Path, name: str) -> Path | str:
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
