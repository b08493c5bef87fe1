"""That no test row was read before the final report, shown from the manifests of the stages.

A manifest names the content of every input of a stage, so what is derived from the holdout can be followed through a
build. Allowed are the stages of the final report, after everything that is trained or chosen, and one other reader that
is no secret: the leakage filter compares training texts with the holdout's *texts* and rejects those that are too near.
It is handed the labels with them and looks at none, which `tests/test_benchmarks.py` shows by shuffling them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from factory.store import Artifact

HOLDOUT = "read-holdout"
LEAKAGE = "leakage-"
REPORT = (
    "sample-holdout", "annotate-holdout", "nearest-description", "predict-", "majority", "answer", "evaluate",
    "robustness", "release",
)  # fmt: skip
"""How the stages of the final report begin. What they make of gold rows is followed like the rows themselves."""
BESIDE_THE_REPORT = ("fit-real-rows", "fit-ceiling", "measure")
"""What may come after gold rows were read: students that are only compared with, and what judges nothing anew."""


class HoldoutRead(Exception):
    """A stage that makes or chooses something had gold rows."""


def require_unread(artifacts: Sequence[Artifact[Any]]) -> None:
    """Check the stages of a build.

    Args:
        artifacts: All of them, in the order of the build.

    Raises:
        HoldoutRead: A stage before the final report had the holdout, or something made from it, as an input; or
            something is trained or chosen after gold rows were read.
    """
    manifests = [artifact.manifest for artifact in artifacts]
    gold = next((one for one in manifests if one["stage"] == HOLDOUT), None)
    if gold is None:
        raise HoldoutRead(f"the build has no stage {HOLDOUT}: there is nothing to show")
    files = set(gold["key"]["resources"].values())
    tainted = {gold["content_hash"]: HOLDOUT}
    began = ""
    for manifest in manifests:
        stage, key = manifest["stage"], manifest["key"]
        if stage == HOLDOUT:
            continue
        if files & set(key["resources"].values()):
            raise HoldoutRead(f"{stage} read the file of the holdout")
        read = {name: tainted[content] for name, content in key["inputs"].items() if content in tainted}
        if stage.startswith(LEAKAGE) and read == {"holdout": HOLDOUT}:
            continue
        if read and not stage.startswith(REPORT):
            raise HoldoutRead(f"{stage} had gold rows before the final report: {_say(read)}")
        if read:
            tainted[manifest["content_hash"]] = stage
            began = began or stage
        elif began and not stage.startswith(BESIDE_THE_REPORT):
            raise HoldoutRead(f"{stage} came after {began} had read gold rows: what it does may depend on them")


def _say(read: Mapping[str, str]) -> str:
    return ", ".join(f"its input `{name}` is the result of {source}" for name, source in read.items())
