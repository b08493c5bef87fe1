"""Rounds with a student in the loop: write more of what it finds hard, and stop when more rows would not help.

Half of a round's prompts are as in any other round. Their texts tell how good the student is that was trained on the
rows before them, and keep the training set from becoming one of borderline cases. The other half is about the rows and
the labels that it finds hard.
"""

from collections.abc import Sequence
from typing import cast

from factory.curation.gather import GATHER, GatherParams
from factory.evaluation.learning_curve import LEARNING_CURVE, CurveParams, LearningCurve
from factory.records import Rows
from factory.spec import LoopSpec, Plugin
from factory.store import Artifact
from factory.students.training import resources_for
from factory.synthesis import STRATEGIES
from factory.synthesis.focus import FOCUS, Focus, FocusParams, spread
from factory.synthesis.labels import LabelsOptions
from flows.rounds import Writing
from flows.steps import cross_predict, named

LOOP_STUDENT = Plugin(name="sentence-linear", params={"strength": 10.0, "anchor_weight": 3.0, "prototype_prior": 0.0})
"""Is fitted a dozen times a round, so its settings are not searched; and they do not change with the number of rows, or
the curve would show that too."""

PROMPTS_PER_LABEL = 2
"""In a round, unless the spec says otherwise."""
FRESH_ROUND, HARD_ROUND = 100, 200
"""Added to the number of a round for its draws: no prompt is that of another round, whatever `max_rounds` is."""


def write_what_is_hard(
    writing: Writing, rows: Artifact[Rows], loop: LoopSpec
) -> tuple[Artifact[Rows], tuple[Artifact[LearningCurve], ...]]:
    """Write, train, look at what is hard, and write again.

    Args:
        writing: What has been made, and where more is put.
        rows: All of it, filtered.
        loop: How many rounds, how large, and when to stop.

    Returns:
        All rows, and a learning curve for each round that was written.
    """
    run, curves = writing.run, list[Artifact[LearningCurve]]()
    for round_ in range(1, loop.rounds + 1):
        before = run.peek(rows)
        if writing.ended_early or (before is not None and len(set(before.kept["label"])) < 2):
            break
        seen = _with_real(writing, rows, round_)
        fresh = _write_round(writing, seen, loop, round_)
        rows = writing.gather(f"loop-{round_}")
        after = run.peek(rows)
        curves.append(_measure(writing, seen, fresh, _n_added(before, after), round_))
        curve = run.peek(curves[-1])
        if curve is None or curve.gain is None or curve.gain.value < loop.stop_gain:
            break  # a plan knows of one round only
    return rows, tuple(curves)


def _with_real(writing: Writing, rows: Artifact[Rows], round_: int) -> Artifact[Rows]:
    """Add the rows that people labelled: what they teach need not be written."""
    if writing.real is None:
        return rows
    parts = {"rows": rows, "real": writing.real}
    return writing.run(named(GATHER, f"seen-{round_}"), GatherParams(), inputs=parts)


def _write_round(writing: Writing, seen: Artifact[Rows], loop: LoopSpec, round_: int) -> dict[str, Artifact[Rows]]:
    """Write a round within its budget; return what was written as in any round, by strategy."""
    spec, run = writing.task.spec, writing.run
    n_labels, plugins = len(spec.labels), spec.synthesis.strategies
    focused = [plugin for plugin in plugins if STRATEGIES[plugin.name].takes_focus]
    n_prompts = loop.prompts_per_round or PROMPTS_PER_LABEL * n_labels
    n_hard = n_prompts // 2 if focused else 0
    fresh = {}
    for plugin, prompts in _shares(plugins, n_prompts - n_hard, [1.0] * n_labels, round_):
        wanted = _texts(plugin, prompts)
        fresh[plugin.name] = writing.write(plugin, wanted, f"loop-{round_}", FRESH_ROUND + round_)
    if not n_hard:
        return fresh
    oof = cross_predict(writing.task, LOOP_STUDENT, seen, f"loop-{round_}", run)
    params = FocusParams(labels=spec.label_names)
    focus = run(named(FOCUS, round_), params, inputs={"rows": seen, "oof": oof})
    known = run.peek(focus)
    # A plan does not know what will be hard, only how much may be asked.
    weights = Focus(known).weights(spec.label_names) if known else [1.0] * n_labels
    for plugin, prompts in _shares(focused, n_hard, weights, round_):
        writing.write(plugin, _texts(plugin, prompts), f"hard-{round_}", HARD_ROUND + round_, focus)
    return fresh


def _shares(
    plugins: Sequence[Plugin], n_prompts: int, weights: Sequence[float], round_: int
) -> list[tuple[Plugin, tuple[int, ...]]]:
    """Share prompts out evenly among strategies, and by weight among labels; leave out who has none."""
    n_each = spread(n_prompts, [1.0] * len(plugins), start=round_)
    shared = []
    for place, (plugin, n) in enumerate(zip(plugins, n_each, strict=True)):
        prompts = spread(n, weights, start=round_ * n_prompts + place * n)
        shared += [(plugin, prompts)] if any(prompts) else []
    return shared


def _texts(plugin: Plugin, prompts: Sequence[int]) -> list[int]:
    """Return how many texts of each label so many prompts ask for."""
    options = cast(LabelsOptions, STRATEGIES[plugin.name].options(**plugin.params))
    return [options.texts_per_call * n for n in prompts]


def _measure(
    writing: Writing, seen: Artifact[Rows], fresh: dict[str, Artifact[Rows]], n_added: int, round_: int
) -> Artifact[LearningCurve]:
    spec = writing.task.spec
    params = CurveParams(
        labels=spec.labels,
        student=LOOP_STUDENT.name,
        params=LOOP_STUDENT.params,
        n_added=n_added,
        seed=spec.seed,
    )
    resources = resources_for(LOOP_STUDENT.name, LOOP_STUDENT.params)
    return writing.run(named(LEARNING_CURVE, round_), params, inputs={"rows": seen, **fresh}, resources=resources)


def _n_added(before: Rows | None, after: Rows | None) -> int:
    return max(0, len(after.kept) - len(before.kept)) if before and after else 0
