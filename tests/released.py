"""A release made of literals, for the tests of package, registry and predictor."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from factory.evaluation.audit import Audit
from factory.evaluation.comparison import EvaluateParams, evaluate
from factory.evaluation.verdict import Evaluation
from factory.records import Predictions
from factory.release.code import Code
from factory.release.export import Exported, ExportParams, export
from factory.release.measure import Speed
from factory.release.package import Lineage, PackageParams, Page, Release, StageRun, package
from factory.spec import Gate, Label, Model
from factory.store import Artifact, Stage, run_stage
from tests.tiny_encoder import LABELS, fitted_tiny, labelled_rows

SPEED = Speed(
    p50_ms=1.0,
    p95_ms=2.0,
    p99_ms=3.0,
    texts_per_s=1500,
    size_mb=0.1,
    memory_mb=90,
    joules_per_thousand=13.3,
    energy="estimated",
    n_calls=300,
    n_batch=1000,
    threads=2,
    machine="a machine",
)
LINEAGE = Lineage(
    spec_sha256="5" * 64,
    stages=(StageRun(stage="dedup", fingerprint="d" * 24, content_hash="c" * 64),),
    teacher="scripted",
    data_sha256={"holdout": "a" * 64},
)
PARAMS = PackageParams(
    name="tiny",
    description="What a person asks.",
    labels=(Label(name="music", description="play | hear <b>music</b>"), Label(name="weather")),
    student="tiny-encoder",
    n_training_rows=24,
    gate=Gate(accuracy=0.8),
    lineage=LINEAGE,
    licences=("SNIPS holdout: CC0",),
)
AUDIT = Audit(n_rows=0, n_other=24, labels=(), shortcuts=(), length=None, n_length=0, real=None)
CODE = Code(version="0.1.0", commit="f" * 40, is_dirty=False)
PAGE = Page("<!doctype html><p>report</p>", identity="1")


@cache
def exported() -> Exported:
    """Export the tiny encoder once."""
    return export(ExportParams(name="tiny", labels=LABELS), fitted=fitted_tiny(), rows=labelled_rows())


@cache
def evaluation(*, gold: bool = True) -> Evaluation:
    """Evaluate made-up answers: two of 24 wrong."""
    rows = labelled_rows()
    probs = np.array([[0.9, 0.1] if label == "music" else [0.2, 0.8] for label in rows.kept["label"]])
    probs[[0, 13]] = probs[[0, 13], ::-1]
    predictions = Predictions(LABELS, tuple(rows.kept["id"]), probs)
    params = EvaluateParams(labels=LABELS, champion="tiny-encoder", n_resamples=50)
    if gold:
        return evaluate(params, holdout=rows, student=predictions)
    return evaluate(params, rows=rows, student=predictions)


class Variant(Model):
    """Tells releases apart."""

    page: str = PAGE.html


def _release(params: Variant) -> Release:
    page = Page(params.page, "1")
    return package(
        PARAMS, exported=exported(), speed=SPEED, evaluation=evaluation(), audit=AUDIT, report=page, code=CODE
    )


RELEASE = Stage("release", 1, Variant, _release, Release)


def stored_release(outputs: Path, page: str = PAGE.html) -> Artifact[Any]:
    """Store a release of the task `tiny`."""
    return run_stage(outputs / "tiny", RELEASE, Variant(page=page))
