"""The FastAPI app of one server, and the routes that watch over it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from pydantic import BaseModel

from factory import __version__
from factory.serving.http.batching import Batcher
from factory.serving.http.chat import chat, models
from factory.serving.http.guard import Guard
from factory.serving.http.journal import TextLog
from factory.serving.http.live import Live
from factory.serving.http.metrics import Metrics
from factory.serving.http.predicting import predicting
from factory.serving.http.problems import documented, install
from factory.serving.http.rows import document_rows, rows_of_table
from factory.serving.http.service import Service
from factory.serving.http.settings import Settings

CASCADE_THREADS = 8
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Ready(BaseModel):
    """Which version answers."""

    ready: bool
    name: str
    version: int
    content_hash: str
    problem: str | None
    """Why the version that the registry names does not answer, while an older one does."""


def make_app(settings: Settings, live: Live) -> FastAPI:
    """Build the app.

    Args:
        settings: Checked.
        live: What answers.

    Returns:
        An ASGI app; its lifespan follows the registry's alias and ends the threads.

    Raises:
        FactoryError: The text log cannot be written.
    """
    metrics = Metrics()
    text_log = TextLog(settings.log_texts) if settings.log_texts is not None else None
    batcher = Batcher(
        waiting_texts=settings.limits.waiting_texts,
        n_threads=CASCADE_THREADS if settings.in_tiers else 1,
        shares=not settings.in_tiers,
        on_batch=metrics.batch,
    )
    metrics.serves(live.current)
    live.on_switch = metrics.switch

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        live.watch()
        yield
        live.stop()
        batcher.close()

    app = FastAPI(
        title=f"{settings.name}, served by the task-model factory",
        version=__version__,
        docs_url=None,  # both pages load their scripts from strangers
        redoc_url=None,
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    install(app)
    service = Service(live, batcher, metrics, text_log)
    is_table = live.current.student.is_table
    routers = (rows_of_table(service), models(service)) if is_table else (predicting(service), chat(service))
    for router in (watching(service), *routers):
        app.include_router(router)
    if is_table:
        document_rows(app, live.current.student)
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    if settings.key is not None:
        _document_key(app)
    return app


def watching(service: Service) -> APIRouter:
    """Make the routes for whatever keeps the server running."""
    router = APIRouter(responses=documented())

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process answers."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> Ready:
        """Say which version answers, and why not the wanted one."""
        opened, problem = service.live.current, service.live.problem
        content_hash = opened.located.content_hash
        return Ready(ready=True, name=opened.name, version=opened.version, content_hash=content_hash, problem=problem)

    @router.get("/metrics", response_class=Response, responses={200: {"content": {METRICS_TYPE: {}}}})
    async def metrics() -> Response:
        """Count requests, texts, batches, seconds, switches, and the process's memory, for Prometheus."""
        service.metrics.waiting.set(service.batcher.n_waiting)
        return Response(service.metrics.page(), media_type=METRICS_TYPE)

    return router


def _document_key(app: FastAPI) -> None:
    schema: dict[str, Any] = app.openapi()
    schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    schema["security"] = [{"key": []}]
    for path in ("/healthz", "/readyz"):
        schema["paths"][path]["get"]["security"] = []
