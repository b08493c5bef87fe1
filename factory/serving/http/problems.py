"""Every refusal as one JSON shape, the one that OpenAI's clients read.

It never repeats what was sent, but the cell of a row that is none: who sent it must find it.
"""

from collections.abc import Mapping
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from factory.release.predict import WrongInput


class Problem(Exception):
    """A request that is refused; `code` is for programs, `param` names the part of the body that is wrong."""

    def __init__(self, status: int, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param


def wrong_row(error: WrongInput) -> Problem:
    """Return the refusal of a row of a table that cannot be answered; the message names its column."""
    message = error.message.encode("ascii", "backslashreplace").decode()
    return Problem(422, "wrong_row", f"rows.{error.position}: {message}"[:500], param=f"rows.{error.position}")


class ProblemBody(BaseModel):
    """What is wrong with a request."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None
    code: str


class ProblemReply(BaseModel):
    """Every answer with a status of 400 or more."""

    error: ProblemBody


def respond(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """Turn a problem into an answer."""
    kind = "invalid_request_error" if problem.status < 500 else "server_error"
    body = {"message": problem.message, "type": kind, "param": problem.param, "code": problem.code}
    return Response(to_json({"error": body}), problem.status, headers, "application/json")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe refusals for the OpenAPI page, those that any request with a body may meet included."""
    return {
        status: {"model": ProblemReply} for status in sorted({400, 401, 408, 413, 415, 421, 422, 500, 503, *statuses})
    }


def install(app: FastAPI) -> None:
    """Give the framework's own refusals the same shape."""

    @app.exception_handler(Problem)
    async def refused(request: Request, error: Problem) -> Response:
        return respond(error, {"retry-after": "1"} if error.status == 503 else None)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part)[:80] for part in first["loc"])
        if first["type"] == "json_invalid":
            return respond(Problem(400, "invalid_json", f"expected JSON: {first['ctx']['error']} ({where})"))
        more = len(error.errors()) - 1
        also = f" (and {more} more)" if more else ""
        # ASCII with escapes: a name in the body may hold half a character, which no answer could carry.
        message = f"{where}: {first['msg']}{also}".encode("ascii", "backslashreplace").decode()
        return respond(Problem(422, "invalid_body", message[:500], param=where.encode("ascii", "replace").decode()))

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        codes = {400: "invalid_json", 404: "not_found", 405: "method_not_allowed"}
        problem = Problem(error.status_code, codes.get(error.status_code, "refused"), str(error.detail))
        return respond(problem, error.headers)
