"""Where things go that are made once a machine: joined weights, unpacked encoders, distilled tables."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder that FACTORY_CACHE names, else the user's cache folder."""
    from platformdirs import user_cache_path

    named = os.environ.get("FACTORY_CACHE")
    return Path(named) if named else user_cache_path("task-model-factory")
