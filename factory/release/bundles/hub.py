"""A folder for the Hugging Face hub: the release, its card where the hub looks for it, large files for LFS.

    hf upload your-name/your-model DIR

The card has the licence of what is inside and where it is from; whether you may publish it is yours to say.
"""

from pathlib import Path

from factory.release.bundles.onnx import write_onnx
from factory.release.package import CARD

LFS_BYTES = 10_000_000
"""The hub takes larger files through LFS alone."""


def write_hub(release: Path, folder: Path) -> None:
    """Copy the release, with its card as README.md, and name what goes to LFS."""
    write_onnx(release, folder)
    (folder / "README.md").write_bytes((folder / CARD).read_bytes())
    large = [path.name for path in sorted(folder.iterdir()) if path.stat().st_size > LFS_BYTES]
    patterns = dict.fromkeys(["*.onnx", *(name for name in large if not name.endswith(".onnx"))])
    lines = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in patterns)
    (folder / ".gitattributes").write_text(lines, encoding="utf-8")
