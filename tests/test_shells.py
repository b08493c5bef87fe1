"""Completion in the shells themselves, where they are installed: a person types, presses Tab once, and reads."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Factory

PATIENCE_S = 120


@pytest.fixture
def at_home(tmp_path: Path, factory: Factory) -> dict[str, str]:
    """Return the environment of a person whose shells know the command, in a folder with one task."""
    places = {
        "zsh": tmp_path / "zfunc" / "_factory",
        "fish": tmp_path / "fish" / "completions" / "factory.fish",
        "bash": tmp_path / "factory.bash",
    }
    for shell, path in places.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(factory("completion", shell).out, encoding="utf-8")
    zsh = f"fpath=({tmp_path}/zfunc $fpath)\nautoload -Uz compinit && compinit -u\nPS1='ready> '\n"
    (tmp_path / ".zshrc").write_text(zsh, encoding="utf-8")
    (tmp_path / ".bashrc").write_text("source ~/factory.bash\nPS1='ready> '\n", encoding="utf-8")
    program = tmp_path / "bin" / "factory"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m factory "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (tmp_path / "tasks" / "mail").mkdir(parents=True)
    (tmp_path / "tasks" / "mail" / "spec.yaml").touch()
    home = {"HOME": str(tmp_path), "ZDOTDIR": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "TERM": "dumb"}
    return {**os.environ, **home, "PATH": f"{program.parent}:{os.environ['PATH']}"}


def needed(shell: str) -> str:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed: apt-get install {shell}")
    return path


@pytest.mark.parametrize("shell", ["zsh", "bash"])
def test_one_tab_completes(at_home: dict[str, str], shell: str) -> None:
    program = needed(shell)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(at_home["HOME"])
        os.execve(program, [shell, "-i"], at_home)
    try:
        _read_until(terminal, "ready> ")
        os.write(terminal, b"factory build ta\t")
        _read_until(terminal, "tasks/mail")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


def _read_until(terminal: int, wanted: str) -> None:
    said, deadline = "", time.monotonic() + PATIENCE_S
    while wanted not in said:
        assert time.monotonic() < deadline, said
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                said += os.read(terminal, 65536).decode(errors="replace")
            except OSError as error:  # how Linux says that nobody holds the other end any more
                raise AssertionError(f"the shell ended: {said}") from error


def test_fish_offers_commands_with_what_they_do_and_task_folders(at_home: dict[str, str]) -> None:
    def offered(typed: str) -> str:
        command = [needed("fish"), "-c", f"complete -C '{typed}'"]
        done = subprocess.run(command, cwd=at_home["HOME"], env=at_home, capture_output=True, text=True, timeout=120)
        return done.stdout

    assert offered("factory pl").startswith("plan\tShow the stages")
    assert offered("factory build ").split() == ["tasks/mail"]
