"""The flows that people start from Prefect's pages, by schedule or by its API; each is a command with a form.

`factory ui` serves them on one machine, `factory deploy` registers them on a server (`prefect.yaml` says the same).
The forms come from the types and docstrings here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import Flow, flow
from prefect.client.schemas.objects import State
from prefect.deployments.runner import RunnerDeployment
from prefect.states import Completed
from prefect.types.entrypoint import EntrypointType
from prefect.utilities.callables import ParameterSchema
from pydantic import Field

from factory.check import Task, check_task
from factory.release.registry import Registry
from flows.approval import ask_for_approval
from flows.build import Wishes, run_build
from flows.choices import ModelName, TaskName, outputs_folder, tasks_folder
from flows.ending import ends_when_told
from flows.improve import compared_with_watched, fill_order
from flows.jobs import augment_rows, judge_model, label_rows, predict_into
from flows.outcome import Outcome

Number = Annotated[int, Field(ge=0)]
Money = Annotated[float, Field(ge=0)]
"""Of both, 0 is a form's way to leave it to the spec."""
FROM_SPEC: Literal["as the spec says"] = "as the spec says"
Promotion = Literal["as the spec says", "gate", "ask"]
FilePath = Annotated[str, Field(min_length=1)]


def _wishes(most_calls: int, most_usd: float, promotion: Promotion = FROM_SPEC) -> Wishes:
    return Wishes(most_calls or None, most_usd or None, None if promotion == FROM_SPEC else promotion)


def _bounded(task: str, most_calls: int, most_usd: float) -> Task:
    return _wishes(most_calls, most_usd).applied_to(check_task(tasks_folder() / task))


@flow(name="build", flow_run_name="build {task}")
def build(
    task: TaskName,
    most_calls: Number = 0,
    most_usd: Money = 0.0,
    promotion: Promotion = FROM_SPEC,
) -> State[Any]:
    """Build, judge, package and register a small model. Cancelled or failed, the same run again goes on.

    Args:
        task: The folder of the task.
        most_calls: How often the teacher may be asked, answers from the cache included; 0: as the spec says.
        most_usd: What may be spent, in US dollars; 0: as the spec says.
        promotion: Who makes the new version the champion: its gate alone, or a person is asked once it has passed.

    Returns:
        The state of the run, with the verdict.
    """
    with ends_when_told():
        wishes = _wishes(most_calls, most_usd, promotion)
        outcome = run_build(tasks_folder() / task, outputs_folder(), wishes)
        return Completed(message=_approved(outcome))


def _approved(outcome: Outcome) -> str:
    """Ask a person where that is wanted; return the verdict in a line, and what they said."""
    said = outcome.judged.decision.sentence if outcome.judged else outcome.sentence
    if not outcome.waits:
        return said
    approval, version = ask_for_approval(outcome, Registry(outputs_folder()))
    done = "is the champion" if approval.approve else "stays a candidate"
    return f"Version {version.version} {done}, says {approval.name}. {said}"


@flow(name="improve", flow_run_name="improve {task}")
def improve(
    task: TaskName,
    log: str = "",
    most_calls: Number = 0,
    most_usd: Money = 0.0,
    promotion: Promotion = FROM_SPEC,
) -> State[Any]:
    """Fill the newest order of `factory watch`: take the texts it asks for, build, and compare with what was watched.

    Args:
        task: The folder of the task.
        log: The file of texts the order was made from, on the machine that runs this; empty: the order has texts.
        most_calls: How often the teacher may be asked, answers from the cache included; 0: as the spec says.
        most_usd: What may be spent, in US dollars; 0: as the spec says.
        promotion: Who makes the new version the champion: its gate alone, or a person is asked once it has passed.

    Returns:
        The state of the run, with how the new version compares.
    """
    with ends_when_told():
        folder, outputs = tasks_folder() / task, outputs_folder()
        filled = fill_order(folder, outputs, log=Path(log) if log else None)
        wishes = _wishes(most_calls, most_usd, promotion)
        outcome = run_build(folder, outputs, wishes)
        compared = compared_with_watched(outputs, filled.order, outcome.version.version)
        on_gold = f" On the holdout, {compared.sentence}." if compared is not None else ""
        return Completed(message=f"{filled.n_new:,} new texts.{on_gold} {_approved(outcome)}")


@flow(name="label", flow_run_name="label {task}")
def label(
    task: TaskName,
    n_rows: Number = 0,
    most_calls: Number = 0,
    most_usd: Money = 0.0,
) -> State[Any]:
    """Let the teacher label real texts, and write them into a file; a build uses the same labels again.

    Args:
        task: The folder of the task; its spec names a pool, or `factory watch` ordered texts.
        n_rows: How many rows of the pool to label; 0: as the spec says (labelling.label_pool).
        most_calls: How often the teacher may be asked; 0: as the spec says.
        most_usd: What may be spent, in US dollars; 0: as the spec says.

    Returns:
        The state of the run, with the file.
    """
    with ends_when_told():
        checked = _bounded(task, most_calls, most_usd)
        return Completed(message=label_rows(checked, outputs_folder(), n_rows or None))


@flow(name="augment", flow_run_name="augment {task}")
def augment(
    task: TaskName,
    per_label: Number = 0,
    most_calls: Number = 0,
    most_usd: Money = 0.0,
) -> State[Any]:
    """Let the teacher vary labelled rows, and write what kept its meaning and label into a file.

    Args:
        task: The folder of the task; its spec names seeds or train rows.
        per_label: How many texts to ask for from the rows of each label; 0: as the spec says.
        most_calls: How often the teacher may be asked; 0: as the spec says.
        most_usd: What may be spent, in US dollars; 0: as the spec says.

    Returns:
        The state of the run, with the file.
    """
    with ends_when_told():
        checked = _bounded(task, most_calls, most_usd)
        return Completed(message=augment_rows(checked, outputs_folder(), per_label or None))


@flow(name="batch_predict", flow_run_name="predict with {model}")
def batch_predict(
    model: ModelName, source: FilePath, target: FilePath, column: FilePath = "text", version: str = ""
) -> State[Any]:
    """Label a file of any size with a built model. Cancelled or failed, the same run again goes on.

    Args:
        model: The task it was built from.
        source: File to read, on the machine that runs this; in Parquet, CSV or JSONL.
        target: File to write, of the same format; it must not exist yet.
        column: Where the texts are.
        version: Number or alias; empty: the champion, else the candidate.

    Returns:
        The state of the run, with how many rows were labelled.
    """
    with ends_when_told():
        said = predict_into(outputs_folder(), model, version or None, Path(source), Path(target), column=column)
        return Completed(message=said)


@flow(name="verdict", flow_run_name="verdict on {model}")
def verdict(model: ModelName, version: str = "") -> State[Any]:
    """Say whether a built model may replace the LLM; asks nobody.

    Args:
        model: The task it was built from.
        version: Number or alias; empty: the champion, else the candidate.

    Returns:
        The state of the run, with the verdict.
    """
    return Completed(message=judge_model(outputs_folder(), model, version or None, tasks_folder() / model))


FLOWS: tuple[Flow[Any, Any], ...] = (build, improve, label, augment, batch_predict, verdict)


def deployments(*, pool: str | None = None, env: Mapping[str, str] | None = None) -> list[RunnerDeployment]:
    """Return a deployment of each flow, with the task folders that there are now as choices of its form.

    Args:
        pool: The work pool whose workers run it; None: whoever registers it.
        env: Environment of the runs that these workers start.

    Returns:
        Deployments that are not registered yet.
    """
    variables = {"env": dict(env or {}), "working_dir": str(Path.cwd())} if pool else None
    made = [
        RunnerDeployment.from_flow(
            one,
            name=one.name,
            work_pool_name=pool,
            job_variables=variables,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for one in FLOWS
    ]
    for one in made:
        one._parameter_openapi_schema = _closed(one._parameter_openapi_schema)
    return made


class _Form(ParameterSchema, extra="allow"):
    """A form that can say more of itself than Prefect's own."""


def _closed(form: ParameterSchema) -> ParameterSchema:
    """Let Prefect's server refuse fields that there are not: a run that is given one crashes, and nobody reads why."""
    return _Form(**form.model_dump(exclude_unset=True), additionalProperties=False)
