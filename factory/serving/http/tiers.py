"""A cascade behind the server: each version brings its own thresholds, and all of them one teacher."""

import threading
from collections.abc import Callable, Sequence

from factory.errors import FactoryError
from factory.release.cascade_file import CascadeFile, read_cascade
from factory.release.predict import Answer, Predictor
from factory.serving.cascade import Cascade, Fallback, open_cascade


def in_tiers(first: CascadeFile, fallback: Fallback | None) -> Callable[[Predictor], Cascade]:
    """Return what opens the cascade of a version.

    Args:
        first: The cascade of the version the server starts with.
        fallback: Asks its teacher; one request at a time, whatever the number of threads.

    Returns:
        A function from an opened student; it refuses a version whose thresholds were chosen for another teacher.
    """
    asking = threading.Lock()

    def ask(texts: Sequence[str]) -> Sequence[Answer | None]:
        with asking:
            return fallback(texts) if fallback is not None else [None] * len(texts)

    def wrap(student: Predictor) -> Cascade:
        described = read_cascade(student.folder)
        if described.teacher not in ("", first.teacher):
            raise FactoryError(
                f"{student.folder}: its thresholds were chosen for the teacher {described.teacher}, "
                f"and this server asks {first.teacher or 'none'}",
                hint="start the server anew to ask another teacher",
            )
        return open_cascade(student.folder, described, fallback=ask if described.calls_teacher else None)

    return wrap
