"""What is asked of what was made: the `gate`, `cascade` and `verdict` of a spec."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from factory.spec_base import Model

TEACHER_TIER = "teacher"
"""The tier of a cascade that is no student."""


class Gate(Model):
    """Bounds a candidate must meet to become champion; null bounds are not checked."""

    accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    macro_f1: Annotated[float, Field(ge=0, le=1)] | None = None
    auc: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of a table with labels: how often a row of the last label is ranked above another."""
    r2: Annotated[float, Field(le=1)] | None = None
    """Of a table with numbers: the share of their variance that is explained."""
    p95_ms: Annotated[float, Field(gt=0)] | None = None
    size_mb: Annotated[float, Field(gt=0)] | None = None


class CascadeSpec(Model):
    """Several answerers in a row, and what is promised of them together; all that is given must hold at once."""

    tiers: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=2, max_length=4)]
    """Students of the spec, cheapest first; the last may be `teacher`."""
    accuracy: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of all answers that must be right."""
    within: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Accuracy that may be lost against the best tier, such as 0.005; where nothing else is given, that."""
    teacher_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of texts that may reach the last tier."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Probability that the promise does not hold."""
    n_rows: Annotated[int, Field(ge=3)] = 1000
    """Rows of the pool that the teacher labels to choose the thresholds on, where there is no `data.calibration`."""
    self_verification: bool = False
    """The teacher says of each answer it gives whether it is right, and where it is not sure enough nobody answers:
    `abstained`. The promise is then one about the answers that are given. Needs `accuracy` and `data.calibration`."""

    @field_validator("tiers")
    @classmethod
    def _check_tiers(cls, tiers: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(tiers)) < len(tiers):
            raise ValueError("a tier is named twice")
        if TEACHER_TIER in tiers[:-1]:
            raise ValueError("the teacher is the dearest tier: put it last")
        return tiers

    @model_validator(mode="after")
    def _check_verification(self) -> "CascadeSpec":
        if self.self_verification and self.tiers[-1] != TEACHER_TIER:
            raise ValueError("self_verification: the teacher verifies its own answers: name it last among the tiers")
        if self.self_verification and self.accuracy is None:
            raise ValueError(
                "self_verification: answers are given up so that those that are given are right: say under accuracy "
                "how many of them"
            )
        return self

    @property
    def loss_margin(self) -> float | None:
        """What may be lost against each tier; None when that is not promised."""
        return 0.005 if self.accuracy is None and self.teacher_share is None and self.within is None else self.within

    @property
    def bounds_loss(self) -> bool:
        """Whether accuracy is promised; then the cheapest thresholds are wanted, else the most accurate."""
        return self.accuracy is not None or self.loss_margin is not None

    @property
    def rates(self) -> tuple[float, ...]:
        """How frequent a wrong answer, and a call of the last tier, may be, of those that are bounded."""
        wrong = () if self.accuracy is None else (1 - self.accuracy,)
        return wrong if self.teacher_share is None else (*wrong, self.teacher_share)


class VerdictSpec(Model):
    """When the student may replace the LLM, and what its own machine costs."""

    margin: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Accuracy the student may surely not lose against the teacher."""
    machine_usd_per_hour: Annotated[float, Field(ge=0)] | None = None
    """Of the machine the student runs on, to count its answers in money too."""
