"""The release folder as it is: `pip install -r requirements.txt && python predict.py "a text"`."""

import shutil
from pathlib import Path


def write_onnx(release: Path, folder: Path) -> None:
    """Copy every file."""
    shutil.copytree(release, folder, dirs_exist_ok=True)  # a cascade has a folder for each tier
