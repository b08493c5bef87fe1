"""The audit of generated texts: numbers about what the teacher wrote, before any student is judged.

How varied the texts of each label are, how much of real texts they cover, which words or lengths give a label away, and
how easily they are told from real texts. What each number means is in `findings.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from factory.curation.texts import encode
from factory.encoders import Encoder
from factory.evaluation.auroc import auroc, macro_auroc, out_of_fold
from factory.evaluation.diversity import Vectors, covered, distinct, length_features, similarity
from factory.evaluation.metrics import Estimate, estimate
from factory.evaluation.result import JsonResult, Number, Part
from factory.evaluation.shortcuts import Shortcut, find_shortcuts, words_of
from factory.records import Origin, Rows
from factory.spec import Label, Model
from factory.store import Stage

GENERATED = (Origin.SYNTHETIC, Origin.AUGMENTED)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LEAST_COMPARED = 20
"""Fewer generated or real texts say nothing about their difference."""


class AuditParams(Model):
    """What the audit compares, and how many rows it may take."""

    labels: tuple[Label, ...]
    seed: Annotated[int, Field(ge=0)] = 0
    most_rows: Annotated[int, Field(ge=2)] = 2000
    """Rows drawn for each comparison: of a label, of all, of real texts. Its time grows with the square."""
    most_words: Annotated[int, Field(ge=1)] = 1000
    """Words of a label that distinct-n is taken of, since more words are never as distinct."""
    k: Annotated[int, Field(ge=1)] = 5
    """Neighbour that gives the radius of coverage; Naeem et al. take 5."""
    near: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Cosine from which two texts say the same; that of the `dedup` filter."""
    most_shortcuts: Annotated[int, Field(ge=1)] = 8
    """Words listed for each label."""


class LabelAudit(Part):
    """Variety and length of the generated texts of one label; null for what too few texts cannot say."""

    label: str
    n_rows: int
    distinct: tuple[Number, Number, Number] | None
    """Distinct-1, 2 and 3."""
    nearest: Number | None
    """Mean cosine to the nearest other text of the label."""
    pairwise: Number | None
    """Mean cosine of all pairs."""
    n_compared: int
    n_near_duplicates: int
    """Of those compared, texts with a near duplicate before them."""
    words: tuple[Number, Number, Number, Number, Number] | None
    """5%, 25%, 50%, 75% and 95% quantile of the number of words."""


class Comparison(Part):
    """Generated beside real texts, equally many of both."""

    n_each: int
    vectors: Estimate
    """AUROC of a classifier on encoder vectors, out of fold: 0.5 when nothing tells them apart."""
    ngrams: Estimate
    """The same on words and pairs of words."""
    coverage: Estimate | None
    """Share of pool texts with a generated one within reach; null without a pool."""
    n_pool: int


class Audit(JsonResult):
    """The audit in numbers."""

    file: ClassVar[str] = "audit.json"

    n_rows: int
    """Generated rows that are trained on."""
    n_other: int
    """Real rows that are trained on: not audited."""
    labels: tuple[LabelAudit, ...]
    """Spec order; those without generated rows too."""
    shortcuts: tuple[Shortcut, ...]
    length: Estimate | None
    """Macro AUROC of a classifier that sees lengths only, out of fold; null when there is one label."""
    n_length: int
    real: Comparison | None
    """Null when there are too few real texts to compare with."""

    @property
    def summary(self) -> str:
        """One line for a person."""
        from factory.evaluation.findings import worst_line

        return worst_line(self)


@dataclass(frozen=True)
class _Texts:
    """Generated texts, as their words and vectors."""

    texts: list[str]
    labels: list[str]
    words: list[list[str]]
    vectors: Vectors

    def draw(self, positions: Sequence[int], most: int, seed: int) -> list[int]:
        """Return at most so many of the positions, in random order."""
        shuffled = np.random.default_rng(seed).permutation(len(positions))[:most]
        return [positions[index] for index in shuffled]


def audit(params: AuditParams, *, rows: Rows, encoder: Encoder, **real: Rows) -> Audit:
    """Audit the generated rows among those that students are trained on.

    Args:
        params: Labels and bounds.
        rows: Training rows; those of origin synthetic or augmented are audited.
        encoder: Gives the vectors.
        **real: Real rows by any name, such as `pool`, `seeds` and `train`, of which only texts are read; coverage is
            that of `pool`. Never the holdout.

    Returns:
        The numbers, same input, same bytes.
    """
    kept = rows.kept
    chosen = [position for position, origin in enumerate(kept["origin"]) if origin in GENERATED]
    generated = kept.select(chosen)
    texts: list[str] = generated["text"][:]
    one = _Texts(
        texts, generated["label"][:], [words_of(text) for text in texts], encode(texts, encoder, stage=AUDIT.name)
    )
    described = {label.name: f"{label.name} {label.phrase}" for label in params.labels}
    length, n_length = _length(params, one)
    return Audit(
        n_rows=len(texts),
        n_other=len(kept) - len(texts),
        labels=tuple(_audit_label(params, one, label.name) for label in params.labels),
        shortcuts=find_shortcuts(one.words, one.labels, described, most=params.most_shortcuts),
        length=length,
        n_length=n_length,
        real=_compare(params, one, encoder, real),
    )


class NoAuditParams(Model):
    """Where nothing was written there is nothing to set."""


def no_audit(params: NoAuditParams, *, rows: Rows) -> Audit:
    """Say that rows of a table were brought and not written, so that nothing was audited."""
    return Audit(n_rows=0, n_other=len(rows.kept), labels=(), shortcuts=(), length=None, n_length=0, real=None)


def _audit_label(params: AuditParams, one: _Texts, label: str) -> LabelAudit:
    members = [position for position, other in enumerate(one.labels) if other == label]
    drawn = one.draw(members, params.most_rows, params.seed)
    words = [one.words[position] for position in drawn]
    ratios = [distinct(words, n, most_words=params.most_words) for n in (1, 2, 3)]
    # In the order of the rows, so that which of two duplicates comes first does not depend on the draw.
    alike = similarity(one.vectors[sorted(drawn)], near=params.near) if len(drawn) > 1 else None
    lengths = [len(text) for text in words]
    return LabelAudit(
        label=label,
        n_rows=len(members),
        distinct=(ratios[0], ratios[1], ratios[2]) if any(words) else None,
        nearest=alike and alike[0],
        pairwise=alike and alike[1],
        n_compared=len(drawn),
        n_near_duplicates=alike[2] if alike else 0,
        words=tuple(np.quantile(lengths, QUANTILES).tolist()) if lengths else None,
    )


def _length(params: AuditParams, one: _Texts) -> tuple[Estimate | None, int]:
    """Measure how well length alone tells the labels, and on how many rows."""
    drawn = one.draw(range(len(one.texts)), params.most_rows, params.seed)
    column = {label.name: index for index, label in enumerate(params.labels)}
    columns = np.array([column[one.labels[position]] for position in drawn], dtype=np.int64)
    if len(np.unique(columns)) < 2:
        return None, len(drawn)
    texts = [one.texts[position] for position in drawn]
    features = length_features(texts, [one.words[position] for position in drawn])
    return macro_auroc(columns, out_of_fold(features, columns, texts, seed=params.seed), seed=params.seed), len(drawn)


def _compare(params: AuditParams, one: _Texts, encoder: Encoder, real: Mapping[str, Rows]) -> Comparison | None:
    """Compare generated with real texts; a text that is both counts as real."""
    texts = list(dict.fromkeys(text for name in sorted(real) for text in real[name].kept["text"]))
    known = set(texts)
    positions = [position for position, text in enumerate(one.texts) if text not in known]
    n_each = min(len(texts), len(positions), params.most_rows)
    if n_each < LEAST_COMPARED:
        return None
    drawn = one.draw(positions, n_each, params.seed)
    rng = np.random.default_rng(params.seed)
    shown = [texts[index] for index in rng.permutation(len(texts))[:n_each]]
    both = [*shown, *(one.texts[position] for position in drawn)]
    vectors = np.vstack([encode(shown, encoder, stage=AUDIT.name), one.vectors[drawn]])
    coverage, n_pool = _coverage(params, one, encoder, real.get("pool"))
    return Comparison(
        n_each=n_each,
        vectors=_told_apart(vectors, both, n_each, params.seed),
        ngrams=_told_apart(_ngrams(both), both, n_each, params.seed),
        coverage=coverage,
        n_pool=n_pool,
    )


def _told_apart(features: Any, texts: list[str], n_real: int, seed: int) -> Estimate:
    """Return the AUROC of a classifier between the first texts, which are real, and the others.

    Classifier two-sample test: Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017,
    arXiv:1610.06545, with the AUROC for their accuracy.
    """
    is_generated = np.arange(len(texts)) >= n_real
    probs = out_of_fold(features, is_generated.astype(np.int64), texts, seed=seed)
    found = auroc(is_generated, probs[:, 1], seed=seed)
    assert found is not None  # there are texts of both kinds
    return found


def _ngrams(texts: list[str]) -> Any:
    """Return tf-idf of words and pairs of words; case and punctuation stay, for they are style."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    # A full stop for each, so that texts of nothing but spaces leave a vocabulary.
    made = TfidfVectorizer(lowercase=False, token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), sublinear_tf=True)
    return made.fit_transform([f"{text} ." for text in texts])


def _coverage(params: AuditParams, one: _Texts, encoder: Encoder, pool: Rows | None) -> tuple[Estimate | None, int]:
    """Measure how much of the pool the generated texts reach, and on how many of its texts: equally many of both."""
    texts = list(dict.fromkeys(pool.kept["text"])) if pool is not None else []
    n_each = min(len(texts), len(one.texts), params.most_rows)
    if n_each < max(LEAST_COMPARED, params.k + 1):
        return None, 0
    shown = [texts[index] for index in np.random.default_rng(params.seed).permutation(len(texts))[:n_each]]
    drawn = one.draw(range(len(one.texts)), n_each, params.seed)
    reached = covered(encode(shown, encoder, stage=AUDIT.name), one.vectors[drawn], k=params.k)
    ones = np.ones(n_each, dtype=np.int64)
    return estimate("accuracy", ones, reached.astype(np.int64), seed=params.seed), n_each


AUDIT: Stage[Audit] = Stage("audit", 1, AuditParams, audit, Audit)
NO_AUDIT: Stage[Audit] = Stage("audit", 1, NoAuditParams, no_audit, Audit)
