"""Who may vote on the label of a row.

To add a voter: write a function `(params, ballot) -> Votes`, add a line to `VOTERS`, run
`pytest tests/test_aggregate.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.encoders import Encoder
from factory.encoders.nearest import nearest_probs
from factory.labelling.rules import matcher
from factory.labelling.votes import ABSTAIN, NOT_ASKED, Votes
from factory.records import Predictions, Rows
from factory.spec import Label, Model, Rule


@dataclass(frozen=True)
class Ballot:
    """What is voted on, and what voters may look at."""

    labels: tuple[Label, ...]
    rules: tuple[Rule, ...]
    rows: Rows
    """Rows that the teacher labelled."""
    encoder: Encoder
    student: Predictions | None
    """Of an earlier student, found by row id; not every row needs to be there."""

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
    """How far the teacher's distributions are believed as they are."""

    calibrate: bool = True
    """Take the teacher's liking for some labels out of its distributions: over all rows it should expect each label
    about as often. Where labels are rare in the pool this gives them too much, and still helps: docs/log.md."""


class NearestParams(Model):
    """How similarities become a distribution."""

    scale: Annotated[float, Field(gt=0)] = 20.0
    """Factor on cosines before the softmax; it changes distributions, no label."""


def vote_teacher(params: TeacherParams, ballot: Ballot) -> Votes:
    """Vote as the teacher did, with its distribution where the server gave log-probabilities.

    Batch calibration divides each distribution by the mean of all: Zhou et al., "Batch Calibration: Rethinking
    Calibration for In-Context Learning and Prompt Engineering", ICLR 2024, arXiv:2309.17249.

    Args:
        params: Whether to calibrate.
        ballot: Rows with the teacher's labels and distributions.

    Returns:
        One voter; with calibration its label is the most probable one after it.
    """
    column = {name: position for position, name in enumerate(ballot.names)}
    answers = np.array([column.get(label, ABSTAIN) for label in ballot.rows.kept["label"]], dtype=np.int64)
    nothing = [0.0] * len(column)
    given = [nothing if probs is None else probs for probs in ballot.rows.kept["label_probs"]]
    probs = np.array(given, dtype=np.float64).reshape(len(answers), len(column))
    told = probs.sum(axis=1) > 0
    if params.calibrate and told.any():
        # A text of each label is added to both sides, so that a handful of texts says little about the teacher.
        seen = probs[told].sum(axis=0)
        probs[told] *= (told.sum() / len(column) + 1) / (seen + 1)
        probs[told] /= probs[told].sum(axis=1, keepdims=True)
        answers[told] = probs[told].argmax(axis=1)
    return _one_voter("teacher", ballot, answers, probs)


def vote_nearest(params: NearestParams, ballot: Ballot) -> Votes:
    """Vote for the label whose description is nearest to the text."""
    phrases = [label.phrase for label in ballot.labels]
    texts = ballot.rows.kept["text"][:]
    probs = nearest_probs(texts, phrases, ballot.encoder, scale=params.scale, stage="aggregate")
    return _one_voter("nearest-description", ballot, probs.argmax(axis=1), probs)


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


def _one_voter(name: str, ballot: Ballot, answers: NDArray[np.int64], probs: NDArray[np.float64]) -> Votes:
    return Votes(ballot.names, (name,), answers[:, None], probs[:, None])


VOTERS: Mapping[str, Voter] = {
    "teacher": Voter(TeacherParams, vote_teacher),
    "nearest-description": Voter(NearestParams, vote_nearest),
    "rules": Voter(NoParams, vote_rules),
    "student": Voter(NoParams, vote_student),
}
"""By the name a spec uses."""
