"""Writing until each label has enough rows: rounds of asking, verifying, filtering and counting."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.check import Task
from factory.curation import FILTERS
from factory.curation.description import DESCRIPTION
from factory.curation.gather import GATHER, GatherParams
from factory.curation.label_noise import LABEL_NOISE
from factory.curation.leakage import LEAKAGE
from factory.encoders import load_encoder
from factory.errors import TeacherError
from factory.labelling.verify import VERIFY
from factory.labelling.voters import TEACHER
from factory.records import Rows
from factory.spec import Plugin
from factory.store import Artifact
from factory.synthesis import STRATEGIES
from factory.synthesis.strategy import WriteParams
from factory.teacher import Teacher
from flows.augmentation import REAL_KEYS, augment, count_real, expected_varied, real_texts
from flows.pool import label_real, settle
from flows.reviewed import ACCEPTED, count_accepted, drop_decided
from flows.steps import Runner, ask_descriptions, named, verify_params

EXPECTED_ACCEPTED_RATIO = 0.8
"""Share of written rows that survive, until the first round has measured it label by label."""
LEAST_ACCEPTED_RATIO = 0.2
"""A label whose texts nearly all fail is asked for at most five times what is missing."""


@dataclass
class Writing:
    """Rows in the making, and what every round needs to make more."""

    task: Task
    files: Mapping[str, Artifact[Rows]]
    """The data files; pool rows are trained on once the teacher has labelled a sample of them."""
    real: Artifact[Rows] | None
    """Rows that people labelled; varied, shown to the teacher, and trained on."""
    teacher: Teacher
    run: Runner
    others: Mapping[str, Teacher] = field(default_factory=dict)
    """Whom else to ask about pool rows, by name."""
    parts: dict[str, Artifact[Rows]] = field(default_factory=dict)
    """What has been made, by whom and in which round; gathered after each."""
    steps: list[Artifact[Rows]] = field(default_factory=list)
    """All that was asked of the teacher on the way, with what was rejected."""
    accepted: Artifact[Rows] | None = None
    """Written rows that people approved of: counted as written, and trained on."""
    like: Artifact[Rows] | None = None
    """Real texts that written ones shall be like."""

    def begin(self) -> None:
        """Let the teacher label real texts and vary labelled ones."""
        # Rows of the pool come first, so that of two that say the same the made one goes. Rows that people labelled
        # never pass a filter with made ones: made ones too near to them go.
        labelled = label_real(self.task, self.files, {TEACHER: self.teacher, **self.others}, self.run)
        if labelled is not None:
            self.parts["pool"] = settle(
                self.task, labelled, self.run, pool=self.files.get("pool"), reviewed=self.files.get("reviewed")
            )
        for name, made in augment(self.task, self.real, self.teacher, self.run).items():
            self.parts[name] = made[-1]
            self.steps += made
        self.like = real_texts(self.files, self.real, self.parts.get("pool"), self.run)

    def write(
        self, plugin: Plugin, wanted: Sequence[int], suffix: str, round_: int, focus: Artifact[Rows] | None = None
    ) -> Artifact[Rows]:
        """Let one strategy write, like real rows if there are any, and the teacher label that again.

        Args:
            plugin: The strategy.
            wanted: Texts of each label.
            suffix: Tells the round in names of stages.
            round_: Tells it to the draws.
            focus: What a student finds hard, if it shall write of that.

        Returns:
            What was verified; as written, where nothing is.
        """
        spec, strategy = self.task.spec, STRATEGIES[plugin.name]
        params = WriteParams(
            description=spec.description,
            labels=spec.labels,
            wanted=tuple(wanted),
            round=round_,
            seed=spec.seed,
            options=strategy.options(**plugin.params),
        )
        resources: dict[str, Any] = {"teacher": self.teacher}
        inputs = {"real": self.like} if self.like is not None and strategy.takes_real else {}
        if inputs or strategy.needs_encoder(params.options):
            resources["encoder"] = load_encoder(spec.encoder)
        if focus is not None:
            inputs["focus"] = focus
        rows = self.run(named(strategy.stage, suffix), params, inputs=inputs, resources=resources)
        self.steps.append(rows)
        if spec.labelling.verify:
            stage = named(VERIFY, f"{plugin.name}-{suffix}")
            rows = self.run(stage, verify_params(self.task), inputs={"rows": rows}, resources={"teacher": self.teacher})
            self.steps.append(rows)
        self.parts[f"{plugin.name}-{suffix}"] = rows
        return rows

    def gather(self, suffix: str) -> Artifact[Rows]:
        """Gather all parts, and filter them."""
        rows = self.run(named(GATHER, suffix), GatherParams(), inputs=self.parts)
        return curate(self.task, rows, self.files, suffix, self.run)

    @property
    def ended_early(self) -> bool:
        """Whether the budget stopped one of the steps."""
        known = (self.run.peek(step) for step in self.steps)
        return any(step is not None and step.report.get("stopped") == "budget" for step in known)


def fill_labels(writing: Writing) -> Artifact[Rows] | None:
    """Write, verify, filter and count until each label has the rows that the spec wants.

    Args:
        writing: What is there before any writing.

    Returns:
        All rows made so far; None where real ones are enough and none were made.
    """
    spec, run = writing.task.spec, writing.run
    per_label = spec.wanted_per_label
    n_real = count_real(writing.task, writing.real, run)
    missing = {label: max(0, per_label - n_real[label]) for label in spec.label_names}
    accepted_ratio = dict.fromkeys(spec.label_names, EXPECTED_ACCEPTED_RATIO)
    asked: Counter[str] = Counter()
    before: Counter[str] = Counter()
    rows: Artifact[Rows] | None = None
    n_rounds = spec.synthesis.max_rounds if any(missing.values()) else 0
    for round_ in range(0 if writing.parts else 1, n_rounds + 1):  # round 0: what is there before any writing
        wanted = {label: math.ceil(n / accepted_ratio[label]) for label, n in missing.items()} if round_ else {}
        asked.update(wanted)
        for plugin in spec.synthesis.strategies if wanted else ():
            share = [math.ceil(n / len(spec.synthesis.strategies)) for n in wanted.values()]
            writing.write(plugin, share, str(round_), round_)
        rows = writing.gather(str(round_))
        known = run.peek(rows)
        is_enough = "pool" in writing.parts and spec.labelling.label_pool >= per_label * len(spec.labels)
        if known is None and (round_ or is_enough):
            break  # a plan: more rounds, and rows for labels that the pool lacks, are only known when they are needed
        counts = Counter(known.kept["label"]) if known else expected_varied(writing.task)
        counts += count_accepted(writing.accepted, run)
        missing = {label: max(0, per_label - n_real[label] - counts[label]) for label in spec.label_names}
        if not any(missing.values()) or not spec.synthesis.strategies or writing.ended_early:
            break
        if round_:
            for label, n in asked.items():
                ratio = (counts[label] - before[label]) / max(1, n)
                accepted_ratio[label] = min(1.0, max(LEAST_ACCEPTED_RATIO, ratio))
        else:
            before = counts
    return rows


def curate(
    task: Task, rows: Artifact[Rows], files: Mapping[str, Artifact[Rows]], suffix: str, run: Runner
) -> Artifact[Rows]:
    """Apply the spec's filters that need no trained student, in spec order."""
    encoder = load_encoder(task.spec.encoder)
    protected = {key: files[key] for key in ("holdout", *REAL_KEYS, ACCEPTED) if key in files}
    rows = drop_decided(files, rows, suffix, run)
    for plugin in task.spec.curation:
        stage = FILTERS[plugin.name]
        if stage is LABEL_NOISE:
            continue
        inputs: dict[str, Artifact[Any]] = {"rows": rows, **(protected if stage is LEAKAGE else {})}
        if stage is DESCRIPTION:
            inputs["opinion"] = ask_descriptions(task, rows, suffix, run)
        resources = {} if stage is DESCRIPTION else {"encoder": encoder}
        rows = run(named(stage, suffix), stage.params(**plugin.params), inputs=inputs, resources=resources)
    return rows


def require_two_labels(writing: Writing, rows: Artifact[Rows]) -> None:
    """Stop where there is nothing to learn from, and say why there is not.

    Args:
        writing: What the teacher wrote and verified, with what was rejected.
        rows: Training rows.

    Raises:
        TeacherError: Fewer than two labels have a row.
    """
    known = writing.run.peek(rows)
    if known is None or len(set(known.kept["label"])) > 1:
        return
    reasons: Counter[str] = Counter()
    for step in writing.steps:
        found = writing.run.peek(step)
        reasons.update(found.rejected["reason"][:] if found else ())
    why = ", ".join(f"{reason} {n}" for reason, n in reasons.most_common(5)) or "no texts came back"
    if writing.ended_early:
        why, hint = f"{why}; the budget was used up", "raise teacher.budget; what was paid for is kept"
    else:
        hint = "see rejected.parquet in the folders of these stages; another model or clearer descriptions may help"
    n_labels = len(set(known.kept["label"]))
    left = f"the teacher's texts leave {len(known.kept)} training rows for {n_labels} labels, and two labels are needed"
    raise TeacherError(f"{left}; rejected: {why}", hint=hint)
