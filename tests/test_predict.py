"""The stand-alone predictor: what is in an artifact, and nothing else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.records import Origin, TextRow, text_dataset
from factory.release import predict
from factory.release.predict import FORMAT_VERSION, REJECTING_VERSION, ArtifactError, Predictor, familiarity
from factory.spec import Label
from factory.students.tfidf_linear import TfidfLinear

LABELS = (Label(name="music"), Label(name="weather"))
TEXTS = {
    "music": ["play jazz", "a song, a SONG!", "i i aa aa", "μουσική 🎷"],
    "weather": ["will it rain", "snow  \u00a0 snow", "x", "ΣΊΣΥΦΟΣ İstanbul ǅ"],
}
ROWS = text_dataset([TextRow(text, label, Origin.GOLD) for label, texts in TEXTS.items() for text in texts])
STUDENT = TfidfLinear(strength=10.0).fit(ROWS, LABELS, seed=0)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artifact(tmp_path_factory.mktemp("artifact"))


def write_artifact(folder: Path, **changes: Any) -> Path:
    config = {
        "format_version": FORMAT_VERSION,
        "name": "toy",
        "labels": STUDENT.labels_,
        "inputs": STUDENT.to_onnx(folder),
        "calibration_temperature": 1.0,
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shutil.copyfile(predict.__file__, folder / "predict.py")
    return folder


def run(folder: Path, *arguments: str, stdin: str = "", home: Path | None = None) -> subprocess.CompletedProcess[str]:
    # Isolated and elsewhere: neither this repository nor the current folder is on the path.
    env = {"PATH": os.environ["PATH"], "HOME": str(home or folder)}
    command = [sys.executable, "-I", str(folder / "predict.py"), *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, cwd="/", timeout=60, check=False, env=env
    )


ALPHABET = st.one_of(st.characters(), st.sampled_from("aeions İǅΣς\u00a0\u200d\u3000\x1f\x85_'-²\ud800"))


@given(st.lists(st.text(ALPHABET, max_size=40), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_n_grams_are_those_of_scikit_learn_for_any_text(texts: list[str]) -> None:
    from sklearn.feature_extraction.text import CountVectorizer

    for text in texts:
        word = CountVectorizer(analyzer="word", ngram_range=(1, 2)).build_analyzer()(text)
        char = CountVectorizer(analyzer="char_wb", ngram_range=(2, 5)).build_analyzer()(text)
        assert sorted(predict._word_ngrams(text.lower(), 1, 2)) == sorted(word)
        assert sorted(predict._char_ngrams(text.lower(), 2, 5)) == sorted(char)


def test_n_gram_weights_are_those_of_scikit_learn(artifact: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    rows = Predictor(artifact)._featurisers[0].rows(list(ROWS["text"]))
    n_words = len(STUDENT.terms_["word"])
    for block, bounds, start in (("word", (1, 2), 0), ("char_wb", (2, 5), n_words)):
        vectorizer = TfidfVectorizer(analyzer=block, ngram_range=bounds, sublinear_tf=True)
        expected = vectorizer.fit_transform(ROWS["text"]).toarray()
        found = np.zeros_like(expected)
        for position, (indices, values) in enumerate(rows):
            for index, value in zip(indices, values, strict=True):
                if 0 <= index - start < expected.shape[1] and (index < n_words) == (block == "word"):
                    found[position, index - start] = value
        np.testing.assert_allclose(found, expected, atol=1e-12)


@given(st.lists(st.text(ALPHABET, max_size=60), max_size=5))
@settings(max_examples=50, deadline=None)
def test_any_text_gets_the_probabilities_of_the_student(artifact: Path, texts: list[str]) -> None:
    probs = Predictor(artifact).predict_proba(texts)
    np.testing.assert_allclose(probs, STUDENT.predict_proba({"text": texts}), atol=1e-5)  # type: ignore[arg-type]


def test_an_answer_names_the_most_probable_label(artifact: Path) -> None:
    (answer,) = Predictor(artifact).predict(["play jazz"])
    assert answer["label"] == "music"
    assert answer["probability"] == answer["probabilities"]["music"] > 0.5
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_answers_do_not_depend_on_the_company(artifact: Path) -> None:
    predictor = Predictor(artifact)
    texts = [f"{'play jazz ' * (i % 40)}{i}" for i in range(3000)]
    together = predictor.predict_proba(texts)
    np.testing.assert_allclose(
        together[[0, 7, 2999]], [predictor.predict_proba([texts[i]])[0] for i in (0, 7, 2999)], atol=1e-6
    )


def test_nothing_asked_nothing_answered(artifact: Path) -> None:
    assert Predictor(artifact).predict_proba([]).shape == (0, 2)
    assert Predictor(artifact).predict([]) == []


def test_a_huge_text_is_answered(artifact: Path) -> None:
    assert Predictor(artifact).predict(["rain " * 20_000])[0]["label"] == "weather"


def test_the_temperature_softens_probabilities(artifact: Path, tmp_path: Path) -> None:
    hot = Predictor(write_artifact(tmp_path, calibration_temperature=2.0)).predict_proba(["play jazz"])
    cold = Predictor(artifact).predict_proba(["play jazz"])
    np.testing.assert_allclose(np.log(hot[0, 0] / hot[0, 1]) * 2, np.log(cold[0, 0] / cold[0, 1]), rtol=1e-5)


@pytest.mark.parametrize("version", [0, REJECTING_VERSION + 1, "1", None])
def test_a_config_of_another_format_is_refused(tmp_path: Path, version: object) -> None:
    write_artifact(tmp_path, format_version=version)
    with pytest.raises(ArtifactError, match=r"expected format_version 1 or 2, got"):
        Predictor(tmp_path)


def test_an_artifact_with_a_rule_says_which_texts_it_would_rather_not_answer(artifact: Path, tmp_path: Path) -> None:
    known, foreign = Predictor(artifact).predict_logits(["play jazz", "zzzz"])
    below = float(familiarity(np.stack([known, foreign])).mean())
    rule = {"score": "energy", "below": below}
    write_artifact(tmp_path, format_version=REJECTING_VERSION, rejection=rule)
    answers = Predictor(tmp_path).predict(["play jazz", "zzzz"])
    assert [answer["abstained"] for answer in answers] == [False, True]
    assert {**answers[1], "abstained": None} == {**Predictor(artifact).predict(["zzzz"])[0], "abstained": None}
    assert run(tmp_path, "zzzz").stdout.startswith("abstain\t")


def test_an_artifact_without_a_rule_answers_as_before(artifact: Path) -> None:
    assert set(Predictor(artifact).predict(["zzzz"])[0]) == {"label", "probability", "probabilities"}


@pytest.mark.parametrize(
    "rule", [1, {}, {"score": "energy"}, {"score": "distance", "below": 1}, {"score": "energy", "below": True}]
)
def test_an_odd_rule_is_refused(tmp_path: Path, rule: object) -> None:
    write_artifact(tmp_path, format_version=REJECTING_VERSION, rejection=rule)
    with pytest.raises(ArtifactError, match=r"config\.json: rejection: expected"):
        Predictor(tmp_path)


def test_familiarity_is_the_log_of_the_sum_of_exponentials_and_does_not_overflow() -> None:
    np.testing.assert_allclose(familiarity(np.array([[0.0, 0.0], [1000.0, 1000.0]])), [np.log(2), 1000 + np.log(2)])
    assert familiarity(np.zeros((0, 2))).shape == (0,)


@pytest.mark.parametrize(("file", "match"), [("config.json", "not JSON"), ("model.onnx", "expected an ONNX graph")])
def test_a_damaged_artifact_is_refused(tmp_path: Path, file: str, match: str) -> None:
    (write_artifact(tmp_path) / file).write_bytes(b"{")
    with pytest.raises(ArtifactError, match=match):
        Predictor(tmp_path)


def test_inputs_of_an_unknown_kind_are_refused_wherever_they_stand(tmp_path: Path) -> None:
    pictures = {"kind": "pictures"}
    for inputs in (pictures, {"kind": "both", "parts": [STUDENT.to_onnx(tmp_path), pictures]}):
        write_artifact(tmp_path, inputs=inputs)
        with pytest.raises(ArtifactError, match="expected inputs of kind tokens or ngrams, got 'pictures'"):
            Predictor(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"config\.json: cannot be read"):
        Predictor(tmp_path / "nowhere")


def test_the_program_runs_without_the_factory(artifact: Path) -> None:
    done = run(artifact, "play jazz", "will it rain")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["music", "weather"]
    spoken = run(artifact, "--json", stdin="play jazz\n\n")
    assert [json.loads(line)["text"] for line in spoken.stdout.splitlines()] == ["play jazz", ""]


def test_the_program_leaves_no_trace_in_the_home_folder(artifact: Path, tmp_path: Path) -> None:
    assert run(artifact, "play jazz", home=tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_comes_back_line_by_line_with_its_other_columns(artifact: Path, tmp_path: Path) -> None:
    rows = [{"id": i, "text": text, "label": "?"} for i, text in enumerate(["play jazz", "", "snow\u2028snow"])]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = run(artifact, "--in", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl"))
    assert (done.returncode, done.stderr) == (0, "")
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in out] == [0, 1, 2]
    assert out[0]["label"] == "music"
    assert set(out[0]) == {"id", "text", "label", "probability", "probabilities"}


def test_blank_lines_stay_and_a_byte_order_mark_goes(artifact: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b'\xef\xbb\xbf{"text": "play jazz"}\r\n\n  \n{"text": "will it rain", "n": 1.5}\n')
    predict.answer_file(Predictor(artifact), source, target)
    lines = target.read_text(encoding="utf-8").split("\n")
    assert [json.loads(line)["label"] if line else "" for line in lines] == ["music", "", "", "weather", ""]


def test_a_row_that_can_be_read_can_be_written_however_deep_it_is(artifact: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    for depth in (100, *range(700, 1000, 3), 100_000):
        source.write_text(f'{{"text": "a", "x": {"[" * depth}{"]" * depth}}}\n', encoding="utf-8")
        try:
            predict.answer_file(Predictor(artifact), source, tmp_path / "out.jsonl")
        except ArtifactError as error:
            assert "in.jsonl:1: expected a JSON object: maximum recursion depth" in str(error)
            assert depth > 100


@pytest.mark.parametrize(
    "line",
    [
        "{broken",
        '["text"]',
        "null",
        '{"text": 3}',
        "\\xff",
        '{"text": "a", "x": NaN}',
        '{"text": "a", "x": 1e999}',
        '{"text": "a", "text": "b"}',
        '{"text": "a", "x": ' + "[" * 100_000,
    ],
)
def test_a_bad_line_is_named_by_file_and_number(artifact: Path, tmp_path: Path, line: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'{"text": "good"}\n' + line.encode("latin-1").replace(b"\\xff", b"\xff") + b"\n")
    with pytest.raises(ArtifactError, match=r"in\.jsonl:2: expected a JSON object"):
        predict.answer_file(Predictor(artifact), source, tmp_path / "out.jsonl")


def test_the_input_is_not_overwritten_while_it_is_read(artifact: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "play jazz"}\n', encoding="utf-8")
    with pytest.raises(ArtifactError, match="expected another file"):
        predict.answer_file(Predictor(artifact), source, source)
    assert source.read_text(encoding="utf-8") == '{"text": "play jazz"}\n'


def test_a_wrong_folder_ends_with_one_line(tmp_path: Path) -> None:
    shutil.copyfile(predict.__file__, tmp_path / "predict.py")
    done = run(tmp_path, "text")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def one_row(folder: Path, line: str = '{"text": "play jazz"}') -> Path:
    (folder / "in.jsonl").write_text(line + "\n", encoding="utf-8")
    return folder / "in.jsonl"


def test_a_pipe_is_written_into_and_stays(artifact: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        predict.answer_file(Predictor(artifact), one_row(tmp_path), pipe)
        assert json.loads(os.read(reader, 65_536))["label"] == "music"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_link_stays_and_what_it_points_to_is_replaced(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_text("old", encoding="utf-8")
    link = tmp_path / "link.jsonl"
    link.symlink_to("real.jsonl")
    predict.answer_file(Predictor(artifact), one_row(tmp_path), link)
    assert link.is_symlink()
    assert json.loads((tmp_path / "real.jsonl").read_text(encoding="utf-8"))["label"] == "music"


def test_a_failure_leaves_the_old_file_and_no_part(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("old", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"in\.jsonl:1: expected"):
        predict.answer_file(Predictor(artifact), one_row(tmp_path, "{broken"), tmp_path / "out.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == "old"


def test_a_target_that_cannot_be_written_is_named_as_given(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="expected a file to write, got a folder"):
        predict.answer_file(Predictor(artifact), one_row(tmp_path), tmp_path)
    missing = tmp_path / "nowhere" / "out.jsonl"
    with pytest.raises(ArtifactError, match=r"nowhere/out\.jsonl: cannot be written: No such file"):
        predict.answer_file(Predictor(artifact), one_row(tmp_path), missing)
