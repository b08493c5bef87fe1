"""The server: what it answers, how it batches, what it writes down, and how it ends."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from factory.errors import FactoryError
from factory.release.cascade_file import CascadeFile
from factory.release.predict import Answer, Predictor
from factory.serving.cascade import Cascade, Tier
from factory.serving.explain import MAX_PIECES, cut, without_each
from factory.serving.http.batching import MAX_BATCH, Batcher, Overloaded
from factory.serving.http.journal import JsonLines, TextLog
from factory.serving.http.settings import Settings, is_loopback, read_key
from factory.serving.http.tiers import in_tiers
from tests.conftest import Factory
from tests.serving import Running, running
from tests.test_serving_cascade import FILE

KEY = "a-key-that-nobody-guesses"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("serving")) as one:
        yield one


def test_a_batch_of_texts_is_answered_in_order(server: Running) -> None:
    reply = server.ask("/v1/predict", {"texts": ["play jazz", "rain", "play song"]})
    assert (reply.status, reply.json["name"], reply.json["version"]) == (200, "tiny", 1)
    assert [answer["label"] for answer in reply.json["answers"]] == ["music", "weather", "music"]
    assert set(reply.json["answers"][0]) == {"label", "probability"}
    assert len(reply.headers["x-request-id"]) == 32


def test_the_probabilities_of_all_labels_are_given_when_asked_for(server: Running) -> None:
    (answer,) = server.ask("/v1/predict", {"texts": ["play jazz"], "probabilities": True}).json["answers"]
    assert set(answer["probabilities"]) == {"music", "weather"}
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert answer["probability"] == answer["probabilities"]["music"]


def test_answers_are_those_of_the_release_asked_directly(server: Running) -> None:
    texts = ["play jazz", "", "🎷 snow", "rain " * 500]
    answers = server.ask("/v1/predict", {"texts": texts, "probabilities": True}).json["answers"]
    direct = [server.live.current.student.predict([text])[0] for text in texts]
    for answer, expected in zip(answers, direct, strict=True):
        assert answer["label"] == expected["label"]
        assert answer["probability"] == pytest.approx(expected["probability"], abs=1e-6)


def test_an_explanation_weighs_the_words_that_decide(server: Running) -> None:
    said = server.ask("/v1/explain", {"text": "please play jazz rain"}).json
    assert (said["label"], said["version"]) == ("music", 1)
    weights = {word["text"]: word["weight"] for word in said["words"]}
    assert list(weights) == ["please", "play", "jazz", "rain"]
    assert min(weights["play"], weights["jazz"]) > 0 > weights["rain"]
    assert [(word["start"], word["end"]) for word in said["words"]][1] == (7, 11)


@pytest.mark.parametrize("text", ["", " \n ", "one"])
def test_a_text_with_nothing_to_leave_out_is_explained_too(text: str, server: Running) -> None:
    said = server.ask("/v1/explain", {"text": text}).json
    assert [word["text"] for word in said["words"]] == text.split()


def test_a_long_text_is_explained_in_groups_of_words_that_cover_it() -> None:
    text = " ".join(f"w{number}" for number in range(1000))
    pieces = cut(text)
    assert len(pieces) <= MAX_PIECES
    assert " ".join(text[piece.start : piece.end] for piece in pieces) == text
    assert all(len(left) < len(text) for left in without_each(text, pieces))
    assert [text[p.start : p.end] for text in ["放首 jazz"] for p in cut(text)] == ["放", "首", "jazz"]


def test_health_readiness_and_metrics_are_told(server: Running) -> None:
    assert server.ask("/healthz").json == {"status": "ok"}
    ready = server.ask("/readyz").json
    assert (ready["ready"], ready["version"], ready["problem"]) == (True, 1, None)
    server.ask("/v1/predict", {"texts": ["play"]})
    page = server.ask("/metrics").body.decode()
    assert 'factory_requests_total{route="/v1/predict",status="200"}' in page
    assert 'factory_answers_total{label="music",tier="student",version="1"}' in page
    assert 'factory_model_version{name="tiny"} 1.0' in page
    assert "process_resident_memory_bytes" in page


def test_concurrent_requests_get_their_own_answers(server: Running) -> None:
    def ask(number: int) -> bool:
        expected = [("music", "play"), ("weather", "snow")][number % 2]
        texts = [expected[1]] * (1 + number % 5)
        answers = server.ask("/v1/predict", {"texts": texts}).json["answers"]
        return [answer["label"] for answer in answers] == [expected[0]] * len(texts)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(200)))


class Slow:
    """Answers with the text as its label, and notes its batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.may_go = threading.Event()

    def predict(self, texts: Sequence[str]) -> list[Answer]:
        self.batches.append(len(texts))
        assert self.may_go.wait(5)
        if "bad" in texts:
            raise ValueError("bad")
        return [{"label": text, "probability": 1.0, "probabilities": {}} for text in texts]


def labels(answers: Sequence[Answer]) -> list[str]:
    return [answer["label"] for answer in answers]


@pytest.mark.parametrize("n_threads", [1, 3])
def test_what_comes_while_the_model_is_busy_shares_the_next_runs_and_a_long_request_lets_short_ones_pass(
    n_threads: int,
) -> None:
    async def scene() -> None:
        model = Slow()
        batcher = Batcher(waiting_texts=1000, n_threads=n_threads)
        long = [f"long {number}" for number in range(3 * MAX_BATCH)]
        asked = [asyncio.create_task(batcher.ask(model, texts)) for texts in (["first"], long, ["x"], ["y", "z"])]
        await asyncio.sleep(0.05)
        model.may_go.set()
        first, whole, x, yz = await asyncio.gather(*asked)
        assert (labels(first), labels(whole), labels(x), labels(yz)) == (["first"], long, ["x"], ["y", "z"])
        assert (batcher.n_waiting, max(model.batches)) == (0, MAX_BATCH)
        if n_threads == 1:
            assert model.batches == [1, 64, 64, 64, 3]  # the short ones are in the third
        batcher.close()

    asyncio.run(scene())


def test_a_full_queue_refuses_and_a_client_that_gives_up_leaves_it() -> None:
    async def scene() -> None:
        model = Slow()
        batcher = Batcher(waiting_texts=3)
        busy = asyncio.create_task(batcher.ask(model, ["busy"]))
        await asyncio.sleep(0.01)
        gone = asyncio.create_task(batcher.ask(model, ["a", "b", "c"]))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await batcher.ask(model, ["d"])
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert batcher.n_waiting == 0
        kept = asyncio.create_task(batcher.ask(model, ["e"]))
        model.may_go.set()
        assert labels(await busy) + labels(await kept) == ["busy", "e"]
        assert model.batches == [1, 1]
        batcher.close()

    asyncio.run(scene())


def test_an_error_of_the_model_ends_the_requests_of_its_run_and_no_other() -> None:
    async def scene() -> None:
        model = Slow()
        model.may_go.set()
        batcher = Batcher(waiting_texts=100)
        with pytest.raises(ValueError, match="bad"):
            await batcher.ask(model, ["bad"])
        assert labels(await batcher.ask(model, ["good"])) == ["good"]
        batcher.close()

    asyncio.run(scene())


def test_in_tiers_a_request_that_waits_for_the_teacher_holds_up_no_other(tmp_path: Path) -> None:
    teacher_may_go = threading.Event()

    def teach(texts: Sequence[str]) -> list[Answer | None]:
        assert teacher_may_go.wait(10)
        return [{"label": "weather", "probability": 1.0, "probabilities": {"music": 0.0, "weather": 1.0}}, None]

    def wrap(student: Predictor) -> Cascade:
        return Cascade([Tier("tiny-encoder", 0.9, student), Tier("teacher", None, None)], fallback=teach)

    with running(tmp_path, wrap, in_tiers=True) as server, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(server.ask, "/v1/predict", {"texts": ["play rain", "song snow", "play jazz"]})
        while server.ask("/metrics").body.count(b"factory_batch_texts_count 1.0") == 0:
            time.sleep(0.01)
        (fast,) = server.ask("/v1/predict", {"texts": ["play jazz"]}).json["answers"]
        assert (fast["tier"], fast["label"], fast["unanswered"]) == ("tiny-encoder", "music", False)
        teacher_may_go.set()
        first, second, third = slow.result().json["answers"]
        assert [first["tier"], second["unanswered"], third["tier"]] == ["teacher", True, "tiny-encoder"]
        said = server.ask("/v1/explain", {"text": "play rain"}).json
        assert [word["text"] for word in said["words"]] == ["play", "rain"]


def test_a_version_made_for_another_teacher_is_refused(tmp_path: Path) -> None:
    described = CascadeFile.model_validate(FILE)
    other = described.model_copy(update={"teacher": "somebody else"})
    (tmp_path / "cascade.json").write_text(described.model_dump_json())

    class Opened:
        folder = tmp_path

    with pytest.raises(FactoryError, match="were chosen for the teacher"):
        in_tiers(other, lambda texts: [])(Opened())  # type: ignore[arg-type]


def test_nothing_of_a_text_is_logged_unless_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "xyzzy4711"
    with caplog.at_level(logging.DEBUG), running(tmp_path) as server:
        server.ask("/v1/predict", {"texts": [f"play {secret}"]})
        server.ask("/v1/explain", {"text": f"play {secret}"})
        server.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": f"play {secret}"}]})
        for wrong in ({"texts": [{secret: secret}]}, {secret: [secret]}, {"texts": secret}):
            assert server.ask("/v1/predict", wrong).status == 422
        assert secret not in server.ask("/v1/predict", {"texts": [1], "x": secret}).body.decode()
        server.ask(f"/v1/models/{secret}?q={secret}")
        server.ask("/v1/predict", f'{{"{secret}'.encode())
        server.ask(f"/{secret}", method=secret.upper())
    logged = [JsonLines().format(record) for record in caplog.records]
    assert sum('"route": "/v1/predict"' in line for line in logged) >= 5
    assert secret not in "".join(logged).lower()
    assert secret not in "".join(capfd.readouterr()).lower()


def test_an_exception_is_logged_by_type_and_place_alone() -> None:
    try:
        raise ValueError("a text that nobody should read")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "f.py", 1, "request failed", (), (type(error), error, None))
        said = json.loads(JsonLines().format(record))
    assert said["error"].startswith("ValueError at test_serving.py:")
    assert "nobody" not in json.dumps(said)


def test_texts_are_logged_when_asked_a_line_each(tmp_path: Path) -> None:
    log = tmp_path / "texts.jsonl"
    with running(tmp_path, log_texts=log) as server:
        reply = server.ask("/v1/predict", {"texts": ["play jazz", "rain 🌧"]})
        log.rename(tmp_path / "rotated.jsonl")
        server.ask("/v1/predict", {"texts": ["snow"]})
    rows = [json.loads(line) for line in (tmp_path / "rotated.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == ["play jazz", "rain 🌧"]
    assert list(rows[0]) == ["time", "id", "text", "label", "probability", "version"]
    assert rows[1]["id"] == f"{reply.headers['x-request-id']}-1"
    assert (rows[1]["label"], rows[1]["version"]) == ("weather", 1)
    assert len(log.read_text().splitlines()) == 1
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_text_log_that_cannot_be_written_is_said_at_the_start_and_later_costs_no_answer(tmp_path: Path) -> None:
    with pytest.raises(FactoryError, match=r"missing/texts\.jsonl: the text log cannot be written: No such file"):
        TextLog(tmp_path / "missing" / "texts.jsonl")
    folder = tmp_path / "logs"
    folder.mkdir()
    with running(tmp_path, log_texts=folder / "texts.jsonl") as server:
        (folder / "texts.jsonl").unlink()
        folder.rmdir()
        assert server.ask("/v1/predict", {"texts": ["snow"]}).status == 200
        assert "factory_unlogged_texts_total 1.0" in server.ask("/metrics").body.decode()


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("127.0.0.2", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False),
     ("example.org", False), ("", False)],
)  # fmt: skip
def test_only_this_machine_may_ask_without_a_key(host: str, is_local: bool) -> None:
    assert is_loopback(host) is is_local
    settings = Settings(name="tiny", outputs=Path(), host=host)
    if is_local:
        settings.check()
    else:
        with pytest.raises(FactoryError, match="expected an API key") as caught:
            settings.check()
        assert "--allow-no-key" in caught.value.hint
    Settings(name="tiny", outputs=Path(), host=host, key=KEY).check()
    Settings(name="tiny", outputs=Path(), host=host, allow_no_key=True).check()


@pytest.mark.parametrize("key", ["short", "ключ-который-никто-не-знает", "with\nnewline-and-more"])
def test_a_key_that_is_guessed_or_never_matches_is_refused(key: str) -> None:
    with pytest.raises(FactoryError, match="16 or more printable ASCII"):
        Settings(name="tiny", outputs=Path(), key=key).check()


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACTORY_API_KEY", raising=False)
    assert read_key(None) is None
    with pytest.raises(FactoryError, match="the API key in OTHER, which is empty or not set"):
        read_key("OTHER")
    monkeypatch.setenv("OTHER", f" {KEY}\n")
    assert read_key("OTHER") == KEY


def test_the_command_says_what_is_wrong_before_it_listens(factory: Factory, tmp_path: Path) -> None:
    done = factory("serve", "tiny", "--outputs", tmp_path, "--host", "0.0.0.0")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: serve: expected an API key, because 0.0.0.0 can be reached")


@pytest.mark.slow
def test_the_command_serves_the_registered_champion_follows_it_and_stops_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from factory.release.registry import Registry
    from tests.released import stored_release

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    environment = {**os.environ, "FACTORY_API_KEY": KEY}
    registry = Registry(tmp_path)
    for page, passed in (("<p>1</p>", True), ("<p>2</p>", False)):
        folder = stored_release(tmp_path, page).folder
        registry.register("tiny", folder, metrics={}, tags={}, passed_gate=passed)
    command = [sys.executable, "-m", "factory", "serve", "tiny", "--outputs", str(tmp_path), "--port", "0"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("tiny version 1 answers at http://127.0.0.1:")
        one = Running(int(line.partition(";")[0].rpartition(":")[2]), None, None, None)  # type: ignore[arg-type]
        assert one.ask("/v1/predict", {"texts": ["play"]}).status == 401
        reply = one.ask("/v1/predict", {"texts": ["play"]}, authorization=f"Bearer {KEY}")
        assert (reply.json["version"], reply.json["answers"][0]["label"]) == (1, "music")
        registry.promote("tiny", "2", force=True)
        deadline = time.monotonic() + 15
        while one.ask("/readyz").json["version"] != 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, ""), err
    assert time.monotonic() - started < 10
    logged = [json.loads(line) for line in err.splitlines()]
    assert [line["status"] for line in logged if line.get("method") == "POST"] == [401, 200]
    assert [line["version"] for line in logged if line["event"] == "switch"] == [2]
    assert KEY not in err
