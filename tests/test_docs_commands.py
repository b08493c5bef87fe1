"""Every command and every Python example of README and docs is run, or read by the program's own parser.

Commands run in a folder with a task whose teacher is scripted; whatever name a page gives its task, it is this one.
"""

import ast
import contextlib
import csv
import io
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml

from factory.check import check_task
from factory.cli import app, main
from factory.teacher import open_teacher
from flows.builds import BuildNote
from flows.outcome import release
from flows.recipe import recipe
from tests.documented import (
    PAGES,
    ROOT,
    Block,
    Command,
    blocks,
    commands,
    lines,
    read_benchmark,
    read_factory,
    shown_factory_lines,
)
from tests.plain_runner import Plain
from tests.scripted_task import LABELS, holdout_rows, make_task, texts_of
from tests.test_cli import commands_below

TASK = "snips_intent"
TABLE = "german_credit"
STANDS_FOR = re.compile(r"\b(?:support_mail|tiny)\b")
ANSWERS = {"verdict": {0, 3, 4}, "watch": {0, 3}}
"""Exit codes that are no error."""
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))

ALL = [block for page in PAGES for block in blocks(page)]
RUN = [block for block in ALL if not block.why_skipped]


def at(block: Block) -> str:
    return block.where


# Read


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_line_that_is_shown_can_be_parsed(page: Path) -> None:
    for line in shown_factory_lines(page):
        (command,) = commands(line)
        try:
            read_factory(command.words)
        except typer.Exit:
            pass
        except Exception as error:
            raise AssertionError(f"factory {line}: {error}") from error


@pytest.mark.parametrize("words", sorted(dict(commands_below("", typer.main.get_command(app)))))
def test_every_example_of_a_help_can_be_parsed(words: str) -> None:
    command = dict(commands_below("", typer.main.get_command(app)))[words]
    examples = re.findall(
        r"^ *(?:Example: |[A-Z_]+=\S+(?: \S+\))? )?(factory .*?)(?: {3,}.*)?$", command.help, re.MULTILINE
    )
    assert examples
    for example in examples:
        (told,) = commands(example)
        read_factory(told.words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_skip_stands_before_a_block(page: Path) -> None:
    marks = re.findall(r"^ *<!-- test:", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(marks) == sum(bool(block.why_skipped) for block in blocks(page))


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "python"], ids=at)
def test_what_a_python_example_imports_of_ours_exists(block: Block) -> None:
    tree = ast.parse(block.code)
    imports: list[ast.stmt] = [
        node
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("factory", "flows")
    ]
    exec(compile(ast.Module(imports, type_ignores=[]), block.where, "exec"), {})


def test_an_option_that_does_not_exist_is_found() -> None:
    with pytest.raises(Exception, match="No such option: --fast"):
        read_factory(["build", "tasks/tiny", "--fast"])
    with pytest.raises(Exception, match="No such command 'prun'"):
        read_factory(["cache", "prun"])
    with pytest.raises(SystemExit):
        read_benchmark("benchmarks.quality", ["--regime", "z9"])


# Run


def runs_until_stopped(arguments: list[str]) -> bool:
    """Return whether a command serves a page or a model; such ones are only parsed."""
    is_page = arguments[0] == "review" and not {"export", "import"} & set(arguments)
    return arguments[0] in ("serve", "ui") or is_page


@dataclass
class Place:
    """A folder as a reader has it: tasks, files of their own, a built model."""

    folder: Path
    built: set[tuple[str, ...]] = field(default_factory=set)

    def run(self, command: Command) -> None:
        """Run one command of a page.

        Raises:
            AssertionError: It failed, or it cannot be run and nobody said why.
        """
        program, *arguments = (STANDS_FOR.sub(TASK, word) for word in command.words)
        if program == "factory":
            if arguments[-1] == "answers.json":  # what people bring back from another program: here nothing
                shutil.copyfile(self.folder / "records.json", self.folder / "answers.json")
            said = self.factory(arguments)
            if command.into:
                (self.folder / command.into).write_text(said, encoding="utf-8")
        elif program == "make":
            assert set(arguments) <= MAKE_TARGETS
        elif program == "python" and arguments[0] == "-m" and arguments[1].startswith("benchmarks."):
            read_benchmark(arguments[1], arguments[2:])  # it takes public sets, and hours
        else:
            known = program == "source" and arguments == [".venv/bin/activate"]
            assert known, f"{program}: write <!-- test: skip because ... --> before the block"

    def factory(self, arguments: list[str]) -> str:
        """Run `factory`; a build that has been run once stands for the next of its kind."""
        read_factory(arguments)
        key = tuple(arguments)
        if runs_until_stopped(arguments) or key in self.built:
            return ""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.setattr(sys, "argv", ["factory", *arguments])
            try:
                main()
            except SystemExit as stop:
                code = int(stop.code or 0)
        assert code in ANSWERS.get(arguments[0], {0}), f"factory {arguments} ended with {code}: {err.getvalue()}"
        if arguments[0] == "build":
            self.built.add(key)
        return out.getvalue()


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_folder(folder: Path) -> None:
    """Write the task and the files that pages speak of."""
    pool = [text for label in LABELS for text in texts_of(label)]
    seeds = [("play some jazz", "music"), ("where is my parcel?", "table"), ("is it warm in here", "weather")]
    spec = make_task(
        folder / "tasks" / TASK,
        name=TASK,
        students=["tfidf-linear"],
        curation=[],
        data={"holdout": "holdout.jsonl", "pool": "pool.jsonl", "seeds": "seeds.jsonl"},
        augmentation={"strategies": []},
        labelling={
            "label_pool": 12,
            "voters": ["teacher", "rules"],
            "rules": [{"label": "music", "keywords": ["rain"]}],  # on these the two do not agree
            "aggregation": "majority",
            "min_agreement": 0.6,
            "self_training": None,
        },
        cascade={"tiers": ["tfidf-linear", "teacher"], "accuracy": 0.5, "delta": 0.3},
    )
    gold = [
        {**row, "text": f"{row['text']}{more}"} for row in holdout_rows() for more in ("", " please", " now", " or so")
    ]
    write_rows(spec / "holdout.jsonl", gold)
    write_rows(spec / "pool.jsonl", [{"text": text} for text in pool])
    write_rows(spec / "seeds.jsonl", [{"text": text, "label": label} for text, label in seeds])
    shutil.copytree(ROOT / "tasks" / "tiny", folder / "tasks" / "tiny")
    make_tables(folder)
    mails = ["where is my parcel?", "play some jazz", "will it rain in Oslo"]
    write_rows(folder / "mails.jsonl", [{"text": text} for text in mails])
    (folder / "mails.csv").write_text("message\n" + "".join(f"{text}\n" for text in mails), encoding="utf-8")
    pq.write_table(pa.table({"text": mails}), folder / "mails.parquet")
    other = [
        f"invoice {n} of the {n}th of May was charged twice" for n in range(40)
    ]  # drift, so that there is an order
    write_rows(folder / "answered.jsonl", [{"text": text} for text in other])
    write_rows(
        folder / "labelled-last-week.jsonl",
        [{"text": t, "label": label} for label in LABELS for t in texts_of(label)[:4]],
    )


def make_tables(folder: Path) -> None:
    """Write a part of the shipped table, for the cheapest student, and files to draft a spec from."""
    table = folder / "tasks" / TABLE
    shutil.copytree(ROOT / "tasks" / TABLE, table)
    spec = yaml.safe_load((table / "spec.yaml").read_text(encoding="utf-8"))
    told = {**spec, "students": [{"name": "linear", "params": {"strength": 1.0}}]}
    (table / "spec.yaml").write_text(yaml.safe_dump(told, sort_keys=False, allow_unicode=True), encoding="utf-8")
    for name in ("train.csv", "holdout.csv"):
        lines = (table / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (table / name).write_text("".join(lines[:101]), encoding="utf-8")
    with (table / "holdout.csv").open(encoding="utf-8", newline="") as file:
        rows = [dict(row) for row in csv.DictReader(file)][:5]
    write_rows(folder / "rows.jsonl", rows)
    shutil.copyfile(table / "holdout.csv", folder / "rows.csv")
    paid = "".join(f"{20 + n * n % 37},{1000 + n * 317 % 4000},{'yes' if n % 3 else 'no'}\n" for n in range(60))
    (folder / "loans.csv").write_text("age,amount,paid_back\n" + paid, encoding="utf-8")
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "2024"
    sheet.append(["visitors", "rain", "revenue"])
    for n in range(60):
        sheet.append([100 + n * n % 41, n * 7 % 13, 1000.5 + n * 317 % 4000])
    book.save(folder / "sales.xlsx")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path) -> Iterator[Place]:
    """Return a folder with a task that was built twice, so that there are versions to choose from."""
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for variable in ("MLFLOW_TRACKING_URI", "NO_COLOR", "FORCE_COLOR"):
            patch.delenv(variable, raising=False)
        make_folder(folder)
        here, path = Place(folder), folder / "tasks" / TASK / "spec.yaml"
        here.factory(["build", f"tasks/{TASK}"])
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump({**spec, "description": "What people say."}, sort_keys=False), encoding="utf-8")
        build_again(path.parent, Path("outputs"))
        build_again(folder / "tasks" / TABLE, Path("outputs"))
        here.built.add(("build", f"tasks/{TABLE}"))
        yield here


def build_again(folder: Path, outputs: Path) -> None:
    """Build and register; without Prefect, which takes most of the time."""
    task, root = check_task(folder), outputs / folder.name
    teacher = open_teacher(task.spec.teacher, folder=folder, outputs=outputs)
    note = BuildNote(root, prices=teacher.spending.prices)
    run = Plain(root, note=note)
    try:
        products = recipe(task, teacher, run)
    finally:
        teacher.close()
    release(task, products, list(run.artifacts.values()), outputs, run)
    note.finished()


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in RUN if block.language == "bash"], ids=at)
def test_the_commands_of_a_block_run_one_after_the_other(place: Place, block: Block) -> None:
    given = set(place.folder.iterdir())
    for line in lines(block.code):
        for command in commands(line):
            place.run(command)
    for path in set(place.folder.iterdir()) - given:  # several pages write a file of one name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in RUN if block.language == "python"], ids=at)
def test_a_python_example_runs(place: Place, block: Block) -> None:
    exec(compile(STANDS_FOR.sub(TASK, block.code), block.where, "exec"), {"__name__": "example"})
