"""Bulk prediction on a Dask cluster: workers answer texts, this process reads, writes and counts.

A part is put away when its answers arrive, once, under its number: a worker that dies takes none with it, and Dask
gives what it was doing to another.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from factory.errors import ArtifactCorrupt, FactoryError
from factory.release.files import Files
from factory.release.predict import Answer, Predictor
from factory.serving.bulk import AnswerAll, Question, Questions
from factory.serving.bulk_formats import Answers
from factory.store import Artifact

CONNECT_S = 20
PARTS_A_THREAD = 2
"""Of each thread of the cluster: one to answer, one that waits."""


def answer_on_dask(address: str, release: Path, model: str) -> AnswerAll:
    """Answer on the workers of a cluster.

    Args:
        address: Of the scheduler, such as `tcp://10.0.0.1:8786`. Dask runs what its scheduler is sent: only a network
            you trust, or TLS.
        release: Folder of the release, where the workers see it too.
        model: Its content hash, which each worker compares with what it sees.

    Returns:
        What answers the parts of a job, in any order.
    """

    def answer_all(questions: Questions) -> Iterator[tuple[int, Answers]]:
        distributed = _import_distributed()
        try:
            client = distributed.Client(address, timeout=CONNECT_S)
        except (OSError, ValueError) as error:
            raise FactoryError(
                f"{address}: no Dask scheduler answers: {error}", hint="start one: dask scheduler, dask worker ADDRESS"
            ) from error
        with client:
            yield from _answers(client, iter(questions), release, model)

    return answer_all


def _answers(
    client: Any, questions: Iterator[tuple[int, list[str]]], release: Path, model: str
) -> Iterator[tuple[int, Answers]]:
    distributed = _import_distributed()
    folder = str(release.resolve())
    numbers: dict[str, int] = {}
    running = distributed.as_completed()

    def submit(some: Iterator[Question]) -> None:
        for number, texts in some:
            future = client.submit(answer_texts, folder, model, texts, pure=False)
            numbers[future.key] = number
            running.add(future)

    n_threads = max(1, sum(client.nthreads().values()))
    submit(islice(questions, PARTS_A_THREAD * n_threads))
    for future in running:
        try:
            answers = future.result()
        except distributed.KilledWorker as error:
            raise FactoryError(
                f"dask: several workers died over the same part: {error}",
                hint="look at their memory; the same command goes on with what is left",
            ) from error
        yield numbers.pop(future.key), answers
        future.release()
        submit(islice(questions, 1))


def answer_texts(release: str, model: str, texts: Sequence[str]) -> list[Answer]:
    """Answer some texts; a worker opens the release once."""
    return _open(release, model).predict(texts)


@lru_cache(maxsize=1)
def _open(release: str, model: str) -> Predictor:
    artifact = Artifact(Path(release), Files, was_cached=True)
    artifact.check()
    if artifact.content_hash != model:
        raise ArtifactCorrupt(
            f"{release}: a worker sees another release there", hint="share one folder with all workers"
        )
    return Predictor(release)


def _import_distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise FactoryError("--dask needs a package", hint="pip install 'task-model-factory[dask]'") from error
    return distributed
