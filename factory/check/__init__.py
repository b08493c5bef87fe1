"""Everything that can be wrong in a task folder, found at once and before anything is spent."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from factory.check.files import find_files, one_answer, survey_file, warnings_of
from factory.check.parts import rule_problems, table_problems, voter_problems
from factory.check.plugins import check_plugins, order_problems, plugin_tables
from factory.check.reading import plugins_in, read_section, value_at
from factory.check.teachers import check_teacher, context_problems
from factory.data import DataFile, Survey
from factory.encoders import encoder_problem
from factory.errors import SpecError
from factory.spec import Kind, Label, Spec
from factory.spec_file import parse_spec, spec_source


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
    kind = read_section(source, ("kind",), Kind) or Kind.TEXT_CLASSIFICATION
    for section, table in plugin_tables(kind).items():
        problems += check_plugins(plugins_in(source, section), table, source)
    labels = read_section(source, ("labels",), tuple[Label, ...])
    names = None if labels is None else tuple(label.name for label in labels)
    problems += rule_problems(source, names)
    problems += voter_problems(source)
    encoder = read_section(source, ("encoder",), str)
    if encoder and (wrong := encoder_problem(encoder)):
        problems.append(source.problem(("encoder",), wrong))
    problems += order_problems(source)
    problems += (of_table := table_problems(source, kind))
    problems.sort(key=lambda problem: problem.line or 0)
    declared = value_at(source, ("teachers",))
    for section in (("teacher",), *((("teachers", name)) for name in (declared if isinstance(declared, dict) else ()))):
        problems += check_teacher(source, section)
    if spec is not None and "embedded" in {one.name for one in (spec.teacher, *spec.teachers.values())}:
        problems += context_problems(spec, source)
    files, misplaced = find_files(source)
    problems += misplaced
    warnings: list[str] = []
    surveys: dict[str, Survey] = {}
    for key, file in files.items():
        # Without its columns nothing can be said about the file of a table.
        known = spec.table if spec is not None and not of_table else None
        found = survey_file(key, file, names, known) if known is not None or not kind.is_table else None
        problems += found.problems if found else ()
        surveys |= {key: found} if found else {}
        warnings += warnings_of(key, file, names, found) if found else ()
    if kind.is_table and not problems:
        problems += one_answer(files, surveys)
    if spec is None or problems:
        raise SpecError(problems)
    return Task(folder, spec, files, tuple(warnings))
