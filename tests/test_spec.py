import json
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.errors import SpecError
from factory.spec import Spec, spec_schema
from factory.spec_file import SPEC_FILE, load_spec
from factory.spec_source import MAX_BYTES, MAX_PROBLEMS, MAX_VALUES, read_source
from factory.spec_teacher import PRICES_FILE

REPOSITORY = Path(__file__).parent.parent
SCHEMA = REPOSITORY / "docs" / "spec.schema.json"
HEAD = "name: shop\nkind: text-classification\ndescription: What customers write.\n"
FOUR_KEYS = HEAD + "labels: [refund, hours]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, content: str | bytes) -> Path:
    content = content.encode() if isinstance(content, str) else content
    (folder / SPEC_FILE).write_bytes(content)
    return folder


def problems(folder: Path, content: str | bytes) -> list[str]:
    """Return what is wrong, without the path of the file: `line: where: message`."""
    with pytest.raises(SpecError, match=r".") as caught:
        load_spec(write(folder, content))
    return [str(problem).removeprefix(str(problem.file)).removeprefix(":").strip() for problem in caught.value.problems]


def test_four_keys_are_a_valid_spec(folder: Path) -> None:
    spec = load_spec(write(folder, FOUR_KEYS))
    assert spec.label_names == ("refund", "hours")
    assert [student.name for student in spec.students] == [
        "blend",
        "sentence-linear",
        "static-embedding",
        "tfidf-linear",
    ]


def test_bare_names_stand_for_mappings_in_every_list(folder: Path) -> None:
    bare = "students: [a]\ncuration: [b]\nsynthesis: {strategies: [c]}\n"
    full = "students: [{name: a}]\ncuration: [{name: b}]\nsynthesis: {strategies: [{name: c, params: {}}]}\n"
    assert load_spec(write(folder, FOUR_KEYS + bare)) == load_spec(write(folder, FOUR_KEYS + full))


def test_every_problem_is_reported_at_once_with_line_and_nearest_name(folder: Path) -> None:
    content = """\
name: My Task
kind: text-clasification
labels:
  - refund
  - {name: hours, descripton: when we open}
  - ""
teacher:
  name: openia
  budget: {call: 3, tokens: many}
studnets: [setfit]
students:
  - {name: setfit, params: 3}
  - {params: {}}
labelling: {verify: yes, ask_directly: -1}
gate:
  macro_f1: 1.5
  p95_ms: [1]
seed: true
"""
    keys = list(Spec.model_fields)
    name_rule = "use 1 to 64 lower-case letters, digits, `-` and `_`, starting with a letter or digit"
    assert problems(folder, content) == [
        f"1: name: {name_rule}",
        "1: description: is missing",
        "2: kind: 'text-clasification' is not one of text-classification, tabular-classification, "
        "tabular-regression; nearest: 'text-classification'",
        "5: labels[1].descripton: unknown key, not one of name, description; nearest: 'description'",
        "6: labels[2]: must not be empty",
        "8: teacher.name: 'openia' is not one of embedded, openai, scripted; nearest: 'openai'",
        "9: teacher.budget.tokens: expected a whole number, got 'many'",
        "9: teacher.budget.call: unknown key, not one of calls, tokens, usd; nearest: 'calls'",
        f"10: studnets: unknown key, not one of {', '.join(keys[:12])} and {len(keys) - 12} more; nearest: 'students'",
        "12: students[0].params: expected a mapping (`key: value` lines), got 3",
        "13: students[1].name: is missing",
        "14: labelling.verify: expected true or false, got 'yes'",
        "14: labelling.ask_directly: expected a number of at least 0, got -1",
        "16: gate.macro_f1: expected a number of at most 1.0, got 1.5",
        "17: gate.p95_ms: expected a number, got a list",
        "18: seed: expected a whole number, got true",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "1: the file is empty; a spec needs name, kind, description and labels"),
        ("# nothing but a comment\n", "1: the file is empty; a spec needs name, kind, description and labels"),
        ("---\n...\n", "1: the file is empty; a spec needs name, kind, description and labels"),
        ("- a\n- b\n", "1: expected `key: value` lines at the top, got a list"),
        ("\nhello\n", "2: expected `key: value` lines at the top, got plain text"),
        ("a: 1\n---\nb: 2\n", "2: a second document starts here (`---`): a spec is one"),
        ("a: 1\nb:\n\tc: 2\n", "3: a tab is used for indentation; YAML takes spaces only"),
        ("a: 1\nb: what: this\n", "2: a second `: ` in one line; put text that contains `: ` in quotes"),
        ("a: [1, 2\nb: 3\n", "2: not valid YAML: while parsing a flow sequence, expected ',' or ']', but got ':'"),
        ("a: 1\nb: &x [1]\n", "2: anchors and aliases (`x`) are not allowed"),
        ("a: 1\nb: *x\n", "2: anchors and aliases (`x`) are not allowed"),
        ("a: !!python/object:os.system x\n", "1: tags (`tag:yaml.org,2002:python/object:os.system`) are not allowed: "
         "write the value alone"),
        ("a: !mine x\n", "1: tags (`!mine`) are not allowed: write the value alone"),
        ("a: 1\n2: b\n", "2: a key must be plain text"),
        ("? [a]\n: b\n", "1: a key must be plain text"),
        ("seed: 1\n\nseed: 2\n", "3: seed: given twice, first in line 1"),
        ("gate: {size_mb: 1, size_mb: 2}\n", "1: gate.size_mb: given twice, first in line 1"),
        ('a: "\\0"\n', "1: a: holds a NUL or half of a surrogate pair, which is not text"),
        ('a: "\\ud800"\n', "1: a: holds a NUL or half of a surrogate pair, which is not text"),
        ("a: 1e999\n", "1: a: 1e999 is too large a number"),
        ("a: b\nc: \x07\n", "2: a character that YAML does not allow: U+0007"),
        (b"a: b\nc: caf\xe9\n", "2: not UTF-8: byte 0xE9 at offset 11; save the file as UTF-8"),
        (b"\xef\xbb\xbfa: \xff\n", "1: not UTF-8: byte 0xFF at offset 6; save the file as UTF-8"),
        ("[" * 1000, "1: nested deeper than 20 levels"),
        ("[a," + "a," * MAX_VALUES, f"1: more than {MAX_VALUES:,} keys and values"),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_broken_yaml_is_one_clear_line(folder: Path, content: str | bytes, expected: str) -> None:
    assert problems(folder, content) == [expected]


def test_aliases_that_explode_are_refused_before_they_do(folder: Path) -> None:
    laughs = "a0: &a0 [lol, lol, lol]\n"
    laughs += "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(12))
    assert problems(folder, laughs) == ["1: anchors and aliases (`a0`) are not allowed"]


def test_a_50_mb_file_is_refused_without_being_read(folder: Path) -> None:
    write(folder, "")
    with (folder / SPEC_FILE).open("wb") as file:
        file.truncate(50_000_000)
    started = time.monotonic()
    with pytest.raises(SpecError, match=f"the file has 50,000,000 bytes, more than a spec may have .{MAX_BYTES:,}"):
        load_spec(folder)
    assert time.monotonic() - started < 0.5


def test_a_missing_folder_a_missing_file_and_a_file_in_place_of_the_folder_are_told_apart(folder: Path) -> None:
    with pytest.raises(SpecError, match=r"absent: no such folder$"):
        load_spec(folder / "absent")
    with pytest.raises(SpecError, match=r"spec\.yaml: no such file$"):
        load_spec(folder)
    write(folder, FOUR_KEYS)
    with pytest.raises(SpecError, match=r"expected a task folder with a spec\.yaml in it, got a file$"):
        load_spec(folder / SPEC_FILE)


def test_a_folder_in_place_of_the_file_is_said(folder: Path) -> None:
    (folder / SPEC_FILE).mkdir()
    with pytest.raises(SpecError, match="expected a file, got a folder"):
        load_spec(folder)


def test_a_byte_order_mark_and_crlf_are_accepted(folder: Path) -> None:
    content = b"\xef\xbb\xbf" + FOUR_KEYS.replace("\n", "\r\n").encode()
    assert load_spec(write(folder, content)).label_names == ("refund", "hours")


@pytest.mark.parametrize("name", ["yes", "no", "on", "off", "Y", "2024-01-01", "12:30", "1_000", "<<", "=", "0x1F"])
def test_label_names_that_old_yaml_takes_for_something_else_are_text(folder: Path, name: str) -> None:
    spec = load_spec(write(folder, HEAD + f"labels:\n  - {name}\n  - name: other\n    description: {name}\n"))
    assert spec.label_names == (name, "other")
    assert spec.labels[1].description == name


@pytest.mark.parametrize("name", ["1", "-3", "1.5", "true", "false"])
def test_label_names_that_are_numbers_or_truth_values_ask_for_quotes(folder: Path, name: str) -> None:
    for entry, where in ((name, "labels[0]"), (f"{{name: {name}}}", "labels[0].name")):
        content = HEAD + f"labels:\n  - {entry}\n  - other\n"
        assert problems(folder, content) == [f'5: {where}: expected text, got {name}: put it in quotes ("{name}")']
    assert load_spec(write(folder, HEAD + f"labels: ['{name}', other]\n")).label_names[0] == name


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("[a]", ["4: labels: expected at least 2 entries, got 1"]),
        ("[]", ["4: labels: must not be empty"]),
        ("a", ["4: labels: expected a list (`- ...` lines or [a, b]), got 'a'"]),
        ("[a, b, a, A]", ["4: labels[2]: 'a' is given twice", "4: labels[3]: 'A' and 'a' differ in case only"]),
        ("[a, b, {name: ' b '}]", ["4: labels[2].name: 'b' is given twice"]),
        (
            '["\\u00e9", "e\\u0301"]',
            ["4: labels[1]: 'e\u0301' is given twice, spelled with other characters"],
        ),
        ('["\\u00c9", "e\\u0301"]', ["4: labels[1]: 'e\u0301' and '\u00c9' differ in case only"]),
        ("[a, '  ']", ["4: labels[1]: must not be empty"]),
        ("[a, null]", ["4: labels[1]: expected a mapping (`key: value` lines), got nothing"]),
        ('[a, "b\\nc"]', ["4: labels[1]: a label name is one line of printable characters"]),
        (f"[a, {'b' * 101}]", ["4: labels[1]: expected at most 100 characters, got 101"]),
    ],
)
def test_wrong_labels(folder: Path, labels: str, expected: list[str]) -> None:
    assert problems(folder, HEAD + f"labels: {labels}\n") == expected


@pytest.mark.parametrize("name", ["../up", "a/b", "A", "", ".", "-x", "a" * 65, "con.", "a b", "é"])
def test_names_that_are_not_safe_as_folder_names_are_refused(folder: Path, name: str) -> None:
    content = FOUR_KEYS.replace("name: shop", f"name: '{name}'")
    assert problems(folder, content)[0].startswith("1: name: use 1 to 64 lower-case letters")


def test_a_name_that_the_outputs_have_already_is_refused(folder: Path) -> None:
    content = FOUR_KEYS.replace("name: shop", "name: mlruns")
    assert problems(folder, content)[0].startswith("1: name: 'mlruns' is the name of a folder that the outputs have")


def test_what_no_prompt_can_hold_is_refused_with_the_reason(folder: Path) -> None:
    content = FOUR_KEYS.replace("What customers write.", "x" * 4001)
    assert problems(folder, content) == [
        "3: description: expected at most 4,000 characters, got 4,001: it is part of every prompt, so keep it to what "
        "tells the texts apart"
    ]
    content = HEAD + f"labels: [{', '.join(f'l{n}' for n in range(301))}]\n"
    assert problems(folder, content)[0].startswith("4: labels: expected at most 300 entries, got 301: prompts list")


def test_a_key_put_where_its_variable_belongs_is_not_repeated(folder: Path) -> None:
    content = FOUR_KEYS + "teacher: {api_key_env: sk-secret, base_url: 'https://me:secret@host/v1'}\n"
    assert problems(folder, content) == [
        "5: teacher.base_url: expected http://... or https://... without user and password",
        "5: teacher.api_key_env: the name of an environment variable that holds the key, never the key itself",
    ]


@pytest.mark.parametrize(
    "url", ["http://[", "http://", "http://:80/v1", "http://host:port/v1", "ftp://host", "host/v1"]
)
def test_an_address_that_is_none_is_refused(folder: Path, url: str) -> None:
    content = FOUR_KEYS + f"teacher: {{base_url: '{url}'}}\n"
    assert problems(folder, content) == [
        "5: teacher.base_url: expected http://... or https://... without user and password"
    ]


def test_a_teacher_that_lacks_its_model_is_refused(folder: Path) -> None:
    content = FOUR_KEYS + "teacher: {name: openai}\n"
    assert problems(folder, content) == ["5: teacher: the openai teacher needs a model name"]


def test_thousands_of_problems_are_counted_and_not_listed(folder: Path) -> None:
    found = problems(folder, FOUR_KEYS + "".join(f"key{n}: 1\n" for n in range(1000)))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1] == f"... and {1000 - MAX_PROBLEMS} more"


def test_control_characters_of_the_file_do_not_reach_the_terminal(folder: Path) -> None:
    found = problems(folder, FOUR_KEYS + '"\\e[31mred": 1\nkind2: 1\n')
    assert "\x1b" not in "".join(found)


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=200) | st.text(alphabet="a1 :-#[]{}&*!|>'\"%@`?,\n\t\\~.x", max_size=60))
def test_random_files_raise_nothing_but_spec_errors(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes
) -> None:
    folder = write(tmp_path_factory.mktemp("spec"), content)
    with pytest.raises(SpecError, match=r"spec\.yaml"):
        load_spec(folder)


_KEYS = st.sampled_from(["name", "params", "budget", "strategies", "usd", "holdout", "x", "1", "null"])
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=8
)


@settings(max_examples=200, deadline=None)
@given(data=st.dictionaries(st.sampled_from([*Spec.model_fields, "x"]), _VALUES, max_size=6))
def test_random_nested_data_is_a_spec_or_a_spec_error_that_names_a_line(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, object]
) -> None:
    folder = write(tmp_path_factory.mktemp("spec"), FOUR_KEYS + "---\n" if not data else yaml.safe_dump(data))
    try:
        load_spec(folder)
    except SpecError as error:
        assert all(problem.message and "\n" not in str(problem) for problem in error.problems)


def test_values_keep_the_lines_of_their_keys(folder: Path) -> None:
    source = read_source(write(folder, "a: 1\nb:\n  c:\n    - d\n    - {e: 2}\n") / SPEC_FILE)
    assert source.data == {"a": 1, "b": {"c": ["d", {"e": 2}]}}
    assert source.lines == {
        (): 1, ("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "c", 0): 4, ("b", "c", 1): 5, ("b", "c", 1, "e"): 5,
    }  # fmt: skip


def test_the_committed_schema_is_up_to_date() -> None:
    committed = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert committed == spec_schema(), "stale: run `factory schema > docs/spec.schema.json`"


def test_the_schema_explains_its_fields() -> None:
    schema = spec_schema()
    assert "teacher reads it in every prompt" in schema["properties"]["description"]["description"]
    assert "gold rows" in schema["$defs"]["Data"]["properties"]["holdout"]["description"].lower()


@pytest.mark.parametrize(
    ("extra", "is_valid"),
    [
        ({}, True),
        ({"students": ["a", {"name": "b", "params": {"c": 1}}], "curation": ["dedup"]}, True),
        ({"synthesis": {"strategies": ["attributes"]}}, True),
        ({"labels": ["a", 1]}, False),
        ({"labels": ["a"]}, False),
        ({"studnets": []}, False),
        ({"seed": "0"}, False),
    ],
)
def test_schema_and_loader_agree(folder: Path, extra: dict[str, object], is_valid: bool) -> None:
    import jsonschema

    data = {"name": "a", "kind": "text-classification", "description": "b", "labels": ["x", {"name": "y"}], **extra}
    assert jsonschema.Draft202012Validator(spec_schema()).is_valid(data) == is_valid
    try:
        load_spec(write(folder, yaml.safe_dump(data)))
    except SpecError:
        assert not is_valid
    else:
        assert is_valid


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("tasks/*/spec.yaml")), ids=lambda path: path.parent.name)
def test_shipped_specs_are_valid_for_the_factory_and_for_editors(path: Path) -> None:
    import jsonschema

    assert load_spec(path.parent).name == path.parent.name
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=../../docs/spec.schema.json\n")
    jsonschema.Draft202012Validator(spec_schema()).validate(read_source(path).data)


MONEY = FOUR_KEYS + "teacher: {{name: openai, model: {model}, budget: {{usd: 1}}{more}}}\n"


def test_known_prices_are_used_and_unknown_ones_with_a_money_limit_are_an_error(folder: Path) -> None:
    dated = load_spec(write(folder, MONEY.format(model="gpt-4o-mini-2024-07-18", more=""))).teacher.known_prices
    assert dated is not None and (dated.input_usd_per_million, dated.output_usd_per_million) == (0.15, 0.60)
    (problem,) = problems(folder, MONEY.format(model="gpt-99", more=""))
    assert "prices" in problem and "gpt-99" in problem
    (problem,) = problems(folder, MONEY.format(model="gpt-4o-mini", more=", base_url: http://localhost:8000/v1"))
    assert "not known" in problem
    own = ", prices: {input_usd_per_million: 1, output_usd_per_million: 2}"
    spec = load_spec(write(folder, MONEY.format(model="gpt-4o-mini", more=own)))
    assert spec.teacher.known_prices == spec.teacher.prices


def test_every_listed_price_is_two_numbers_the_dearer_one_last() -> None:
    listed = yaml.safe_load(PRICES_FILE.read_text(encoding="utf-8"))
    assert len(listed["models"]) >= 5
    assert all(0 < to_read < to_write for to_read, to_write in listed["models"].values())
    assert 0 < listed["batch_ratio"] <= 1


def test_prices_are_those_of_whoever_is_asked_in_fact(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = load_spec(write(folder, MONEY.format(model="gpt-4o-mini", more=", mode: batch"))).teacher.known_prices
    assert batch is not None and batch.output_usd_per_million == pytest.approx(0.30)
    for url in ("http://elsewhere/v1", "https://api.openai.com.elsewhere/v1"):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        (problem,) = problems(folder, MONEY.format(model="gpt-4o-mini", more=""))
        assert "not known" in problem
    more = ", base_url: 'https://api.openai.com'"  # the spec wins
    assert load_spec(write(folder, MONEY.format(model="gpt-4o-mini", more=more))).teacher.known_prices is not None


def test_the_embedded_teacher_is_not_asked_a_second_time(folder: Path) -> None:
    (problem,) = problems(folder, FOUR_KEYS + "teacher: {name: embedded, hedge_after_s: 5}\n")
    assert "hedge_after_s" in problem


TABLE = """name: loans
kind: tabular-classification
description: Loans.
labels: [good, bad]
columns:
  - {name: age, kind: integer, range: [18, null], unit: years}
  - {name: job, kind: category}
target: paid
"""


def test_the_spec_of_a_table_asks_no_teacher_unless_it_says_so(folder: Path) -> None:
    spec = load_spec(write(folder, TABLE + "leave_out: [job]\nlabelling: {soft_labels: true}\n"))
    assert spec.table is not None and [column.name for column in spec.table.columns] == ["age"]
    assert (spec.labelling.ask_directly, spec.labelling.voters, spec.synthesis.strategies) == (0, (), ())
    assert spec.labelling.soft_labels
    assert [plugin.name for plugin in spec.students] == ["linear", "hist-gradient-boosting", "lightgbm", "ebm"]
    assert load_spec(write(folder, FOUR_KEYS)).table is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (TABLE.replace("target: paid\n", ""), ["target: is missing"]),
        (TABLE.replace("labels: [good, bad]\n", ""), ["labels: is missing"]),
        (TABLE.replace("classification", "regression"), ["4: labels: a regression answers with a number"]),
        (TABLE.replace("tabular", "text"), ["5: columns: only a table has them", "8: target: only a table has them"]),
        (FOUR_KEYS + "leave_out: [a]\n", ["5: leave_out: only a table has them"]),
        (TABLE.replace("job", "age"), ["7: columns[1].name: 'age' is given twice"]),
        (TABLE.replace("paid", "job"), ["8: target: 'job' is described under `columns` too"]),
        (TABLE.replace("paid", "{column: paid, unit: EUR}"), ["8: target: only a number has a unit"]),
        (TABLE + "leave_out: [paid]\n", ["9: leave_out: 'paid' is the target"]),
        (TABLE + "leave_out: [job, age]\n", ["9: leave_out: nothing is left"]),
        (TABLE.replace("[18, null]", "[18, 18]"), ["6: columns[0]: range: expected the least number first"]),
        (TABLE.replace("kind: category", "kind: ordinal"), ["7: columns[1]: values: an ordinal column lists at least"]),
        (TABLE.replace("kind: category", "kind: catgory"), ["7: columns[1].kind: 'catgory' is not one of numeric"]),
        (TABLE.replace("category", "category, unit: m"), ["7: columns[1]: unit: only a numeric or integer column"]),
        (TABLE.replace("category", "category, monotone: increasing"), ["7: columns[1]: monotone: 'job' is category"]),
        (TABLE.replace("category", "category, values: [a, a]"), ["7: columns[1]: values: 'a' is given twice"]),
        (TABLE.replace("category", "category, values: [a, 1]"), ["7: columns[1].values[1]: expected text, got 1"]),
    ],
)
def test_what_is_wrong_with_a_table_is_said_where_it_is(folder: Path, content: str, expected: list[str]) -> None:
    found = problems(folder, content)
    assert len(found) == len(expected), found
    assert all(start in message for message, start in zip(found, expected, strict=True)), found
