"""The command line: what it prints where, its exit codes, and that no error is a traceback."""

import contextlib
import io
import json
import os
import pty
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.core import TyperGroup

from factory.cli import STOPPED, app
from factory.commands.watch import DRIFT
from factory.errors import ArtifactError, FactoryError
from factory.evaluation.decision import Choice
from factory.evaluation.order import read_order
from factory.spec import spec_schema
from tests.conftest import Done, Factory
from tests.fault_server import Behaviour, FaultServer, Say, completion
from tests.scripted_task import LABELS, make_task, texts_of
from tests.test_build import KEY, QUICK, RELEASED, speak, walk


def commands_below(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield each command, those of groups too, with the words that call it."""
    if not isinstance(command, TyperGroup):
        yield words, command
        return
    for name, one in command.commands.items():
        yield from commands_below(f"{words} {name}".strip(), one)


COMMANDS = dict(commands_below("", typer.main.get_command(app)))
WITHOUT_JSON = {
    "schema": "is JSON anyway",
    "completion": "prints a script",
}
ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "datasets", "prefect", "mlflow", "transformers", "sklearn", "numpy", "openai")


def is_clean(done: Done) -> bool:
    return "Traceback" not in done.out + done.err


# What it says of itself


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_help_of_every_command_has_an_example(factory: Factory, command: str) -> None:
    done = factory(*command.split(), "--help")
    assert done.code == 0
    assert re.search(rf"Examples?:\s+(?:FACTORY_API_KEY=\S+ )?factory {command}", done.out)


def test_help_begins_with_what_to_do_first_and_names_the_exit_codes(factory: Factory) -> None:
    said = " ".join(factory("--help").out.split())
    assert "Start with `factory check DIR`" in said
    assert "Exit codes: 0 done, 1 an error, 2 " in said


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - WITHOUT_JSON.keys()))
def test_every_command_has_a_form_for_programs(command: str) -> None:
    assert any("--json" in parameter.opts for parameter in COMMANDS[command].params)


def test_an_error_is_an_object_for_programs_too(factory: Factory, tmp_path: Path) -> None:
    make_task(tmp_path / "task", studnets=[])
    done = factory("check", tmp_path / "task", "--json")
    told = json.loads(done.out)
    assert (done.code, told["exit_code"], told["event"]) == (2, 2, "Error")
    assert told["problems"][0]["line"] > 1
    assert told["problems"][0]["where"] == "studnets"
    assert told["error"] in done.err
    missing = json.loads(factory("models", "ghost", "--out", tmp_path, "--json").out)
    assert (missing["hint"], missing["problems"]) == ("factory build tasks/ghost", [])


def test_a_good_task_says_what_to_do_next(factory: Factory, tmp_path: Path) -> None:
    done = factory("check", make_task(tmp_path / "task"))
    assert done.out == "scripted: ok, 3 labels\n"
    assert done.err.splitlines()[-1] == f"next: factory plan {tmp_path / 'task'}"


def test_init_tells_programs_what_it_drafted(factory: Factory, tmp_path: Path) -> None:
    rows = "".join(f"{20 + n * n % 37},{'good' if n % 3 else 'bad'}\n" for n in range(40))
    (tmp_path / "loans.csv").write_text("age,paid\n" + rows, encoding="utf-8")
    done = factory("init", tmp_path / "loans", "--from", tmp_path / "loans.csv", "--target", "paid", "--json")
    told = json.loads(done.out)
    assert (done.code, told["kind"], told["columns"]) == (0, "tabular-classification", {"age": "integer"})
    assert told["rows"]["train"] + told["rows"]["holdout"] == 40
    assert Path(told["spec"]).is_file()


# Shells and terminals


def completed(words: str, place: Path, shell: str = "bash") -> list[str]:
    """Return what a shell would offer for the last word."""
    asked = {
        "bash": {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))},
        "zsh": {"_TYPER_COMPLETE_ARGS": words},
        "fish": {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }
    env = {**os.environ, **asked[shell], "_FACTORY_COMPLETE": f"complete_{shell}", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "factory"]
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return re.findall(r"[\w/-]+", done.stdout) if shell == "zsh" else done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_offered_commands(tmp_path: Path, shell: str) -> None:
    assert {"check", "build", "predict"} <= set(completed("factory ", tmp_path, shell))


def test_shells_are_offered_tasks_models_and_versions(tmp_path: Path) -> None:
    for name in ("tiny", "mail"):
        (tmp_path / "tasks" / name).mkdir(parents=True)
        (tmp_path / "tasks" / name / "spec.yaml").touch()
    (tmp_path / "outputs" / "mail").mkdir(parents=True)
    (tmp_path / "outputs" / "mail" / "versions.json").touch()
    assert completed("factory build tasks/t", tmp_path) == ["tasks/tiny"]
    assert completed("factory plan ", tmp_path) == ["tasks/mail", "tasks/tiny"]
    assert completed("factory predict ", tmp_path) == ["mail"]
    assert completed("factory serve mail --version ca", tmp_path) == ["candidate"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(factory: Factory, shell: str) -> None:
    done = factory("completion", shell)
    assert done.code == 0
    assert f"complete_{shell}" in done.out


def on_a_terminal(*arguments: str, **env: str) -> str:
    """Return what a command prints on a terminal."""
    ours, theirs = pty.openpty()
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    command = [sys.executable, "-m", "factory", *arguments]
    told = {**kept, "TERM": "xterm-256color", **env}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=told, cwd=ROOT):
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # how a terminal says that nobody is at the other end
            while part := os.read(ours, 65536):
                said += part
    os.close(ours)
    return said.decode()


COLOUR = re.compile(r"\x1b\[[\d;]*\b(?:3[0-8]|4[0-8]|9[0-7])[\d;]*m")


def test_there_are_colours_on_a_terminal_and_none_where_they_are_not_wanted(factory: Factory) -> None:
    assert COLOUR.search(on_a_terminal("--help"))
    assert not COLOUR.search(on_a_terminal("--help", NO_COLOR="1"))
    assert "\x1b" not in factory("--help").out
    assert "\x1b" not in factory("bulid").err


def test_the_exit_codes_are_those_that_are_documented() -> None:
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE)}
    errors = [FactoryError, *FactoryError.__subclasses__()]
    given = {kind.exit_code for kind in errors} | {choice.exit_code for choice in Choice} | {0, DRIFT, STOPPED}
    assert documented == given


def test_help_and_import_are_light() -> None:
    code = f"""
import sys
import factory
import factory.cli
sys.argv = ["factory", "--help"]
try:
    factory.cli.main()
except SystemExit as stop:
    assert not stop.code
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(command.split()[0] in done.stdout for command in COMMANDS)


def test_the_schema_is_the_committed_one(factory: Factory) -> None:
    done = factory("schema")
    assert json.loads(done.out) == spec_schema()
    committed = Path(__file__).parents[1] / "docs" / "spec.schema.json"
    assert done.out == committed.read_text(encoding="utf-8")


def test_an_unknown_command_names_itself(factory: Factory) -> None:
    done = factory("bulid")
    assert (done.code, done.out) == (2, "")
    assert "No such command 'bulid'" in done.err


# Bad input


def spec_with(**changes: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        make_task(folder, **changes)

    return write


def task_then(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Return a task with one file replaced."""

    def write(folder: Path) -> None:
        make_task(folder)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def huge(folder: Path) -> None:
    make_task(folder)
    with (folder / "spec.yaml").open("wb") as file:
        file.truncate(50_000_000)


EXPLODING = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
GOOD_ROW = '{"text": "will it rain", "label": "weather"}\n'

WRONG: list[tuple[str, Callable[[Path], None], str]] = [
    ("an unknown key", spec_with(studnets=["setfit"]), r"spec\.yaml:\d+: studnets: unknown key.*nearest: 'students'"),
    ("a label given twice", spec_with(labels=["hours", "hours"]), r"spec\.yaml:\d+: labels\[1\].*given twice"),
    ("an empty label", spec_with(labels=["hours", ""]), r"spec\.yaml:\d+: labels\[1\].*must not be empty"),
    ("one label", spec_with(labels=["hours"]), r"spec\.yaml:\d+: labels: .*2"),
    ("a name that is no folder name", spec_with(name="../up"), r"spec\.yaml:1: name: use 1 to 64 lower-case"),
    ("a path that leaves the folder", spec_with(data={"holdout": "../x.jsonl"}), r"spec\.yaml:\d+: data\.holdout: "),
    ("a file that is missing", spec_with(data={"holdout": "gone.jsonl"}), r"data\.holdout: .*gone\.jsonl"),
    ("an unknown student", spec_with(students=["setfti"]), r"spec\.yaml:\d+: students\[0\].*nearest: 'setfit'"),
    (
        "a parameter of a student",
        spec_with(students=[{"name": "tfidf-linear", "params": {"c": 1}}]),
        r"spec\.yaml:\d+: students\[0\]",
    ),
    (
        "a label that the spec lacks",
        task_then("holdout.jsonl", GOOD_ROW + '{"text": "refund me", "label": "Refund"}\n'),
        r"holdout\.jsonl:2: .*'Refund'",
    ),
    ("broken JSONL", task_then("holdout.jsonl", GOOD_ROW * 2 + '{"text": \n'), r"holdout\.jsonl:3: "),
    ("rows not in UTF-8", task_then("holdout.jsonl", b"\n" + b"caf\xe9\n"), r"holdout\.jsonl:2: .*UTF-8"),
    ("an empty data file", task_then("holdout.jsonl", ""), r"holdout\.jsonl.*(empty|no rows)"),
    ("an empty spec", task_then("spec.yaml", ""), r"spec\.yaml:1: the file is empty"),
    ("a spec not in UTF-8", task_then("spec.yaml", b"name: caf\xe9\n"), r"spec\.yaml:1: not UTF-8"),
    ("aliases that explode", task_then("spec.yaml", EXPLODING), r"spec\.yaml:1: anchors and aliases"),
    ("a spec of 50 MB", huge, r"spec\.yaml: the file has 50,000,000 bytes"),
    ("a missing spec", lambda folder: folder.mkdir(), r"spec\.yaml: no such file"),
    ("a missing folder", lambda folder: None, r"task: no such folder"),
]  # fmt: skip


@pytest.mark.parametrize(("write", "expected"), [one[1:] for one in WRONG], ids=[one[0] for one in WRONG])
@pytest.mark.parametrize("command", ["check", "plan", "build"])
def test_bad_input_is_said_with_its_place(
    factory: Factory, tmp_path: Path, command: str, write: Callable[[Path], None], expected: str
) -> None:
    write(tmp_path / "task")
    out = [] if command == "check" else ["--out", tmp_path / "outputs"]
    done = factory(command, tmp_path / "task", *out)
    assert done.code == 2
    assert re.search(expected, done.err), done.err
    assert done.err.startswith("error: ")
    assert done.out == ""
    assert is_clean(done)
    assert not (tmp_path / "outputs").exists()


def test_everything_wrong_is_said_at_once(factory: Factory, tmp_path: Path) -> None:
    make_task(tmp_path / "task", seed="x", students=["setfti"], studnets=[])
    done = factory("check", tmp_path / "task")
    assert [word in done.err for word in ("seed", "setfti", "studnets")] == [True] * 3


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "factory.cli", "check", str(tmp_path / "absent"), "--debug"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_script_without_a_fitting_line_is_said(factory: Factory, tmp_path: Path) -> None:
    folder = make_task(tmp_path / "task", **QUICK)
    (folder / "replies.jsonl").write_text('{"contains": "zebra crossing", "reply": "x"}\n', encoding="utf-8")
    done = factory("build", folder, "--out", tmp_path / "outputs")
    assert done.code == 1
    assert "no line fits the request" in done.err
    assert "hint: add a line for it" in done.err
    assert is_clean(done)


# Building and using a model


@dataclass(frozen=True)
class Model:
    folder: Path
    outputs: Path
    first: Done


@pytest.fixture(scope="module")
def model(prefect_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    place = tmp_path_factory.mktemp("model")
    folder = make_task(place / "task", **{**QUICK, "data": {"holdout": "holdout.jsonl"}})
    command = [sys.executable, "-m", "factory.cli", "build", str(folder), "--out", str(place / "outputs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Model(folder, place / "outputs", Done(done.returncode, done.stdout, done.stderr))


@pytest.mark.slow
def test_a_piped_build_writes_lines_to_stderr_and_the_verdict_to_stdout(model: Model) -> None:
    lines = model.first.err.splitlines()
    assert lines[0].startswith("warning: holdout.jsonl: 9 rows")
    assert lines[1] == "prefect: starting, which takes some seconds"
    assert "attributes-1: started (never run)" in lines
    assert all(re.match(r"[a-z0-9-]+: ", line) for line in lines)
    assert "\x1b" not in model.first.out + model.first.err
    assert "tfidf-linear answers" in model.first.out
    assert "version 1 (candidate, champion)" in model.first.out
    assert "started" not in model.first.out


@pytest.mark.slow
def test_build_json_prints_only_json_and_the_verdict_last(factory: Factory, model: Model) -> None:
    done = factory("build", model.folder, "--out", model.outputs, "--json")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert {event["event"] for event in events} == {"StageFinished", "Verdict"}
    assert all(event["cached"] for event in events[:-1])
    verdict = events[-1]
    assert verdict["event"] == "Verdict"
    assert verdict["verdict"].startswith("tfidf-linear answers")
    assert verdict["version"]["version"] == 1
    assert verdict["teacher"] is None
    assert {path.name for path in Path(verdict["path"]).iterdir()} >= RELEASED


@pytest.mark.slow
def test_a_quiet_build_says_only_the_verdict(factory: Factory, model: Model) -> None:
    done = factory("build", model.folder, "--out", model.outputs, "--quiet")
    assert done.err.splitlines() == ["warning: holdout.jsonl: 9 rows; with fewer than 100 the intervals are wide"]
    assert "the teacher was asked nothing" in done.out


@pytest.mark.slow
def test_models_lists_versions_with_their_folders(factory: Factory, model: Model) -> None:
    (version,) = json.loads(factory("models", "scripted", "--out", model.outputs, "--json").out)
    assert version["version"] == 1
    assert set(version["aliases"]) == {"candidate", "champion"}
    assert 0 <= version["metrics"]["accuracy"] <= 1
    assert {path.name for path in Path(version["path"]).iterdir()} >= RELEASED
    said = factory("models", "scripted", "--out", model.outputs).out
    assert said.startswith("version 1  candidate,champion  accuracy ")
    assert said.splitlines()[0].endswith(version["path"])
    assert "built and past its gate by " in said.splitlines()[1]
    assert factory("models", "--out", model.outputs).out == f"scripted {said}"


@pytest.mark.slow
def test_models_without_a_name_and_without_a_model_says_so(factory: Factory, tmp_path: Path) -> None:
    done = factory("models", "--out", tmp_path)
    assert done.code == 1
    assert f"{tmp_path}: no model is registered here" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_predict_answers_texts(factory: Factory, model: Model) -> None:
    done = factory("predict", "scripted", "play some jazz by Adele", "will it rain in Rome", "--outputs", model.outputs)
    first, second = done.out.splitlines()
    assert re.fullmatch(r"music\t[01]\.\d{3}\tplay some jazz by Adele", first)
    assert second.startswith("weather\t")


@pytest.mark.slow
def test_predict_json_gives_every_probability(factory: Factory, model: Model) -> None:
    answer = json.loads(factory("predict", "scripted", "will it rain", "--json", "--outputs", model.outputs).out)
    assert answer["text"] == "will it rain"
    assert list(answer["probabilities"]) == ["weather", "music", "table"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0)
    assert answer["probability"] == max(answer["probabilities"].values())


@pytest.mark.slow
def test_predict_reads_standard_input(factory: Factory, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("play a ballad by U2\r\nwill it snow in Oslo\n"))
    lines = factory("predict", "scripted", "--outputs", model.outputs).out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["music", "weather"]


@pytest.mark.slow
def test_predict_adds_to_each_line_of_a_file(factory: Factory, model: Model, tmp_path: Path) -> None:
    rows = [{"id": n, "text": text, "label": "of old"} for n, text in enumerate(texts_of("music"))]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = factory("predict", "scripted", "--in", source, "--out", target, "--outputs", model.outputs)
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith(f"{target}: {len(rows)} rows in ")
    answers = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [(answer["id"], answer["text"]) for answer in answers] == [(row["id"], row["text"]) for row in rows]
    assert {answer["label"] for answer in answers} == {"music"}
    assert all(set(answer) == {"id", "text", "label", "probability", "probabilities"} for answer in answers)


@pytest.mark.slow
def test_predict_labels_a_parquet_file(factory: Factory, model: Model, tmp_path: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"message": ["play some jazz by Adele", "will it rain in Rome"]}), source)
    told = ["predict", "scripted", "--in", source, "--out", target, "--outputs", model.outputs]
    assert "expected a column 'text', got message" in factory(*told).err
    assert factory(*told, "--column", "message").code == 0
    assert pq.read_table(target)["label"].to_pylist() == ["music", "weather"]
    assert "go with --in and --out" in factory(*told[:2], "hello", "--dask", "tcp://x:1").err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "in.jsonl: No such file or directory"),
        (b'{"text": "a"}\nnope\n', "in.jsonl:2: expected a JSON object"),
        (b'{"txt": "a"}\n', 'in.jsonl:1: expected a JSON object with a string under "text"'),
        (b'{"text": "caf\xe9"}\n', "in.jsonl:1: expected a JSON object: 'utf-8' codec"),
    ],
)
def test_predict_says_what_is_wrong_with_a_file(
    factory: Factory, model: Model, tmp_path: Path, content: bytes | None, expected: str
) -> None:
    source = tmp_path / "in.jsonl"
    if content is not None:
        source.write_bytes(content)
    done = factory("predict", "scripted", "--in", source, "--outputs", model.outputs)
    assert (done.code, done.out) == (1, "")
    assert expected in done.err
    assert is_clean(done)


@pytest.mark.slow
def test_bytes_that_are_no_text_are_said(model: Model) -> None:
    command = [sys.executable, "-m", "factory.cli", "predict", "scripted", "--outputs", str(model.outputs)]
    for argument, given in [(b"caf\xe9", b""), (None, b"caf\xe9\n")]:
        whole = [os.fsencode(one) for one in command] + ([argument] if argument else [])
        env = {**os.environ, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(whole, input=given, capture_output=True, check=False, env=env)
        assert done.returncode == 1
        assert b"not UTF-8" in done.stderr
        assert b"Traceback" not in done.stderr


@pytest.mark.slow
def test_a_changed_release_is_refused(factory: Factory, model: Model, tmp_path: Path) -> None:
    (version,) = json.loads(factory("models", "scripted", "--out", model.outputs, "--json").out)
    config = Path(version["path"]) / "config.json"
    original = config.read_bytes()
    config.write_bytes(original + b" ")
    try:
        done = factory("predict", "scripted", "hello", "--outputs", model.outputs)
    finally:
        config.write_bytes(original)
    assert done.code == 1
    assert "config.json: the file was changed after the stage wrote it" in done.err
    assert is_clean(done)


@pytest.mark.slow
def test_watch_orders_data_where_production_is_something_else(factory: Factory, model: Model, tmp_path: Path) -> None:
    log, page, orders = tmp_path / "log.jsonl", tmp_path / "drift.html", model.outputs / "scripted" / "orders"

    def watch(texts: list[str], *options: str | Path) -> Done:
        log.write_text("".join(json.dumps({"id": f"n{n}", "text": one}) + "\n" for n, one in enumerate(texts)))
        told = ["watch", "scripted", "--log", log, "--against", "training", "--outputs", model.outputs]
        return factory(*told, *options)

    usual = watch([text for label in LABELS for text in texts_of(label)])
    assert (usual.code, orders.exists()) == (0, False)
    assert usual.out.startswith("No drift is shown by 48 texts of production")
    odd = [f"invoice {n} of the {n}th of May was charged twice" for n in range(40)]
    found = watch(odd, "--report", page)
    assert found.code == 3
    assert "Drift: " in found.out
    (order,) = orders.iterdir()
    assert all(sample.id.startswith("n") and sample.text is None for sample in read_order(order).samples)
    assert "charged twice" not in order.read_text() + page.read_text() + found.out
    told = json.loads(watch(odd, "--json", "--with-texts").out)
    assert "charged twice" in Path(told["order"]).read_text()
    assert "expected at least 30 production texts, got 3" in watch(odd[:3]).err
    log.write_text('{"label": "music"}\n')
    done = factory("watch", "scripted", "--log", log, "--outputs", model.outputs)
    assert "expected a string under 'text'" in done.err
    assert "--log-texts" in done.err


def test_a_model_that_was_never_built_says_how_to_build_it(factory: Factory, tmp_path: Path) -> None:
    for command in (["models", "ghost", "--out", tmp_path], ["predict", "ghost", "hello", "--outputs", tmp_path]):
        done = factory(*command)
        assert done.code == 1
        assert "ghost: no version is registered" in done.err
        assert "factory build tasks/ghost" in done.err
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [(["hello", "--in", "x.jsonl"], "give texts or --in, not both"), (["hello", "--out", "x.jsonl"], "goes with --in")],
)
def test_options_that_do_not_go_together_are_said(factory: Factory, options: list[str], expected: str) -> None:
    done = factory("predict", "scripted", *options)
    assert done.code == 2
    assert expected in done.err


# A teacher that fails


def served(tmp_path: Path, server: FaultServer, **limits: Any) -> Path:
    teacher = {"name": "openai", "model": "stub", "base_url": f"{server.url}/v1", "timeout_s": 5, **limits}
    return make_task(tmp_path / "task", **{**QUICK, "teacher": teacher})


def build_against(factory: Factory, tmp_path: Path, server: FaultServer, **limits: Any) -> Done:
    outputs = tmp_path / "outputs"
    done = factory("build", served(tmp_path, server, **limits), "--out", outputs)
    assert is_clean(done)
    assert KEY not in done.out + done.err
    assert [path for path in outputs.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []
    return done


def fail(status: int) -> Behaviour:
    return lambda body, number: Say(status, {"error": {"message": f"the key {KEY} is wrong"}})


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.mark.slow
@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(
    ("status", "hint"), [(401, "check the key in OPENAI_API_KEY"), (404, "check `teacher.model` (stub)")]
)
def test_a_refusal_is_final(factory: Factory, tmp_path: Path, status: int, hint: str) -> None:
    with FaultServer(fail(status)) as server:
        done = build_against(factory, tmp_path, server)
        assert len(server.bodies) == 1, done
    assert (done.code, done.out) == (1, "")
    assert f"HTTP {status}: " in done.err
    assert f"hint: {hint}" in done.err


@pytest.mark.slow
@pytest.mark.usefixtures("key")
def test_a_rate_limit_passes(factory: Factory, tmp_path: Path) -> None:
    make_task(tmp_path / "script")
    speaking = speak(tmp_path / "script" / "replies.jsonl")
    busy = Say(429, {"error": {"message": "slow down"}}, headers={"Retry-After": "0.1"})
    with FaultServer(lambda body, number: busy if number in (0, 5) else speaking(body, number)) as server:
        done = build_against(factory, tmp_path, server)
    assert done.code == 0
    assert "version 1 (candidate, champion)" in done.out


def says(text: str | None, **more: Any) -> Behaviour:
    return lambda body, number: Say(body=completion(text, **more))


@pytest.mark.slow
@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(
    "behave",
    [
        says(""),
        says(None, refusal="I cannot help with that"),
        says("not a label", finish_reason="length"),
        says("the same sentence " * 20),
        says("{]"),
    ],
    ids=["empty", "refusals", "truncated", "repeated for ever", "not JSON"],
)
def test_a_teacher_that_says_nothing_of_use_ends_the_build_with_a_reason(
    factory: Factory, tmp_path: Path, behave: Behaviour
) -> None:
    with FaultServer(behave) as server:
        done = build_against(factory, tmp_path, server)
        assert len(server.bodies) < 100
    assert (done.code, done.out) == (1, "")
    last = done.err[done.err.index("error: ") :]
    assert "leave 0 training rows for 0 labels" in last
    assert re.search(r"rejected: \S+ \d+", last), last
    assert "hint: " in last


# The disk


def test_a_full_disk_is_said_and_nothing_stored_is_lost(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "task", **QUICK)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond this: what a process sees is what it sees on a full disk, but for the number of the error.
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.raises(ArtifactError, match=r"full|cannot") as caught:
            walk(folder, tmp_path / "outputs")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.hint
    assert list((tmp_path / "outputs").glob("*/*/.tmp-*")) == []
    again = walk(folder, tmp_path / "outputs")
    assert len(again.asked) < len(walk(folder, tmp_path / "elsewhere").asked)


TERMINATED = """
import os, signal, sys
import factory.check
from factory.cli import main
factory.check.check_task = lambda folder: os.kill(os.getpid(), signal.SIGTERM)
sys.argv = ["factory", "check", "anything"]
main()
"""


INTERRUPTED = """
import builtins, sys
from factory.__main__ import main
find = builtins.__import__
def interrupt(name, *more):
    if name == "typer":
        raise KeyboardInterrupt
    return find(name, *more)
builtins.__import__ = interrupt
main()
"""


def test_ctrl_c_while_the_command_line_is_imported_is_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "\nstopped\n")


def test_a_build_that_is_told_to_end_ends_as_after_ctrl_c() -> None:
    done = subprocess.run([sys.executable, "-c", TERMINATED], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.rstrip().endswith("run the same command again to go on")
