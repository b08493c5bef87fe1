"""A folder to build an image from: the release, a server of the standard library, a Dockerfile.

The image holds Python, the three packages of the release, and nothing of the factory; it runs as a user who may write
nothing. More than one process, keys, metrics or a cascade: `factory serve`.
"""

import json
from pathlib import Path
from typing import Any

from factory.release import image_server
from factory.release.bundles.onnx import write_onnx

DOCKERFILE = """\
FROM python:3.11.14-slim-bookworm

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1
WORKDIR /app

COPY model/requirements.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt \\
    && useradd --system --uid 10001 --no-create-home student

COPY server.py ./
COPY model/ model/

USER 10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=3s --start-period=15s \\
    CMD ["python", "server.py", "--check"]
ENTRYPOINT ["python", "server.py", "--host", "0.0.0.0"]
"""
README = """\
# {name} in a container

    docker build -t {name} .
    docker run --rm -p 127.0.0.1:8000:8000 --read-only --cap-drop ALL {name}
    curl -s 127.0.0.1:8000/v1/predict -d '{asked}'

`GET /healthz` answers when the model is open; its hashes are checked before. The server has no keys and no TLS: put it
behind something that has, or keep it on loopback as above.
"""


def write_docker(release: Path, folder: Path) -> None:
    """Put the release under `model/`, and beside it what makes an image of it."""
    (folder / "model").mkdir()
    write_onnx(release, folder / "model")
    config = json.loads((release / "config.json").read_text(encoding="utf-8"))
    (folder / "server.py").write_bytes(Path(image_server.__file__).read_bytes())
    (folder / "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
    readme = README.format(name=config.get("name", "student"), asked=_asked(config))
    (folder / "README.md").write_text(readme, encoding="utf-8")
    (folder / ".dockerignore").write_text("*\n!server.py\n!model/**\n", encoding="utf-8")


def _asked(config: dict[str, Any]) -> str:
    """Return what a client sends, as an example."""
    if config["inputs"]["kind"] != "cells":
        return json.dumps({"texts": ["a text"]})
    row = {column["name"]: None for column in config["inputs"]["columns"]}
    return json.dumps({"rows": [row]}).replace("'", "'\\''")  # between the quotes of a shell
