"""Documents that cannot lie: links lead somewhere, commands exist, examples are valid."""

import re
from pathlib import Path

import pytest
import yaml

from factory import teacher
from factory.cli import app
from factory.spec_file import load_spec

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tasks/*/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_is_shown_exists(page: Path) -> None:
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {group.typer_instance.info.name for group in app.registered_groups if group.typer_instance}
    shown = re.findall(r"(?:^|`|\.venv/bin/)factory +([a-z]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(shown) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_is_shown_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    shown = re.findall(r"(?:^ *|`)make +([a-z-]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(shown) <= targets


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs/how-to/add-a-task.md"], ids=lambda page: page.name)
def test_the_spec_that_is_shown_is_valid(page: Path, tmp_path: Path) -> None:
    block = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)[0]
    (tmp_path / "spec.yaml").write_text(block, encoding="utf-8")
    assert load_spec(tmp_path).name == yaml.safe_load(block)["name"]


TEXTS = {
    "name": "shown",
    "kind": "text-classification",
    "description": "Mails.",
    "labels": ["refund", "delivery"],
    "data": {"seeds": "seeds.jsonl"},
}
TABLE = {
    "name": "shown",
    "kind": "tabular-classification",
    "description": "Loans.",
    "labels": ["good", "bad"],
    "columns": [{"name": "age", "kind": "integer"}],
    "target": "paid",
    "data": {"train": "train.csv"},
}
FOR_TABLES = {"columns", "target", "rules", "leave_out", "priors"}


def shown_specs() -> list[tuple[str, str]]:
    blocks = [
        (page, found) for page in PAGES for found in re.finditer(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.S)
    ]
    return [
        (f"{page.relative_to(ROOT)}:{found.string.count(chr(10), 0, found.start()) + 2}", found[1])
        for page, found in blocks
    ]


@pytest.mark.parametrize(("where", "block"), shown_specs(), ids=[where for where, _ in shown_specs()])
def test_every_part_of_a_spec_that_is_shown_is_valid(where: str, block: str, tmp_path: Path) -> None:
    shown = yaml.safe_load(block)
    is_table = FOR_TABLES & shown.keys() or str(shown.get("data", "")).count(".csv")
    whole = {**(TABLE if is_table else TEXTS), **shown}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    assert load_spec(tmp_path).description == whole["description"]


def test_the_map_of_the_teacher_names_every_file() -> None:
    words = set(re.findall(r"\w+", (teacher.__doc__ or "").partition("Where things are:")[2]))
    files = {path.stem for path in Path(teacher.__file__).parent.glob("*.py")} - {"__init__"}
    assert sorted(files - words) == []
