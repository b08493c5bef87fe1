"""A release of a table over HTTP, in files of any size, and as an MLflow model."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.errors import FactoryError
from factory.release.mlflow_client import save_model
from factory.release.predict import Predictor, WrongInput
from factory.serving.bulk import answer_here, predict_file
from factory.serving.bulk_formats import ANSWER_COLUMNS, NUMBER_COLUMNS
from factory.serving.http.locate import Located
from factory.spec_table import Table
from factory.store import Artifact
from tests.serving import Pointer, Running, running
from tests.tables import COLUMNS, LABELS, NUMBERS, raw_rows, stored_table

ROWS = raw_rows(5, seed=9)[0]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Artifact[Any]:
    told = {"age": {"description": "age of the applicant", "unit": "years"}, "pay": {"missing": "refuse"}}
    columns = tuple(one.model_copy(update=told.get(one.name, {})) for one in COLUMNS)
    return stored_table(tmp_path_factory.mktemp("labels"), LABELS.model_copy(update={"columns": columns}), missing=0)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Artifact[Any]:
    return stored_table(tmp_path_factory.mktemp("numbers"), NUMBERS)


def serve(artifact: Artifact[Any], outputs: Path, **settings: Any) -> Any:
    class Pointing(Pointer):
        def release(self, version: int) -> Located:
            return Located(version, artifact.content_hash, str(artifact.folder))

    return running(outputs, point=Pointing, **settings)


@pytest.fixture(scope="module")
def server(labels: Artifact[Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    log = tmp_path_factory.mktemp("log") / "rows.jsonl"
    with serve(labels, tmp_path_factory.mktemp("served"), log_texts=log) as one:
        yield one


KNOWN = [{**row, "pay": row["pay"] or 2000.0} for row in ROWS]


def test_rows_are_answered_as_by_the_folder(server: Running, labels: Artifact[Any]) -> None:
    expected = Predictor(labels.folder).predict(KNOWN)
    said = server.ask("/v1/predict", {"rows": KNOWN}).json
    assert said["version"] == 1
    assert said["answers"] == [{key: one[key] for key in ("label", "probability")} for one in expected]
    nested = {"rows": [{"features": KNOWN[0]}], "probabilities": True}
    assert server.ask("/v1/predict", nested).json["answers"] == [expected[0]]
    assert b'factory_answers_total{label="' in server.ask("/metrics").body


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"pay": "much"}, 'rows.1: pay: expected a number, got "much"'),
        ({"pay": None}, "rows.1: pay: is empty, and that is refused"),
        ({"school": "third"}, 'rows.1: school: "third" is none of none, first, second'),
        ({"since": "yesterday"}, "rows.1: since: expected a date"),
        ({"age": 10**400}, "rows.1: age: "),
    ],
)
def test_a_wrong_row_is_refused_with_its_column(server: Running, change: dict[str, Any], why: str) -> None:
    reply = server.ask("/v1/predict", {"rows": [KNOWN[0], {**KNOWN[1], **change}]})
    assert (reply.status, reply.json["error"]["code"], reply.json["error"]["param"]) == (422, "wrong_row", "rows.1")
    assert reply.json["error"]["message"].startswith(why)
    assert server.ask("/v1/explain", {"row": {**KNOWN[1], **change}}).status == 422


@pytest.mark.parametrize(
    "body",
    [
        {"texts": ["a text"]},
        {"rows": []},
        {"rows": ["a text"]},
        {"rows": [{}]},
        {"rows": [{"pay": 1}]},
        {"rows": KNOWN * 300},
        b'{"rows": [{"age": NaN}]}',
    ],
)
def test_what_are_no_rows_is_refused(server: Running, body: Any) -> None:
    assert server.ask("/v1/predict", body).status in (400, 422)


def test_a_row_is_explained(server: Running, labels: Artifact[Any]) -> None:
    said = server.ask("/v1/explain", {"row": KNOWN[0]}).json
    (expected,) = Predictor(labels.folder).explain([KNOWN[0]])
    assert said == {"name": "tiny", "version": 1, **expected}
    assert server.ask("/v1/explain", {"row": KNOWN[0], "label": "maybe"}).status == 422


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/classify"])
def test_a_chat_is_refused_with_the_way_to_ask(server: Running, path: str) -> None:
    reply = server.ask(path, {"messages": [{"role": "user", "content": "hello"}]})
    assert reply.status == 400 and '/v1/predict with {"rows"' in reply.json["error"]["message"]
    assert server.ask("/v1/models").json["data"][0]["id"] == "tiny"


def test_the_page_for_programs_names_the_columns(server: Running) -> None:
    schema = server.ask("/openapi.json").json["components"]["schemas"]["RowsBody"]["properties"]["rows"]["items"]
    assert schema["required"] == [column.name for column in COLUMNS]
    assert schema["properties"]["age"] == {"type": ["integer", "null"], "description": "age of the applicant (years)"}
    assert schema["properties"]["pay"] == {"type": ["number"]}
    assert schema["properties"]["school"]["enum"] == ["none", "first", "second", None]
    assert server.ask("/v1/predict", {"rows": [schema["example"]]}).status == 200


def test_numbers_are_answered_with_their_unit_and_logged(numbers: Artifact[Any], tmp_path: Path) -> None:
    log = tmp_path / "rows.jsonl"
    with serve(numbers, tmp_path / "out", log_texts=log) as server:
        (answer,) = server.ask("/v1/predict", {"rows": ROWS[:1]}).json["answers"]
        said = server.ask("/v1/explain", {"row": ROWS[0]}).json
    assert (
        set(answer) == {"value", "unit"} and answer["unit"] == "EUR" and said["score"] == pytest.approx(said["value"])
    )
    (line,) = [json.loads(one) for one in log.read_text(encoding="utf-8").splitlines()]
    assert line["features"] == ROWS[0] and line["value"] == answer["value"]


def write(path: Path, rows: list[dict[str, Any]], separator: str = ",") -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=separator)
            writer.writerow(rows[0])
            writer.writerows(["" if cell is None else cell for cell in row.values()] for row in rows)


def read(path: Path, separator: str = ",") -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()  # type: ignore[no-any-return]
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=separator))


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
@pytest.mark.parametrize("table", [LABELS, NUMBERS], ids=["labels", "numbers"])
def test_a_file_of_rows_gets_its_answers(
    ending: str, table: Table, labels: Artifact[Any], numbers: Artifact[Any], tmp_path: Path
) -> None:
    predictor = Predictor((labels if table.labels else numbers).folder)
    source, target = tmp_path / f"rows.{ending}", tmp_path / f"answers.{ending}"
    write(source, [{"id": f"row {at}", **row} for at, row in enumerate(KNOWN)])
    columns = ANSWER_COLUMNS if table.labels else NUMBER_COLUMNS
    done = predict_file(source, target, answer_here(predictor), model="m", column=None, answers=columns)
    expected, found = predictor.predict(KNOWN), read(target)
    assert done.n_rows == len(KNOWN) and [row["id"] for row in found] == [f"row {at}" for at in range(len(KNOWN))]
    last = columns[-1]
    assert [float(row[last]) for row in found] == pytest.approx([answer[last] for answer in expected])
    if table.labels:
        assert [row["label"] for row in found] == [answer["label"] for answer in expected]


def test_semicolons_stay_semicolons(labels: Artifact[Any], tmp_path: Path) -> None:
    source, target = tmp_path / "rows.csv", tmp_path / "answers.csv"
    write(source, KNOWN, ";")
    predict_file(source, target, answer_here(Predictor(labels.folder)), model="m", column=None)
    assert [row["label"] for row in read(target, ";")] == [
        one["label"] for one in Predictor(labels.folder).predict(KNOWN)
    ]


def test_a_wrong_row_of_a_file_is_named_and_nothing_is_written(labels: Artifact[Any], tmp_path: Path) -> None:
    source, target = tmp_path / "rows.csv", tmp_path / "answers.csv"
    write(source, [*KNOWN, {**KNOWN[0], "pay": "=1+1"}])
    with pytest.raises(FactoryError, match=r'rows\.csv: row 6: pay: expected a number, got "=1\+1"'):
        predict_file(source, target, answer_here(Predictor(labels.folder)), model="m", column=None)
    assert not target.exists()
    write(source, [{name: cell for name, cell in row.items() if name != "pay"} for row in KNOWN])
    with pytest.raises(FactoryError, match="row 1: no key 'pay'"):
        predict_file(source, target, answer_here(Predictor(labels.folder)), model="m", column=None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow, about itself
def test_mlflow_answers_a_data_frame_and_leaves_the_release_alone(labels: Artifact[Any], tmp_path: Path) -> None:
    import mlflow.pyfunc
    import pandas as pd

    folder = save_model(labels.folder, tmp_path)
    frame = pd.DataFrame(KNOWN).drop(columns="since")
    frame["since"] = pd.to_datetime([row["since"] for row in KNOWN])
    expected = Predictor(labels.folder).predict(KNOWN)
    for _ in range(2):  # the first must not have left compiled code in the folder, which the second would refuse
        model = mlflow.pyfunc.load_model(str(folder))
        found = model.predict(frame)
        assert [one["label"] for one in found] == [one["label"] for one in expected]
    with pytest.raises(ValueError, match="expected columns of different names"):
        model.predict(pd.concat([frame, frame[["age"]]], axis=1))


def test_the_server_of_an_image_answers_rows(labels: Artifact[Any], tmp_path: Path) -> None:
    import threading
    import urllib.error
    import urllib.request

    from factory.release.bundles import export_bundle
    from factory.release.image_server import Handler, Server, check_model

    export_bundle(labels.folder, "docker", tmp_path / "image")
    assert '{"rows": [{"age": null' in (tmp_path / "image" / "README.md").read_text(encoding="utf-8")
    check_model(tmp_path / "image" / "model")

    class Quiet(Handler):
        predictor = Predictor(tmp_path / "image" / "model")

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    def ask(body: Any) -> tuple[int, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/predict", json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, json.loads(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    with Server(("127.0.0.1", 0), Quiet) as server:
        port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert ask({"rows": KNOWN}) == (200, {"answers": Predictor(labels.folder).predict(KNOWN)})
        status, said = ask({"rows": [KNOWN[0], {**KNOWN[1], "pay": "much"}]})
        assert status == 422 and said["error"] == 'row 2: pay: expected a number, got "much"'
        assert ask({"texts": ["a text"]})[0] == ask({"rows": ["a text"]})[0] == 422
        server.shutdown()


def test_a_table_has_no_encoder_for_openvino(labels: Artifact[Any], tmp_path: Path) -> None:
    from factory.release.bundles import export_bundle

    with pytest.raises(FactoryError, match="a table has none"):
        export_bundle(labels.folder, "openvino", tmp_path / "graph")


CELL = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 2**63, 1e308, -1e308, 5e-324]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["yes", "cook", "first", "01.05.2010", "2010-05-01", "0000-00-00", "9999-12-31", "1e999", "=1+1"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
)
ROW = st.fixed_dictionaries({}, optional={column.name: CELL for column in COLUMNS} | {"else": CELL})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.one_of(ROW, ROW.map(lambda row: {**dict.fromkeys([one.name for one in COLUMNS], None), **row}), CELL))
)
def test_any_rows_are_answered_and_explained_or_refused_with_their_row(numbers: Artifact[Any], rows: list[Any]) -> None:
    predictor = Predictor(numbers.folder)
    try:
        predictor.check_rows(rows)
    except WrongInput as error:
        assert 0 <= error.position < len(rows)
        return
    answers = predictor.predict(rows)
    assert np.isfinite([answer["value"] for answer in answers]).all()
    for found in predictor.explain(rows):
        assert found["score"] == pytest.approx(found["value"], rel=1e-3, abs=1e-2)
        json.dumps(found)
