"""The release folder as it is: `pip install -r requirements.txt && python predict.py "a text"`."""

import shutil
from pathlib import Path


def write_onnx(release: Path, folder: Path) -> None:
    """Copy every file."""
    for path in sorted(release.iterdir()):
        shutil.copyfile(path, folder / path.name)
