"""Where the flows that people start from Prefect find tasks and models, and what their forms offer.

Prefect starts a run as a process of its own, so `factory ui` and `factory deploy` say it by the environment.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from factory.errors import SpecError
from factory.spec_file import SPEC_FILE, load_spec
from flows.builds import tasks_in

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema

TASKS_ENV, OUTPUTS_ENV, REPORTS_ENV = "FACTORY_TASKS", "FACTORY_OUTPUTS", "FACTORY_REPORTS"


def tasks_folder() -> Path:
    """Return the folder that holds the task folders."""
    return Path(os.environ.get(TASKS_ENV) or "tasks")


def outputs_folder() -> Path:
    """Return the folder that results and models go to."""
    return Path(os.environ.get(OUTPUTS_ENV) or "outputs")


def report_link(release: Path) -> str | None:
    """Return the address of a release's report, where `factory ui` shows it; None elsewhere."""
    served = os.environ.get(REPORTS_ENV)
    outputs, release = outputs_folder().resolve(), release.resolve()
    if not served or not release.is_relative_to(outputs):
        return None
    return f"{served}/{release.relative_to(outputs).as_posix()}/report.html"


def report_line(release: Path) -> str:
    """Return Markdown that leads to a release's report: a link where there can be one, else its place."""
    link = report_link(release)
    return f"[Open the report]({link})" if link else f"The report: `{release / 'report.html'}`"


def task_names() -> list[str]:
    """Return the names of the task folders."""
    return sorted(path.parent.name for path in tasks_folder().glob(f"*/{SPEC_FILE}"))


def model_names() -> list[str]:
    """Return the names of the models that are built, or could be."""
    names = {path.name for path in tasks_in(outputs_folder())}
    for task in task_names():
        try:
            names.add(load_spec(tasks_folder() / task).name)
        except SpecError:
            continue  # said when it is built
    return sorted(names)


@dataclass(frozen=True)
class OneOf:
    """Marks a text that must be one of some names, which a form shows as a list."""

    names: Callable[[], list[str]]
    what: str

    def check(self, value: str) -> str:
        """Refuse any other name: a person may have typed it, or the list may be an old one."""
        known = self.names()
        if value not in known:
            listed = ", ".join(known) or "there are none"
            raise PydanticCustomError("unknown", "{said}", {"said": f"no {self.what} {value!r}; known: {listed}"})
        return value

    def __get_pydantic_json_schema__(self, core: "CoreSchema", handler: "GetJsonSchemaHandler") -> dict[str, Any]:
        """List the names that there are now."""
        known = self.names()
        return {**handler(core), **({"enum": known} if known else {})}


_TASK, _MODEL = OneOf(task_names, "task folder"), OneOf(model_names, "model")
TaskName = Annotated[str, AfterValidator(_TASK.check), _TASK]
ModelName = Annotated[str, AfterValidator(_MODEL.check), _MODEL]
