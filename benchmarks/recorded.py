"""Recorded replies: what the teacher said during a build, so that anybody can repeat the build without the teacher.

A recording is a compressed file of JSON lines. The first says what was built, every other is the key of a request (a
hash of all that was asked) and what came back; no prompt is in it. Where a prompt has changed since, its key has too,
and the build stops: before it begins where that can be told then, and always before the students of the spec are
trained.
"""

import json
import lzma
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from factory.check import Task
from factory.errors import ArtifactCorrupt, ArtifactMissing, FactoryError
from factory.store import Artifact
from factory.teacher import REPLIES_FILE, open_teacher
from factory.teacher.exchange import Exchange, line_of
from factory.teacher.ledger import Failure
from factory.teacher.probe import Probe
from factory.teacher.protocol import Abstain, OnReply, Reply, Request
from factory.teacher.replies import Replies
from flows.evidence import Step
from flows.plan import walk

FOLDER = Path(__file__).with_name("replies")
KEY_CHARS = len('["",') + 64
MOST_BYTES = 20_000_000
"""Of all recordings together: they are kept with the code."""
KEPT = frozenset({
    "choices", "index", "finish_reason", "message", "content", "refusal", "logprobs", "token", "logprob",
    "top_logprobs", "usage", "prompt_tokens", "completion_tokens",
})  # fmt: skip
"""What is read of a chat completion (`factory.teacher.wire`)."""


@dataclass(frozen=True)
class Header:
    """What was built."""

    task: str
    encoder: str
    endpoint: str
    """Identity of the teacher."""
    seconds: Mapping[str, float]
    """What each stage took that asked the teacher, when it did."""


@dataclass(frozen=True)
class Recording:
    """Replies by key; one that was refused for good is the reason, as text."""

    header: Header
    replies: Mapping[str, Mapping[str, Any] | str]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Args:
            path: A file of this module.

        Returns:
            The recording.

        Raises:
            ArtifactMissing: There is none.
            ArtifactCorrupt: It is damaged.
        """
        if not path.is_file():
            raise ArtifactMissing(f"{path}: no such recording", hint="record it with --record, which asks the teacher")
        try:
            first, *lines = lzma.decompress(path.read_bytes()).decode().splitlines()
            return cls(Header(**json.loads(first)), dict(json.loads(line) for line in lines))
        except (lzma.LZMAError, ValueError, TypeError) as error:
            hint = "bring it back from version control, or record it again"
            raise ArtifactCorrupt(f"{path}: not a recording: {error}", hint=hint) from error

    def save(self, path: Path) -> None:
        """Write the recording: same replies, same bytes.

        Args:
            path: Where to; the size of its neighbours counts.

        Raises:
            FactoryError: All recordings together would be too large.
        """
        lines = [_dump(asdict(self.header)), *sorted((_dump(line) for line in self.replies.items()), key=_by_reply)]
        text = "".join(f"{line}\n" for line in lines)
        data = lzma.compress(text.encode("utf-8", "surrogatepass"), preset=9)
        others = sum(one.stat().st_size for one in path.parent.glob("*.xz") if one != path)
        if others + len(data) > MOST_BYTES:
            size, most = f"{len(data) / 1e6:.1f}", f"{MOST_BYTES / 1e6:.0f}"
            message = (
                f"{path}: {size} MB beside {others / 1e6:.1f} MB of other recordings is more than {most} MB in all"
            )
            raise FactoryError(message, hint="delete recordings that are no longer needed; nothing was written")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def recording_of(task: Task, artifacts: Sequence[Artifact[Any]], outputs: Path) -> Recording:
    """Gather the replies that a build used.

    Args:
        task: What was built.
        artifacts: All stages of the build.
        outputs: Folder of its reply store.

    Returns:
        The recording.

    Raises:
        FactoryError: The build is not finished, or the store has lost a reply.
    """
    open_stages = [one.manifest["stage"] for one in artifacts if _lacks_answers(one)]
    if open_stages:
        message = f"{task.spec.name}: replies are still missing for {', '.join(open_stages)}"
        raise FactoryError(message, hint="run the same command again until the build is finished, then record")
    keys = {key for artifact in artifacts for key in _keys_of(artifact)}
    store = Replies(outputs / REPLIES_FILE)
    with closing(store):
        failures = [*store.ledger.failures()]
        refused = {one.key: one.reason for one in failures if one.is_final}
        found = {key: store.get(key) or refused.get(key) for key in keys}
        for key in {one.key for one in failures if one.reason == "budget"}:
            if found.get(key, "") is None:  # ended by the budget after an attempt that failed: it will be again
                del found[key]
    lost = [key for key, reply in found.items() if reply is None]
    if lost:
        message = f"{store.path}: {len(lost)} of {len(keys)} replies of this build are not there, such as {lost[0]}"
        raise FactoryError(message, hint="was the store pruned? delete the task's outputs and build again")
    replies = {key: reply if isinstance(reply, str) else _slim(reply) for key, reply in found.items()}
    asked = [one.manifest for one in artifacts if one.manifest["varying"].get("teacher_calls")]
    seconds = {one["stage"]: one["varying"]["seconds"] for one in asked}
    with closing(open_teacher(task.spec.teacher, folder=task.folder, outputs=outputs)) as teacher:
        return Recording(Header(task.spec.name, task.spec.encoder, teacher.identity, seconds), replies)


def _lacks_answers(artifact: Artifact[Any]) -> bool:
    """Tell whether the teacher was out of reach; what a budget kept from being asked, it keeps a replay from too."""
    return not artifact.manifest["is_complete"] and artifact.load().report.get("stopped") == "unavailable"


def _keys_of(artifact: Artifact[Any]) -> Iterable[str]:
    """Name the replies a stage used, also those that an earlier stage had paid for."""
    step = Step(artifact.folder)
    return step.reply_keys if step.has_rows else artifact.manifest["varying"].get("replies", ())


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _by_reply(line: str) -> tuple[str, str]:
    """Sort so that replies that resemble each other are neighbours, which makes the file a third smaller."""
    return line[KEY_CHARS:], line


def _slim(value: Any) -> Any:
    """Leave out of a chat completion what nobody reads: ids, bytes of tokens, timings."""
    if isinstance(value, list):
        return [_slim(one) for one in value]
    if isinstance(value, dict):
        return {name: _slim(one) for name, one in value.items() if name in KEPT}
    return value


class NotRecorded(Exception):
    """So many replies are missing; who runs the stage knows which one it is."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.n = n


class RepliesMissing(FactoryError):
    """Something would be asked that was not recorded."""

    def __init__(self, missing: Mapping[str, int]) -> None:
        said = ", ".join(f"{n:,} replies of stage {stage} are missing" for stage, n in missing.items())
        super().__init__(f"the prompt has changed: {said}", hint="record again: the same command with --record")


class Recorded(Probe):
    """Answers from a reply store alone; a request that is not in it ends the build."""

    async def complete(self, requests: Sequence[Request], *, on_reply: OnReply | None = None) -> list[Reply | Abstain]:
        """Answer every request; see `Teacher.complete`.

        Args:
            requests: What the teacher would be asked.
            on_reply: As for any teacher.

        Returns:
            The stored answers.

        Raises:
            NotRecorded: At least one is not stored.
        """
        answers = await super().complete(requests, on_reply=on_reply)
        if self.missing:
            raise NotRecorded(len(self.missing))
        return answers


def restore(task: Task, recording: Recording, outputs: Path) -> None:
    """Put recorded replies where `Recorded` finds them; no model is started, and no weights are needed.

    Args:
        task: What will be built.
        recording: Of the same task.
        outputs: A folder that belongs to this replay alone: its reply store is written anew, without prompts.

    Raises:
        RepliesMissing: What the build asks first is not recorded.
        FactoryError: Another teacher was recorded.
    """
    with closing(open_teacher(task.spec.teacher, folder=task.folder, outputs=outputs)) as teacher:
        if teacher.identity != recording.header.endpoint:
            message = f"recorded was {recording.header.endpoint}, the teacher of this task is {teacher.identity}"
            raise FactoryError(message, hint="unset FACTORY_GGUF, or record again")
    _write_store(recording, outputs)
    # As far as that can be told without an encoder or a student; the other stages are checked as they ask.
    probed = walk(task, outputs, always=True).probed
    missing = {stage: len(one.missing) for stage, one in probed.items() if one.missing}
    if missing:
        raise RepliesMissing(missing)


def _write_store(recording: Recording, outputs: Path) -> None:
    endpoint = recording.header.endpoint
    store = Replies(outputs / REPLIES_FILE)
    for path in (store.path, store.ledger.path):
        path.unlink(missing_ok=True)
    outputs.mkdir(parents=True, exist_ok=True)
    with closing(store), store.path.open("wb") as file:
        for key, reply in recording.replies.items():
            if isinstance(reply, str):
                store.ledger.note(Failure(key, endpoint, reply, 1, 0.0, 0, 0, 0.0, "", "", is_final=True))
            else:
                file.write(line_of(key, Exchange(endpoint, {}, 0, reply, 0.0)))
