"""Under which terms the parts of a release came, as far as the factory knows; one line a part, for the card."""

import re
from collections.abc import Mapping
from typing import Any

from factory.check import Task
from factory.encoders import ENCODERS
from factory.spec import TeacherSpec
from factory.students import make_student
from factory.teacher.weights import QWEN

APACHE, OTHER = "apache-2.0", "other"
EMBEDDED = f"embedded:{QWEN.sha256}"
"""Identity of the built-in teacher."""
STATED = re.compile(r"\s*([^()]+?)\s*(?:\([^()]*\))?\.?\s*")
"""One licence, and perhaps whose in brackets; what says more has to be read by a person."""
OF_DATA = {
    **{f"cc-by-{version}": f"cc-by-{version}" for version in ("2.0", "2.5", "3.0", "4.0")},
    **{f"cc-by-{other}-4.0": f"cc-by-{other}-4.0" for other in ("sa", "nc", "nd", "nc-sa", "nc-nd")},
    **dict.fromkeys(("cc0", "cc0-1.0"), "cc0-1.0"),
    "apache-2.0": "apache-2.0",
    "mit": "mit",
}
"""Abbreviations of the Hugging Face hub by how people write them, in lower case with hyphens."""


def licences_of(task: Task, student: str, teacher: str) -> tuple[str, ...]:
    """Say where texts, vectors and labels come from, and under which terms.

    Args:
        task: What was built.
        student: The one that was released.
        teacher: Identity of the teacher, or of all that were asked; empty when none was.

    Returns:
        A line for each teacher, the encoder and the data, those there are.
    """
    teachers = [_of_teacher(one, teacher) for one in (task.spec.teacher, *task.spec.teachers.values())]
    lines = [*teachers, _of_encoder(task, student), _of_data(task)]
    return ("Code in this folder: Apache-2.0", *dict.fromkeys(filter(None, lines)))


def header_licence(task: Task, student: str, teacher: str) -> str:
    """Name the licence of the whole: Apache-2.0 only where every part is known to allow it.

    A model of a table that nothing but the task's rows went into has the licence of these, where it is stated plainly.

    Args:
        task: What was built.
        student: The one that was released.
        teacher: Identity of the teacher.

    Returns:
        The abbreviation of the Hugging Face hub; `other` where a person has to read the lines.
    """
    trained_on = task.files.keys() - {"holdout", "ceiling", "calibration"}
    if trained_on and task.spec.kind.is_table and not teacher:
        stated = STATED.fullmatch(task.spec.data.licence or "")
        return OF_DATA.get(re.sub(r"[\s_]+", "-", stated[1].lower()), OTHER) if stated else OTHER
    is_known = teacher in ("", EMBEDDED) and _encoder(task, student) in ("", *ENCODERS) and not trained_on
    return APACHE if is_known else OTHER


def _of_teacher(spec: TeacherSpec, teacher: str) -> str:
    if not teacher:
        return ""
    if spec.name == "embedded" and spec.model is None and EMBEDDED in teacher:
        return "Teacher: Qwen2.5-Coder-1.5B-Instruct, Apache-2.0"
    if spec.name == "openai":
        return f"Teacher: {spec.model}; the terms of use of its server apply to what it wrote and labelled"
    return f"Teacher: {spec.model or spec.name}, chosen in the task; its own terms apply to what it wrote and labelled"


def _of_encoder(task: Task, student: str) -> str:
    encoder = _encoder(task, student)
    if not encoder:
        return ""
    return f"Encoder: {encoder}, " + ("Apache-2.0" if encoder in ENCODERS else "see the licence of that model")


def _of_data(task: Task) -> str:
    if not task.files:
        return ""
    stated = task.spec.data.licence or "no licence was stated (data.licence in the spec)"
    return f"Data of the task ({', '.join(sorted(task.files))}): {stated}"


def _encoder(task: Task, student: str) -> str:
    """Return the name of the encoder inside a student; empty when there is none."""
    params: Mapping[str, Any] = next((one.params for one in task.spec.students if one.name == student), {})
    return "" if task.spec.kind.is_table else str(getattr(make_student(student, params), "encoder", ""))
