"""How rows are made: the `synthesis`, `augmentation` and `labelling` of a spec."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from factory.spec_base import Model, Named


class Plugin(Named):
    """A plugin by name with its parameters; a bare name will do."""

    name: Annotated[str, Field(min_length=1)]
    params: dict[str, Any] = Field(default_factory=dict)


class LoopSpec(Model):
    """Further rounds, about what a student that was trained on the rows so far finds hard."""

    rounds: Annotated[int, Field(ge=1, le=20)] = 3
    """At most."""
    prompts_per_round: Annotated[int, Field(ge=2)] | None = None
    """Prompts that ask for texts in a round, at most; null: two for each label. One half is as in any other round and
    tells how much the student has learned, the other half is about hard rows and confused labels."""
    stop_gain: Annotated[float, Field(ge=0, le=1)] = 0.005
    """No further round when the next is expected to gain less agreement with the teacher than this: 0.005 is half a
    point."""


class SynthesisSpec(Model):
    """How training texts are written."""

    strategies: tuple[Plugin, ...] = (Plugin(name="attributes"),)
    per_label: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Accepted rows wanted for each label, real and varied ones included; null: 60, or 10 where the teacher labels a
    pool or there are train rows, since real texts teach more than written ones do."""
    max_rounds: Annotated[int, Field(ge=1, le=20)] = 3
    """Rounds of writing, verifying and counting before a shortfall is accepted and reported. Rows that the last filter,
    `label-noise`, rejects are not written again: it judges a finished set."""
    loop: LoopSpec | None = None
    """Rounds with a student in the loop, after each label has its rows; null: none. `{}` takes the defaults."""


class Rule(Model):
    """A label for every text that holds one of some keywords, or that a regular expression matches."""

    label: str
    keywords: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()
    """Words or phrases, found whole and in any case."""
    pattern: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    r"""A regular expression in RE2's syntax, which cannot be made to run for ever: no look-around, no references back.
    `\b` and `\w` know the letters a to z only, `\p{L}` all; `(?i)` in front ignores case."""

    @model_validator(mode="after")
    def _check_one_condition(self) -> "Rule":
        if bool(self.keywords) == (self.pattern is not None):
            raise ValueError("expected keywords or a pattern, one of them: {label: refund, keywords: [money back]}")
        return self


class AugmentationSpec(Model):
    """How the rows of `data.seeds` and `data.train` are varied; without such rows nothing is."""

    strategies: tuple[Plugin, ...] = (Plugin(name="more-like-these"), Plugin(name="paraphrase"))
    """An empty list switches it off."""
    per_label: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Texts to ask for from the rows of each label, shared evenly by the strategies; null: 40, or as `per_row` says."""
    per_row: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Texts to ask for from each row instead, so that frequent labels get more of them."""

    @model_validator(mode="after")
    def _check_amount(self) -> "AugmentationSpec":
        if self.per_label is not None and self.per_row is not None:
            raise ValueError("give per_label or per_row, not both")
        return self


class SelfTrainingSpec(Model):
    """How the first of the students labels rows of the pool that no teacher was asked about."""

    per_label: Annotated[int, Field(ge=1, le=100_000)] = 500
    """Rows of each label at most."""
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Of the rows that get a label: the share to take, surest first."""
    weight: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of such a row in training, where one that a teacher labelled has 1."""


class LabellingSpec(Model):
    """What the teacher does after writing."""

    verify: bool = True
    """Label each generated text again, keep the distribution as soft label, reject what disagrees."""
    min_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Calibrated probability that the teacher's second label needs, where its server gives log-probabilities."""
    on_disagreement: Literal["reject", "relabel"] = "reject"
    """What becomes of a text whose second label is not the one it was written for."""
    soft_labels: bool = False
    """Train students on the teacher's distributions instead of its labels; see docs/decisions/0005."""
    label_pool: Annotated[int, Field(ge=0)] = 400
    """Rows of the pool that the teacher labels for training; 0 for none."""
    voters: tuple[Plugin, ...] = (Plugin(name="teacher"), Plugin(name="clusters"))
    """Who has a say on the pool rows that the teacher labelled: `teacher`, `nearest-description`, `clusters` (the
    nearest description, settled by how the texts of the pool lie together), `rules`, `student`;
    none: its answers stand, without calibration. `teacher` may come several times, with `params: {ask, teacher}`; the
    first of them labels the rows."""
    rules: Annotated[tuple[Rule, ...], Field(max_length=1000)] = ()
    """What the voter `rules` goes by; each rule votes for itself."""
    aggregation: Plugin = Plugin(name="pooled")
    """How votes become one answer: `pooled` multiplies distributions, those of one teacher averaged first; `majority`,
    `dawid-skene`, `mace`, and `discounted`, for voters who repeat each other, count labels."""
    min_agreement: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability that the winning label must exceed; other rows are left to people (`factory review`)."""
    self_training: SelfTrainingSpec | None = SelfTrainingSpec()
    """Let a student label more of the pool when the teacher's rows are settled; null: no."""
    ask_directly: Annotated[int, Field(ge=0)] = 200
    """Holdout rows on which the teacher itself is measured (a stratified sample); 0 for none."""
