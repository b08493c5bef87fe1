"""The contract of all students; each entry of `STUDENTS` takes the same tests."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from factory.encoders import load_encoder
from factory.errors import ArtifactCorrupt, FactoryError, NotFitted
from factory.records import Origin, TextRow, text_dataset
from factory.release.predict import FORMAT_VERSION, Predictor
from factory.spec import Label
from factory.students import STUDENTS, Student, make_student
from factory.students.finetuning import MAX_TEXTS, draw_by_weight
from factory.students.folds import assign_folds
from factory.students.linear import LinearHead
from factory.students.prototypes import choose_prior, with_doubt
from factory.students.sentence_linear import SentenceLinear
from factory.students.targets import Targets
from tests.tiny_bert import write_tiny_bert

LABELS = (Label(name="music", description="play a song"), Label(name="weather"), Label(name="booking"))
WORDS = {
    "music": ["play", "music", "song", "jazz"],
    "weather": ["rain", "snow", "weather", "sunny"],
    "booking": ["book", "table", "dinner", "restaurant"],
}
HOSTILE = ["", " \t\n", "play some jazz 🎷🎷", "احجز طاولة", "rain\x00\x07\u202e", "\ud800 snow", "song " * 20_000]


@dataclass(frozen=True)
class Case:
    """A student by name with hyperparameters that make it small."""

    name: str
    params: dict[str, Any]

    def make(self) -> Student:
        return make_student(self.name, self.params)


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACTORY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    """So small a model gains nothing from a second thread, and on a busy machine loses much."""
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module", params=STUDENTS)
def case(request: pytest.FixtureRequest, tiny_encoder: Path) -> Case:
    small = {
        "tfidf-linear": {},
        "static-embedding": {"encoder": str(tiny_encoder), "n_dimensions": 16},
        "sentence-linear": {"encoder": str(tiny_encoder)},
        "blend": {"encoder": str(tiny_encoder)},
        "setfit": {"encoder": str(tiny_encoder), "max_steps": 30, "learning_rate": 1e-3},
    }
    return Case(request.param, small[request.param])


@pytest.fixture(scope="module")
def fitted(case: Case) -> Student:
    return case.make().fit(toy_rows(), LABELS, seed=0)


def toy_rows(n: int = 12, names: tuple[str, ...] = ("music", "weather", "booking"), **changes: Any) -> Any:
    rng = np.random.default_rng(0)
    texts = [(" ".join(rng.choice(WORDS[name], 4)) + f" {i}", name) for name in names for i in range(n)]
    return text_dataset([TextRow(text, name, Origin.GOLD, **changes) for text, name in texts])


def as_rows(texts: list[str]) -> Any:
    """Rows to predict: Arrow holds no lone surrogates, a plain mapping does."""
    return {"text": texts}


def test_before_fit_nothing_can_be_asked(case: Case, tmp_path: Path) -> None:
    student = case.make()
    for ask in (
        lambda: student.predict_proba(toy_rows()),
        lambda: student.save(tmp_path),
        lambda: student.to_onnx(tmp_path),
    ):
        with pytest.raises(NotFitted, match="expected a call of `fit`"):
            ask()


def test_probabilities_have_a_column_a_label_in_spec_order(fitted: Student) -> None:
    probs = fitted.predict_proba(toy_rows(n=3))
    assert probs.shape == (9, 3)
    assert probs.dtype == np.float64
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert fitted.labels_ == ("music", "weather", "booking")
    assert fitted.predict_proba(as_rows([])).shape == (0, 3)


def test_it_learns_a_toy_task(fitted: Student) -> None:
    probs = fitted.predict_proba(as_rows(["play jazz song", "snow rain sunny", "dinner table"]))
    assert probs.argmax(axis=1).tolist() == [0, 1, 2]


def test_the_same_seed_gives_the_same_student(case: Case, fitted: Student) -> None:
    again = case.make().fit(toy_rows(), LABELS, seed=0)
    np.testing.assert_array_equal(again.predict_proba(toy_rows()), fitted.predict_proba(toy_rows()))


def test_a_saved_student_answers_the_same_and_saves_the_same_bytes(fitted: Student, tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    fitted.save(folders[0])
    loaded = type(fitted).load(folders[0])
    np.testing.assert_array_equal(loaded.predict_proba(as_rows(HOSTILE)), fitted.predict_proba(as_rows(HOSTILE)))
    loaded.save(folders[1])
    first, second = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in folders)
    assert first == second


def test_a_saved_student_holds_no_pickle(fitted: Student, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    fitted.to_onnx(tmp_path)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert path.suffix in {".json", ".npz", ".safetensors", ".onnx"}
            # Protocols 2 to 5 begin with PROTO and the number; an npz with objects names the dtype `O`.
            assert path.read_bytes()[:2] not in {bytes([0x80, number]) for number in range(2, 6)}
    heads = list(tmp_path.rglob("head.npz"))
    assert heads
    for head in heads:
        with np.load(head, allow_pickle=False) as arrays:
            assert set(arrays) == {"weights", "bias"}


def test_an_unknown_hyperparameter_is_refused_by_name(case: Case) -> None:
    with pytest.raises(ValidationError, match="n_layers"):
        make_student(case.name, {**case.params, "n_layers": 3})


def test_a_hyperparameter_out_of_range_is_refused(case: Case) -> None:
    name = "encoder_share" if case.name == "blend" else "strength"
    with pytest.raises(ValidationError, match=name):
        make_student(case.name, {**case.params, name: 0})


def test_an_unknown_student_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(FactoryError, match="expected one of tfidf-linear") as caught:
        make_student("tfidf-liner", {})
    assert "tfidf-linear" in caught.value.hint


def test_a_label_without_rows_keeps_its_column(case: Case) -> None:
    student = case.make().fit(toy_rows(names=("music", "booking")), LABELS, seed=0)
    probs = student.predict_proba(toy_rows(names=("music", "booking")))
    assert probs.shape[1] == 3
    assert (probs[:, 1] > 0).all()
    # An encoder knows the label by its description, n-grams and fine-tuned heads do not know it at all.
    assert (probs[:, 1] < (0.5 if case.name in ("sentence-linear", "blend") else 1e-4)).all()


@pytest.mark.parametrize("names", [("music",), ()])
def test_fewer_than_two_labels_cannot_be_learned(case: Case, names: tuple[str, ...]) -> None:
    with pytest.raises(FactoryError, match="expected rows of at least 2 labels"):
        case.make().fit(toy_rows(names=names), LABELS, seed=0)


def test_a_label_that_the_spec_lacks_is_refused(case: Case) -> None:
    with pytest.raises(FactoryError, match="1 labels are not in the spec: booking"):
        case.make().fit(toy_rows(), LABELS[:2], seed=0)


def test_soft_labels_change_what_is_learned(case: Case, fitted: Student) -> None:
    unsure = case.make().fit(toy_rows(label_probs=(0.4, 0.3, 0.3)), LABELS, seed=0)
    top = unsure.predict_proba(toy_rows()).max(axis=1).mean()
    assert top < fitted.predict_proba(toy_rows()).max(axis=1).mean() - 0.05


def test_rows_of_weight_zero_are_not_learned(case: Case) -> None:
    student = case.make()
    wrong = [TextRow(row["text"], "music", Origin.GOLD, weight=0.0) for row in toy_rows(names=("weather",))]
    right = [TextRow(row["text"], row["label"], Origin.GOLD) for row in toy_rows()]
    student.fit(text_dataset(right + wrong), LABELS, seed=0)
    # Had they counted, each text would have been learned under two labels.
    assert student.predict_proba(toy_rows(names=("weather",))).argmax(axis=1).tolist().count(1) >= 10


def test_the_exported_graph_answers_as_the_student(fitted: Student, tmp_path: Path) -> None:
    config = {"format_version": FORMAT_VERSION, "labels": fitted.labels_, "inputs": fitted.to_onnx(tmp_path)}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    texts = [*HOSTILE, "play jazz", "snow", *toy_rows()["text"]]
    probs = Predictor(tmp_path).predict_proba(texts)
    np.testing.assert_allclose(probs, fitted.predict_proba(as_rows(texts)), atol=1e-4)
    np.testing.assert_allclose(Predictor(tmp_path).predict_proba(texts[:1]), probs[:1], atol=1e-5)


def test_two_labels_are_enough(case: Case, tmp_path: Path) -> None:
    student = case.make().fit(toy_rows(names=("music", "weather")), LABELS[:2], seed=0)
    assert student.predict_proba(as_rows(["jazz song", "rain snow"])).argmax(axis=1).tolist() == [0, 1]


@pytest.mark.parametrize(("n_written", "share"), [(0, 0.0), (6, 0.5), (12, 1.0)])
def test_the_more_rows_were_written_the_more_prototypes_have_a_say(
    n_written: int, share: float, tiny_encoder: Path
) -> None:
    rows = [
        TextRow(row["text"], row["label"], Origin.SYNTHETIC if position % 12 < n_written else Origin.SILVER)
        for position, row in enumerate(toy_rows())
    ]
    alone, default = (
        SentenceLinear(encoder=str(tiny_encoder), prototype_prior=prior).fit(text_dataset(rows), LABELS, seed=0).head_
        for prior in (0.0, None)
    )
    encode = load_encoder(str(tiny_encoder)).encode
    probs = np.array([[row.label == label.name for label in LABELS] for row in rows], dtype=float)
    is_written = np.array([row.origin == Origin.SYNTHETIC for row in rows])
    probs[is_written] = 0.8 * probs[is_written] + 0.1 * (1 - probs[is_written])
    means = (probs / probs.sum(axis=0)).T @ encode([row.text for row in rows])
    prototypes = means + encode([label.phrase for label in LABELS])
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    np.testing.assert_allclose(default.weights - alone.weights, 20 * share * prototypes.T, atol=1e-4)
    np.testing.assert_array_equal(default.bias, alone.bias)


def test_labels_of_written_rows_are_doubted_in_favour_of_the_nearest_labels() -> None:
    anchors = np.eye(8, dtype=np.float32)
    features = np.tile(np.linspace(1, 0.3, 8, dtype=np.float32), (2, 1))  # nearest to the first label, then the second
    targets = Targets(np.eye(8)[[2, 2]], np.array([2, 2]), np.ones(2))
    doubted = with_doubt(targets, np.array([True, False]), features, anchors)
    np.testing.assert_allclose(doubted.probs[0], [0.04, 0.04, 0.8, 0.04, 0.04, 0.04, 0, 0])
    np.testing.assert_array_equal(doubted.probs[1], targets.probs[1])
    np.testing.assert_array_equal(targets.probs[0], np.eye(8)[2])  # what was given is as it was
    two = with_doubt(Targets(np.eye(2), np.arange(2), np.ones(2)), np.ones(2, bool), features[:, :2], anchors[:2, :2])
    np.testing.assert_allclose(two.probs, [[0.8, 0.2], [0.2, 0.8]])


def test_a_student_of_written_rows_is_less_sure_than_one_of_real_rows(tiny_encoder: Path) -> None:
    written, real = (
        SentenceLinear(encoder=str(tiny_encoder), strength=100.0, anchor_weight=0.0, prototype_prior=0.0)
        .fit(text_dataset([TextRow(row["text"], row["label"], origin) for row in toy_rows()]), LABELS, seed=0)
        .predict_proba(toy_rows())
        .max(axis=1)
        .mean()
        for origin in (Origin.SYNTHETIC, Origin.SILVER)
    )
    assert written < real - 0.05


def _some(seed: int, *, spread: float, turned: bool) -> tuple[np.ndarray, Targets, np.ndarray]:
    """Three labels, one a direction; their rows lie about it, or (turned) about that of the next label."""
    anchors = np.eye(3, 6, dtype=np.float32)
    columns = np.repeat(np.arange(3), 8)
    drawn = np.random.default_rng(seed).normal(0, spread, (24, 6)) + np.roll(anchors, -turned, axis=0)[columns]
    features = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return features, Targets(np.eye(3)[columns], columns, np.ones(24)), anchors


def _measured(features: np.ndarray, targets: Targets, anchors: np.ndarray, **changes: Any) -> float:
    n = len(features)
    given = {"gold": np.arange(n), "families": np.arange(n).astype(str), "seed": 0, **changes}
    return choose_prior(features, targets, anchors, anchor_weight=1.0, strength=3.0, **given)


@pytest.mark.parametrize("seed", range(3))
def test_what_prototypes_may_say_is_measured_on_rows_that_people_labelled(seed: int) -> None:
    straight, turned = (_measured(*_some(seed, spread=0.6, turned=turned)) for turned in (False, True))
    assert straight > turned


def test_texts_that_come_again_measure_what_they_measured_once() -> None:
    features, targets, anchors = _some(0, spread=0.6, turned=False)
    again = np.tile(np.arange(24), 4)
    names = again.astype(str)
    repeated = _measured(features[again], targets[again], anchors, gold=np.arange(96), families=names)
    assert repeated == _measured(features, targets, anchors)


@pytest.mark.parametrize("who", ["gold", "approved", "too few", "repeated"])
def test_only_different_real_texts_that_people_labelled_are_measured_on(
    who: str, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        "factory.students.sentence_linear.choose_prior", lambda *_, gold, **__: asked.append(len(gold)) or 0.0
    )
    rows = [
        TextRow(
            row["text"] if who != "repeated" else row["label"],
            row["label"],
            Origin.GOLD if who != "too few" or position < 2 else Origin.SYNTHETIC,
            "attributes" if who == "approved" else "",
        )
        for position, row in enumerate(toy_rows())
    ]
    SentenceLinear(encoder=str(tiny_encoder)).fit(text_dataset(rows), LABELS, seed=0)
    assert asked == ([len(rows)] if who == "gold" else [])


def test_the_prior_that_was_taken_is_stored(tiny_encoder: Path, tmp_path: Path) -> None:
    rows = [TextRow(row["text"], row["label"], Origin.SYNTHETIC) for row in toy_rows()]
    SentenceLinear(encoder=str(tiny_encoder)).fit(text_dataset(rows), LABELS, seed=0).save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["prior"] == 20
    assert SentenceLinear.load(tmp_path).prior_ == 20


def test_a_head_fitted_on_another_encoder_is_refused(tmp_path: Path) -> None:
    encoder = write_tiny_bert(tmp_path / "tiny")
    (tmp_path / "saved").mkdir()
    student = STUDENTS["sentence-linear"]
    student(encoder=str(encoder)).fit(toy_rows(), LABELS, seed=0).save(tmp_path / "saved")  # type: ignore[call-arg]
    (encoder / "config.json").write_text((encoder / "config.json").read_text() + "\n", encoding="utf-8")
    with pytest.raises(ArtifactCorrupt, match="expected the encoder tiny@"):
        student.load(tmp_path / "saved")


def test_a_fine_tuned_encoder_leaves_no_folder_behind(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    student = make_student("setfit", {"encoder": str(tiny_encoder), "max_steps": 1})
    student.fit(toy_rows(), LABELS, seed=0)
    assert len(list(tmp_path.iterdir())) == 1
    del student
    assert list(tmp_path.iterdir()) == []


def test_fine_tuning_is_silent_and_leaves_global_generators_alone(
    tiny_encoder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import random

    import torch

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    make_student("setfit", {"encoder": str(tiny_encoder), "max_steps": 2}).fit(toy_rows(), LABELS, seed=0)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    assert before == after
    assert capfd.readouterr() == ("", "")


def test_texts_to_tune_on_are_drawn_by_weight() -> None:
    def drawn(weights: list[float]) -> list[int]:
        columns = np.arange(len(weights)) % 2
        return draw_by_weight(Targets(np.eye(2)[columns], columns, np.array(weights)), seed=0).tolist()

    assert drawn([1.0] * 50) == list(range(50))
    assert drawn([0, 2, 2, 0, 1, 1]) == [1, 1, 2, 2, 4, 5]
    assert drawn([1, 0, 1, 0]) == [0, 1, 2, 3]  # one label cannot be told from another
    assert drawn([0, 0]) == [0, 1]
    assert len(set(drawn([0.3] * 3 * MAX_TEXTS))) == MAX_TEXTS


def test_folds_keep_equal_texts_together_and_spread_labels() -> None:
    texts = [f"text {i // 2}" for i in range(40)]
    labels = ["a"] * 26 + ["b"] * 10 + ["c"] * 4
    folds = assign_folds(texts, labels, 5, seed=3)
    assert all(folds[i] == folds[i + 1] for i in range(0, 40, 2))
    assert np.bincount(folds).tolist() == [8] * 5
    assert sorted(np.bincount(folds[26:36], minlength=5)) == [2] * 5
    assert (folds != assign_folds(texts, labels, 5, seed=4)).any()


def test_a_head_survives_saving_bit_by_bit(tmp_path: Path) -> None:
    head = LinearHead(np.eye(3, dtype=np.float32), np.zeros(3, dtype=np.float32))
    head.save(tmp_path / "head.npz")
    np.testing.assert_array_equal(LinearHead.load(tmp_path / "head.npz").weights, head.weights)


def test_tokens_and_n_grams_do_not_share_the_name_of_a_length(fitted: Student, tmp_path: Path) -> None:
    # onnxruntime lets tensors whose shapes are spelled alike share a buffer: to `blend`, a text of one known n-gram
    # and three tokens was an error whenever nothing longer was in its batch.
    import onnx

    fitted.to_onnx(tmp_path)
    shapes = {one.name: one.type.tensor_type.shape.dim for one in onnx.load(tmp_path / "model.onnx").graph.input}
    lengths = {name: dims[1].dim_param for name, dims in shapes.items() if len(dims) > 1}
    tokens = {lengths.pop(name) for name in ("input_ids", "attention_mask") if name in lengths}
    assert tokens.isdisjoint(lengths.values())
