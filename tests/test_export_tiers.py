"""A release with a cascade has folders inside; a plain copy of it has them too."""

from pathlib import Path

from factory.release.bundles.onnx import write_onnx
from factory.release.image_server import check_model


def test_the_folders_of_tiers_are_copied_and_checked(tmp_path: Path) -> None:
    release, copied = tmp_path / "release", tmp_path / "copied"
    (release / "tiers" / "small").mkdir(parents=True)
    (release / "tiers" / "small" / "model.onnx").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (release / "manifest.json").write_text(f'{{"files": {{"tiers/small/model.onnx": "{empty}"}}}}', encoding="utf-8")
    copied.mkdir()
    write_onnx(release, copied)
    check_model(copied)
