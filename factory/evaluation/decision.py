"""The verdict in one word: replace the LLM, put a cascade in front of it, or keep it.

Of most tables no LLM was asked to answer the rows; then the verdict is on the student alone, against no learning.
"""

from enum import StrEnum

from factory.evaluation.cascade import CascadeChoice
from factory.evaluation.result import Part
from factory.evaluation.table_verdict import LINEAR, MEAN, NumberEvaluation, score_of
from factory.evaluation.telling import figure_of, in_signed, is_table
from factory.evaluation.verdict import Difference, Evaluation, in_percent, in_points

NO_LEARNING = ("majority", MEAN)
LEAST_SAVED = 0.05
"""Share of the texts that a cascade must surely answer without the LLM: less is not worth a second system."""


class Choice(StrEnum):
    """What to do with the LLM, or with the student where there is no LLM."""

    REPLACE = "replace"
    USE = "use"
    CASCADE = "cascade"
    KEEP = "keep"
    UNPROVEN = "unproven"

    @property
    def exit_code(self) -> int:
        """What `factory verdict` ends with, for scripts."""
        codes = {Choice.REPLACE: 0, Choice.USE: 0, Choice.CASCADE: 3, Choice.KEEP: 4, Choice.UNPROVEN: 5}
        return codes[self]


class Decision(Part):
    """What to do, and why."""

    choice: Choice
    why: str
    is_estimate: bool
    """True when no person labelled the rows it stands on."""

    @property
    def sentence(self) -> str:
        """The verdict for a person."""
        what = {
            Choice.REPLACE: "Replace the LLM",
            Choice.CASCADE: "Put the cascade in front of the LLM",
            Choice.KEEP: "Keep the LLM",
            Choice.USE: "Use the model; no LLM answered these rows, so there is none to replace",
            Choice.UNPROVEN: "The model is not shown to be worth using",
        }[self.choice]
        return f"{what}: {self.why}"


def decide(evaluation: "Evaluation | NumberEvaluation", cascade: CascadeChoice | None) -> Decision:
    """Decide by the paired comparison with the LLM on gold rows, and by what a cascade was shown to keep.

    Args:
        evaluation: Figures of the released student and of the teacher.
        cascade: Thresholds that were chosen for the task, if it has any.

    Returns:
        *Replace* where the student is surely within the spec's margin of the teacher; else *cascade* where one was
        certified that surely answers `LEAST_SAVED` of the texts without the teacher; else *keep*. Of a table whose rows
        no teacher answered: *use* where the student is surely better than no learning, and not surely worse than the
        linear student; else *unproven*.
    """
    if not isinstance(evaluation, Evaluation) or (is_table(evaluation) and evaluation.versus_teacher is None):
        return _worth(evaluation)
    difference = evaluation.versus_teacher if evaluation.gold else None
    if difference is not None and difference.is_non_inferior:
        return Decision(choice=Choice.REPLACE, why=_no_worse(difference), is_estimate=False)
    not_shown = _why_not(evaluation, difference)
    spared = ""
    if cascade is not None and cascade.is_certified and cascade.calls_teacher:
        if cascade.last_share.high <= 1 - LEAST_SAVED:
            share = f"only {in_percent(cascade.last_share)} % of the texts need the LLM"
            nobody = "" if cascade.abstained is None else f", and {in_percent(cascade.abstained)} % get no answer"
            why = f"{not_shown}, but {share}{nobody}. {cascade.promise}"
            return Decision(choice=Choice.CASCADE, why=why, is_estimate=cascade.truth != "gold")
        spared = f", and of the texts {in_percent(cascade.last_share)} % would need it in a cascade too"
    remedy = _remedy(evaluation, difference)
    return Decision(choice=Choice.KEEP, why=f"{not_shown}{spared}{remedy}.", is_estimate=False)


def _worth(evaluation: "Evaluation | NumberEvaluation") -> Decision:
    """Decide on a student of a table by what it adds to no learning at all."""
    if not evaluation.gold:
        why = "there are no gold rows; name some labelled rows under data.holdout."
        return Decision(choice=Choice.UNPROVEN, why=why, is_estimate=False)
    figure, name = figure_of(evaluation)
    guess = next((one for who in NO_LEARNING if (one := score_of(evaluation, who, figure)) is not None), None)
    if guess is None or guess.minus is None:
        why = f"the {evaluation.n_rows:,} gold rows cannot tell its {name}; label more of them."
        return Decision(choice=Choice.UNPROVEN, why=why, is_estimate=False)
    linear = score_of(evaluation, LINEAR, figure) if evaluation.champion != LINEAR else None
    is_worse = linear is not None and linear.minus is not None and linear.minus.high < 0
    why = f"on {evaluation.n_rows:,} gold rows its {name} less that of no learning ({guess.contender}) is "
    why += in_signed(guess.minus)
    if linear is not None and linear.minus is not None:
        why += f", less that of the linear student {in_signed(linear.minus)}"
    is_of_use = guess.minus.low > 0 and not is_worse
    return Decision(choice=Choice.USE if is_of_use else Choice.UNPROVEN, why=f"{why}.", is_estimate=False)


def _no_worse(difference: Difference) -> str:
    margin = f"{100 * difference.margin:g} points"
    said = "is better" if difference.accuracy.low > 0 else f"is no more than {margin} worse"
    return f"on {difference.n:,} gold rows the student {said}: {in_points(difference.accuracy)} points."


def _why_not(evaluation: Evaluation, difference: Difference | None) -> str:
    if not evaluation.gold:
        return "there are no gold rows, so nothing shows that the student alone is as good"
    if difference is None:
        return "the LLM was not asked about the gold rows, so nothing shows that the student alone is as good"
    points, margin = in_points(difference.accuracy), f"{100 * difference.margin:g} points"
    if difference.accuracy.high < -difference.margin:
        return f"on {difference.n:,} gold rows the student is worse by more than {margin} ({points} points)"
    return f"on {difference.n:,} gold rows the student is not shown to be within {margin} of the LLM ({points} points)"


def _remedy(evaluation: Evaluation, difference: Difference | None) -> str:
    if not evaluation.gold:
        return "; label some real rows and name them under data.holdout"
    if difference is None:
        return "; raise labelling.ask_directly"
    if difference.accuracy.low > -difference.margin and difference.n == evaluation.n_rows:
        return "; so few rows cannot show it: label more real ones"
    if difference.accuracy.high >= -difference.margin and difference.n < evaluation.n_rows:
        return f"; raise labelling.ask_directly, there are {evaluation.n_rows:,} gold rows"
    return ""
