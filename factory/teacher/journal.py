"""The journal of attempts: what may have been served, and so paid for, although no reply of it is stored.

    + KEY PROMPT_TOKENS COMPLETION_TOKENS     before an attempt is sent, with the most it can cost
    - KEY PROMPT_TOKENS COMPLETION_TOKENS     its reply is stored, or it is known not to have been served

Whatever is not crossed out again was lost: timed out, cut off, answered with garbage, or in flight when the program was
killed. It costs its upper bound in every build that asks the same, beside whatever is stored under the key, so that a
budget holds across restarts. The file is `spending.log` beside the reply store; who deletes it forgets what was lost.
"""

from dataclasses import dataclass
from pathlib import Path

from factory.teacher.lines import Lines
from factory.teacher.wire import Usage


@dataclass(frozen=True)
class Lost:
    """What attempts at one request may have cost without bringing an answer."""

    calls: int
    usage: Usage


class Journal:
    """A file of lines; made at the first attempt."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)

    def opened(self, key: str, bound: Usage) -> None:
        """Write down that an attempt is about to be sent."""
        self._write("+", key, bound)

    def crossed_out(self, key: str, bound: Usage) -> None:
        """Write down that an attempt is accounted for elsewhere or cost nothing."""
        self._write("-", key, bound)

    def lost(self) -> dict[str, Lost]:
        """Read what is not crossed out, by key; lines that are damaged count for nothing."""
        open_now: dict[str, tuple[int, int, int]] = {}
        for line in self._lines.read():
            fields = line.split(" ")
            if len(fields) != 4 or fields[0] not in ("+", "-") or not all(one.isdecimal() for one in fields[2:]):
                continue
            n, key = 1 if fields[0] == "+" else -1, fields[1]
            calls, prompt_tokens, completion_tokens = open_now.pop(key, (0, 0, 0))
            if calls + n:
                left = (calls + n, prompt_tokens + n * int(fields[2]), completion_tokens + n * int(fields[3]))
                open_now[key] = left
        return {
            key: Lost(calls, Usage(prompt_tokens=max(0, read), completion_tokens=max(0, written)))
            for key, (calls, read, written) in open_now.items()
            if calls > 0
        }

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        self._lines.close()

    def _write(self, sign: str, key: str, bound: Usage) -> None:
        self._lines.append(f"{sign} {key} {bound.prompt_tokens} {bound.completion_tokens}")
