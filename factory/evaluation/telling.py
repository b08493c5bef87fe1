"""A verdict of any kind as people read it: its table, its sentence, and the figures that a registry keeps."""

from factory.evaluation.fairness import LEAST_ROWS, GroupScore
from factory.evaluation.metrics import Estimate
from factory.evaluation.table_verdict import NumberEvaluation, TableEvaluation, in_short, score_of
from factory.evaluation.verdict import (
    STUDENT,
    VERDICT_COLUMNS,
    Evaluation,
    in_percent,
    verdict_sentence,
    verdict_table,
)

AnyEvaluation = Evaluation | NumberEvaluation

ROW_COLUMNS = ("", "rows", "AUC", "average precision", "accuracy, %", "log loss", "Brier", "student minus this, AUC")
NUMBER_COLUMNS = ("", "rows", "R2", "mean absolute error", "root mean square error", "student minus this, R2")
BASELINES = ("linear", "real-rows", "ceiling", "majority", "mean")
"""Whom the sentence compares the student with, the first that there is."""


def is_table(verdict: AnyEvaluation) -> bool:
    """Tell whether it is about rows of a table."""
    return isinstance(verdict, TableEvaluation | NumberEvaluation)


def table_of(verdict: AnyEvaluation) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and lines of the table of contenders, the released student first; intervals are 95%."""
    if isinstance(verdict, NumberEvaluation):
        return NUMBER_COLUMNS, [_number_line(verdict, one.name, one.n) for one in verdict.contenders]
    if verdict.scores:
        return ROW_COLUMNS, [
            _row_line(verdict, one.name, one.n, one.accuracy, (one.log_loss, one.brier)) for one in verdict.contenders
        ]
    return VERDICT_COLUMNS, [tuple(line) for line in verdict_table(verdict)]


def sentence_of(verdict: AnyEvaluation) -> str:
    """Say in two or three sentences how good the student is, how sure that is, and how it compares."""
    if not isinstance(verdict, NumberEvaluation) and not verdict.scores:
        return verdict_sentence(verdict)
    figure, name = figure_of(verdict)
    found = score_of(verdict, STUDENT, figure)
    rows = f"{verdict.n_rows:,} {'gold' if verdict.gold else 'training'} rows"
    said = f"{verdict.champion} has {name} {in_short(found.estimate) if found else 'unknown'} on {rows}"
    if isinstance(verdict, Evaluation):
        said += f" and answers {in_percent(verdict.student.accuracy)} % of them right"
    said += " (95 % intervals)."
    if not verdict.gold:
        said += " There was no holdout: each row was answered by a student that had not seen it, chosen by these rows."
    compared = (score_of(verdict, other, figure) for other in BASELINES if other != verdict.champion)
    other = next((one for one in compared if one is not None and one.minus is not None), None)
    if other is None or other.minus is None:
        return said
    minus = other.minus
    sure = "better" if minus.low > 0 else "worse" if minus.high < 0 else "not shown to differ"
    return f"{said} Against {other.contender}: {in_signed(minus)}, {sure}."


def figure_of(verdict: AnyEvaluation) -> tuple[str, str]:
    """Return the figure that students of a table are compared by: its key, and its name for people."""
    return ("r2", "R2") if isinstance(verdict, NumberEvaluation) else ("auc", "AUC")


def in_signed(estimate: Estimate) -> str:
    """Write a difference of such figures with its interval; every number has a sign."""
    return f"{estimate.value:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f})"


def metrics_of(verdict: AnyEvaluation) -> dict[str, float]:
    """Return the released student's figures for the registry."""
    metrics = {one.figure: one.estimate.value for one in verdict.scores if one.contender == STUDENT}
    if isinstance(verdict, Evaluation):
        metrics |= {"accuracy": verdict.student.accuracy.value, "macro_f1": verdict.student.macro_f1.value}
    return metrics


def gate_figures(verdict: AnyEvaluation) -> dict[str, float | None]:
    """Return what the gate asks for, by the name of its bound; None where there are no gold rows to say."""
    known = metrics_of(verdict) if verdict.gold else {}
    return {name: known.get(name) for name in ("accuracy", "macro_f1", "auc", "r2")}


def _name(verdict: AnyEvaluation, name: str) -> str:
    return f"{name} ({verdict.champion})" if name == STUDENT else name


def _figure(verdict: AnyEvaluation, name: str, figure: str) -> str:
    found = score_of(verdict, name, figure)
    if found is None:
        return ""
    # Errors have the unit of the answer, and so any size.
    return in_short(found.estimate, 3 if abs(found.estimate.value) < 100 else 1)


def _minus(verdict: AnyEvaluation, name: str, figure: str) -> str:
    found = score_of(verdict, name, figure)
    if found is None or found.minus is None:
        return ""
    return in_signed(found.minus)


def _row_line(
    verdict: Evaluation, name: str, n: int, accuracy: Estimate, losses: tuple[float | None, float | None]
) -> tuple[str, ...]:
    return (
        _name(verdict, name),
        f"{n:,}",
        _figure(verdict, name, "auc"),
        _figure(verdict, name, "average_precision"),
        in_percent(accuracy),
        *("" if one is None else f"{one:.3f}" for one in losses),
        _minus(verdict, name, "auc"),
    )


def _number_line(verdict: NumberEvaluation, name: str, n: int) -> tuple[str, ...]:
    figures = (_figure(verdict, name, figure) for figure in ("r2", "mae", "rmse"))
    return (_name(verdict, name), f"{n:,}", *figures, _minus(verdict, name, "r2"))


GROUP_COLUMNS = ("column", "group", "rows", "selected, %", "wrongly selected, %", "wrongly left out, %", "AUC")
NUMBER_GROUP_COLUMNS = ("column", "group", "rows", "mean error", "mean absolute error")


def groups_of(verdict: AnyEvaluation) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and lines of the table of protected groups; no lines where the spec protects no column."""
    headings = NUMBER_GROUP_COLUMNS if isinstance(verdict, NumberEvaluation) else GROUP_COLUMNS
    return headings, [_group_line(one, len(headings), bool(verdict.labels)) for one in _groups(verdict)]


def groups_sentence(verdict: AnyEvaluation) -> str:
    """Say what the table of protected groups shows, and of whom it cannot say anything."""
    groups = _groups(verdict)
    if not groups:
        return ""
    small = [f"{one.column} {one.group} ({one.n})" for one in groups if one.is_too_small]
    said = f"Too few rows to say anything (below {LEAST_ROWS}): {', '.join(small)}. " if small else ""
    if isinstance(verdict, NumberEvaluation):
        return f"{said}Mean error: answer less right number."
    return (
        f"{said}Selected: answered {verdict.labels[-1]!r}. Wrongly selected: of the rows of other labels; wrongly left "
        "out: of its own. With many groups, some intervals differ by chance alone."
    )


def _groups(verdict: AnyEvaluation) -> tuple[GroupScore, ...]:
    return verdict.groups if isinstance(verdict, TableEvaluation | NumberEvaluation) else ()


def _group_line(one: GroupScore, n_cells: int, of_labels: bool) -> tuple[str, ...]:
    rows = f"{one.n:,} ({one.n_positive:,} of the last label)" if of_labels else f"{one.n:,}"
    if one.is_too_small:
        return (one.column, one.group, rows, "too few rows", *[""] * (n_cells - 4))
    if not of_labels:
        return (one.column, one.group, rows, *("" if it is None else in_short(it) for it in (one.mean_error, one.mae)))
    rates = (one.selected, one.false_positive, one.false_negative)
    return (
        one.column,
        one.group,
        rows,
        *("too few rows" if rate is None else in_percent(rate) for rate in rates),
        "too few rows" if one.auc is None else in_short(one.auc),
    )
