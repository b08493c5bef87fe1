import os
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from factory.check import check_task
from factory.check.plugins import check_plugins
from factory.errors import SpecError
from factory.spec import Model, Plugin, Spec
from factory.spec_file import SPEC_FILE, spec_source

REPOSITORY = Path(__file__).parent.parent
FOUR_KEYS = "name: shop\nkind: text-classification\ndescription: What customers write.\nlabels: [refund, hours]\n"
ROWS = '{"text": "money back", "label": "refund"}\n{"text": "open on sunday?", "label": "hours"}\n'


@dataclass(config=ConfigDict(extra="forbid"))
class Boosted:
    """A student of our own, so that no test depends on the hyperparameters of a real one."""

    rounds: Annotated[int, Field(ge=1)] = 10
    loss: Literal["log", "hinge"] = "log"
    ngrams: tuple[int, int] = (1, 2)


class Options(Model):
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.9


class Filter:
    params = Options


class Strategy:
    options = Options
    params = Boosted  # a strategy's stage may take more than a spec may set


TABLE = {"boosted": Boosted, "near": Filter(), "attributes": Strategy()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    return folder


def write(folder: Path, more: str = "", **files: str) -> Path:
    (folder / SPEC_FILE).write_text(FOUR_KEYS + more, encoding="utf-8")
    for name, content in files.items():
        (folder / f"{name}.jsonl").write_text(content, encoding="utf-8")
    return folder


def problems(folder: Path) -> list[str]:
    """Return what is wrong, without the path of the task folder."""
    with pytest.raises(SpecError, match=r".") as caught:
        check_task(folder)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def plugin_problems(folder: Path, students: str) -> list[str]:
    source = spec_source(write(folder, f"students:\n{students}"))
    plugins = [
        (("students", index), Plugin.model_validate(entry)) for index, entry in enumerate(source.data["students"])
    ]
    return [str(problem).replace(f"{folder}/", "") for problem in check_plugins(plugins, TABLE, source)]


def test_a_task_knows_its_spec_and_its_files(folder: Path) -> None:
    task = check_task(write(folder, "data: {holdout: holdout.jsonl, pool: pool.jsonl}\n", holdout=ROWS, pool=ROWS))
    assert task.spec.label_names == ("refund", "hours")
    assert {key: file.path for key, file in task.files.items()} == {
        "pool": folder / "pool.jsonl",
        "holdout": folder / "holdout.jsonl",
    }
    assert task.warnings == ("holdout.jsonl: 2 rows; with fewer than 100 the intervals are wide",)


def test_four_keys_are_a_task(folder: Path) -> None:
    task = check_task(write(folder))
    assert task.files == {}
    assert task.warnings == ()


def test_everything_wrong_is_reported_at_once(folder: Path) -> None:
    more = """\
seed: soon
data:
  holdout: holdout.jsonl
  pool: pol.jsonl
  trian: train.jsonl
students: [tfidf-liner, sentence-linear]
curation:
  - name: dedup
    params: {treshold: 0.9}
synthesis: {strategies: [atributes]}
"""
    write(folder, more, holdout='{"text": "a", "label": "Refund"}\nnope\n', pool="{}\n")
    found = problems(folder)
    assert [line.split(": ")[:2] for line in found] == [
        ["spec.yaml:5", "seed"],
        ["spec.yaml:9", "data.trian"],
        ["spec.yaml:10", "students[0]"],
        ["spec.yaml:13", "curation[0].params.treshold"],
        ["spec.yaml:14", "synthesis.strategies[0]"],
        ["spec.yaml:8", "data.pool"],
        ["holdout.jsonl:1", "label"],
        ["holdout.jsonl:2", "not JSON"],
    ]
    assert found[2].endswith("nearest: 'tfidf-linear'")
    assert found[4].endswith("nearest: 'attributes'")
    assert found[5] == "spec.yaml:8: data.pool: no such file 'pol.jsonl'; nearest: 'pool.jsonl'"
    assert found[6].endswith("not in the spec (refund, hours); nearest: 'refund'")


def test_rows_are_looked_at_even_when_the_labels_of_the_spec_are_wrong(folder: Path) -> None:
    write(folder, "data: {holdout: holdout.jsonl}\n", holdout=ROWS + "nope\n")
    spec = (folder / SPEC_FILE).read_text(encoding="utf-8")
    (folder / SPEC_FILE).write_text(spec.replace("[refund, hours]", "[refund, {nam: x}]"), encoding="utf-8")
    found = problems(folder)
    assert [line.split(":")[0] for line in found] == ["spec.yaml", "spec.yaml", "holdout.jsonl"]


def test_plugin_names_and_parameters_are_checked_with_line_and_nearest_name(folder: Path) -> None:
    students = """\
  - bosted
  - name: boosted
    params:
      round: 3
      rounds: 0
      loss: hing
      ngrams: [1, 2, 3]
  - {name: near, params: {threshold: 2}}
  - {name: attributes, params: {rounds: 1}}
  - {name: boosted, params: {rounds: 3, ngrams: [1, 3]}}
  - {name: boosted, params: {rounds: true}}
"""
    assert plugin_problems(folder, students) == [
        "spec.yaml:6: students[0]: 'bosted' is not one of boosted, near, attributes; nearest: 'boosted'",
        "spec.yaml:9: students[1].params.round: unknown key, not one of rounds, loss, ngrams; nearest: 'rounds'",
        "spec.yaml:10: students[1].params.rounds: expected a number of at least 1, got 0",
        "spec.yaml:11: students[1].params.loss: 'hing' is not one of log, hinge; nearest: 'hinge'",
        "spec.yaml:12: students[1].params.ngrams: expected at most 2 entries, got 3",
        "spec.yaml:13: students[2].params.threshold: expected a number of at most 1.0, got 2",
        "spec.yaml:14: students[3].params.rounds: unknown key, not one of threshold",
        "spec.yaml:15: students[4].name: 'boosted' is named twice: results are stored by name",
        "spec.yaml:16: students[5].name: 'boosted' is named twice: results are stored by name",
        "spec.yaml:16: students[5].params.rounds: expected a whole number, got true",
    ]


def test_the_plugins_that_a_spec_gets_by_default_exist(folder: Path) -> None:
    default = check_task(write(folder)).spec
    named = Spec.model_validate({**default.model_dump(), "name": "named"})
    lists = [("students", named.students), ("curation", named.curation), ("strategies", named.synthesis.strategies)]
    for key, plugins in lists:
        more = f"{key}: [{', '.join(plugin.name for plugin in plugins)}]\n"
        check_task(write(folder, f"synthesis: {{{more.strip()}}}\n" if key == "strategies" else more))


@pytest.mark.parametrize("name", ["../other.jsonl", "/etc/hostname", "a/../../other.jsonl", ".."])
def test_paths_that_leave_the_task_folder_are_refused(folder: Path, name: str) -> None:
    (folder.parent / "other.jsonl").write_text(ROWS, encoding="utf-8")
    expected = f"spec.yaml:5: data.pool: {name!r} leads out of the task folder: name a file inside it"
    assert problems(write(folder, f"data: {{pool: {name}}}\n")) == [expected]


def test_links_that_leave_the_task_folder_are_refused_and_those_that_stay_are_not(folder: Path) -> None:
    outside = folder.parent / "other.jsonl"
    outside.write_text(ROWS, encoding="utf-8")
    (folder / "pool.jsonl").symlink_to(outside)
    (folder / "sub").symlink_to(folder.parent)
    for name in ("pool.jsonl", "sub/other.jsonl"):
        message = f"{name!r} is a link that leads out of the task folder: copy the file into it"
        assert problems(write(folder, f"data: {{pool: {name}}}\n")) == [f"spec.yaml:5: data.pool: {message}"]
    (folder / "real.jsonl").write_text(ROWS, encoding="utf-8")
    (folder / "inside.jsonl").symlink_to("real.jsonl")
    assert "pool" in check_task(write(folder, "data: {pool: inside.jsonl}\n")).files


def test_a_task_folder_may_itself_be_a_link(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    write(folder, "data: {pool: pool.jsonl}\n", pool=ROWS)
    assert check_task(link).files["pool"].path == link / "pool.jsonl"


def test_files_that_are_no_data_files_are_told_apart(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "sub").mkdir()
    (folder / "round.jsonl").symlink_to("round.jsonl")
    more = "data:\n  seeds: pipe.jsonl\n  pool: sub\n  train: empty.jsonl\n  holdout: round.jsonl\n"
    found = problems(write(folder, more, empty=""))
    assert found[:3] == [
        "spec.yaml:6: data.seeds: 'pipe.jsonl' is not a regular file",
        "spec.yaml:7: data.pool: 'sub' is not a regular file",
        "spec.yaml:8: data.train: 'empty.jsonl' is empty",
    ]
    assert found[3].startswith("spec.yaml:9: data.holdout: 'round.jsonl' cannot be read: ")


def test_a_name_longer_than_a_file_name_may_be_is_refused(folder: Path) -> None:
    assert "cannot be read: " in problems(write(folder, f"data: {{pool: {'a' * 5000}}}\n"))[0]


def test_the_holdout_cannot_be_used_for_anything_else(folder: Path) -> None:
    more = "data: {train: holdout.jsonl, holdout: ./holdout.jsonl}\n"
    expected = "spec.yaml:5: data.train: is the holdout, which only the final report may read"
    assert problems(write(folder, more, holdout=ROWS)) == [expected]


def test_a_holdout_that_says_little_is_a_warning(folder: Path) -> None:
    rows = '{"text": "money back", "label": "refund"}\n' * 3
    task = check_task(write(folder, "data: {holdout: holdout.jsonl}\n", holdout=rows))
    assert task.warnings == (
        "holdout.jsonl: 3 rows; with fewer than 100 the intervals are wide",
        "holdout.jsonl: no row has the label hours: nothing can be said about it",
        "holdout.jsonl: 2 rows repeat what an earlier row holds",
    )


def test_a_pool_needs_no_labels(folder: Path) -> None:
    pool = '{"text": "a"}\n{"text": "b", "label": "whatever"}\n'
    assert check_task(write(folder, "data: {pool: pool.jsonl}\n", pool=pool)).warnings == ()


def test_labels_that_the_embedded_teacher_cannot_read_are_refused(folder: Path) -> None:
    labels = [f"label number {n}" for n in range(300)]
    write(folder)
    spec = (folder / SPEC_FILE).read_text(encoding="utf-8").replace("[refund, hours]", str(labels))
    (folder / SPEC_FILE).write_text(spec, encoding="utf-8")
    assert problems(folder)[0].startswith("spec.yaml:4: labels: description and labels are at least 2,8"), (
        "of 2,048 tokens"
    )
    (folder / SPEC_FILE).write_text(spec + "teacher: {name: openai, model: m}\n", encoding="utf-8")
    check_task(folder)


def test_a_file_without_a_name_is_said(folder: Path) -> None:
    expected = "spec.yaml:5: data.holdout: must name a file of the task folder, or be left out"
    assert problems(write(folder, 'data: {holdout: ""}\n')) == [expected]


def test_an_encoder_that_is_nowhere_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(name: str) -> list[str]:
        return problems(write(folder, f"students:\n  - name: sentence-linear\n    params: {{encoder: {name}}}\n"))

    place, known = "spec.yaml:7: students[0].params.encoder: ", "one of all-MiniLM-L6-v2, all-mpnet-base-v2"
    for name in ("nosuch", "../x", "a b"):
        assert found(name)[0].startswith(f"{place}{name!r} is not {known}, a model folder or a hub id")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert found("some/model")[0].endswith("that is on this machine")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("socket.create_connection", None)  # nothing is asked: the hub may have it
    check_task(write(folder, "students: [{name: sentence-linear, params: {encoder: some/model}}]\n"))


def test_an_encoder_in_a_folder_is_looked_at(folder: Path) -> None:
    model = folder.parent / "model"
    model.mkdir()
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        (model / name).touch()
    check_task(write(folder, f"students: [{{name: setfit, params: {{encoder: {model}}}}}]\n"))
    (model / "tokenizer.json").unlink()
    assert "it has no tokenizer.json" in problems(folder)[0]


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [
        ("{model: nosuch.gguf}", "'nosuch.gguf' cannot be read: No such file or directory"),
        ("{model: .}", "'.' cannot be read: Is a directory"),
        ("{model: spec.yaml}", "'spec.yaml' is not a GGUF file"),
        ("{name: scripted}", "the scripted teacher needs a file with replies, such as replies.jsonl"),
        ("{name: scripted, model: nosuch.jsonl}", "no such file 'nosuch.jsonl'"),
        (
            "{name: scripted, model: ../../etc/passwd}",
            "'../../etc/passwd' leads out of the task folder: name a file inside it",
        ),
    ],
)
def test_the_file_of_a_teacher_is_looked_at(folder: Path, teacher: str, expected: str) -> None:
    assert problems(write(folder, f"teacher: {teacher}\n")) == [f"spec.yaml:5: teacher.model: {expected}"]


def test_the_lines_of_a_script_are_read(folder: Path) -> None:
    script = '{"contains": "", "reply": "ok"}\n'
    check_task(write(folder, "teacher: {name: scripted, model: replies.jsonl}\n", replies=script))
    write(folder, "teacher: {name: scripted, model: replies.jsonl}\n", replies=script + "nonsense\n")
    assert problems(folder)[0].startswith("replies.jsonl:2: not JSON")


def test_weights_of_ones_own_may_lie_anywhere(folder: Path) -> None:
    (folder.parent / "own.gguf").write_bytes(b"GGUF and more")
    check_task(write(folder, "teacher: {model: ../own.gguf}\n"))


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("tasks/*/spec.yaml")), ids=lambda path: path.parent.name)
def test_shipped_tasks_have_nothing_wrong(path: Path) -> None:
    task = check_task(path.parent)
    assert "holdout" in task.files
    assert (path.parent / "README.md").is_file()


def test_the_noise_filter_is_the_last_and_an_encoder_must_exist(folder: Path) -> None:
    write(folder, "curation: [label-noise, dedup]\nencoder: nosuch\n")
    found = problems(folder)
    assert any("5: curation[0]" in one and "put it last" in one for one in found), found
    assert any("6: encoder" in one and "nosuch" in one for one in found), found
