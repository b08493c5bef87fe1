"""What the documentation shows: blocks of commands and of Python, and how a command line is read without being run.

A block that cannot run in a test has a comment on the line before it, which says why:

    <!-- test: skip because a GPU is needed -->

Its commands are read all the same: by the parser of `factory`, or by that of the benchmark they name.
"""

import argparse
import importlib
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from factory.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tasks/*/*.md")])
BLOCK = re.compile(
    r"(?:^ *<!-- test: skip because (?P<why>[^\n]+) -->\n+)?^(?P<indent> *)```(?P<language>bash|python)\n"
    r"(?P<code>.*?)^(?P=indent)```$",
    flags=re.MULTILINE | re.DOTALL,
)
FENCED = re.compile(r"^ *```.*?^ *```$", flags=re.MULTILINE | re.DOTALL)
SET_BEFORE = re.compile(r"^(?:[A-Z_]+=(?:\$\([^)]*\)|\S*) +)+")


@dataclass(frozen=True)
class Block:
    """Commands, or Python, as a page shows them."""

    page: Path
    line: int
    language: str
    code: str
    why_skipped: str

    @property
    def where(self) -> str:
        """Where it is, for a person to find it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One program and what it is given."""

    words: tuple[str, ...]
    into: str | None = None
    """The file that its standard output goes to."""


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, each with the reason for which it is not run."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start("code")), found["language"], found["code"], found["why"] or "")
        for found in BLOCK.finditer(text)
    ]


def lines(code: str) -> Iterator[str]:
    """Yield the command lines of a block, continued ones as one."""
    for line in re.sub(r"\\\n *", " ", code).splitlines():
        if line.strip() and not line.strip().startswith("#"):
            yield line.strip()


def commands(line: str) -> Iterator[Command]:
    """Yield the commands of a line: `a && b > file` are two. Nothing else of a shell is understood."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.commenters = "#"
    words = [*lexer]
    for part in _split(words, "&&"):
        if set(part) & {"|", ";", "&", "<", ">>", "(", ")"}:
            raise ValueError(f"only && and > are understood here: {line}")
        target = part[part.index(">") + 1] if ">" in part else None
        yield Command(tuple(part[: part.index(">")] if ">" in part else part), target)


def _split(words: Sequence[str], mark: str) -> Iterator[list[str]]:
    part: list[str] = []
    for word in words:
        if word == mark:
            yield part
            part = []
        else:
            part.append(word)
    yield part


def shown_factory_lines(page: Path) -> Iterator[str]:
    """Yield what follows `factory` in every line of code of a page, indented blocks too."""
    text = page.read_text(encoding="utf-8")
    fenced = [line for block in BLOCK.finditer(text) if block["language"] == "bash" for line in lines(block["code"])]
    indented = re.findall(r"^ {4,}(factory .*)$", FENCED.sub("", text), flags=re.MULTILINE)
    for line in [*fenced, *indented]:
        bare = SET_BEFORE.sub("", line)
        if bare.startswith("factory "):
            yield from (
                " ".join(map(shlex.quote, one.words[1:])) for one in commands(bare) if one.words[0] == "factory"
            )


def read_factory(arguments: Sequence[str]) -> None:
    """Let the parser of `factory` read a command line; an option that does not exist is an error."""
    name, rest, context = "factory", [*arguments], None
    command: Any = typer.main.get_command(app)
    if rest == ["--install-completion"]:  # parsing it would do it
        assert any(rest == option.opts for option in command.get_params(typer.Context(command)))
        return
    while True:
        context = command.make_context(name, rest, parent=context)
        if not isinstance(command, TyperGroup):
            return
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])


class _Read(Exception):
    """A benchmark has read its arguments."""


def read_benchmark(module: str, arguments: Sequence[str]) -> None:
    """Let a benchmark read a command line, and stop it there."""
    read = argparse.ArgumentParser.parse_args

    def read_and_stop(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
        raise _Read(read(self, args, namespace))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", read_and_stop)
        patch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(_Read):
            importlib.import_module(module).main()
