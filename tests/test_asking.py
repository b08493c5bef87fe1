"""The ways to ask for a label: prompts, schemas, and what is made of replies; then several of them in one pool."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.check import check_task
from factory.errors import SpecError
from factory.labelling.aggregate import AggregateParams, aggregate
from factory.labelling.annotate import AnnotateParams, annotate
from factory.labelling.asking import WAYS, Annotation, Ask, requests_of
from factory.labelling.refine import REFINE, RefineParams, refine
from factory.records import Origin, Predictions, Rows, TextRow, all_kept, row_id, text_dataset
from factory.spec import Label, Plugin
from factory.teacher import Abstain, Reply, Request
from factory.teacher.scripted import ScriptedTeacher
from flows.plan import make_plan
from flows.pool import label_pool, settle
from flows.recipe import read_file
from flows.teachers import opened
from tests.golden_file import check_golden, in_words
from tests.plain_runner import Plain
from tests.scripted_task import LABELS as SCRIPTED
from tests.scripted_task import texts_of
from tests.test_aggregate import pool_task
from tests.test_curation import ENCODER

LABELS = (Label(name="refund", description="money back"), Label(name="delivery"), Label(name="other"))
NAMES = ("refund", "delivery", "other")


def read(ask: Ask, text: str, finish_reason: str = "stop") -> Annotation | Abstain:
    return WAYS[ask].read(Reply(text, finish_reason, 1, 1), NAMES)


def request(ask: Ask) -> Request:
    return requests_of(WAYS[ask], "Mail to a shop.", LABELS, ["{{ 7 * 7 }} where is it"])[0]


@pytest.mark.parametrize("ask", list(WAYS))
def test_every_prompt_names_all_labels_takes_the_text_as_data_and_has_room_for_an_answer(ask: Ask) -> None:
    asked, way = request(ask), WAYS[ask]
    system, user = (message.content for message in asked.messages)
    assert all(f'"{name}"' in system for name in NAMES)
    assert "{{ 7 * 7 }} where is it" in user
    assert ("money back" in system) is (ask != "names-only")
    assert "maxLength" not in json.dumps(asked.schema)
    assert 0 < way.first_tokens(NAMES) <= way.most_tokens(NAMES)


def test_the_order_of_labels_is_turned_round_in_the_prompt_and_nowhere_else() -> None:
    one, other = request("label"), request("reversed")
    assert one.schema == other.schema
    assert "".join(one.messages[0].content.split("\n")[1]) == 'Labels: "refund", "delivery", "other".'
    assert "".join(other.messages[0].content.split("\n")[1]) == 'Labels: "other", "delivery", "refund".'


def test_the_reason_is_written_before_the_label() -> None:
    schema = request("rationale").schema
    assert schema is not None
    assert (list(schema["properties"]), schema["required"]) == (["reason", "label"], ["reason", "label"])


def test_a_candidate_set_is_as_sure_of_each_of_its_labels_and_the_first_stands_for_it() -> None:
    said = read("candidates", '["delivery", "refund", "delivery"]')
    assert said == Annotation(label="delivery", probs=(0.5, 0.5, 0.0))


def test_a_label_with_a_reason_has_no_distribution() -> None:
    assert read("rationale", '{"reason": "asks where it is", "label": "delivery"}') == Annotation(
        label="delivery", probs=None, reason="asks where it is"
    )


@pytest.mark.parametrize(
    ("ask", "text", "reason"),
    [
        ("candidates", "[]", "unparseable"),
        ("candidates", '"refund"', "unparseable"),
        ("candidates", '["refund", "Refund"]', "unknown-label"),
        ("candidates", '["refund", {"a": 1}]', "unknown-label"),
        ("candidates", '[["refund"]]', "unknown-label"),
        ("candidates", "[NaN]", "unknown-label"),
        ("candidates", "[" * 100_000, "unparseable"),
        ("rationale", '"refund"', "unparseable"),
        ("rationale", '{"label": "refund"}', "unparseable"),
        ("rationale", '{"reason": " ", "label": "refund"}', "unparseable"),
        ("rationale", '{"reason": "x", "label": ["refund"]}', "unknown-label"),
        ("rationale", '{"reason": "x"}', "unknown-label"),
    ],
)
def test_what_is_no_answer_in_the_form_asked_for_is_an_abstention(ask: Ask, text: str, reason: str) -> None:
    assert read(ask, text) == Abstain(reason, text)
    cut = read(ask, text, finish_reason="length")
    assert isinstance(cut, Abstain)
    assert cut.reason == "truncated"


@given(
    st.sampled_from(["candidates", "rationale"]),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=5), st.sampled_from(NAMES)),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["reason", "label"]), inner),
        max_leaves=6,
    ),
)
def test_whatever_json_comes_is_a_known_label_or_an_abstention(ask: Ask, value: Any) -> None:
    said = read(ask, json.dumps(value))
    assert isinstance(said, Abstain) or said.label in NAMES


def test_a_list_that_was_cut_off_is_asked_for_with_more_room() -> None:
    def answer(asked: Request) -> Reply | str:
        short = asked.max_tokens == WAYS["candidates"].first_tokens(NAMES)
        return Reply('["refund", "del', "length", 1, 1) if short else '["refund", "delivery"]'

    teacher = ScriptedTeacher(answer)
    params = AnnotateParams(description="d", labels=LABELS, ask="candidates")
    result = annotate(params, rows=all_kept(text_dataset([TextRow("a", None, Origin.GOLD)])), teacher=teacher)
    assert result.kept["label_probs"][:] == [[0.5, 0.5, 0.0]]
    assert len(teacher.history) == 2


# What becomes of several answers


def sets(*pairs: tuple[str, tuple[float, ...]]) -> Rows:
    made = [TextRow(text, NAMES[int(np.argmax(probs))], Origin.SILVER, label_probs=probs) for text, probs in pairs]
    return all_kept(text_dataset(made))


def opinion(rows: Rows, *probs: tuple[float, ...]) -> Predictions:
    return Predictions(NAMES, tuple(rows.kept["id"]), np.array(probs))


CANDIDATES = sets(("a", (0.5, 0.5, 0.0)), ("b", (1.0, 0.0, 0.0)), ("c", (0.0, 0.5, 0.5)))


def test_a_student_picks_among_the_candidates_and_never_beside_them() -> None:
    told = refine(
        RefineParams(labels=NAMES),
        rows=CANDIDATES,
        opinion=opinion(CANDIDATES, (0.1, 0.3, 0.6), (0.1, 0.9, 0), (1, 0, 0)),
    )
    assert told.kept["label"][:] == ["delivery", "refund", "delivery"]
    assert told.kept["label_probs"][:] == [[pytest.approx(0.25), pytest.approx(0.75), 0], [1, 0, 0], [0, 0.5, 0.5]]
    assert (told.report["candidates"], told.report["changed"]) == (pytest.approx(5 / 3, abs=1e-3), 1)


def test_golden_refine() -> None:
    told = refine(RefineParams(labels=NAMES), rows=CANDIDATES, opinion=opinion(CANDIDATES, *[(0.2, 0.3, 0.5)] * 3))
    check_golden(REFINE, {**in_words(told), "probs": told.kept["label_probs"][:]})


def voting(*voters: Plugin, aggregation: str = "pooled") -> AggregateParams:
    return AggregateParams(labels=LABELS, voters=voters, aggregation=Plugin(name=aggregation), min_agreement=0.0)


def teacher(**params: Any) -> Plugin:
    return Plugin(name="teacher", params={"calibrate": False, **params})


def test_asking_one_teacher_three_times_makes_it_no_surer() -> None:
    rows = sets(("a", (0.8, 0.1, 0.1)))
    voters = (teacher(), teacher(ask="reversed"), teacher(ask="names-only"))
    asked = {"teacher-reversed": rows, "teacher-names-only": rows}
    told = aggregate(voting(*voters), rows=rows, encoder=ENCODER, **asked)
    assert told.kept["label_probs"][0] == pytest.approx([0.8, 0.1, 0.1])
    assert [(one["voter"], one["weight"]) for one in told.report["voters"]] == [
        ("teacher", pytest.approx(1 / 3, abs=1e-4)),
        ("teacher-reversed", pytest.approx(1 / 3, abs=1e-4)),
        ("teacher-names-only", pytest.approx(1 / 3, abs=1e-4)),
    ]
    two = aggregate(voting(teacher(), teacher(teacher="big")), rows=rows, encoder=ENCODER, big=rows)
    assert two.kept["label_probs"][0] == pytest.approx([0.64 / 0.66, 0.01 / 0.66, 0.01 / 0.66])


def test_an_answer_that_another_way_did_not_bring_leaves_the_first_its_whole_say() -> None:
    rows = sets(("a", (0.8, 0.1, 0.1)), ("b", (0.8, 0.1, 0.1)))
    voters = (teacher(), teacher(ask="reversed"))
    told = aggregate(voting(*voters), rows=rows, encoder=ENCODER, **{"teacher-reversed": sets(("b", (0.2, 0.6, 0.2)))})
    assert told.kept["label_probs"][0] == pytest.approx([0.8, 0.1, 0.1])
    assert told.kept["label_probs"][1] == pytest.approx([0.4, 0.6**0.5 * 0.1**0.5, 0.02**0.5] / np.float64(0.78637))


def test_a_row_names_the_replies_of_all_who_were_asked_and_waits_for_all() -> None:
    row = TextRow("a", "refund", Origin.SILVER, replies=("one",))
    other = TextRow("a", "refund", Origin.SILVER, replies=("two",))
    short = Rows(text_dataset([other]), text_dataset([]), {}, is_complete=False)
    told = aggregate(
        voting(teacher(), teacher(ask="reversed")),
        rows=all_kept(text_dataset([row])), encoder=ENCODER, **{"teacher-reversed": short},
    )  # fmt: skip
    assert told.kept["replies"][:] == [["one", "two"]]
    assert not told.is_complete


# In a task


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pretrained encoder: nothing here is about how good the votes are."""
    monkeypatch.setattr("flows.pool.CHEAP_STUDENT", Plugin(name="tfidf-linear"))
    monkeypatch.setattr("flows.pool.NOISE_JUDGE", Plugin(name="tfidf-linear"))
    monkeypatch.setattr("flows.pool.load_encoder", lambda *name: ENCODER)


MANY: dict[str, Any] = {
    "label_pool": 24,
    "voters": [
        {"name": "teacher", "params": {"ask": "candidates"}},
        {"name": "teacher", "params": {"ask": "reversed"}},
        {"name": "teacher", "params": {"teacher": "second", "ask": "rationale"}},
        "nearest-description",
    ],
}


def task_of_many(folder: Path, **labelling: Any) -> Path:
    """Two scripted teachers: one names candidates, or a label; the other gives reasons."""
    pool_task(folder, **{**MANY, **labelling})
    spec = (folder / "spec.yaml").read_text(encoding="utf-8")
    more = "teachers:\n  second: {name: scripted, model: second.jsonl, budget: {calls: 100}}\n"
    (folder / "spec.yaml").write_text(spec + more, encoding="utf-8")
    texts = [(text, label) for label in SCRIPTED for text in texts_of(label)]
    other = {"weather": "table", "music": "weather", "table": "music"}
    named = [[label] if number % 2 else [label, other[label]] for number, (_, label) in enumerate(texts)]
    first = [
        {"contains": f'Text: "{text}"\nJSON list', "reply": json.dumps(labels)}
        for (text, _), labels in zip(texts, named, strict=True)
    ]
    second = [
        {"contains": f'Text: "{text}"\n', "reply": json.dumps({"reason": "it says so", "label": label})}
        for text, label in texts
    ]
    replies = folder / "replies.jsonl"
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in first)
    replies.write_text(lines + replies.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "second.jsonl").write_text("".join(json.dumps(line) + "\n" for line in second), encoding="utf-8")
    return folder


def test_several_ways_and_teachers_label_a_pool_and_the_second_time_nobody_is_asked(tmp_path: Path) -> None:
    task, outputs = check_task(task_of_many(tmp_path / "task")), tmp_path / "outputs"
    asked = []
    for _ in range(2):
        run = Plain(outputs)
        with opened(task.spec, task.folder, outputs) as teachers:
            given = label_pool(task, read_file(task, "pool", run), teachers, run)
            settled = settle(task, given, run).load()
            asked.append({name: one.spending.calls for name, one in teachers.items()})
    assert asked == [{"teacher": 48, "second": 24}, {"teacher": 0, "second": 0}]
    assert len(settled.kept) == 24
    right = {text: label for label in SCRIPTED for text in texts_of(label)}
    assert [right[text] for text in settled.kept["text"]] == settled.kept["label"][:]
    assert [one["voter"] for one in settled.report["voters"]] == [
        "teacher-candidates", "teacher-reversed", "second-rationale", "nearest-description",
    ]  # fmt: skip
    assert all(len(keys) == 3 for keys in settled.kept["replies"])
    assert run.artifacts["refine-teacher-candidates-3"].load().report["candidates"] > 1


def test_a_plan_counts_what_each_teacher_would_be_asked(tmp_path: Path) -> None:
    planned = make_plan(check_task(task_of_many(tmp_path / "task")), tmp_path / "outputs")
    calls = {stage.name: (stage.teacher, stage.cost.calls) for stage in planned.stages if stage.cost.calls}
    assert calls["annotate-pool-1"] == ("teacher", 12)
    assert calls["annotate-pool-2-teacher-reversed"] == ("teacher", 12)
    assert calls["annotate-pool-2-second-rationale"] == ("second", 12)
    names = [stage.name for stage in planned.stages]
    assert names.index("refine-teacher-candidates-3") < names.index("aggregate")


@pytest.mark.parametrize(
    ("voters", "more", "where", "message"),
    [
        (
            ["teacher", {"name": "teacher", "params": {"ask": "yes-no"}}],
            "",
            "labelling.voters[1].params.ask",
            "is not one of label, names-only",
        ),
        (["teacher", "teacher"], "", "labelling.voters[1]", "'teacher' is named twice"),
        (
            ["teacher", {"name": "teacher", "params": {"ask": "label"}}],
            "",
            "labelling.voters[1].name",
            "'teacher' is named twice",
        ),
        (
            [{"name": "teacher", "params": {"teacher": "big"}}],
            "",
            "labelling.voters[0].params.teacher",
            "'big' is not declared",
        ),
        (
            [{"name": "teacher", "params": {"teacher": "bog"}}],
            "teachers: {big: {name: embedded}}\n",
            "labelling.voters[0].params.teacher",
            "'bog' is not one of big",
        ),
        (["teacher"], "teachers: {big: {name: embedded}}\n", "teachers.big", "nobody asks it"),
        (["teacher"], "teachers: {student: {name: embedded}}\n", "teachers", "name of something else"),
        (["teacher"], "teachers: {Big One: {name: embedded}}\n", "teachers", "lower-case"),
        (
            [{"name": "teacher", "params": {"teacher": "big"}}],
            "teachers: {big: {name: scripted, model: no.jsonl}}\n",
            "teachers.big.model",
            "no such file 'no.jsonl'",
        ),
    ],
)
def test_voters_who_cannot_be_asked_are_refused_with_their_place(
    tmp_path: Path, voters: list[Any], more: str, where: str, message: str
) -> None:
    folder = pool_task(tmp_path / "task", voters=voters)
    spec = folder / "spec.yaml"
    spec.write_text(spec.read_text(encoding="utf-8") + more, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        check_task(folder)
    told = {problem.where: problem.message for problem in caught.value.problems}
    assert message in told[where], told


def test_other_teachers_need_a_pool_to_vote_on(tmp_path: Path) -> None:
    folder = pool_task(tmp_path / "task")
    spec = (folder / "spec.yaml").read_text(encoding="utf-8").replace("data:\n  pool: pool.jsonl\n", "")
    (folder / "spec.yaml").write_text(spec + "teachers: {big: {name: embedded}}\n", encoding="utf-8")
    with pytest.raises(SpecError, match="votes on pool rows, and none are labelled"):
        check_task(folder)


def test_rows_nobody_chose_are_not_asked_about() -> None:
    rows = sets(("a", (1.0, 0.0, 0.0)))
    told = aggregate(
        voting(teacher(), teacher(ask="reversed")), rows=rows, encoder=ENCODER,
        **{"teacher-reversed": sets(("z", (0.0, 1.0, 0.0)))},
    )  # fmt: skip
    assert told.kept["id"][:] == [row_id("a")]
    assert told.report["voters"][1]["n_votes"] == 0
