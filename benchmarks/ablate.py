"""What each step of a build earns: the build again without it, or with one that it lacks, on the same gold rows.

python -m benchmarks.ablate --data FOLDER --set trec6 --regime z1 --replay       from recorded replies
python -m benchmarks.ablate --data FOLDER --set trec6 --regime z1 --encoder all-mpnet-base-v2 --outputs OUT --record
python -m benchmarks.ablate --data FOLDER --set snips_intent --regime z0 --arms verify label-noise +contrastive

No arm may ask the teacher more than the whole recipe did. All share one reply store and one folder of stages, so that
what they have in common is asked, trained and encoded once. A step's line says what it earns: accuracy with it minus
accuracy without it, paired over the gold rows, with its 95% interval. Steps that begin with + are off by default; the
other figures of a line are those of the arm. All are of the chosen student in float32, before export.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from benchmarks.cells import Gold, Setup, add_options, exit_code, opened, prepare, record, recording_path, table
from benchmarks.holdout import require_unread
from factory.evaluation.verdict import in_percent, in_points
from factory.records import Predictions, Rows
from factory.spec import DEFAULT_ENCODER, Budget, LoopSpec, Plugin, Spec
from factory.store import Artifact
from factory.synthesis import STRATEGIES
from factory.synthesis.labels import LABELS, LabelsOptions
from flows.augmentation import gather_real
from flows.cascading import set_calibration_aside
from flows.recipe import filter_noise, pick, read_file, train, with_self_trained, write_rows
from flows.steps import predict

PLAIN_OPTIONS = frozenset(LABELS.options.model_fields)
WHOLE = "the whole recipe"
SUFFIX = "-ablation"
"""Of recordings: they hold what all arms asked."""


@dataclass(frozen=True)
class Arm:
    """One step and what stands in its place."""

    instead: str
    change: Callable[[Spec], Spec | None]
    """None where the spec has no such step, or has it already."""
    adds: bool = False
    """The whole recipe does without the step, and the arm has it."""


@dataclass(frozen=True)
class Outcome:
    """What an arm ends with."""

    student: str
    n_rows: int
    """Trained on."""
    calls: int
    """Of the teacher, stored replies included: what the arm would ask from scratch."""
    answers: Predictions
    """To the gold rows."""
    artifacts: Sequence[Artifact[Any]]
    gold: Artifact[Rows]


@dataclass(frozen=True)
class Line:
    """One line of the table; accuracies in percent, differences in points, with 95% intervals."""

    step: str
    instead: str
    accuracy: str
    macro_f1: str
    earned: str
    earned_macro_f1: str
    student: str
    n_rows: int
    calls: int


def _part(spec: Spec, part: str, **changes: Any) -> Spec:
    return spec.model_copy(update={part: getattr(spec, part).model_copy(update=changes)})


def _votes(spec: Spec) -> bool:
    return spec.data.pool is not None and spec.labelling.label_pool > 0 and bool(spec.labelling.voters)


def _voters(spec: Spec, voters: tuple[Plugin, ...]) -> Spec | None:
    return _part(spec, "labelling", voters=voters) if _votes(spec) and voters != spec.labelling.voters else None


def _teacher_votes(**params: Any) -> Callable[[Spec], Spec | None]:
    """Ask the teacher for labels of the pool in another way."""

    def change(spec: Spec) -> Spec | None:
        voters = tuple(
            Plugin(name=one.name, params={**one.params, **params}) if one.name == "teacher" else one
            for one in spec.labelling.voters
        )
        return _voters(spec, voters)

    return change


def _strategies(spec: Spec, strategies: tuple[Plugin, ...]) -> Spec | None:
    changed = strategies != spec.synthesis.strategies
    return _part(spec, "synthesis", strategies=strategies) if changed else None


def _plain_prompts(spec: Spec) -> Spec | None:
    """Describe a label and ask for texts, in the genre and as long as before."""
    if not spec.synthesis.strategies:
        return None
    kept = {key: value for key, value in spec.synthesis.strategies[0].params.items() if key in PLAIN_OPTIONS}
    return _strategies(spec, (Plugin(name="labels", params=kept),))


def _without_strategy(name: str) -> Callable[[Spec], Spec | None]:
    def change(spec: Spec) -> Spec | None:
        left = tuple(plugin for plugin in spec.synthesis.strategies if plugin.name != name)
        return _strategies(spec, left) if left else None

    return change


def _no_demonstrations(spec: Spec) -> Spec | None:
    strategies = tuple(
        Plugin(name=one.name, params={**one.params, "demonstrations": 0}) if STRATEGIES[one.name].takes_real else one
        for one in spec.synthesis.strategies
    )
    return _strategies(spec, strategies) if _has_real_texts(spec) else None


def _has_real_texts(spec: Spec) -> bool:
    return any(key is not None for key in (spec.data.pool, spec.data.seeds, spec.data.train))


def _without_filter(name: str) -> Callable[[Spec], Spec | None]:
    def change(spec: Spec) -> Spec | None:
        left = tuple(plugin for plugin in spec.curation if plugin.name != name)
        return spec.model_copy(update={"curation": left}) if left != spec.curation else None

    return change


def _small_encoder(spec: Spec) -> Spec | None:
    if spec.encoder == DEFAULT_ENCODER:
        return None
    students = tuple(
        Plugin(name=one.name, params={key: value for key, value in one.params.items() if key != "encoder"})
        for one in spec.students
    )
    return spec.model_copy(update={"encoder": DEFAULT_ENCODER, "students": students})


def _linear(spec: Spec) -> Spec | None:
    blend = next((one for one in spec.students if one.name == "blend"), None)
    if blend is None:
        return None
    encoder = {key: value for key, value in blend.params.items() if key == "encoder"}
    return spec.model_copy(update={"students": (Plugin(name="sentence-linear", params=encoder),)})


def _majority(spec: Spec) -> Spec | None:
    return _part(spec, "labelling", aggregation=Plugin(name="majority")) if _votes(spec) else None


def _written(spec: Spec) -> Spec | None:
    return _strategies(spec, ()) if _has_real_texts(spec) else None


def _with_strategy(name: str) -> Callable[[Spec], Spec | None]:
    def change(spec: Spec) -> Spec | None:
        had = spec.synthesis.strategies
        if not had or any(plugin.name == name for plugin in had):
            return None
        params = {key: value for key, value in had[0].params.items() if key in STRATEGIES[name].options.model_fields}
        return _strategies(spec, (*had, Plugin(name=name, params=params)))

    return change


def _with_option(name: str, value: Any) -> Callable[[Spec], Spec | None]:
    def change(spec: Spec) -> Spec | None:
        changed = tuple(
            one.model_copy(update={"params": {**one.params, name: value}})
            if name in STRATEGIES[one.name].options.model_fields and one.params.get(name) is None
            else one
            for one in spec.synthesis.strategies
        )
        return _strategies(spec, changed)

    return change


def _loop(spec: Spec) -> Spec | None:
    """Write half of each label's rows first, and then about as many in rounds; these may end with fewer rows."""
    synthesis = spec.synthesis
    if not synthesis.strategies or synthesis.loop is not None:
        return None
    half = max(1, spec.wanted_per_label // 2)
    options = cast(LabelsOptions, STRATEGIES[synthesis.strategies[0].name].options(**synthesis.strategies[0].params))
    loop = LoopSpec(stop_gain=0)
    n_prompts = max(2, math.ceil(half * len(spec.labels) / options.texts_per_call / loop.rounds))
    return _part(spec, "synthesis", per_label=half, loop=loop.model_copy(update={"prompts_per_round": n_prompts}))


PERSONAS = [
    "a pupil", "a retired teacher", "a nurse after a long shift", "a tourist", "a farmer", "a lawyer",
    "somebody who learned the language late", "a busy parent", "a student of engineering", "a shop assistant",
]  # fmt: skip
"""Of the arm `+personas`: nobody whom only one of the tasks knows."""

ARMS: Mapping[str, Arm] = {
    "written texts": Arm("real texts alone", _written),
    "attributes": Arm("plain prompts: the strategy `labels`", _plain_prompts),
    "contrastive": Arm("the other strategies write its share", _without_strategy("contrastive")),
    "demonstrations": Arm("written texts follow no real ones", _no_demonstrations),
    "verify": Arm(
        "written texts keep the label they were written for",
        lambda spec: _part(spec, "labelling", verify=False) if spec.labelling.verify else None,
    ),
    "dedup": Arm("no such filter", _without_filter("dedup")),
    "label-noise": Arm("no such filter", _without_filter("label-noise")),
    "clusters": Arm(
        "the nearest description votes in their place",
        lambda spec: _voters(spec, (Plugin(name="teacher"), Plugin(name="nearest-description"))),
    ),
    "vote of the clusters": Arm(
        "the teacher alone labels the pool", lambda spec: _voters(spec, (Plugin(name="teacher"),))
    ),
    "vote of the teacher": Arm(
        "the clusters alone label the pool",
        lambda spec: _voters(spec, (Plugin(name="clusters"),)),
    ),
    "pooled": Arm("majority of the votes", _majority),
    "calibration": Arm("the teacher's distributions as they are", _teacher_votes(calibrate=False)),
    "self-training": Arm(
        "the student sees no rows that another student labelled",
        lambda spec: (
            _part(spec, "labelling", self_training=None) if spec.data.pool and spec.labelling.self_training else None
        ),
    ),
    "encoder": Arm(f"{DEFAULT_ENCODER} everywhere", _small_encoder),
    "hard labels": Arm(
        "soft labels", lambda spec: _part(spec, "labelling", soft_labels=not spec.labelling.soft_labels)
    ),
    "blend": Arm("sentence-linear with the same encoder", _linear),
    "+contrastive": Arm("the other strategies alone", _with_strategy("contrastive"), adds=True),
    "+loop": Arm("all rows are written at once", _loop, adds=True),
    "+personas": Arm("nobody in particular speaks", _with_option("personas", PERSONAS), adds=True),
    "+foreign things": Arm("all things are used", _with_option("foreign_margin", 0.25), adds=True),
    "+candidates": Arm("the teacher is asked for one label", _teacher_votes(ask="candidates"), adds=True),
    "+rationale": Arm("the teacher is asked for the label alone", _teacher_votes(ask="rationale"), adds=True),
}
"""By the name of the step that an arm does without or, with a +, that it alone has."""


def learn(setup: Setup, spec: Spec, budget: Budget) -> Outcome:
    """Go from a spec to answers for the gold rows.

    Args:
        setup: Data, outputs and replies.
        spec: Of the task, changed as the arm wants it.
        budget: The most the teacher may be asked.

    Returns:
        What came of it.

    Raises:
        HoldoutRead: Something else than the final report read gold rows.
        RepliesMissing: It is a replay, and something is asked that was not recorded.
    """
    task = replace(setup.task, spec=spec)
    with opened(replace(setup, task=task), budget=budget) as run:
        # As in `flows.recipe.recipe`, without what comes after the choice of a student; a test holds the two together.
        files = set_calibration_aside(task, {key: read_file(task, key, run) for key in task.files}, run)
        real = gather_real(task, files, run)
        rows = filter_noise(task, write_rows(task, files, real, run.teacher, run).rows, run)
        taught = with_self_trained(task, files, rows, run)
        students = {plugin.name: train(task, plugin, rows, run, taught=taught) for plugin in spec.students}
        champion = pick(students, rows, run)
        answers = predict(students[champion].fitted, files["holdout"], champion, run).load()
        require_unread(run.artifacts)
        n_rows, calls = len(taught.load().kept), run.teacher.spending.calls
        return Outcome(champion, n_rows, calls, answers, tuple(run.artifacts), files["holdout"])


def ablate(setup: Setup, arms: Sequence[str]) -> tuple[list[Line], list[Artifact[Any]]]:
    """Run the whole recipe, then each arm; return a line for each, and all stages."""
    spec = setup.task.spec
    whole = learn(setup, spec, spec.teacher.budget)
    gold = Gold.of(spec.label_names, whole.gold.load(), seed=spec.seed)
    lines = [_line(WHOLE, None, whole, whole, gold)]
    artifacts = list(whole.artifacts)
    for name in arms:
        changed = ARMS[name].change(spec)
        if changed is None:
            print(f"  {name}: not a step of this build", file=sys.stderr, flush=True)
            continue
        verb, other = ("with", "without it") if ARMS[name].adds else ("without", "instead")
        print(f"-- {verb} {name.lstrip('+')}; {other}: {ARMS[name].instead}", file=sys.stderr, flush=True)
        outcome = learn(setup, changed, Budget(calls=whole.calls))
        lines.append(_line(name, ARMS[name], whole, outcome, gold))
        artifacts += outcome.artifacts
    return lines, artifacts


def _line(step: str, arm: Arm | None, whole: Outcome, outcome: Outcome, gold: Gold) -> Line:
    having, lacking = (outcome, whole) if arm and arm.adds else (whole, outcome)
    return Line(
        step=step,
        instead=arm.instead if arm else "",
        accuracy=in_percent(gold.estimate("accuracy", outcome.answers)),
        macro_f1=in_percent(gold.estimate("macro_f1", outcome.answers)),
        earned=in_points(gold.difference("accuracy", having.answers, lacking.answers)) if arm else "",
        earned_macro_f1=in_points(gold.difference("macro_f1", having.answers, lacking.answers)) if arm else "",
        student=outcome.student,
        n_rows=outcome.n_rows,
        calls=outcome.calls,
    )


def markdown(lines: Sequence[Line]) -> str:
    """Write the table for docs/benchmarks.md."""
    head = (
        "step", "without it", "accuracy, %", "macro-F1, %", "the step earns, points of accuracy", "of macro-F1",
        "student", "training rows", "teacher calls",
    )  # fmt: skip
    rows = (
        (
            one.step, one.instead, one.accuracy, one.macro_f1, f"**{one.earned}**" if one.earned else "",
            one.earned_macro_f1, one.student, f"{one.n_rows:,}", f"{one.calls:,}",
        )
        for one in lines
    )  # fmt: skip
    return table(head, rows)


def main() -> None:
    """Run the arms and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--set", required=True, metavar="SET", help="such as trec6")
    parser.add_argument(
        "--arms", nargs="+", choices=list(ARMS), default=list(ARMS), help="steps to do without or, with a +, to add"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        setup = prepare(options, options.set, Path(scratch), suffix=SUFFIX, ask_directly=False)
        lines, artifacts = ablate(setup, options.arms)
        if options.record:
            record(setup, recording_path(options.set, options.regime, SUFFIX), artifacts)
    print("\n".join(json.dumps(asdict(line)) for line in lines) if options.json else markdown(lines))


if __name__ == "__main__":
    sys.exit(exit_code(main))
