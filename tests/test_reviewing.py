"""The server behind the review page: who may ask it, what it shows, and that saved means saved."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from factory.labelling.decision_journal import DecisionJournal
from factory.labelling.review_rows import Order, ReviewRow, density, disagreement, orders, uncertainty
from factory.records import row_id
from factory.reviewing.app import make_app
from factory.reviewing.desk import Desk
from factory.reviewing.guard import Keys
from factory.spec import Label, Spec
from factory.texts import fold

PORT = 8766
HERE = f"http://127.0.0.1:{PORT}"
JSON = {"content-type": "application/json"}
SPEC = Spec(
    name="letters",
    kind="text-classification",
    description="Letters.",
    labels=tuple(Label(name=name, description=name) for name in ("a", "b", "c")),
)


def row(
    text: str, *, label: str | None = "a", votes: str = "", probabilities: dict[str, float] | None = None
) -> ReviewRow:
    given = {f"voter {at}": vote for at, vote in enumerate(votes)}
    return ReviewRow(row_id(text), text, given, probabilities or {}, label, "attributes")


ROWS = [
    row("all agree on this one", votes="aaa", probabilities={"a": 0.98, "b": 0.01, "c": 0.01}),
    row("two of three", votes="aab", probabilities={"a": 0.6, "b": 0.4, "c": 0.0}),
    row("<img src=x onerror=alert(1)>", votes="abc", probabilities={"a": 0.4, "b": 0.3, "c": 0.3}),
    row("nobody voted", label=None),
]


class Served:
    """A server that is not listening, its token exchanged."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "reviewed.jsonl"
        self.keys = Keys(folder / "keys")
        measured = frozenset({fold("A text of the holdout.")})
        desk = Desk(SPEC, ROWS, DecisionJournal(self.file, SPEC.label_names), by="Ada", measured=measured)
        self.client = TestClient(make_app(desk, self.keys, PORT), base_url=HERE)
        self.token = self.keys.token

    def enter(self) -> None:
        reply = self.client.post("/api/session", json={"token": self.token})
        self.client.headers["x-review-key"] = reply.json()["key"]

    def say(self, *decisions: dict[str, Any]) -> dict[str, Any]:
        reply = self.client.post("/api/decisions", json={"decisions": decisions})
        assert reply.status_code == 200, reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    started = Served(tmp_path)
    started.enter()
    yield started


def said(at: int, action: str, key: str, **more: Any) -> dict[str, Any]:
    return {"key": f"key-{key:0>6}", "id": ROWS[at].id, "action": action, **more}


def test_the_token_is_for_one_use_and_the_key_outlives_the_server(tmp_path: Path) -> None:
    first = Served(tmp_path)
    assert first.client.get("/api/task").status_code == 401
    first.enter()
    assert first.client.get("/api/task").json()["by"] == "Ada"
    assert first.client.post("/api/session", json={"token": first.token}).status_code == 401
    second = Served(tmp_path)
    second.client.headers["x-review-key"] = first.client.headers["x-review-key"]
    assert second.client.get("/api/task").status_code == 200
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0
    assert first.client.headers["x-review-key"] not in (tmp_path / "keys").read_text()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": f"evil.example:{PORT}"}, 421),
        ({"host": "127.0.0.1:9999"}, 421),
        ({"host": "127.0.0.1"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"x-review-key": "guessed"}, 401),
        ({"origin": HERE, "sec-fetch-site": "same-origin"}, 200),
        ({"host": f"localhost:{PORT}"}, 200),
    ],
)
def test_no_other_page_may_ask(served: Served, headers: dict[str, str], status: int) -> None:
    assert served.client.get("/api/task", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "text/plain"}, b"{}", 415),
        ({"content-type": "application/x-www-form-urlencoded"}, b"a=1", 415),
        (JSON, b"[", 400),
        (JSON, b'{"decisions": []}', 422),
        (JSON, b'{"decisions": [{"key": "../../etc", "id": "x", "action": "accept"}]}', 422),
        ({**JSON, "content-length": "99999999"}, b"{}", 413),
    ],
)
def test_bodies_that_are_none_of_the_page_are_refused(
    served: Served, headers: dict[str, str], body: bytes, status: int
) -> None:
    assert served.client.post("/api/decisions", headers=headers, content=body).status_code == status
    assert not served.file.exists()


def test_pages_may_load_nothing_from_elsewhere_and_be_framed_by_nobody(served: Served) -> None:
    for path in ("/", "/review.js", "/review.css"):
        reply = served.client.get(path)
        assert reply.status_code == 200
        assert reply.headers["x-content-type-options"] == "nosniff"
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    page = served.client.get("/review.js").text
    assert not [
        word for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(") if word in page
    ]


def test_a_decision_is_in_the_file_before_the_answer_says_so(served: Served) -> None:
    answer = served.say(said(1, "relabel", "1", label="b"), said(0, "reject", "2"))
    assert (answer["refused"], answer["n_decided"], answer["n_rows"]) == ({}, 2, 4)
    assert [(line["action"], line.get("label"), line["by"]) for line in served.lines()] == [
        ("relabel", "b", "Ada"),
        ("reject", None, "Ada"),
    ]


def test_what_is_sent_again_counts_once(served: Served) -> None:
    for _ in range(3):
        served.say(said(1, "accept", "1", label="a"), said(1, "accept", "1", label="a"))
    assert len(served.lines()) == 1


def test_a_refused_decision_does_not_keep_the_others_from_being_saved(served: Served) -> None:
    answer = served.say(
        said(0, "relabel", "1", label="zebra"),
        {"key": "key-00000x", "id": "nobody", "action": "reject"},
        said(1, "edit", "2", label="a", text="all AGREE on this one"),
        said(1, "edit", "3", label="a", text="a text of the holdout"),
        said(1, "edit", "4", label="a", text="  "),
        said(3, "accept", "5"),
        said(2, "accept", "6", label="a"),
    )
    whys = [*answer["refused"].values()]
    parts = ["is not one of a, b, c", "load it again", "says this already", "measured on", "is empty", "is not one of"]
    assert len(whys) == len(parts)
    assert all(part in why for part, why in zip(parts, whys, strict=True))
    assert [line["key"] for line in served.lines()] == ["key-000006"]


def test_a_decision_that_could_not_be_read_again_is_refused_and_the_others_are_saved(served: Served) -> None:
    answer = served.say(said(0, "undo", "1", of=""), said(1, "reject", "2"))
    assert answer["refused"] == {"key-000001": "an `undo` needs `of`, the key of what it takes back"}
    assert [line["key"] for line in served.lines()] == ["key-000002"]
    assert served.client.get("/api/task").json()["n_decided"] == 1


def test_two_rows_cannot_be_edited_into_one(served: Served) -> None:
    served.say(said(0, "edit", "1", label="a", text="the same words"))
    answer = served.say(said(1, "edit", "2", label="b", text="the same words"))
    assert f"row {ROWS[0].id} says this already" in answer["refused"]["key-000002"]


def test_a_window_leaves_out_what_was_decided_and_undo_brings_it_back(served: Served) -> None:
    def shown(**query: Any) -> list[str]:
        rows = served.client.get("/api/rows", params={"order": "built", **query}).json()["rows"]
        return [one["id"] for one in rows]

    ids = [one.id for one in ROWS]
    served.say(said(1, "reject", "1"))
    assert shown() == [ids[0], ids[2], ids[3]]
    assert shown(is_open=False, n=2, after=0) == ids[1:3]
    assert shown(row=ids[2]) == ids[2:]
    assert shown(row=ids[2], backwards=True, is_open=False) == [ids[1], ids[0]]
    served.say(said(1, "undo", "2", of="key-000001"))
    assert shown() == ids


def test_a_file_somebody_broke_is_an_error_and_nothing_is_lost(served: Served) -> None:
    served.say(said(0, "accept", "1", label="a"))
    served.file.write_text(served.file.read_text() + "broken\n", encoding="utf-8")
    reply = served.client.post("/api/decisions", json={"decisions": [said(1, "reject", "2")]})
    assert (reply.status_code, "reviewed.jsonl:2" in reply.text) == (503, True)
    assert served.file.read_text(encoding="utf-8").endswith("broken\n")


def test_disagreement_uncertainty_and_density_mean_what_they_say() -> None:
    assert disagreement(ROWS).round(3).tolist() == [0.0, 0.579, 1.0, 0.0]
    assert uncertainty(ROWS).round(3).tolist() == [0.03, 0.8, 0.9, 1.0]
    assert uncertainty([row("x", votes="aab")]).round(3).tolist() == [0.667]
    alike = density(["where is my parcel", "where is my parcel now", "xyzzy"])
    assert alike[0] > alike[2] and alike[1] > alike[2]
    assert density(["one"]).tolist() == [1.0] and density([" ", "!"]).shape == (2,)


def test_every_order_has_every_row_once_and_equals_stay_as_they_were() -> None:
    found = orders(ROWS)
    assert set(found) == set(Order)
    assert all(sorted(places) == [0, 1, 2, 3] for places in found.values())
    assert found[Order.DISAGREEMENT][:2] == [2, 1]
    assert found[Order.UNCERTAINTY][0] == 3
    assert found[Order.BUILT] == [0, 1, 2, 3]
    assert orders([])[Order.BEST] == []
