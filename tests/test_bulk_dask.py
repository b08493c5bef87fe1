"""Bulk prediction on a Dask cluster of two worker processes, one of which is killed half-way."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.errors import FactoryError
from factory.release.predict import Predictor
from factory.serving import bulk, bulk_formats
from factory.serving.bulk import Questions, answer_here, predict_file
from factory.serving.bulk_dask import answer_on_dask
from factory.serving.bulk_formats import Answers
from tests.released import stored_release

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # of Dask, when a worker dies
N_ROWS = 2000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (bulk, bulk_formats):
        monkeypatch.setattr(module, "PART_ROWS", 50)


def source_of(folder: Path) -> Path:
    path = folder / "in.jsonl"
    lines = [json.dumps({"id": n, "text": ("play jazz", "rain", "snow storm")[n % 3]}) for n in range(N_ROWS)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_every_row_is_answered_once_though_a_worker_is_killed(cluster: Any, tmp_path: Path) -> None:
    release = stored_release(tmp_path / "outputs")
    source = source_of(tmp_path)
    with distributed.Client(cluster) as client:
        pids = client.run(os.getpid)
        answer_all = answer_on_dask(cluster.scheduler_address, release.folder, release.content_hash)
        numbers: list[int] = []

        def kills(questions: Questions) -> Iterator[tuple[int, Answers]]:
            for number, answers in answer_all(questions):
                if len(numbers) == N_ROWS // 50 // 2:
                    os.kill(next(iter(pids.values())), signal.SIGKILL)
                numbers.append(number)
                yield number, answers

        done = predict_file(source, tmp_path / "out.jsonl", kills, model=release.content_hash)
        assert set(client.run(os.getpid).values()) != set(pids.values())
    assert sorted(numbers) == list(range(40))
    assert (done.n_rows, done.n_parts) == (N_ROWS, 40)
    predict_file(source, tmp_path / "here.jsonl", answer_here(Predictor(release.folder)), model="here")
    assert (tmp_path / "out.jsonl").read_text() == (tmp_path / "here.jsonl").read_text()


def test_workers_that_see_another_release_answer_nothing(cluster: Any, tmp_path: Path) -> None:
    release = stored_release(tmp_path / "outputs")
    answer_all = answer_on_dask(cluster.scheduler_address, release.folder, "another")
    with pytest.raises(FactoryError, match="a worker sees another release there"):
        predict_file(source_of(tmp_path), tmp_path / "out.jsonl", answer_all, model="another")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "no address"])
def test_a_scheduler_that_does_not_answer_is_named(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.serving.bulk_dask.CONNECT_S", 1)
    with pytest.raises(FactoryError, match=f"{address}: no Dask scheduler answers"):
        predict_file(source_of(tmp_path), tmp_path / "out.jsonl", answer_on_dask(address, tmp_path, "m"), model="m")
