"""Answer with several tiers: the first that is sure enough, the teacher only for what none is sure about.

The last tier may be the teacher, which this floor never imports: it is handed in as a function (`Fallback`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, Protocol, cast

from factory.errors import ArtifactCorrupt, FactoryError
from factory.release.cascade_file import CascadeFile, read_cascade
from factory.release.package import Release
from factory.release.predict import Answer, ArtifactError, Predictor
from factory.release.registry import Registry
from factory.store import Artifact


class Asked(Protocol):
    """A model that answers texts, such as `Predictor`."""

    def predict(self, texts: Sequence[str]) -> list[Answer]:
        """Return an answer for each text, with calibrated probabilities."""


Fallback = Callable[[Sequence[str]], Sequence[Answer | None]]
"""Asks the teacher; None for a text it has no usable answer to, or cannot be reached for. Its answers are `Verified`
where the release has a `verification`."""


class Verified(Answer):
    """What a teacher says that verifies its answers."""

    confidence: float
    """The calibrated probability that this answer is right; 0 where the verification failed."""


class TierAnswer(Answer):
    """What is said about one text, and by whom."""

    tier: str
    unanswered: bool
    """The last tier should have answered and did not: this is what the tier before it said, unsure as it was."""
    confidence: NotRequired[float]
    """Of a teacher that verifies its answers. Where that is too low the answer says `abstained`."""


@dataclass(frozen=True)
class Tier:
    """One answerer; `threshold` is null for the last, unless it verifies its answers and may abstain."""

    name: str
    threshold: float | None
    model: Asked | None
    """None for the teacher."""


class Cascade:
    """Tiers in the order of asking; may be used from several threads as far as its fallback may."""

    def __init__(self, tiers: Sequence[Tier], *, fallback: Fallback | None = None) -> None:
        if any(tier.model is None for tier in tiers) and fallback is None:
            raise FactoryError(
                "cascade: its last tier is the teacher, and nobody was named to ask",
                hint="hand in a fallback, or answer with the released student alone",
            )
        self.tiers = tuple(tiers)
        self._fallback = fallback

    def predict(self, texts: Sequence[str]) -> list[TierAnswer]:
        """Answer each text by the first tier that is sure enough.

        Args:
            texts: What to answer.

        Returns:
            An answer for each text, in order. Where the teacher was asked and gave none, that of the tier before. Where
            it is not sure enough of its own, `abstained`: `label` is what it said, and not to be relied on.

        Raises:
            FactoryError: The teacher is the only tier and gave no answer, gave a label that the students lack, or did
                not verify an answer although the thresholds were chosen so.
        """
        answers: list[TierAnswer | None] = [None] * len(texts)
        open_ = list(range(len(texts)))
        for tier in self.tiers:
            if not open_:
                break
            said = self._ask(tier, [texts[position] for position in open_])
            left = []
            for position, answer in zip(open_, said, strict=True):
                before = answers[position]
                if answer is None:
                    answers[position] = before and {**before, "unanswered": True}
                    continue
                if before is not None and answer["label"] not in before["probabilities"]:
                    known = ", ".join(before["probabilities"])
                    raise FactoryError(
                        f"cascade: {tier.name} answered {answer['label']!r}, and the release knows {known}",
                        hint="the labels of the spec have changed since: build the task again",
                    )
                # `confidence`, if the teacher gave one, comes along.
                answers[position] = cast("TierAnswer", {**answer, "tier": tier.name, "unanswered": False})
                if tier.threshold is not None and not _sureness(tier, answer) >= tier.threshold:
                    left.append(position)
            open_ = left
        for position in open_:  # the last tier has a threshold where it may abstain
            unsure = _given(answers[position], position)
            unsure["abstained"] = True
        return [_given(answer, position) for position, answer in enumerate(answers)]

    def _ask(self, tier: Tier, texts: Sequence[str]) -> Sequence[Answer | None]:
        if tier.model is not None:
            return tier.model.predict(texts)
        if self._fallback is None:
            raise FactoryError("cascade: nobody was named to ask")  # refused when it was made
        return self._fallback(texts)


def find_cascade(outputs: Path, name: str, version: str | None = None) -> tuple[Path, CascadeFile]:
    """Find the cascade of a registered release, after checking that nobody has touched it.

    Args:
        outputs: Folder of all tasks' outputs.
        name: Of the task.
        version: A number or an alias; default: the champion, else the candidate.

    Returns:
        The release, and what its `cascade.json` says: whom to ask last, and what was promised.

    Raises:
        ArtifactMissing: No such task or version, or it has no cascade.
        ArtifactCorrupt: A file is not the one that was released.
    """
    folder = Registry(outputs).resolve(name, version)
    Artifact(folder, Release, was_cached=True).check()
    return folder, read_cascade(folder)


def open_cascade(folder: Path, described: CascadeFile, *, fallback: Fallback | None = None) -> Cascade:
    """Open the tiers of a release folder.

    Args:
        folder: The release.
        described: Its `cascade.json`.
        fallback: Asks the teacher; needed where it is a tier.

    Returns:
        The cascade.

    Raises:
        ArtifactCorrupt: A tier cannot be read.
        FactoryError: The teacher is a tier, and there is no fallback.
    """
    try:
        tiers = [
            Tier(one.name, one.threshold, None if one.folder is None else Predictor(folder / one.folder))
            for one in described.tiers
        ]
    except ArtifactError as error:  # of the stand-alone program, which knows nothing of the factory
        raise ArtifactCorrupt(str(error), hint="build the task again") from error
    return Cascade(tiers, fallback=fallback)


def _sureness(tier: Tier, answer: Answer) -> float:
    """Return what is held against the threshold: of a student its probability, of the teacher its verification."""
    confidence = dict(answer).get("confidence")
    if tier.model is not None:
        return answer["probability"]
    if not isinstance(confidence, float):
        raise FactoryError(
            f"cascade: the threshold of {tier.name} was chosen for verified answers, and this one has no `confidence`",
            hint="give each answer the calibrated probability that it is right, or None where there is no answer",
        )
    return confidence


def _given(answer: TierAnswer | None, position: int) -> TierAnswer:
    if answer is None:
        raise FactoryError(
            f"text {position + 1}: the teacher gave no answer, and no student is a tier before it",
            hint="see failures.jsonl in the outputs for what came instead",
        )
    return answer
