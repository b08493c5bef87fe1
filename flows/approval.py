"""`promotion: ask`: a person decides, in Prefect's page of the run, whether a version becomes the champion."""

from typing import Annotated

from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

from factory.release.registry import Registry
from factory.release.versions import Version
from flows.following import verdict_markdown
from flows.outcome import Outcome

WAIT_S = 14 * 24 * 3600
"""How long a run waits for a person; then it fails, and `factory promote` still works."""
POLL_S = 2
NOT_BLANK = r"\S"
"""Regular expression of a text that holds more than spaces."""


class Approval(RunInput):
    """What is asked of a person."""

    approve: bool = Field(
        default=False,
        title="Make it the champion",
        description="The champion answers from now on. Without it the version stays the candidate.",
    )
    # Prefect's server checks the answer by JSON schema, before the run goes on: a validator of ours would be too late.
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=NOT_BLANK)] = Field(
        title="Your name", description="Kept in the registry; not only spaces."
    )
    note: Annotated[str, Field(max_length=1000)] = Field(
        default="", title="Why", description="Kept in the registry with your name and the time."
    )


def ask_for_approval(outcome: Outcome, registry: Registry) -> tuple[Approval, Version]:
    """Pause this run until a person decides, and keep what they said.

    Args:
        outcome: Of a build whose version passed its gate.
        registry: Where the version is.

    Returns:
        The decision, and the version as it is now.
    """
    found = outcome.version
    asked = f"Shall version {found.version} of {found.name} become the champion?\n\n{verdict_markdown(outcome)}"
    said = pause_flow_run(Approval.with_initial_data(description=asked), timeout=WAIT_S, poll_interval=POLL_S)
    decide = registry.promote if said.approve else registry.reject
    return said, decide(found.name, str(found.version), note=said.note, by=said.name.strip())
