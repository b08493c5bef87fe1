"""What the numbers of an audit mean: for each a level, its bounds and why, and words a person can act on.

The bounds come from the same numbers of real sets and of sets that other LLMs wrote; docs/how-to/read-the-audit.md has
them. They are for reading, not for deciding: no stage drops a row because of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from factory.evaluation.audit import Audit
from factory.evaluation.metrics import Estimate
from factory.evaluation.shortcuts import Shortcut


class Level(IntEnum):
    """How much a finding matters."""

    FINE = 0
    LOOK = 1
    BAD = 2

    @property
    def word(self) -> str:
        """As it is shown."""
        return self.name.lower()


@dataclass(frozen=True)
class Finding:
    """One number of the audit, read."""

    what: str
    figure: str
    level: Level
    reading: str
    bounds: str


@dataclass(frozen=True)
class Bounds:
    """From where a number deserves a look, and from where it is bad; high numbers are bad, or low ones."""

    look: float
    bad: float
    why: str

    def level(self, value: float) -> Level:
        """Place a value."""
        sign = 1 if self.bad > self.look else -1
        return Level((sign * value >= sign * self.look) + (sign * value >= sign * self.bad))

    @property
    def words(self) -> str:
        """As they are shown."""
        side = "from" if self.bad > self.look else "at most"
        return f"look {side} {self.look:g}, bad {side} {self.bad:g}: {self.why}"


VARIETY = Bounds(0.5, 0.4, "real sets have 0.53 or more, SuperGen for SST-2 has 0.36")
REPEATS = Bounds(0.05, 0.2, "real sets have at most 0.01, SuperGen has 0.39")
SHORTCUT = Bounds(0.4, 0.6, "a word gives away up to 0.53 of a label in real sets, 0.73 in SuperGen")
LENGTH = Bounds(0.7, 0.85, "real sets have 0.55 to 0.68; 0.85 is a mark we set, for no set we know reaches it")
TOLD_APART = Bounds(0.75, 0.95, "two halves of a real set have 0.48 to 0.53, sets that LLMs wrote 0.997 and more")
COVERAGE = Bounds(0.8, 0.5, "two halves of a real set reach 0.97, sets that LLMs wrote 0.46 to 0.51")


def findings(audit: Audit) -> list[Finding]:
    """Read all numbers of an audit, the worst first; none for a set without generated rows."""
    found = [*_of_labels(audit), *_of_shortcuts(audit), *_of_length(audit), *_of_real(audit)] if audit.n_rows else []
    return sorted(found, key=lambda finding: -finding.level)


def worst_line(audit: Audit) -> str:
    """Say the worst finding in a line."""
    found = findings(audit)
    if not found:
        return "no generated rows to audit"
    return f"{found[0].level.word}: {found[0].what} {found[0].figure}: {found[0].reading}"


def _of_labels(audit: Audit) -> Iterator[Finding]:
    """Read variety, of the worst label, and repeats."""
    varied = [(label.distinct[1], label) for label in audit.labels if label.distinct]
    if varied:
        value, worst = min(varied, key=lambda pair: pair[0])
        level = VARIETY.level(value)
        reading = {
            Level.FINE: "the teacher finds new words for every text",
            Level.LOOK: f"texts of {worst.label} reuse the same phrases",
            Level.BAD: f"texts of {worst.label} are variations of a few sentences; more of them teach little",
        }[level]
        yield Finding(f"pairs of words that are new ({worst.label})", f"{value:.2f}", level, reading, VARIETY.words)
    # Of all labels together: one of 18 texts is no finding.
    value = sum(label.n_near_duplicates for label in audit.labels) / sum(label.n_compared for label in audit.labels)
    most = max(audit.labels, key=lambda label: label.n_near_duplicates)
    reading = {
        Level.FINE: "hardly a text says what another of its label says",
        Level.LOOK: f"some texts say the same, most of them of {most.label}; a lower threshold of `dedup` drops them",
        Level.BAD: f"many texts say the same, most of them of {most.label}: there is less to learn than rows",
    }[REPEATS.level(value)]
    yield Finding("near duplicates", f"{value:.2f}", REPEATS.level(value), reading, REPEATS.words)


def _of_shortcuts(audit: Audit) -> Iterator[Finding]:
    """Read the word that gives most texts of a label away and that its description does not say."""
    unexpected = [one for one in audit.shortcuts if not one.is_expected]
    worst: Shortcut | None = max(unexpected, key=lambda one: one.share, default=None)
    if worst is None:
        reading, value = "no word that the descriptions do not say decides a label", 0.0
    else:
        value = worst.share
        reading = (
            f'"{worst.word}" is in {100 * value:.0f}% of the texts of {worst.label}, and '
            f"{100 * worst.precision:.0f}% of all texts with it are of that label"
        )
        reading += {
            Level.FINE: "; too few to matter",
            Level.LOOK: "; is that so in real texts?",
            Level.BAD: "; a student may look for this word alone",
        }[SHORTCUT.level(value)]
    yield Finding("shortcut words", f"{value:.2f}", SHORTCUT.level(value), reading, SHORTCUT.words)


def _of_length(audit: Audit) -> Iterator[Finding]:
    if audit.length is None:
        return
    level = LENGTH.level(audit.length.value)
    reading = {
        Level.FINE: "length says little about the label",
        Level.LOOK: "length gives labels away in part; is that so in real texts?",
        Level.BAD: "length gives labels away; a student may count words instead of reading them",
    }[level]
    yield Finding("label told by length alone, AUROC", _shown(audit.length), level, reading, LENGTH.words)


def _of_real(audit: Audit) -> Iterator[Finding]:
    """Read how generated texts compare with real ones."""
    if audit.real is None:
        return
    for estimate, sees in ((audit.real.vectors, "meaning"), (audit.real.ngrams, "wording")):
        level = TOLD_APART.level(estimate.value)
        reading = {
            Level.FINE: f"a classifier of their {sees} can hardly tell them apart",
            Level.LOOK: f"a classifier of their {sees} often tells them apart",
            Level.BAD: (
                f"a classifier of their {sees} tells them apart nearly always; the student may learn the teacher's "
                "style"
            ),
        }[level]
        what = f"generated told from real by {sees}, AUROC"
        yield Finding(what, _shown(estimate), level, reading, TOLD_APART.words)
    if audit.real.coverage is not None:
        level = COVERAGE.level(audit.real.coverage.value)
        reading = {
            Level.FINE: "most kinds of real texts were written too",
            Level.LOOK: "some kinds of real texts were not written",
            Level.BAD: "half of the real texts or more are unlike all written ones; let the teacher label the pool",
        }[level]
        yield Finding("pool covered", _shown(audit.real.coverage), level, reading, COVERAGE.words)


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"
