"""A build's cascade: rows to choose its thresholds on, what each tier says to them; and asking the teacher later."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.check import Task
from factory.curation.set_aside import SET_ASIDE, SetAsideParams
from factory.errors import FactoryError, TeacherUnavailable
from factory.evaluation.cascade import CASCADE, CascadeChoice, CascadeParams
from factory.evaluation.sample import SAMPLE, SampleParams
from factory.evaluation.verification import Verification
from factory.labelling.annotate import ANNOTATE, AnnotateParams, AskParams, annotate_texts
from factory.labelling.asking import Annotation
from factory.labelling.self_verify import SELF_VERIFY, verify_answers
from factory.records import Rows
from factory.release.answer import ANSWER, AnswerParams
from factory.release.cascade_file import CascadeFile
from factory.release.export import Exported
from factory.release.predict import Answer
from factory.serving.cascade import Fallback, Verified
from factory.spec_file import load_spec
from factory.spec_release import TEACHER_TIER
from factory.store import Artifact
from factory.teacher import Teacher, open_teacher
from factory.teacher.repair import Answered
from flows.steps import Runner, named

logger = logging.getLogger("factory.serving.cascade")
"""A server's own log, which is where its operator looks; other programs print warnings to standard error."""


@dataclass(frozen=True)
class Tiers:
    """The cascade that was chosen, and the students that are its tiers."""

    choice: Artifact[CascadeChoice]
    exported: Mapping[str, Artifact[Exported]]
    """By name of the student."""


def set_calibration_aside(task: Task, files: Mapping[str, Artifact[Rows]], run: Runner) -> dict[str, Artifact[Rows]]:
    """Take rows for the thresholds of a cascade, and take them out of the pool.

    Args:
        task: The task.
        files: Its data files.
        run: Runs the stages.

    Returns:
        The files, `calibration` among them and without it in `pool`; as they are where the spec has no cascade.
    """
    cascade = task.spec.cascade
    if cascade is None:
        return dict(files)
    rows = files.get("calibration")
    if rows is None:
        # At random, because the thresholds are promised for texts drawn like these; half the pool is left to train on.
        known = run.peek(files["pool"])
        most = cascade.n_rows if known is None else len(known.kept) // 2
        params = SampleParams(n=min(cascade.n_rows, most), seed=task.spec.seed)
        rows = run(named(SAMPLE, "cascade"), params, inputs={"rows": files["pool"]})
    found = {**files, "calibration": rows}
    if "pool" in files:
        found["pool"] = run(SET_ASIDE, SetAsideParams(), inputs={"rows": files["pool"], "aside": rows})
    return found


def choose_cascade(
    task: Task,
    rows: Artifact[Rows],
    exported: Callable[[str], Artifact[Exported]],
    teacher: Teacher,
    run: Runner,
) -> Tiers | None:
    """Let each tier answer the calibration rows, and choose the thresholds.

    Args:
        task: The task.
        rows: From `set_calibration_aside`.
        exported: Exports a student by name.
        teacher: Labels the rows: as a tier, and in place of people where they did not.
        run: Runs the stages.

    Returns:
        The cascade; None where the spec has none.
    """
    spec, cascade = task.spec, task.spec.cascade
    if cascade is None:
        return None
    is_gold = "calibration" in task.files
    inputs: dict[str, Artifact[Any]] = {"rows": rows}
    if TEACHER_TIER in cascade.tiers or not is_gold:
        asked = AnnotateParams(description=spec.description, labels=spec.labels)
        silver = run(named(ANNOTATE, "cascade"), asked, inputs={"rows": rows}, resources={"teacher": teacher})
        inputs |= {"teacher": silver} if is_gold else {"teacher": silver, "rows": silver}
        if cascade.self_verification:
            wanted = AskParams(description=spec.description, labels=spec.labels)
            asking_again = named(SELF_VERIFY, "cascade")
            inputs["verified"] = run(asking_again, wanted, inputs={"rows": silver}, resources={"teacher": teacher})
    tiers = {name: exported(name) for name in cascade.tiers if name != TEACHER_TIER}
    for name, student in tiers.items():
        stage = named(ANSWER, f"cascade-{name}")
        inputs[name] = run(stage, AnswerParams(), inputs={"exported": student, "rows": rows})
    params = CascadeParams(
        labels=spec.label_names, goal=cascade, truth="gold" if is_gold else "teacher", seed=spec.seed
    )
    return Tiers(run(CASCADE, params, inputs=inputs), tiers)


@contextmanager
def asking(folder: Path, described: CascadeFile, outputs: Path) -> Iterator[Fallback | None]:
    """Lend a function that asks the teacher of a task, for the last tier of its cascade.

    Args:
        folder: The task folder; its spec says who the teacher is and what may be spent.
        described: The cascade; the teacher must be the one its thresholds were chosen for.
        outputs: Folder of the reply store.

    Yields:
        The function; None where the teacher is no tier.

    Raises:
        FactoryError: The spec names another teacher than the thresholds were chosen for.
        SpecError: There is no such task folder, or its spec is wrong.
    """
    if not described.calls_teacher:
        yield None
        return
    spec = load_spec(folder)
    params = AnnotateParams(description=spec.description, labels=spec.labels)
    with closing(open_teacher(spec.teacher, folder=folder, outputs=outputs)) as teacher:
        if teacher.identity != described.teacher:
            raise FactoryError(
                f"{folder}: the thresholds of the cascade were chosen for the teacher {described.teacher}, "
                f"and the spec names {teacher.identity}",
                hint="build the task again, or name the teacher it was built with",
            )

        def ask(texts: Sequence[str]) -> list[Answer | None]:
            said = _heard(lambda: annotate_texts(params, texts, teacher, stage="cascade"), len(texts))
            answers = [_as_answer(one, params.names) for one in said]
            if described.verification is None:
                return answers
            return _verified(params, texts, answers, teacher, described.verification)

        yield ask


def _verified(
    params: AskParams,
    texts: Sequence[str],
    answers: Sequence[Answer | None],
    teacher: Teacher,
    verification: Verification,
) -> list[Answer | None]:
    """Add to each answer how sure the teacher is of it."""
    given = {at: answer for at, answer in enumerate(answers) if answer is not None}
    verified = list(answers)
    if not given:
        return verified
    labels = [answer["label"] for answer in given.values()]
    again = [texts[at] for at in given]
    judged = _heard(lambda: verify_answers(params, again, labels, teacher, stage="cascade"), len(again))
    for (at, answer), one in zip(given.items(), judged, strict=True):
        yes = one.probs[0] if one is not None and one.probs else None
        verified[at] = Verified(**answer, confidence=verification.confidence(yes))
    return verified


def _heard(asked: Callable[[], Sequence[Answered[Annotation]]], n_texts: int) -> list[Annotation | None]:
    """Return what the teacher says of each text; None where that is of no use, or nobody answers, which is warned of.

    A build stops at a teacher that is out of reach. Who asks a cascade wants the answers of the tiers before it.
    """
    try:
        judged = asked()
    except TeacherUnavailable as error:
        logger.warning("%d texts go without the teacher: %s", n_texts, error)
        return [None] * n_texts
    return [one.answer if isinstance(one.answer, Annotation) else None for one in judged]


def _as_answer(answer: Annotation | None, labels: Sequence[str]) -> Answer | None:
    """Return the teacher's label; where it gave no distribution, all of its opinion is on that label."""
    if answer is None:
        return None
    probs = answer.probs or [float(label == answer.label) for label in labels]
    probabilities = dict(zip(labels, map(float, probs), strict=True))
    return {"label": answer.label, "probability": probabilities[answer.label], "probabilities": probabilities}
