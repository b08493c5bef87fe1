"""/v1/predict and /v1/explain of a release that answers rows of a table; the columns are in the OpenAPI page."""

from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from factory.release.predict import ArtifactError, Predictor, WrongInput
from factory.serving.example import example_row
from factory.serving.http.guard import TRACE, Trace
from factory.serving.http.predicting import Body, Labelled, Predicted, answered
from factory.serving.http.problems import Problem, documented, wrong_row
from factory.serving.http.service import MAX_TEXTS, Service

KINDS = {"numeric": "number", "integer": "integer", "boolean": "boolean"}
MOST_NAMED = 1_000
"""Values of a category that the OpenAPI page lists."""


class Valued(Labelled):
    """The answer to one row: a label, or a number with its unit."""

    label: str | None = None  # type: ignore[assignment]  # of a number there is none
    probability: float | None = None  # type: ignore[assignment]
    value: float | None = None
    unit: str | None = None


class PredictedRows(Predicted):
    """Answers in the order of the rows, all of one version."""

    answers: list[Valued]  # type: ignore[assignment]  # a wider answer


class RowsBody(Body):
    """Rows to answer."""

    rows: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_TEXTS)]
    probabilities: bool = False
    """Also those of all other labels."""


class RowBody(Body):
    """The row whose answer is explained."""

    row: dict[str, Any]
    label: str | None = None
    """To explain another label than the one that is answered."""


def document_rows(app: FastAPI, student: Predictor) -> None:
    """Put the columns into the OpenAPI page: those of the version that the server starts with."""
    schemas = app.openapi()["components"]["schemas"]
    row = row_schema(student)
    schemas["RowsBody"]["properties"]["rows"]["items"] = row
    schemas["RowBody"]["properties"]["row"] = row


def row_schema(student: Predictor) -> dict[str, Any]:
    """Return the JSON Schema of a row: a key for each column, null where nothing is known."""
    inputs = student.config["inputs"]
    return {
        "type": "object",
        "title": "Row",
        "description": "A key for each column, null where nothing is known; other keys are passed over.",
        "required": [one["name"] for one in inputs["columns"]],
        "properties": {one["name"]: _cell_schema(one) for one in inputs["columns"]},
        "example": example_row(student),
    }


def _cell_schema(column: dict[str, Any]) -> dict[str, Any]:
    nullable = [] if column.get("missing") == "refuse" else ["null"]
    schema: dict[str, Any] = {"type": [KINDS.get(column["kind"], "string"), *nullable]}
    unit = f" ({column['unit']})" if column.get("unit") else ""
    if column.get("description") or unit:
        schema["description"] = f"{column.get('description') or column['name']}{unit}"
    if column["kind"] == "date":
        schema["format"] = "date"
    if column["kind"] in ("category", "ordinal") and 0 < len(column.get("values", ())) <= MOST_NAMED:
        schema["enum"] = [*column["values"], *([None] if nullable else [])]
    return schema


def rows_of_table(service: Service) -> APIRouter:
    """Make the routes; the version that answers checks the columns."""
    router = APIRouter(prefix="/v1", responses=documented())

    @router.post("/predict", response_model=PredictedRows, response_model_exclude_none=True)
    async def predict(request: Request, body: RowsBody) -> Response:
        """Answer rows of the table with the champion."""
        opened, answers = await service.answer(body.rows, request.scope[TRACE])
        return answered(opened, answers, probabilities=body.probabilities)

    @router.post("/explain")
    async def explain(request: Request, body: RowBody) -> dict[str, Any]:
        """Say what each column added to the answer of a row, exactly, and in words."""
        opened = service.live.current
        trace: Trace = request.scope[TRACE]
        trace.n_texts, trace.version = 1, opened.version
        try:
            (found,) = await run_in_threadpool(opened.student.explain, [body.row], body.label)
        except WrongInput as error:
            raise wrong_row(error) from None
        except ArtifactError as error:
            raise Problem(422, "cannot_explain", str(error), param="label") from None
        return {"name": opened.name, "version": opened.version, **found}

    @router.post("/chat/completions")
    async def complete() -> Response:
        """Refuse: a row has columns, and a chat has none."""
        raise _only_rows("chats")

    @router.post("/classify")
    async def classify() -> Response:
        """Refuse: a row has columns, and a text has none."""
        raise _only_rows("texts")

    return router


def _only_rows(what: str) -> Problem:
    wanted = 'POST /v1/predict with {"rows": [{"column": cell, ...}]}; GET /openapi.json names the columns'
    return Problem(400, "unsupported", f"this model answers rows of a table and no {what}: {wanted}", param="model")
