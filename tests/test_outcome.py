"""What a person is told at the end: figures, and what the figures do not cover."""

import json
from pathlib import Path

import pytest

from factory.check import check_task
from factory.release.registry import Registry
from factory.release.versions import Version
from factory.teacher import open_teacher
from flows.licences import EMBEDDED, header_licence, licences_of
from flows.outcome import Outcome, print_outcome, release
from flows.recipe import recipe
from tests.plain_runner import Plain
from tests.scripted_task import holdout_rows, make_task
from tests.test_build import QUICK

VERSION = Version(
    name="scripted", version=1, aliases=("candidate",), metrics={}, tags={}, content_hash="c" * 64, path="release"
)
N_CALLS = 40
"""Enough to write, not enough to verify everything."""


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Build with a budget that is used up on the way."""
    place = tmp_path_factory.mktemp("stopped")
    teacher = {"name": "scripted", "model": "replies.jsonl", "budget": {"calls": N_CALLS}}
    folder = make_task(place / "task", **{**QUICK, "data": {"holdout": "holdout.jsonl"}, "teacher": teacher})
    task, run = check_task(folder), Plain(place / "outputs" / "scripted")
    asked = open_teacher(task.spec.teacher, folder=folder, outputs=place / "outputs")
    try:
        products = recipe(task, asked, run)
    finally:
        asked.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Registry, "register", lambda self, name, folder, **known: VERSION)  # MLflow takes seconds
        return release(task, products, list(run.artifacts.values()), place / "outputs", run)


@pytest.mark.slow
def test_a_used_up_budget_is_said_at_the_end(stopped: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    assert stopped.unfinished == {"verify-attributes-1": "budget", "annotate-holdout": "budget"}
    print_outcome(stopped)
    said = capsys.readouterr().out
    assert "Not finished: verify-attributes-1 (budget), annotate-holdout (budget): raise teacher.budget and run" in said
    assert "did not answer 9 rows, which count for neither: the budget was used up (9)." in said
    assert "The teacher was not asked" not in said


@pytest.mark.slow
def test_programs_and_the_card_are_told_too(stopped: Outcome) -> None:
    assert json.loads(json.dumps(stopped.as_json()))["unfinished"] == stopped.unfinished
    card = (stopped.folder / "card.md").read_text(encoding="utf-8")
    assert "**Not finished**: verify-attributes-1 (budget)" in card
    assert "the budget was used up (9)" in card


@pytest.mark.slow
def test_the_report_has_a_map_of_what_was_written_and_rejected_and_examples_of_each_reason(stopped: Outcome) -> None:
    html = (stopped.folder / "report.html").read_text(encoding="utf-8")
    points = json.loads(html.partition('id="map-points">')[2].partition("</script>")[0])
    n_drawn = dict(zip(points["names"], map(len, points["groups"]), strict=True))
    assert n_drawn["written"] > 0
    assert n_drawn["rejected"] > 0
    rejected = [points["origins"][point[3]] for point in points["groups"][points["names"].index("rejected")]]
    assert all("; rejected by " in origin for origin in rejected)
    shown = {point[4] for group in points["groups"] for point in group}
    assert not shown & {row["text"] for row in holdout_rows()}
    assert "Words that led it astray" in html or "<p>Nothing.</p>" in html
    assert "an answer takes" in html


@pytest.mark.slow
def test_the_card_says_under_which_terms_the_parts_came(stopped: Outcome) -> None:
    card = (stopped.folder / "card.md").read_text(encoding="utf-8")
    assert "license: other" in card
    assert "language:" not in card
    assert "- Teacher: replies.jsonl, chosen in the task; its own terms apply" in card
    assert "- Data of the task (holdout): no licence was stated (data.licence in the spec)" in card


@pytest.mark.parametrize(
    ("more", "student", "teacher", "header", "said"),
    [
        ("", "blend", EMBEDDED, "apache-2.0", "Teacher: Qwen2.5-Coder-1.5B-Instruct, Apache-2.0"),
        ("", "blend", EMBEDDED, "apache-2.0", "Encoder: all-MiniLM-L6-v2, Apache-2.0"),
        (
            "teacher: {name: openai, model: gpt-4o-mini}",
            "blend",
            "openai:x",
            "other",
            "Teacher: gpt-4o-mini; the terms",
        ),
        (
            "teachers: {big: {name: openai, model: gpt-5-mini}}\ndata: {pool: s.jsonl}\n"
            "labelling: {voters: [teacher, {name: teacher, params: {teacher: big}}]}",
            "blend",
            f"{EMBEDDED}, openai:x",
            "other",
            "Teacher: gpt-5-mini; the terms",
        ),
        ("data: {seeds: s.jsonl, licence: CC0}", "blend", EMBEDDED, "other", "Data of the task (seeds): CC0"),
        ("data: {train: s.jsonl}", "blend", EMBEDDED, "other", "Data of the task (train): no licence"),
        ("data: {ceiling: s.jsonl}", "blend", EMBEDDED, "apache-2.0", "Data of the task (ceiling): no licence"),
        ("data: {holdout: s.jsonl}", "tfidf-linear", EMBEDDED, "apache-2.0", "Data of the task (holdout): no licence"),
    ],
)
def test_what_is_known_of_licences_is_said(
    tmp_path: Path, more: str, student: str, teacher: str, header: str, said: str
) -> None:
    four_keys = "name: shop\nkind: text-classification\ndescription: Mails.\nlabels: [a, b]\n"
    (tmp_path / "spec.yaml").write_text(f"{four_keys}{more}\n", encoding="utf-8")
    (tmp_path / "s.jsonl").write_text('{"text": "x", "label": "a"}\n', encoding="utf-8")
    task = check_task(tmp_path)
    assert header_licence(task, student, teacher) == header
    assert any(line.startswith(said) for line in licences_of(task, student, teacher))
    assert ("Encoder" in str(licences_of(task, student, teacher))) is (student == "blend")
