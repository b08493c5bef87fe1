"""The teachers of a task: the one that does all work, and those that only vote on pool rows."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from factory.labelling.voters import TEACHER
from factory.spec import Spec, TeacherSpec
from factory.teacher import Teacher, open_teacher


def teacher_specs(spec: Spec) -> dict[str, TeacherSpec]:
    """Return what a spec says of each teacher by name, the task's own first, as `teacher`."""
    return {TEACHER: spec.teacher, **spec.teachers}


@contextmanager
def opened(spec: Spec, folder: Path, outputs: Path) -> Iterator[Mapping[str, Teacher]]:
    """Lend all teachers, and close them; nothing is started before it is asked.

    Args:
        spec: The task.
        folder: Its folder.
        outputs: Folder of the reply store that they share.

    Yields:
        The teachers by name.
    """
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(closing(open_teacher(one, folder=folder, outputs=outputs)))
            for name, one in teacher_specs(spec).items()
        }
