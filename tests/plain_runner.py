"""A runner with nothing around it: no Prefect, no budget across builds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from factory.store import Artifact, Resource, Result, Stage, run_stage
from flows.builds import BuildNote

R = TypeVar("R", bound=Result)


@dataclass
class Plain:
    """Runs and stores each stage, and remembers the artifacts by stage name."""

    root: Path
    artifacts: dict[str, Artifact[Any]] = field(default_factory=dict)
    note: BuildNote | None = None

    def __call__(
        self,
        stage: Stage[R],
        params: BaseModel,
        *,
        inputs: Mapping[str, Artifact[Any]] | None = None,
        resources: Mapping[str, Resource] | None = None,
    ) -> Artifact[R]:
        artifact = run_stage(self.root, stage, params, inputs=inputs, resources=resources)
        self.artifacts[stage.name] = artifact
        if self.note is not None:
            self.note.used(artifact)
        return artifact

    def peek(self, artifact: Artifact[R]) -> R | None:
        return artifact.load()
