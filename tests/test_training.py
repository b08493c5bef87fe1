"""The stages that fit and predict."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory.errors import ArtifactCorrupt, FactoryError
from factory.events import Event, Progressed, listening
from factory.records import Origin, Predictions, Rows, TextRow, all_kept, row_id, text_dataset
from factory.spec import Label
from factory.store import key_of, run_stage
from factory.students.folds import families
from factory.students.tables.linear import TableLinear
from factory.students.tables.training import FitTableParams
from factory.students.tfidf_linear import TfidfLinear
from factory.students.training import (
    CROSS_PREDICT,
    FIT,
    PREDICT,
    CrossPredictParams,
    FitParams,
    FittedStudent,
    PredictParams,
    cross_predict,
    fit,
    predict,
    resources_for,
    taught_rows,
)
from tests.golden_file import check_golden
from tests.tables import LABELS as TABLE
from tests.tiny_bert import write_tiny_bert

LABELS = (Label(name="music"), Label(name="weather"), Label(name="booking"))
TEXTS = {
    "music": ["play jazz", "play a song", "some music please", "a jazz song", "play music loud"],
    "weather": ["will it rain", "is it sunny", "snow tomorrow", "rain or snow", "sunny weekend"],
    "booking": ["book a table", "table for two", "dinner for three", "book dinner", "a table tonight"],
}
FITTING: dict[str, Any] = {"student": "tfidf-linear", "params": {"strength": 10.0}, "labels": LABELS, "seed": 0}


def training_rows() -> Rows:
    return all_kept(text_dataset([TextRow(t, label, Origin.GOLD) for label, texts in TEXTS.items() for t in texts]))


def in_numbers(predictions: Predictions) -> list[Any]:
    # Three digits: the optimiser may stop elsewhere on another processor.
    return [predictions.labels, predictions.ids, np.round(predictions.probs, 3).tolist()]


def test_golden_fit_and_predict() -> None:
    fitted = fit(FitParams(**FITTING), rows=training_rows())
    predicted = predict(PredictParams(), student=fitted, rows=training_rows())
    check_golden(
        FIT, {"summary": fitted.summary, "head": np.round(fitted.student.predict_proba({"text": ["jazz"]}), 3).tolist()}
    )  # type: ignore[arg-type]
    check_golden(PREDICT, in_numbers(predicted))


def test_golden_cross_predict() -> None:
    predicted = cross_predict(CrossPredictParams(**FITTING, n_folds=3), rows=training_rows())
    check_golden(CROSS_PREDICT, in_numbers(predicted))


def test_out_of_fold_rows_are_predicted_by_students_that_have_not_seen_them() -> None:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 9)) for _ in range(20)]
    nonsense = [TextRow(word, "music" if i % 2 else "weather", Origin.GOLD) for i, word in enumerate(words)]
    rows = all_kept(text_dataset(nonsense))
    params = CrossPredictParams(**{**FITTING, "labels": LABELS[:2]})
    seen = predict(PredictParams(), student=fit(FitParams(**{**FITTING, "labels": LABELS[:2]}), rows=rows), rows=rows)
    unseen = cross_predict(params, rows=rows)
    gold = 1 - np.arange(20) % 2
    assert (seen.probs.argmax(axis=1) == gold).all()
    assert (unseen.probs.argmax(axis=1) == gold).sum() <= 14  # chance; a student that had seen them knows all 20
    np.testing.assert_allclose(unseen.probs.sum(axis=1), 1)


def test_a_text_that_comes_twice_is_held_out_twice() -> None:
    # The repeated text is the only one of its label: had one copy been learned, the other would be known.
    rows = [TextRow(t, label, Origin.GOLD) for label in ("music", "weather") for t in TEXTS[label]]
    twins = [TextRow("book a table", "booking", Origin.GOLD)] * 2
    predicted = cross_predict(CrossPredictParams(**FITTING), rows=all_kept(text_dataset(rows + twins)))
    assert (predicted.probs[-2:, 2] < 1e-4).all()


def varied(text: str, label: str, *parents: str) -> TextRow:
    return TextRow(text, label, Origin.AUGMENTED, "paraphrase", parents=tuple(map(row_id, parents)))


def test_a_row_is_held_out_with_the_rows_that_were_varied_from_it() -> None:
    # Varied rows have every word of their parent: had they been learned, it would be known.
    rows = [TextRow(t, label, Origin.GOLD) for label in ("music", "weather") for t in TEXTS[label]]
    rows += [TextRow("xyzzy", "booking", Origin.GOLD), TextRow("plugh", "booking", Origin.GOLD)]
    rows += [varied("xyzzy please", "booking", "xyzzy"), varied("xyzzy now", "booking", "xyzzy")]
    predicted = cross_predict(CrossPredictParams(**FITTING), rows=all_kept(text_dataset(rows)))
    found = dict(zip(predicted.ids, predicted.probs[:, 2], strict=True))
    assert max(found[row_id(text)] for text in ("xyzzy", "xyzzy please", "xyzzy now")) < 0.5


def test_families_are_of_one_parent_and_no_label_is_a_single_family() -> None:
    rows = [
        TextRow("a", "music", Origin.GOLD),
        TextRow("b", "music", Origin.GOLD),
        varied("a1", "music", "a"),
        varied("ab", "music", "a", "b"),
        TextRow("like a", "music", Origin.SYNTHETIC, parents=(row_id("a"),)),
        TextRow("c", "weather", Origin.GOLD),
        varied("c1", "weather", "c"),
    ]
    expected = ["a", "b", "a", "ab", "like a", "c", "c1"]
    assert families(text_dataset(rows)) == [row_id(text) for text in expected]


def test_progress_is_told_fold_by_fold() -> None:
    heard: list[Event] = []
    with listening(heard.append):
        cross_predict(CrossPredictParams(**FITTING, n_folds=3), rows=training_rows())
    told = [(e.done, e.total) for e in heard if isinstance(e, Progressed) and e.stage == "cross-predict"]
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_stored_student_predicts_as_the_one_in_memory(tmp_path: Path) -> None:
    fitted = run_stage(tmp_path, FIT, FitParams(**FITTING), inputs=stored_rows(tmp_path))
    assert fitted.load().name == "tfidf-linear"
    predicted = run_stage(tmp_path, PREDICT, PredictParams(), inputs={"student": fitted, **stored_rows(tmp_path)})
    direct = fit(FitParams(**FITTING), rows=training_rows()).student.predict_proba(training_rows().kept)
    np.testing.assert_array_equal(predicted.load().probs, direct)
    assert run_stage(tmp_path, FIT, FitParams(**FITTING), inputs=stored_rows(tmp_path)).was_cached


def stored_rows(root: Path) -> dict[str, Any]:
    from factory.store import Stage

    stage = Stage("rows", 1, PredictParams, lambda params: training_rows(), Rows)
    return {"rows": run_stage(root, stage, PredictParams())}


def test_another_encoder_of_the_same_name_is_another_fingerprint(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path / "tiny")
    params = FitParams(student="sentence-linear", params={"encoder": str(folder)}, labels=LABELS, seed=0)
    before = key_of(FIT, params, resources=resources_for(params.student, params.params))
    assert before == key_of(FIT, params, resources=resources_for(params.student, params.params))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 8}', encoding="utf-8")
    assert before != key_of(FIT, params, resources=resources_for(params.student, params.params))


def test_defaults_are_in_the_fingerprint_so_that_one_that_changes_is_fitted_anew() -> None:
    params = FitParams(student="tfidf-linear", labels=LABELS, seed=0).params
    assert params == asdict(TfidfLinear())
    assert FitTableParams(student="linear", table=TABLE, seed=0).params == asdict(TableLinear())


def test_parameters_of_an_earlier_version_are_still_read() -> None:
    stored = FitParams(student="tfidf-linear", params={"gone": 1}, labels=LABELS, seed=0).params
    assert stored == {**asdict(TfidfLinear()), "gone": 1}
    assert FitParams(student="gone too", params={"a": 1}, labels=LABELS, seed=0).params == {"a": 1}


def test_a_student_without_encoder_needs_no_resource() -> None:
    assert resources_for("tfidf-linear", {}) == {}


def test_a_stored_student_of_an_unknown_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "student.json").write_text('{"student": "oracle", "n_rows": 1}', encoding="utf-8")
    with pytest.raises(ArtifactCorrupt, match=r"expected one of tfidf-linear.*got 'oracle'"):
        FittedStudent.load(tmp_path)


def test_rows_of_one_label_cannot_be_cross_predicted() -> None:
    rows = all_kept(text_dataset([TextRow(text, "music", Origin.GOLD) for text in TEXTS["music"]]))
    with pytest.raises(FactoryError, match="at least 2 labels"):
        cross_predict(CrossPredictParams(**FITTING), rows=rows)


def test_balanced_labels_have_the_same_total_weight_and_rows_keep_their_proportions() -> None:
    weights = {"music": [1.0, 0.2, 0.2], "weather": [1.0]}
    rows = [
        TextRow(f"{label} {number}", label, Origin.GOLD, weight=weight)
        for label, given in weights.items()
        for number, weight in enumerate(given)
    ]
    params = FitParams(**{**FITTING, "balance": True})
    seen = taught_rows(params, all_kept(text_dataset(rows)))["weight"][:]
    assert seen == pytest.approx([1.2 / 1.4, 0.24 / 1.4, 0.24 / 1.4, 1.2])


def test_no_rows_give_no_predictions() -> None:
    fitted = fit(FitParams(**FITTING), rows=training_rows())
    nothing = all_kept(training_rows().kept.select([]))
    assert predict(PredictParams(), student=fitted, rows=nothing).probs.shape == (0, 3)
