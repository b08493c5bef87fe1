"""The routes of the review page: three files, and what they ask."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from factory.errors import ArtifactError, SpecError
from factory.labelling.review_rows import Order
from factory.labelling.reviewed import Action
from factory.reviewing.desk import MOST_ROWS, Asked, Desk
from factory.reviewing.guard import Guard, Keys
from factory.serving.http.problems import Problem, install

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": ("review.html", "text/html; charset=utf-8"),
    "/review.css": ("review.css", "text/css; charset=utf-8"),
    "/review.js": ("review.js", "text/javascript; charset=utf-8"),
}
Name = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9._-]*$")]


class Body(BaseModel):
    """Base of what the page sends."""

    model_config = ConfigDict(extra="forbid")


class Token(Body):
    """What was printed in the terminal."""

    token: Annotated[str, Field(max_length=200)]


class Said(Body):
    """One decision."""

    key: Annotated[Name, Field(min_length=8)]
    id: Name
    action: Action
    label: Annotated[str, Field(max_length=200)] | None = None
    text: Annotated[str, Field(max_length=100_000)] | None = None
    of: Name = ""


class Batch(Body):
    """Decisions in the order they were made."""

    decisions: Annotated[list[Said], Field(min_length=1, max_length=MOST_ROWS)]


def make_app(desk: Desk, keys: Keys, port: int) -> FastAPI:
    """Build the app.

    Args:
        desk: What is reviewed.
        keys: Who may.
        port: Where it listens.

    Returns:
        An ASGI app.
    """
    app = FastAPI(
        title=f"Review of {desk.spec.name}",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    install(app)
    for path, (name, kind) in FILES.items():
        app.add_api_route(path, _sends((PAGE / name).read_bytes(), kind), methods=["GET"])

    @app.post("/api/session")
    def session(body: Token) -> dict[str, str]:
        key = keys.exchange(body.token)
        if key is None:
            raise Problem(401, "no_session", "this address was used before; start `factory review` again for a new one")
        return {"key": key}

    @app.get("/api/task")
    def task() -> dict[str, Any]:
        return _kept(desk.task)

    @app.get("/api/rows")
    def rows(
        order: Order,
        n: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 50,
        after: Annotated[int, Query(ge=-1, le=10**9)] = -1,
        row: Annotated[str, Query(max_length=64)] = "",
        is_open: bool = True,
        backwards: bool = False,
    ) -> dict[str, Any]:
        place = desk.place(order, row) if row else None
        start = after if place is None else place - (0 if backwards else 1)
        return _kept(lambda: desk.window(order, after=start, n=n, is_open=is_open, backwards=backwards))

    @app.post("/api/decisions")
    def decisions(body: Batch) -> dict[str, Any]:
        asked = [Asked(**one.model_dump()) for one in body.decisions]
        return _kept(lambda: desk.decide(asked))

    app.add_middleware(Guard, keys=keys, port=port)
    return app


def _sends(content: bytes, kind: str) -> Any:
    async def send() -> Response:
        return Response(content, media_type=kind)

    return send


def _kept(answer: Any) -> dict[str, Any]:
    """Answer, or say what is wrong with the file of decisions."""
    try:
        found: dict[str, Any] = answer()
    except (ArtifactError, SpecError) as error:
        raise Problem(503, "not_saved", f"{error}"[:500]) from error
    return found
