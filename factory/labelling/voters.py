"""Who may vote on the label of a row.

To add a voter: write a function `(params, ballot) -> Votes`, add a line to `VOTERS`, run
`pytest tests/test_aggregate.py`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from factory.encoders import Encoder
from factory.encoders.nearest import nearest_probs
from factory.labelling.asking import Ask
from factory.labelling.clusters import CLUSTERS
from factory.labelling.reasons import ReasonCheck
from factory.labelling.rules import matcher
from factory.labelling.votes import ABSTAIN, NOT_ASKED, Votes
from factory.records import Predictions, Rows
from factory.spec import Label, Model, Plugin, Rule
from factory.spec_errors import not_among
from factory.spec_source import KeyPath

TEACHER = "teacher"


@dataclass(frozen=True)
class Ballot:
    """What is voted on, and what voters may look at."""

    labels: tuple[Label, ...]
    rules: tuple[Rule, ...]
    rows: Rows
    """Rows that the first `teacher` of the voters labelled."""
    encoder: Encoder
    student: Predictions | None
    """Of an earlier student, found by row id; not every row needs to be there."""
    clusters: Predictions | None = None
    """Of the pool that the rows were chosen from, found by row id; not every row needs to be there."""
    asked: Mapping[str, Rows] = field(default_factory=dict)
    """What the other `teacher`s among the voters made of these rows, by their titles."""

    @property
    def names(self) -> tuple[str, ...]:
        """Label names in spec order."""
        return tuple(label.name for label in self.labels)


@dataclass(frozen=True)
class Voter:
    """A kind of voter, with its parameters; all of them have defaults."""

    params: type[Model]
    vote: Callable[[Any, Ballot], Votes]


class NoParams(Model):
    """This voter has nothing to set."""


class TeacherParams(Model):
    """Who is asked and how, and how far its distributions are believed as they are."""

    teacher: str | None = None
    """A name in `teachers` of the spec; null: the task's `teacher`."""
    ask: Ask = "label"
    """`label` shows names and descriptions, `names-only` no descriptions, `reversed` the last label first; `candidates`
    asks for every label that may fit, of which a student takes one; `rationale` asks for a reason first."""
    calibrate: bool = True
    """Take the teacher's liking for some labels out of its distributions: over all rows it should expect each label
    about as often. Where labels are rare in the pool this gives them too much, and still helps: docs/log.md."""
    checks: tuple[ReasonCheck, ...] = ()
    """Of reasons: a label counts only if the reason alone leads to it (`consistency`), or if the teacher finds that the
    reason follows from the text (`entailment`); a call a row for each."""

    @model_validator(mode="after")
    def _check_checks(self) -> Self:
        if self.checks and self.ask != "rationale":
            raise ValueError("checks: there is no reason to check: say `ask: rationale`")
        return self

    @property
    def source(self) -> str:
        """The teacher, by name."""
        return self.teacher or TEACHER

    @property
    def title(self) -> str:
        """Name of the voter: the teacher's, with the way it is asked if that is not the usual one."""
        return self.source if self.ask == "label" else f"{self.source}-{self.ask}"


class NearestParams(Model):
    """How similarities become a distribution."""

    scale: Annotated[float, Field(gt=0)] = 20.0
    """Factor on cosines before the softmax; it changes distributions, no label."""


def vote_teacher(params: TeacherParams, ballot: Ballot) -> Votes:
    """Vote as a teacher did, with its distribution where the server gave log-probabilities.

    Batch calibration divides each distribution by the mean of all: Zhou et al., "Batch Calibration: Rethinking
    Calibration for In-Context Learning and Prompt Engineering", ICLR 2024, arXiv:2309.17249.

    Args:
        params: Which of those who were asked, and whether to calibrate.
        ballot: Rows with the teacher's labels and distributions.

    Returns:
        One voter; with calibration its label is the most probable one after it.
    """
    answers, probs = _said(ballot.asked.get(params.title, ballot.rows), ballot)
    told = probs.sum(axis=1) > 0
    if params.calibrate and told.any():
        # A text of each label is added to both sides, so that a handful of texts says little about the teacher.
        seen = probs[told].sum(axis=0)
        probs[told] *= (told.sum() / probs.shape[1] + 1) / (seen + 1)
        probs[told] /= probs[told].sum(axis=1, keepdims=True)
        answers[told] = probs[told].argmax(axis=1)
    return _one_voter(params.title, ballot, answers, probs, source=params.source)


def _said(rows: Rows, ballot: Ballot) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find what somebody made of the rows of a ballot: columns of labels, and distributions or zeros."""
    column = {name: position for position, name in enumerate(ballot.names)}
    said = {
        row_id: (column.get(label, ABSTAIN), probs)
        for row_id, label, probs in zip(rows.kept["id"], rows.kept["label"], rows.kept["label_probs"], strict=True)
    }
    # An answer that is missing, or that could not be read, says nothing about the row.
    found = [said.get(row_id, (NOT_ASKED, None)) for row_id in ballot.rows.kept["id"]]
    nothing = [0.0] * len(column)
    probs = [nothing if probs is None else probs for _, probs in found]
    shape = (len(found), len(column))
    return np.array([answer for answer, _ in found], dtype=np.int64), np.array(probs, dtype=np.float64).reshape(shape)


def vote_nearest(params: NearestParams, ballot: Ballot) -> Votes:
    """Vote for the label whose description is nearest to the text."""
    probs = _nearest(params, ballot)
    return _one_voter("nearest-description", ballot, probs.argmax(axis=1), probs)


def vote_clusters(params: NoParams, ballot: Ballot) -> Votes:
    """Vote as the clusters of the pool say, and as the nearest description for rows that are not of a pool."""
    probs = _nearest(NearestParams(), ballot)
    if ballot.clusters is not None:
        inside = set(ballot.clusters.ids)
        at = [position for position, row_id in enumerate(ballot.rows.kept["id"]) if row_id in inside]
        probs[at] = ballot.clusters.of(ballot.rows.kept.select(at)["id"], ballot.names)
    return _one_voter(CLUSTERS.name, ballot, probs.argmax(axis=1), probs)


def _nearest(params: NearestParams, ballot: Ballot) -> NDArray[np.float64]:
    phrases = [label.phrase for label in ballot.labels]
    texts = ballot.rows.kept["text"][:]
    return nearest_probs(texts, phrases, ballot.encoder, scale=params.scale, stage="aggregate")


def vote_rules(params: NoParams, ballot: Ballot) -> Votes:
    """Let each rule vote for its label where it fires, and be silent elsewhere."""
    texts = ballot.rows.kept["text"][:]
    answers = np.full((len(texts), len(ballot.rules)), ABSTAIN)
    for position, rule in enumerate(ballot.rules):
        fires = matcher(rule)
        answers[[fires(text) for text in texts], position] = ballot.names.index(rule.label)
    voters = tuple(f"rule {position}: {rule.label}" for position, rule in enumerate(ballot.rules, start=1))
    return Votes(ballot.names, voters, answers)


def vote_student(params: NoParams, ballot: Ballot) -> Votes:
    """Vote as an earlier student predicts; rows it was not asked about get no vote."""
    answers = np.full(len(ballot.rows.kept), NOT_ASKED)
    probs = np.zeros((len(answers), len(ballot.labels)))
    if ballot.student is not None:
        at = {row_id: position for position, row_id in enumerate(ballot.student.ids)}
        asked = [position for position, row_id in enumerate(ballot.rows.kept["id"]) if row_id in at]
        told = [at[row_id] for row_id in ballot.rows.kept.select(asked)["id"]]
        order = [ballot.student.labels.index(name) for name in ballot.names]
        probs[asked] = ballot.student.probs[told][:, order]
        answers[asked] = probs[asked].argmax(axis=1)
    return _one_voter("student", ballot, answers, probs)


def _one_voter(
    name: str, ballot: Ballot, answers: NDArray[np.int64], probs: NDArray[np.float64], *, source: str = ""
) -> Votes:
    return Votes(ballot.names, (name,), answers[:, None], probs[:, None], (source or name,))


VOTERS: Mapping[str, Voter] = {
    TEACHER: Voter(TeacherParams, vote_teacher),
    "nearest-description": Voter(NearestParams, vote_nearest),
    CLUSTERS.name: Voter(NoParams, vote_clusters),
    "rules": Voter(NoParams, vote_rules),
    "student": Voter(NoParams, vote_student),
}
"""By the name a spec uses."""


def wrong_teachers(
    voters: Sequence[tuple[KeyPath, Plugin]], declared: Collection[str], *, has_pool: bool
) -> list[tuple[KeyPath, str]]:
    """Find voters that ask a teacher nobody declared, and teachers that no voter asks.

    Args:
        voters: Those of a spec, with their key paths; wrong parameters have been complained about.
        declared: Names under `teachers`.
        has_pool: Whether there are rows to vote on.

    Returns:
        For each fault its key path, and what is wrong there.
    """
    found: list[tuple[KeyPath, str]] = []
    asked: set[str] = set()
    for path, voter in voters:
        name = voter.params.get("teacher")
        if voter.name != TEACHER or not isinstance(name, str):
            continue
        asked.add(name)
        if name not in declared:
            known = not_among(name, list(declared)) if declared else "not declared: describe it under teachers"
            found.append(((*path, "params", "teacher"), f"{name!r} is {known}"))
    for name in declared:
        if not has_pool:
            why = "votes on pool rows, and none are labelled: data.pool and labelling.label_pool say which"
            found.append((("teachers", name), why))
        elif name not in asked:
            remedy = f"name it among labelling.voters: {{name: teacher, params: {{teacher: {name}}}}}"
            found.append((("teachers", name), f"nobody asks it: {remedy}"))
    return found


def teachers_among(voters: Sequence[Plugin]) -> tuple[TeacherParams, ...]:
    """Return the `teacher`s among the voters of a spec: the first labels the rows, the others are asked about them."""
    return tuple(TeacherParams(**voter.params) for voter in voters if voter.name == TEACHER)
