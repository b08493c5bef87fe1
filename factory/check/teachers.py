"""Teachers of a spec: that what they need is there, and that its prompts fit."""

from factory.check.files import locate
from factory.check.reading import read_section
from factory.errors import Problem, SpecError
from factory.spec import Spec, TeacherSpec
from factory.spec_errors import shown
from factory.spec_source import KeyPath, Source

CHARS_PER_TOKEN = 5
"""More than the embedded teacher's tokenizer gets out of any prose, so that no task that fits is refused."""
TEXT_TOKENS = 256
"""What a prompt needs beside description and labels: the text, the question, the answer."""


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
    teacher = read_section(source, section, TeacherSpec)
    folder = source.file.parent
    if teacher is not None and teacher.name == "embedded" and teacher.model is not None:
        wrong = gguf_problem(folder / teacher.model)
        return [source.problem(where, f"{shown(teacher.model)} {wrong}")] if wrong else []
    if teacher is None or teacher.name != "scripted":
        return []
    if not teacher.model:
        return [source.problem(where, "the scripted teacher needs a file with replies, such as replies.jsonl")]
    found = locate(folder, teacher.model)
    if isinstance(found, str):
        return [source.problem(where, found)]
    try:
        read_script(found)
    except SpecError as error:
        return list(error.problems)
    return []


def context_problems(spec: Spec, source: Source) -> list[Problem]:
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
