"""`scripted`: replies written beforehand, for tests and offline demonstrations.

In a spec, `teacher: {name: scripted, model: replies.jsonl}` names a file in the task folder. Each line holds
`{"contains": "...", "reply": "..."}`: a request gets the reply of the first line whose `contains` occurs in its
messages. `reply` may be a list, from which the request's sample index picks.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from factory.errors import Problem, SpecError, TeacherError
from factory.spec import Model, TeacherSpec
from factory.teacher.budget import Spending
from factory.teacher.endpoint import Declined
from factory.teacher.engine import Engine, EngineTeacher
from factory.teacher.limits import Limits
from factory.teacher.protocol import Abstain, Reply, Request
from factory.teacher.replies import Replies
from factory.teacher.wire import completion_of, encode

Answer = str | Reply | Abstain | Exception
"""What a script may say; an exception is raised where a real teacher's connection would raise it."""
Script = Callable[[Request], Answer] | Iterable[Answer]


class ScriptLine(Model):
    """What is said to a request that holds a text."""

    contains: str
    reply: str | Annotated[tuple[str, ...], Field(min_length=1)]


class ScriptedTeacher(EngineTeacher):
    """Answers from a queue or a function, through the same cache, budget and retries as a real teacher."""

    def __init__(
        self,
        script: Script,
        *,
        identity: str = "scripted",
        replies: Replies | None = None,
        spending: Spending | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._endpoint = _ScriptedEndpoint(script, identity)
        # One at a time unless told otherwise: a queue is then answered in order of the requests.
        limits = limits or Limits(concurrency=1, first_delay_s=0.0)
        super().__init__(Engine(self._endpoint, replies=replies, spending=spending, limits=limits))

    @classmethod
    def from_spec(cls, spec: TeacherSpec, *, folder: Path, replies: Replies | None = None) -> "ScriptedTeacher":
        """Read the script a spec names.

        Args:
            spec: Its `model` is the name of a file in the task folder.
            folder: The task folder.
            replies: The reply cache, if there is one.

        Returns:
            The teacher.

        Raises:
            SpecError: The file is not named, leaves the folder, or has wrong lines.
        """
        path = _path_of(spec, folder)
        lines = read_script(path)

        def answer(request: Request) -> Answer:
            text = "\n".join(message.content for message in request.messages)
            for line in lines:
                if line.contains in text:
                    return line.reply if isinstance(line.reply, str) else line.reply[request.sample % len(line.reply)]
            hint = 'add a line for it; the last line may say `contains: ""`, which fits every request'
            return TeacherError(f"{path}: no line fits the request {text[-200:]!r}", hint=hint)

        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        spending = Spending(spec.budget, spec.known_prices)
        return cls(answer, identity=f"scripted:{digest}", replies=replies, spending=spending)

    @property
    def history(self) -> list[Request]:
        """The requests that reached the script, in order; replies from the cache are not among them."""
        return self._endpoint.history


class _ScriptedEndpoint:
    """Endpoint and connection in one: there is nothing to open."""

    def __init__(self, script: Script, identity: str) -> None:
        self.identity = identity
        self.history: list[Request] = []
        self._answer = script if callable(script) else _from_queue(script)

    def encode(self, request: Request) -> dict[str, Any]:
        return encode(request, model="scripted")

    async def connect(self) -> "_ScriptedEndpoint":
        return self

    async def send(self, request: Request, payload: Mapping[str, Any]) -> dict[str, Any]:
        self.history.append(request)
        answer = self._answer(request)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Abstain):
            raise Declined(answer)
        if isinstance(answer, str):
            n_words = sum(len(message.content.split()) for message in request.messages)
            answer = Reply(answer, "stop", prompt_tokens=n_words, completion_tokens=len(answer.split()))
        return completion_of(answer)

    async def aclose(self) -> None:
        """There is nothing to close."""


def _from_queue(answers: Iterable[Answer]) -> Callable[[Request], Answer]:
    queue = iter(answers)

    def answer(request: Request) -> Answer:
        for item in queue:
            return item
        return TeacherError("the script has no replies left", hint="give the scripted teacher more replies")

    return answer


def _path_of(spec: TeacherSpec, folder: Path) -> Path:
    spec_file = folder / "spec.yaml"
    if spec.model is None:
        message = "the scripted teacher needs the name of a file with replies, such as replies.jsonl"
        raise SpecError([Problem(spec_file, None, "teacher.model", message)])
    path = (folder / spec.model).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise SpecError([Problem(spec_file, None, "teacher.model", f"{spec.model} is outside the task folder")])
    if not path.is_file():
        raise SpecError([Problem(spec_file, None, "teacher.model", f"no file {spec.model} in the task folder")])
    return path


def read_script(path: Path) -> list[ScriptLine]:
    """Read all lines of a script.

    Args:
        path: A file of JSON objects, one a line.

    Returns:
        The lines, blank ones left out.

    Raises:
        SpecError: Some line is wrong, or there is none; holds every problem.
    """
    try:
        rows = path.read_text(encoding="utf-8").split("\n")  # `splitlines` would split inside JSON texts, at U+2028
    except UnicodeDecodeError as error:
        raise SpecError([Problem(path, None, "", f"not UTF-8: {error.reason} at byte {error.start}")]) from error
    lines: list[ScriptLine] = []
    problems: list[Problem] = []
    for number, row in enumerate(rows, start=1):
        if not row.strip():
            continue
        try:
            lines.append(ScriptLine.model_validate(json.loads(row)))
        except ValidationError as error:
            problems += [Problem(path, number, ".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
        except ValueError as error:
            problems.append(Problem(path, number, "", f"not JSON: {error}"))
    if not lines and not problems:
        problems.append(Problem(path, None, "", "has no replies"))
    if problems:
        raise SpecError(problems)
    return lines
