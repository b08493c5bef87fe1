"""Reasons that teachers give: a label stands only where its reason passes the checks; nothing is lost silently."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from factory.check import check_task
from factory.errors import SpecError
from factory.labelling.annotate import ANNOTATE, AnnotateParams, annotate, forecast_labels
from factory.labelling.asking import WAYS
from factory.labelling.reasons import CHECKS, ReasonCheck
from factory.records import Origin, Rows, TextRow, all_kept, text_dataset
from factory.spec import Budget, Label
from factory.teacher import Abstain, Reply, Request, ScriptedTeacher
from factory.teacher.budget import Spending
from tests.scripted_task import make_task

LABELS = (Label(name="refund"), Label(name="delivery"))
BOTH: tuple[ReasonCheck, ...] = ("consistency", "entailment")
TEXTS = ("money back please", "where is it")
Answer = str | Reply | Abstain


def rows() -> Rows:
    return all_kept(text_dataset([TextRow(text, None, Origin.SILVER) for text in TEXTS]))


def teacher(on_reason: Callable[[str], Answer], on_follows: Callable[[str], Answer], **more: Any) -> ScriptedTeacher:
    """Give `because refund` and the like as reasons; the functions answer checks, given what is shown."""

    def answer(request: Request) -> Answer:
        shown = request.messages[1].content
        if "Reason given" in shown:
            return on_follows(shown)
        if '"reason"' in shown:
            label = "refund" if "money" in shown else "delivery"
            return json.dumps({"reason": f"because {label}", "label": label})
        assert not any(text in shown for text in TEXTS), "the reason alone is shown"
        return on_reason(shown)

    return ScriptedTeacher(answer, **more)


def right(shown: str) -> str:
    return '"refund"' if "because refund" in shown else '"delivery"'


def run(asked: ScriptedTeacher, *checks: ReasonCheck) -> Rows:
    return annotate(
        AnnotateParams(description="d", labels=LABELS, ask="rationale", checks=checks), rows=rows(), teacher=asked
    )


def test_every_check_a_spec_may_name_is_there() -> None:
    assert set(CHECKS) == set(get_args(ReasonCheck))


def test_without_checks_nobody_is_asked_about_reasons() -> None:
    asked = teacher(right, lambda shown: '"no"')
    assert run(asked).kept["label"][:] == ["refund", "delivery"]
    assert len(asked.history) == 2


def test_a_label_whose_reason_leads_to_it_and_follows_from_the_text_stands_with_all_its_replies() -> None:
    labelled = run(teacher(right, lambda shown: '"yes"'), *BOTH)
    assert labelled.kept["label"][:] == ["refund", "delivery"]
    assert [len(keys) for keys in labelled.kept["replies"]] == [3, 3]
    assert len(labelled.rejected) == 0


@pytest.mark.parametrize(
    ("on_reason", "on_follows", "reason"),
    [
        (lambda shown: '"refund"', lambda shown: '"yes"', "abstain-inconsistent-reason"),
        (right, lambda shown: '"no"' if "where is it" in shown else '"yes"', "abstain-unfounded-reason"),
        (right, lambda shown: "hm" if "where is it" in shown else '"yes"', "abstain-unchecked-reason"),
        (
            lambda shown: right(shown) if "because refund" in shown else Abstain("refusal"),
            lambda shown: '"yes"',
            "abstain-unchecked-reason",
        ),
    ],
    ids=["another label", "not in the text", "neither yes nor no", "refused"],
)  # fmt: skip
def test_a_label_whose_reason_fails_is_taken_back_and_the_row_says_why(
    on_reason: Callable[[str], Answer], on_follows: Callable[[str], Answer], reason: str
) -> None:
    labelled = run(teacher(on_reason, on_follows), *BOTH)
    assert labelled.kept["text"][:] == ["money back please"]
    assert (labelled.rejected["text"][:], labelled.rejected["reason"][:]) == (["where is it"], [reason])
    assert labelled.rejected["label"][:] == [None]
    assert labelled.is_complete


def test_what_failed_one_check_is_not_paid_for_in_the_next() -> None:
    asked = teacher(lambda shown: '"refund"', lambda shown: '"yes"')
    run(asked, *BOTH)
    assert len(asked.history) == 2 + 2 + 1


def test_a_budget_that_ends_among_the_checks_leaves_the_row_open_and_no_label_unchecked() -> None:
    asked = teacher(right, lambda shown: '"yes"', spending=Spending(Budget(calls=3)))
    labelled = run(asked, "entailment")
    assert len(labelled.kept) == 1
    assert labelled.rejected["reason"][:] == ["abstain-budget"]
    assert not labelled.is_complete


def test_a_plan_counts_a_call_a_row_for_each_check() -> None:
    params = AnnotateParams(description="d", labels=LABELS, ask="rationale")
    calls = [
        forecast_labels(params.model_copy(update={"checks": checks}), 10, way=WAYS["rationale"]).calls
        for checks in ((), BOTH[:1], BOTH)
    ]
    assert calls == [10, 20, 30]


def test_the_prompts_of_the_checks_are_part_of_what_a_stage_is() -> None:
    assert {"follows_system.v1.jinja", "follows_user.v1.jinja"} <= {path.name for path in ANNOTATE.files}


@pytest.mark.parametrize(
    ("params", "message"),
    [({"checks": ["consistency"]}, "say `ask: rationale`"), ({"ask": "rationale", "checks": ["nli"]}, "nli")],
)
def test_a_spec_that_checks_what_is_not_there_is_refused(params: dict[str, Any], message: str, tmp_path: Path) -> None:
    labelling = {"voters": [{"name": "teacher", "params": params}]}
    folder = make_task(tmp_path / "task", data={"pool": "pool.jsonl"}, labelling=labelling)
    (folder / "pool.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    with pytest.raises(SpecError, match=message):
        check_task(folder)
