"""Priors: what the teacher says of single cells becomes a curve a column; what it does not say counts for nothing."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.labelling.priors import MOST_LOGIT, PRIORS, PriorsParams, forecast_priors, judge_columns
from factory.records import Origin, Rows, all_kept
from factory.records_table import table_dataset
from factory.spec import Budget, Label
from factory.spec_table import Column, ColumnKind, Table, Target
from factory.tables.cells import arrow_type
from factory.tables.points import MOST_POINTS, anchors_of
from factory.tables.priors import Priors
from factory.teacher.budget import Spending
from factory.teacher.protocol import Reply, Request, TokenLogprob
from factory.teacher.scripted import ScriptedTeacher
from tests.golden_file import check_golden

COLUMNS = (
    Column(name="income", kind=ColumnKind.NUMERIC, unit="EUR", range=(0, 1000), description="income a month"),
    Column(name="home", kind=ColumnKind.CATEGORY, values=("own", "rent")),
    Column(name="level", kind=ColumnKind.ORDINAL, values=("low", "middle", "high")),
    Column(name="phone", kind=ColumnKind.BOOLEAN),
    Column(name="since", kind=ColumnKind.DATE),
    Column(name="age", kind=ColumnKind.NUMERIC),
)
LABELS = (Label(name="bad", description="not paid back"), Label(name="good", description="paid back"))
TABLE = Table(columns=COLUMNS, target=Target(column="risk"), labels=LABELS)
PARAMS = PriorsParams(description="Loans.", table=TABLE)
CHANCES = {"100": 0.2, "500": 0.5, "900": 0.8, "own": 0.9, "rent": 0.6, "low": 0.3, "middle": 0.5, "high": 0.7}
"""Of `good`, by what is asked about; a phone tells nothing."""


def cell_in(request: Request) -> str:
    """Return the cell that a question is about."""
    return request.messages[1].content.split("\n")[1].rpartition(": ")[2]


def answered(chance: float) -> Reply:
    """Return a reply that gives `good` a chance."""
    good, bad = ("good", math.log(chance)), ("bad", math.log(1 - chance))
    word, logprob = good if chance >= 0.5 else bad
    quote = TokenLogprob('"', 0.0, (('"', 0.0),))
    return Reply(f'"{word}', "length", 10, 2, (quote, TokenLogprob(word, logprob, (good, bad))))


def knowing(request: Request) -> Reply:
    """Answer as `CHANCES` says, with a liking for the label that is named first."""
    chance = CHANCES.get(cell_in(request), 0.5)
    is_first = request.messages[0].content.index('"good"') < request.messages[0].content.index('"bad"')
    odds = chance / (1 - chance) * (3 if is_first else 1 / 3)
    return answered(odds / (1 + odds))


def judged(script: Callable[[Request], Reply | str], **changes: object) -> Priors:
    teacher = ScriptedTeacher(script, spending=Spending(Budget(**changes)) if changes else None)  # type: ignore[arg-type]
    return judge_columns(PARAMS, teacher=teacher)


def rows_of(**cells: list[object]) -> Rows:
    """Return rows without labels."""
    import pyarrow as pa

    n_rows = len(next(iter(cells.values())))
    typed = {one.name: pa.array(cells.get(one.name, [None] * n_rows), arrow_type(one.kind)) for one in COLUMNS}
    return all_kept(table_dataset(typed, pa.nulls(n_rows, pa.string()), origin=Origin.GOLD))


def test_a_curve_is_what_the_teacher_says_without_its_liking_for_a_label() -> None:
    income = judged(knowing).priors[0]
    assert income.points == (100.0, 500.0, 900.0)
    half = math.log(4) / 2  # of two labels one logit is shared: half to each side
    assert [effect[1] for effect in income.effects] == pytest.approx([-half, 0.0, half], abs=1e-3)
    assert [effect[0] for effect in income.effects] == pytest.approx([half, 0.0, -half], abs=1e-3)
    assert income.weight == pytest.approx(1.0, abs=1e-3)


def test_a_column_nobody_can_judge_weighs_nothing_and_says_why() -> None:
    priors = {prior.column: prior for prior in judged(knowing).priors}
    assert {name: prior.note for name, prior in priors.items() if prior.weight == 0} == {
        "phone": "the teacher sees no difference",
        "since": "a date column is not asked about",
        "age": "fewer than two numbers are known: give the column a range, or bring rows",
    }
    assert judged(knowing).summary.endswith("3 columns nobody could judge")


def test_ways_of_asking_that_disagree_are_believed_less() -> None:
    def fickle(request: Request) -> Reply:
        is_first = request.messages[0].content.index('"good"') < request.messages[0].content.index('"bad"')
        chance = CHANCES.get(cell_in(request), 0.5)
        return answered(chance if is_first or cell_in(request) in ("own", "rent") else 0.5)

    priors = {prior.column: prior for prior in judged(fickle).priors}
    assert priors["home"].weight == pytest.approx(1.0)
    assert priors["home"].uncertainty == pytest.approx(0.0)
    assert 0.3 < priors["income"].weight < 0.7
    assert priors["income"].uncertainty > 0.1


@pytest.mark.parametrize("raw", ["", "perhaps", '"neither"', "[" * 10_000, '{"label": "good"}', "null"])
def test_bad_answers_abstain_and_are_counted(raw: str) -> None:
    priors = judged(lambda request: raw if cell_in(request) in ("own", "100") else knowing(request))
    found = {prior.column: prior for prior in priors.priors}
    assert priors.n_abstained == 4  # two points in two wordings
    assert priors.n_asked == 2 * 10 - 4
    assert found["home"].note == "the teacher gave fewer than two usable answers"
    assert found["home"].weight == 0
    assert found["income"].points == (500.0, 900.0)
    assert priors.is_complete


def test_a_point_answered_in_one_wording_only_still_counts() -> None:
    def half(request: Request) -> Reply | str:
        is_first = request.messages[0].content.index('"good"') < request.messages[0].content.index('"bad"')
        return "perhaps" if is_first and cell_in(request) == "own" else knowing(request)

    home = judged(half).priors[1]
    assert home.points == ("own", "rent")
    assert home.effects[0][1] > home.effects[1][1]


def test_an_answer_without_probabilities_is_cut_to_what_one_cell_can_say() -> None:
    priors = judged(lambda request: json.dumps("good" if CHANCES.get(cell_in(request), 0) > 0.5 else "bad"))
    assert all(abs(value) <= MOST_LOGIT for prior in priors.priors for effect in prior.effects for value in effect)
    assert priors.priors[0].effects[2][1] > 0


def test_a_budget_that_ends_leaves_the_stage_open() -> None:
    priors = judged(knowing, calls=7)
    assert priors.n_asked == 7
    assert not priors.is_complete


def test_points_come_from_rows_where_there_are_any() -> None:
    rows = rows_of(income=[float(one) for one in range(101)], home=["rent"] * 60 + ["boat"] * 30 + ["own"] * 11)
    found = {one.column.name: one for one in anchors_of(TABLE, rows)}
    assert found["income"].points == (10.0, 50.0, 90.0)
    assert found["home"].points == ("rent", "boat", "own")
    assert found["age"].points == ()  # the column is empty


def test_a_number_that_is_mostly_zero_keeps_points_apart_from_it() -> None:
    rows = rows_of(income=[0.0] * 90 + [float(one) for one in range(1, 11)])
    assert anchors_of(TABLE, rows)[0].points == (0.0, 3.0, 8.0)


def test_of_many_values_the_most_frequent_are_asked_about_and_rare_ones_are_not() -> None:
    rows = rows_of(home=[f"value {number}" for number in range(40)] + ["value 39"])
    points = anchors_of(TABLE, rows)[1].points
    assert len(points) == MOST_POINTS
    assert points[0] == "value 39"
    rows = rows_of(home=["own"] * 60 + ["rent"] * 60 + ["boat"])
    assert anchors_of(TABLE, rows)[1].points == ("own", "rent")


def test_text_of_a_cell_never_becomes_part_of_a_template() -> None:
    asked: list[str] = []

    def hear(request: Request) -> Reply:
        asked.append(request.messages[-1].content)
        return answered(0.5)

    rows = rows_of(home=["{{ 7 * 7 }}", "{% raw %}", "own"])
    judge_columns(PARAMS, teacher=ScriptedTeacher(hear), rows=rows)
    assert any("{{ 7 * 7 }}" in one for one in asked)


def test_of_a_number_the_teacher_says_whether_it_is_higher_or_lower_than_usual() -> None:
    asked: list[Request] = []

    def hear(request: Request) -> str:
        asked.append(request)
        return '"higher"' if cell_in(request) in ("900", "own") else '"lower"'

    target = Target(column="price", description="price of the flat", unit="EUR")
    params = PARAMS.model_copy(
        update={"table": TABLE.model_copy(update={"labels": (), "target": target}), "n_wordings": 1}
    )
    priors = judge_columns(params, teacher=ScriptedTeacher(hear))
    assert priors.labels == ("lower", "higher")
    income = priors.priors[0]
    assert income.effects[2][1] > 0 > income.effects[0][1]
    assert "price of the flat (EUR)" in asked[0].messages[0].content
    assert "income a month (EUR), usually 100 to 900: 100" in asked[0].messages[1].content
    assert asked[0].schema == {"type": "string", "enum": ["lower", "higher"]}


def test_protected_columns_are_not_asked_about() -> None:
    columns = tuple(one.model_copy(update={"protected": one.name in ("home", "income")}) for one in COLUMNS)
    asked: list[str] = []

    def hear(request: Request) -> Reply:
        asked.append(cell_in(request))
        return knowing(request)

    params = PARAMS.model_copy(update={"table": TABLE.model_copy(update={"columns": columns})})
    priors = judge_columns(params, teacher=ScriptedTeacher(hear))
    assert priors.summary.endswith("3 columns nobody could judge, 2 protected columns not asked about")
    found = {prior.column: prior for prior in priors.priors}
    assert not {"own", "rent", "100", "500", "900"} & set(asked)
    assert found["home"].note == found["income"].note == "is protected: what a teacher thinks of it shall not count"


def test_what_is_asked_is_foretold() -> None:
    n_calls: list[int] = []
    judge_columns(PARAMS, teacher=ScriptedTeacher(lambda request: n_calls.append(1) or knowing(request)))
    assert forecast_priors(PARAMS).calls == len(n_calls)
    # Nothing is known of the age, so three points of it are guessed.
    assert forecast_priors(PARAMS, are_to_come=True).calls == len(n_calls) + 2 * 3
    assert forecast_priors(PARAMS, rows_of(income=[1.0, 2.0, 3.0])).prompt_tokens > 0


def test_priors_survive_saving(tmp_path: Path) -> None:
    priors = judged(knowing)
    priors.save(tmp_path)
    assert Priors.load(tmp_path) == priors


def test_golden_priors() -> None:
    check_golden(PRIORS, judged(knowing).as_json())
