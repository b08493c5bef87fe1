"""Voters, rules and the stage that makes one label of their votes, alone and inside a build."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.check import check_task
from factory.errors import SpecError
from factory.labelling.aggregate import AGGREGATE, AggregateParams, aggregate
from factory.labelling.rules import WrongRule, matcher
from factory.labelling.voters import VOTERS, Ballot, TeacherParams
from factory.labelling.votes import ABSTAIN, NOT_ASKED, Votes
from factory.records import Origin, Predictions, Rows, TextRow, all_kept, row_id, text_dataset
from factory.spec import Label, Plugin, Rule
from factory.teacher import open_teacher
from flows.plan import make_plan, walk
from flows.pool import label_pool, settle
from flows.probing import THOROUGH
from flows.recipe import read_file
from tests.golden_file import check_golden, in_words
from tests.plain_runner import Plain
from tests.scripted_task import make_task, texts_of
from tests.test_curation import ENCODER

LABELS = (Label(name="refund", description="money back"), Label(name="delivery", description="where is the parcel"))
NAMES = ("refund", "delivery")
RULES = (
    Rule(label="refund", keywords=("money back", "refund")),
    Rule(label="delivery", pattern=r"(?i)\bparcel|package\b"),
)


def silver(*pairs: tuple[str, str], probs: tuple[float, ...] | None = None) -> Rows:
    made = [
        TextRow(text, label, Origin.SILVER, teacher="t", label_probs=probs, replies=("r",)) for text, label in pairs
    ]
    return all_kept(text_dataset(made))


def ballot(rows: Rows, student: Predictions | None = None) -> Ballot:
    return Ballot(LABELS, RULES, rows, ENCODER, student)


def vote(name: str, rows: Rows, student: Predictions | None = None) -> Votes:
    return VOTERS[name].vote(VOTERS[name].params(), ballot(rows, student))


ROWS = silver(
    ("I want my money back", "refund"),
    ("give me a refund for this", "refund"),
    ("the parcel never came", "delivery"),
    ("my Package is late", "delivery"),
    ("I want my money back for the lost parcel", "delivery"),
    ("hello", "refund"),
)


def test_keywords_are_whole_words_in_any_case_and_language() -> None:
    fires = matcher(Rule(label="refund", keywords=("Größe", "money  back")))
    assert fires("welche GRÖSSE habe ich?")
    assert fires("My Money\nBack, please")
    assert not fires("Übergröße")
    assert not fires("moneyback")


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=40), st.text(min_size=1, max_size=10).filter(str.strip))
def test_no_keyword_and_no_text_can_break_a_rule(text: str, keyword: str) -> None:
    assert matcher(Rule(label="x", keywords=(keyword,)))(text) in (True, False)


@pytest.mark.parametrize("pattern", [r"(a|aa)+$", r"(a+)+$", r"(.*)*x\d$", r"(x+x+)+y"])
def test_no_pattern_takes_long_on_any_text(pattern: str) -> None:
    fires = matcher(Rule(label="x", pattern=pattern))
    started = time.monotonic()
    assert not fires("a" * 100_000 + "!")
    assert not fires("x" * 100_000 + "!")
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "missing )"),
        (r"(a)\1", "invalid escape sequence"),
        (r"a(?=b)", "invalid perl operator"),
        (r"((a{1000}){1000}){1000}", "invalid repetition size"),
        ("x*", "matches every text"),
        ("(?s).*", "matches every text"),
    ],
)
def test_a_pattern_that_cannot_work_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(WrongRule, match=why.replace("(", r"\(").replace(")", r"\)")):
        matcher(Rule(label="x", pattern=pattern))


def test_every_rule_votes_for_itself_and_is_silent_where_it_does_not_fire() -> None:
    votes = vote("rules", ROWS)
    assert votes.voters == ("rule 1: refund", "rule 2: delivery")
    assert votes.answers.T.tolist() == [[0, 0, -1, -1, 0, -1], [-1, -1, 1, 1, 1, -1]]


def test_the_teacher_votes_with_its_distribution() -> None:
    rows = silver(("a", "delivery"), probs=(0.2, 0.8))
    votes = VOTERS["teacher"].vote(TeacherParams(calibrate=False), ballot(rows))
    assert votes.answers.tolist() == [[1]]
    assert votes.probs is not None
    assert votes.probs.tolist() == [[[0.2, 0.8]]]


def test_a_teacher_that_likes_a_label_needs_more_of_it_to_vote_for_it() -> None:
    told = [*[(f"text {number}", (0.2, 0.8)) for number in range(8)], ("another", (0.45, 0.55))]
    rows = text_dataset([TextRow(text, "delivery", Origin.SILVER, label_probs=probs) for text, probs in told])
    votes = VOTERS["teacher"].vote(TeacherParams(), ballot(all_kept(rows)))
    assert votes.answers[:, 0].tolist() == [1] * 8 + [0]
    assert votes.probs is not None
    assert votes.probs.sum(axis=2) == pytest.approx(1)


def test_the_nearest_description_votes_for_what_the_text_is_near_to() -> None:
    assert vote("nearest-description", silver(("money back now", "x"), ("where is it", "x"))).answers.tolist() == [
        [0],
        [1],
    ]


def test_a_student_votes_on_the_rows_it_was_asked_about_whatever_its_order_of_labels() -> None:
    student = Predictions(("delivery", "refund"), (row_id("hello"), "other"), np.array([[0.9, 0.1], [0.5, 0.5]]))
    assert vote("student", ROWS, student).answers[:, 0].tolist() == [NOT_ASKED] * 5 + [1]
    assert (vote("student", ROWS).answers == NOT_ASKED).all()


@pytest.mark.parametrize("name", list(VOTERS))
def test_voters_answer_every_row_in_order_and_take_no_rows(name: str) -> None:
    for rows in (ROWS, silver()):
        votes = vote(name, rows)
        assert votes.labels == NAMES
        assert len(votes.answers) == len(rows.kept)
        assert votes.answers.min(initial=ABSTAIN) >= NOT_ASKED


def params(*voters: str, **changes: Any) -> AggregateParams:
    plugins = tuple(Plugin(name=name) for name in voters)
    return AggregateParams(
        labels=LABELS, voters=plugins, rules=RULES, **{"aggregation": Plugin(name="majority"), **changes}
    )


def test_labels_come_from_the_votes_and_ties_are_left_to_people() -> None:
    result = aggregate(params("teacher", "rules"), rows=ROWS, encoder=ENCODER)
    assert result.kept["label"][:] == ROWS.kept["label"][:]
    tied = aggregate(params("rules"), rows=ROWS, encoder=ENCODER)
    assert [(row["text"], row["reason"], row["score"]) for row in tied.rejected] == [
        ("I want my money back for the lost parcel", "no-agreement", 0.5),
        ("hello", "no-agreement", 0.5),
    ]
    both = {"rule 1: refund": "refund", "rule 2: delivery": "delivery"}
    assert tied.report["votes"] == {row_id("I want my money back for the lost parcel"): both, row_id("hello"): {}}


def test_a_kept_row_carries_the_posterior_and_where_it_came_from() -> None:
    result = aggregate(
        params("teacher", "rules"), rows=silver(("a refund for the parcel", "delivery")), encoder=ENCODER
    )
    row = result.kept[0]
    assert (row["label"], row["origin"], row["teacher"], row["replies"]) == ("delivery", "silver", "t", ["r"])
    assert row["label_probs"] == pytest.approx([1 / 3, 2 / 3])
    outvoted = aggregate(params("teacher", "rules", "student"), rows=silver(("a refund", "delivery")), encoder=ENCODER,
                         student=Predictions(NAMES, (row_id("a refund"),), np.array([[0.9, 0.1]])))  # fmt: skip
    assert outvoted.kept["label"][:] == ["refund"]
    assert outvoted.report["changed"] == 1


def test_without_any_vote_a_row_has_no_label_however_sure_the_prior_is() -> None:
    rows = silver(*[(f"refund {number}", "refund") for number in range(20)], ("hello", "refund"))
    result = aggregate(params("rules", min_agreement=0.0), rows=rows, encoder=ENCODER)
    assert result.rejected["text"][:] == ["hello"]


def test_what_people_labelled_is_not_labelled_by_machines() -> None:
    reviewed = all_kept(text_dataset([TextRow("hello", "delivery", Origin.GOLD)]))
    result = aggregate(params("teacher"), rows=ROWS, encoder=ENCODER, reviewed=reviewed)
    assert [(row["text"], row["reason"]) for row in result.rejected] == [("hello", "reviewed")]
    assert result.report["votes"] == {}


def test_the_report_names_the_reliability_of_every_voter() -> None:
    told = aggregate(params("teacher", "rules"), rows=ROWS, encoder=ENCODER).report["voters"]
    assert [(one["voter"], one["n_votes"], one["weight"]) for one in told] == [
        ("teacher", 6, 1.0), ("rule 1: refund", 3, 1.0), ("rule 2: delivery", 3, 1.0),
    ]  # fmt: skip
    assert told[0]["accuracy"] > told[1]["accuracy"]


def test_rows_that_a_budget_cut_short_stay_cut_short() -> None:
    short = Rows(ROWS.kept, ROWS.rejected, {}, is_complete=False)
    assert not aggregate(params("teacher"), rows=short, encoder=ENCODER).is_complete


def test_golden_aggregate() -> None:
    student = Predictions(NAMES, (row_id("hello"),), np.array([[0.4, 0.6]]))
    chosen = params(
        "teacher", "nearest-description", "rules", "student", aggregation=Plugin(name="discounted"), min_agreement=0.85
    )
    result = aggregate(chosen, rows=ROWS, encoder=ENCODER, student=student)
    probs = [[round(value, 4) for value in row["label_probs"]] for row in result.kept]
    check_golden(AGGREGATE, {**in_words(result), "probs": probs})


# In a task


def test_rules_are_checked_with_their_lines_before_anything_is_spent(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "task", data=None)
    spec = (folder / "spec.yaml").read_text(encoding="utf-8")
    n_lines = spec.count("\n")
    bad = """labelling:
  voters: [teacher, rule]
  aggregation: {name: dawid-skeen}
  rules:
    - {label: musik, keywords: [song]}
    - {label: music, pattern: "(a"}
    - {label: music}
"""
    (folder / "spec.yaml").write_text(spec + bad, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        check_task(folder)
    found = [(problem.line, problem.where) for problem in caught.value.problems if problem.line]
    at = {where: (line or 0) - n_lines for line, where in found}
    assert at["labelling.rules[2]"] == 7
    (folder / "spec.yaml").write_text(spec + bad.replace("    - {label: music}\n", ""), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        check_task(folder)
    told = {problem.where: ((problem.line or 0) - n_lines, problem.message) for problem in caught.value.problems}
    assert told["labelling.voters[1]"] == (
        2,
        "'rule' is not one of teacher, nearest-description, clusters, rules, student; nearest: 'rules'",
    )
    assert told["labelling.aggregation.name"][0] == 3
    assert "nearest: 'dawid-skene'" in told["labelling.aggregation.name"][1]
    assert told["labelling.rules[0].label"] == (5, "'musik' is not one of weather, music, table; nearest: 'music'")
    assert told["labelling.rules[1].pattern"][0] == 6
    assert told["labelling.rules"] == (
        4,
        "nobody goes by them: name the voter too, such as voters: [teacher, clusters, rules]",
    )


def test_a_voter_that_goes_by_rules_needs_some(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "task", data=None, labelling={"voters": ["teacher", "rules"]})
    with pytest.raises(SpecError, match="needs labelling"):
        check_task(folder)


def test_rules_alone_need_another_aggregation(tmp_path: Path) -> None:
    alone = {**VOTING, "voters": ["rules"]}
    with pytest.raises(SpecError, match="discounted learns nothing from rules alone"):
        check_task(pool_task(tmp_path / "discounted", **alone, aggregation="discounted"))
    assert (
        check_task(pool_task(tmp_path / "mace", **alone, aggregation="mace")).spec.labelling.aggregation.name == "mace"
    )
    with pytest.raises(SpecError, match="its distributions teach nothing"):
        check_task(pool_task(tmp_path / "soft", **alone, aggregation="mace", soft_labels=True))


def pool_task(folder: Path, **labelling: Any) -> Path:
    """A task whose pool the scripted teacher knows."""
    make_task(folder, data={"pool": "pool.jsonl"}, students=["tfidf-linear"], curation=[], labelling=labelling)
    texts = [text for label in ("weather", "music", "table") for text in texts_of(label)]
    (folder / "pool.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return folder


VOTING: dict[str, Any] = {
    "label_pool": 24,
    "voters": ["teacher", "rules", "student"],
    "rules": [{"label": "weather", "keywords": ["will it"]}, {"label": "music", "pattern": "^play "}],
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pretrained encoder: nothing here is about how good the votes are."""
    monkeypatch.setattr("flows.pool.CHEAP_STUDENT", Plugin(name="tfidf-linear"))
    monkeypatch.setattr("flows.pool.load_encoder", lambda *name: ENCODER)


def test_pool_rows_go_through_the_vote_and_the_second_time_all_is_stored(tmp_path: Path) -> None:
    task = check_task(pool_task(tmp_path / "task", **VOTING))
    for is_cached in (False, True):
        run = Plain(tmp_path / "outputs")
        teacher = open_teacher(task.spec.teacher, folder=task.folder, outputs=tmp_path / "outputs")
        try:
            given = label_pool(task, read_file(task, "pool", run), {"teacher": teacher}, run)
            settled = settle(task, given, run)
        finally:
            teacher.close()
        assert "cross-predict-voter" in run.artifacts
        assert run.artifacts["aggregate"].was_cached is is_cached
        result = settled.load()
        assert len(result.kept) + len(result.rejected) == 24
        assert [one["voter"] for one in result.report["voters"]] == [
            "teacher",
            "rule 1: weather",
            "rule 2: music",
            "student",
        ]


def test_the_clusters_of_the_pool_vote_and_a_dry_run_goes_past_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.steps.load_encoder", lambda *name: ENCODER)
    task = check_task(pool_task(tmp_path / "task", label_pool=12, voters=["teacher", "clusters"]))
    outputs = tmp_path / "outputs"
    run = Plain(outputs / task.spec.name)
    teacher = open_teacher(task.spec.teacher, folder=task.folder, outputs=outputs)
    try:
        pool = read_file(task, "pool", run)
        given = label_pool(task, pool, {"teacher": teacher}, run)
        settled = settle(task, given, run, pool=pool)
        assert set(pool.load().kept["id"]) == set(run.artifacts["clusters"].load().ids)
    finally:
        teacher.close()
    assert [one["voter"] for one in settled.load().report["voters"]] == ["teacher", "clusters"]
    for name in ("aggregate", "clusters"):
        shutil.rmtree(run.root / name)
    looked = walk(task, outputs, runnable=THOROUGH, always=True)
    assert looked.probed["aggregate"].artifact is not None
    assert "clusters" in [stage.name for stage in make_plan(task, outputs).stages]


def test_without_other_voters_the_teachers_answers_stand(tmp_path: Path) -> None:
    task = check_task(pool_task(tmp_path / "task", label_pool=24, voters=[]))
    run = Plain(tmp_path / "outputs")
    teacher = open_teacher(task.spec.teacher, folder=task.folder, outputs=tmp_path / "outputs")
    try:
        given = label_pool(task, read_file(task, "pool", run), {"teacher": teacher}, run)
    finally:
        teacher.close()
    assert settle(task, given, run) is given.rows
    assert "aggregate" not in run.artifacts


def test_a_plan_lists_the_clusters_once_though_two_stages_ask_for_them(tmp_path: Path) -> None:
    folder = pool_task(tmp_path / "task", label_pool=24, voters=["teacher", "clusters"])
    names = [stage.name for stage in make_plan(check_task(folder), tmp_path / "outputs").stages]
    assert names.count("clusters") == 1
    assert names.index("clusters") < names.index("aggregate") < names.index("self-train")


def test_a_voter_without_parameters_says_so(tmp_path: Path) -> None:
    folder = pool_task(tmp_path / "task", voters=["teacher", {"name": "clusters", "params": {"scale": 3}}])
    with pytest.raises(SpecError, match=r"params\.scale: unknown key, there is nothing to set here"):
        check_task(folder)


def test_a_plan_lists_the_vote(tmp_path: Path) -> None:
    planned = make_plan(check_task(pool_task(tmp_path / "task", **VOTING)), tmp_path / "outputs")
    names = [stage.name for stage in planned.stages]
    assert names.index("cross-predict-voter") < names.index("aggregate") < names.index("gather-0")


def test_reviewed_rows_are_found_beside_the_spec_and_can_be_switched_off(tmp_path: Path) -> None:
    folder = pool_task(tmp_path / "task")
    assert "reviewed" not in check_task(folder).files
    (folder / "reviewed.jsonl").write_text('{"text": "hm", "label": "music"}\n', encoding="utf-8")
    assert check_task(folder).files["reviewed"].path.name == "reviewed.jsonl"
    spec = (folder / "spec.yaml").read_text(encoding="utf-8")
    (folder / "spec.yaml").write_text(spec.replace("  pool: pool.jsonl\n", "  pool: pool.jsonl\n  reviewed: null\n"))
    assert "reviewed" not in check_task(folder).files
