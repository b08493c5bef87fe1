"""The end of a build: the release folder, its registration, and what a person is told."""

import hashlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from factory.check import Task
from factory.evaluation.audit import Audit
from factory.evaluation.explanation_panels import explanation_panels
from factory.evaluation.findings import worst_line
from factory.evaluation.learning_curve import Learning
from factory.evaluation.plots import Panel
from factory.evaluation.report import render_report
from factory.evaluation.telling import AnyEvaluation, is_table, metrics_of, sentence_of, table_of
from factory.evaluation.verdict import Evaluation
from factory.events import TeacherUsed
from factory.records import Rows
from factory.release.code import Code, this_code
from factory.release.gate import GateResult
from factory.release.package import PACKAGE, Lineage, PackageParams, Page, gate_result, stage_run
from factory.release.registry import Registry
from factory.release.versions import CHAMPION, Version
from factory.serving.why import word_panels
from factory.store import Artifact
from flows.licences import header_licence, licences_of
from flows.page import attribute_coverage, build_info, draw_map, headlines, table_origin, voter_facts
from flows.products import Products
from flows.steps import Runner
from flows.verdict import Verdict, figures, print_groups, verdict_of


@dataclass(frozen=True)
class Outcome:
    """What a build ends with."""

    evaluation: AnyEvaluation
    audit: Audit
    gate: GateResult
    version: Version
    folder: Path
    """The release: copy it anywhere and run its predict.py."""
    seconds: float
    teacher: TeacherUsed | None
    shortfall: dict[str, int] = field(default_factory=dict)
    """Labels with fewer training rows than wanted, and how many they lack."""
    judged: Verdict | None = None
    """What to do with the LLM."""
    unfinished: dict[str, str] = field(default_factory=dict)
    """Stages some of whose requests the teacher did not answer, and why: `budget` or `unavailable`."""
    learning: Learning | None = None
    """What rounds with a student in the loop taught; None without `synthesis.loop`."""
    asks: bool = False
    """Whether a person decides about the champion (`promotion: ask`)."""

    @property
    def waits(self) -> bool:
        """Whether the version passed its gate and waits for a person to make it the champion."""
        return self.asks and self.gate.passed and CHAMPION not in self.version.aliases

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        return sentence_of(self.evaluation)

    def as_json(self) -> dict[str, Any]:
        """Return the outcome for programs."""
        return {
            "event": "Verdict",
            "verdict": self.sentence,
            "decision": self.judged and self.judged.decision.choice.value,
            "decision_sentence": self.judged and self.judged.decision.sentence,
            "evaluation": self.evaluation.model_dump(mode="json"),
            "audit": self.audit.model_dump(mode="json"),
            "gate": self.gate.model_dump(mode="json"),
            "version": self.version.model_dump(mode="json"),
            "waits_for_approval": self.waits,
            "path": str(self.folder),
            "seconds": round(self.seconds, 1),
            "teacher": asdict(self.teacher) if self.teacher else None,
            "shortfall": self.shortfall,
            "unfinished": self.unfinished,
            "learning": {**self.learning.model_dump(mode="json"), "answer": self.learning.answer}
            if self.learning
            else None,
        }


def release(task: Task, products: Products, artifacts: list[Artifact[Any]], outputs: Path, run: Runner) -> Outcome:
    """Package the exported student with its card and report, and register it.

    Args:
        task: What was built.
        products: What the recipe gave.
        artifacts: Every stage of this build, in order.
        outputs: Where builds and the registry are.
        run: Runs the last stage.

    Returns:
        The outcome; its times and costs are filled in by the flow.
    """
    spec = task.spec
    evaluation, speed, audit = products.evaluation.load(), products.speed.load(), products.audit.load()
    rows = products.rows.load()
    mapped = draw_map(task, products, artifacts, run)
    artifacts = list({artifact.folder: artifact for artifact in (*artifacts, mapped)}.values())
    champion, teacher, code = products.made.champion, _teacher_identity(artifacts), this_code()
    params = PackageParams(
        name=spec.name,
        description=spec.description,
        labels=spec.labels,
        kind=spec.kind,
        table=spec.table,
        student=champion,
        n_training_rows=len(products.taught.load().kept),
        gate=spec.gate,
        unfinished=(unfinished := _unfinished(artifacts)),
        lineage=Lineage(
            spec_sha256=hashlib.sha256((task.folder / "spec.yaml").read_bytes()).hexdigest(),
            stages=tuple(stage_run(artifact) for artifact in artifacts),
            teacher=teacher,
            data_sha256={name: file.identity for name, file in task.files.items()},
        ),
        licence=header_licence(task, champion, teacher),
        licences=licences_of(task, champion, teacher),
        language=spec.language,
    )
    judged = verdict_of(artifacts, evaluation, speed, settings=spec.verdict, prices=spec.teacher.known_prices)
    choice = None if products.tiers is None else products.tiers.choice.load()
    learning = learned(task, products)
    info = build_info(task, artifacts, teacher=teacher, prices=spec.teacher.known_prices)
    explained = products.explanations.load() if products.explanations else None
    info = replace(
        info,
        audit=audit,
        cascade=choice,
        learning=learning,
        decision=judged.decision.sentence,
        trained_on=table_origin(products.taught.load()) if spec.kind.is_table else "",
        facts={**dict(figures(judged)), **voter_facts(artifacts)},
        headlines=headlines(evaluation, speed, info, params.n_training_rows),
        data_map=mapped.load(),
        coverage=() if spec.kind.is_table else attribute_coverage(artifacts, rows),
        explanations=(*explanation_panels(spec.table, evaluation, explained), *_of_words(products, evaluation)),
    )
    page = Page(render_report(evaluation, info), _identity(artifacts))
    inputs: dict[str, Artifact[Any]] = {
        "exported": products.made.exported,
        "speed": products.speed,
        "evaluation": products.evaluation,
        "audit": products.audit,
    }
    if products.refusal is not None:
        inputs["refusal"] = products.refusal
    if products.tiers is not None:
        inputs |= {"cascade": products.tiers.choice, **products.tiers.exported}
    released = run(PACKAGE, params, inputs=inputs, resources={"report": page, "code": code})
    gate = gate_result(spec.gate, speed, evaluation)
    version = Registry(outputs).register(
        spec.name,
        released.folder,
        metrics={**metrics_of(evaluation), "p95_ms": speed.p95_ms},
        tags=_tags(champion, evaluation, code),
        passed_gate=gate.passed,
        asks=(asks := spec.promotion == "ask"),
    )
    shortfall = {} if spec.kind.is_table else _shortfall(task, rows)
    return Outcome(
        evaluation,
        audit,
        gate,
        version,
        released.folder,
        0.0,
        None,
        shortfall,
        judged=judged,
        unfinished=unfinished,
        learning=learning,
        asks=asks,
    )


def _of_words(products: Products, evaluation: AnyEvaluation) -> tuple[Panel, ...]:
    """Explain mistakes on texts; those of tables are explained by their columns."""
    if not isinstance(evaluation, Evaluation) or not evaluation.gold or evaluation.scores:
        return ()
    return word_panels(products.made.exported.folder, evaluation.confused_pairs)


def learned(task: Task, products: Products) -> Learning | None:
    """Gather the learning curves of a build; None where no round had a student in the loop."""
    loop = task.spec.synthesis.loop
    if loop is None or not products.curves:
        return None
    rounds = tuple(curve.load() for curve in products.curves)
    return Learning(rounds=rounds, most_rounds=loop.rounds, stop_gain=loop.stop_gain)


def _shortfall(task: Task, rows: Rows) -> dict[str, int]:
    wanted, counts = task.spec.wanted_per_label, dict.fromkeys(task.spec.label_names, 0)
    for label in rows.kept["label"]:
        counts[label] += 1
    return {label: wanted - n for label, n in counts.items() if n < wanted}


def _tags(student: str, evaluation: AnyEvaluation, code: Code) -> dict[str, str]:
    known = {"student": student, "regime": evaluation.regime.value, "gold": str(evaluation.gold).lower()}
    commit = {"git_commit": code.commit, "git_dirty": str(code.is_dirty).lower()} if code.commit else {}
    return {**known, "factory": code.version, **commit}


def print_outcome(outcome: Outcome) -> None:
    """Print the verdict for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)  # a pipe has no width; the table should not be folded
    table = Table(box=None, padding=(0, 2, 0, 0))
    headings, lines = table_of(outcome.evaluation)
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="left" if position == 0 else "right")
    for line in lines:
        table.add_row(*line)
    console.print()
    if outcome.judged is not None:
        console.print(f"{outcome.judged.decision.sentence}\n", soft_wrap=True, markup=False, style="bold")
    console.print(table)
    console.print(f"\n{outcome.sentence}", soft_wrap=True)
    print_groups(console, outcome.evaluation)
    if outcome.shortfall:
        lacking = ", ".join(f"{label} {n}" for label, n in outcome.shortfall.items())
        console.print(f"Fewer training rows than wanted after all filters: {lacking}", soft_wrap=True)
    if outcome.unfinished:
        stages = ", ".join(f"{stage} ({why})" for stage, why in outcome.unfinished.items())
        remedy = "raise teacher.budget and " if "budget" in outcome.unfinished.values() else ""
        console.print(f"Not finished: {stages}: {remedy}run the same command again to go on", soft_wrap=True)
    if outcome.learning:
        console.print(f"more rows? {outcome.learning.answer}", soft_wrap=True)
    if not is_table(outcome.evaluation):
        console.print(f"audit of the generated texts: {worst_line(outcome.audit)}", soft_wrap=True, markup=False)
    console.print(f"gate: {'passed' if outcome.gate.passed else 'not passed'}: {'; '.join(outcome.gate.lines)}")
    used = outcome.teacher
    asked = (
        "the teacher was asked nothing" if used is None or not used.calls else f"{used.calls:,} calls of the teacher"
    )
    console.print(f"{outcome.seconds:.0f} s, {asked}, ${used.usd if used else 0:.2f}")
    aliases = ", ".join(outcome.version.aliases)
    console.print(f"version {outcome.version.version} ({aliases}): {outcome.folder}", soft_wrap=True)
    if outcome.waits:
        named = f"{outcome.version.name} {outcome.version.version}"
        console.print(
            f'promotion: ask: nothing was promoted; to make it the champion: factory promote {named} --note "why"',
            soft_wrap=True,
            markup=False,
        )


def _unfinished(artifacts: list[Artifact[Any]]) -> dict[str, str]:
    """Name the stages that would be run again by the same command, and what stopped them."""
    partial = (artifact for artifact in artifacts if not artifact.manifest["is_complete"])
    stopped = {artifact.folder.parent.name: artifact.load().report.get("stopped") for artifact in partial}
    return {stage: why for stage, why in stopped.items() if why}  # the others only hand on what these lack


def _teacher_identity(artifacts: list[Artifact[Any]]) -> str:
    identities = (artifact.manifest["key"]["resources"].get("teacher") for artifact in artifacts)
    return ", ".join(dict.fromkeys(identity for identity in identities if identity))


def _identity(artifacts: list[Artifact[Any]]) -> str:
    """Hash what the report shows, times apart."""
    return hashlib.sha256("".join(artifact.content_hash for artifact in artifacts).encode()).hexdigest()
