"""`factory why`: a row's prompts, replies and verdicts, taken from what builds stored and never guessed."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from factory.curation.dedup import DEDUP, DedupParams
from factory.curation.leakage import LEAKAGE, LeakageParams
from factory.data import READ, DataFile, ReadParams
from factory.errors import ArtifactCorrupt, ArtifactMissing, FactoryError
from factory.evaluation.sample import SAMPLE, SampleParams
from factory.records import Origin, row_id
from factory.spec import Prices
from factory.store import Artifact
from factory.teacher import REPLIES_FILE
from factory.teacher.replies import Exchange, Replies
from flows.builds import Build, BuildNote, builds_of
from flows.shelf import list_rows
from flows.why import Replied, Why, why
from tests.conftest import Factory
from tests.fault_server import completion
from tests.noted_build import GOOD, RAW, WRONG, Built, build, scripted
from tests.plain_runner import Plain
from tests.scripted_task import LABELS
from tests.test_build import described
from tests.test_curation import Trigrams


def outcomes(told: Why) -> list[tuple[str, str]]:
    return [(one.stage, one.outcome) for one in told.histories[0].verdicts]


def test_a_row_that_was_learned_is_told_from_its_prompt_to_its_weight(noted: Built) -> None:
    told = why(GOOD, noted.outputs)
    history = told.histories[0]
    assert (told.id, told.text, told.task) == (row_id(GOOD), GOOD, "scripted")
    assert (history.origin, history.strategy, history.is_newest) == ("synthetic", "attributes", True)
    in_order = [stage for stage, _ in dict.fromkeys(outcomes(told))]
    assert in_order == [
        "attributes-1", "verify-attributes-1", "gather-1", "cross-predict-tfidf-linear", "fit-tfidf-linear",
    ]  # fmt: skip
    learned = [one for one in history.verdicts if one.outcome == "learned"]
    rows = noted.run.artifacts["gather-1"].load().kept
    assert [one.position for one in learned] == [n + 1 for n, text in enumerate(rows["text"]) if text == GOOD]
    counts = {label: rows["label"][:].count(label) for label in LABELS}
    assert counts["music"] != counts["weather"]
    assert learned[0].weight == pytest.approx(len(rows) / 3 / counts["music"])
    assert (learned[0].label, learned[0].n_rows) == ("music", len(rows))
    assert history.summary.startswith(f"in the training set: row {learned[0].position} of {len(rows)}, as music, ")


def test_each_reply_is_told_with_prompt_seed_tokens_and_cost(noted: Built) -> None:
    wrote = why(GOOD, noted.outputs).histories[0].replies[0]
    assert wrote.asked_by == "attributes-1"
    assert "different texts with the label music" in wrote.messages[-1]["content"]
    assert GOOD in wrote.reply.splitlines()
    store = Replies(noted.outputs / REPLIES_FILE)
    exchange = store.find(wrote.key)
    store.close()
    assert exchange is not None
    assert (wrote.sample, wrote.sampling_temperature) == (exchange.payload["seed"], 1.0)
    usage = exchange.reply["usage"]
    assert (wrote.prompt_tokens, wrote.completion_tokens) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert wrote.usd == usage["prompt_tokens"] + usage["completion_tokens"]
    assert wrote.seconds == exchange.seconds


def test_the_last_reply_of_a_verified_row_is_its_label(noted: Built) -> None:
    last = why(GOOD, noted.outputs).histories[0].replies[-1]
    assert (last.asked_by, last.reply) == ("verify-attributes-1", '"music"')
    assert f'Text: "{GOOD}"' in last.messages[-1]["content"]


def test_the_replies_that_named_what_the_prompt_mentions_are_listed(noted: Built) -> None:
    keys = why(GOOD, noted.outputs).histories[0].draws_on
    store = Replies(noted.outputs / REPLIES_FILE)
    found = [store.find(key) for key in keys]
    store.close()
    assert len(found) == 3
    assert all(one and LABELS["music"] in one.payload["messages"][-1]["content"] for one in found)


def test_a_row_that_was_dropped_says_by_whom_and_why(noted: Built) -> None:
    told = why(WRONG, noted.outputs)
    assert [pair for pair in dict.fromkeys(outcomes(told))] == [
        ("attributes-1", "kept"),
        ("verify-attributes-1", "rejected"),
    ]
    assert told.histories[0].summary == "dropped by verify-attributes-1: disagrees"
    assert told.histories[0].replies[-1].reply == '"weather"'


def test_a_reply_without_a_text_can_be_asked_about_too(noted: Built) -> None:
    told = why(row_id(RAW), noted.outputs)
    assert told.text == RAW
    assert {(one.stage, one.outcome, one.reason) for one in told.histories[0].verdicts} == {
        ("attributes-1", "rejected", "abstain-no-text")
    }
    first, again = told.histories[0].replies[:2]
    assert (first.reply, again.reply) == (RAW, RAW)
    assert [one["content"] for one in again.messages][:-1] == [one["content"] for one in first.messages] + [RAW]


@pytest.mark.parametrize("query", [GOOD, row_id(GOOD), row_id(GOOD)[:7], row_id(GOOD).upper()])
def test_a_row_is_found_by_id_beginning_and_text(noted: Built, query: str) -> None:
    assert why(query, noted.outputs).id == row_id(GOOD)


@pytest.mark.parametrize("named", ["scripted", "folder"])
def test_a_task_is_named_or_its_folder_given(noted: Built, named: str) -> None:
    task = str(noted.folder) if named == "folder" else named
    assert why(GOOD, noted.outputs, task=task).id == row_id(GOOD)


def test_an_unknown_row_is_an_error_that_says_what_may_be_meant(noted: Built) -> None:
    with pytest.raises(ArtifactMissing, match="no row of scripted has this id or text") as caught:
        why(GOOD + "!", noted.outputs)
    assert row_id(GOOD) in caught.value.hint
    assert "factory why --list --task scripted" in caught.value.hint
    with pytest.raises(ArtifactMissing, match="no row of scripted"):
        why("ffffffffffffffff0", noted.outputs)


def test_an_unknown_task_and_empty_outputs_are_errors(noted: Built, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match=r"other: not a task of .*, which has scripted"):
        why(GOOD, noted.outputs, task="other")
    with pytest.raises(ArtifactMissing, match="nothing is stored there") as caught:
        why(GOOD, tmp_path / "outputs")
    assert "factory build" in caught.value.hint
    assert not (tmp_path / "outputs").exists()


def test_a_beginning_that_fits_several_rows_lists_them(tmp_path: Path) -> None:
    by_start: dict[str, list[str]] = {}
    texts = (f"text {n}" for n in range(100_000))
    pair = next(
        group for text in texts if len(group := by_start.setdefault(row_id(text)[:4], [])) > 1 or group.append(text)
    )
    read(Plain(tmp_path / "outputs" / "t"), tmp_path, *pair)
    with pytest.raises(FactoryError, match=f"2 rows begin so: .*{row_id(pair[0])}"):
        why(row_id(pair[0])[:4], tmp_path / "outputs")


def test_a_row_of_two_tasks_asks_for_the_task(tmp_path: Path) -> None:
    for task in "ab":
        read(Plain(tmp_path / "outputs" / task), tmp_path, "one")
    with pytest.raises(FactoryError, match="one: 2 tasks have this row: a, b"):
        why("one", tmp_path / "outputs")
    assert why("one", tmp_path / "outputs", task="b").task == "b"


# Stages that need no teacher


def read(run: Plain, place: Path, *texts: str) -> Artifact[Any]:
    path = place / f"{len(texts)}-{row_id(''.join(texts))}.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": "a"}) + "\n" for text in texts), encoding="utf-8")
    params = ReadParams(origin=Origin.GOLD, labels=("a",), needs_label=True)
    return run(READ, params, resources={"file": DataFile(path)})


def test_a_repeated_text_names_the_row_it_repeats(tmp_path: Path) -> None:
    run = Plain(tmp_path / "outputs" / "t")
    rows = read(run, tmp_path, "turn on the lights", "Turn on the lights!")
    run(DEDUP, DedupParams(), inputs={"rows": rows}, resources={"encoder": Trigrams()})
    told = why("Turn on the lights!", tmp_path / "outputs")
    assert (
        told.histories[0].summary == f"dropped by dedup: duplicate (1), too near to row {row_id('turn on the lights')}"
    )
    assert why("turn on the lights", tmp_path / "outputs").histories[0].verdicts[-1].note == ""


def test_a_leak_names_the_protected_row(tmp_path: Path) -> None:
    run = Plain(tmp_path / "outputs" / "t")
    rows, holdout = read(run, tmp_path, "turn on the lights", "rain"), read(run, tmp_path, "Turn on the lights")
    inputs = {"rows": rows, "holdout": holdout}
    run(LEAKAGE, LeakageParams(), inputs=inputs, resources={"encoder": Trigrams()})
    verdict = why("turn on the lights", tmp_path / "outputs").histories[0].verdicts[-1]
    assert (verdict.reason, verdict.score) == ("leakage-exact", 1.0)
    assert verdict.note == f"too near to row {row_id('Turn on the lights')} of the holdout"


def test_a_row_that_a_sample_did_not_draw_says_so(tmp_path: Path) -> None:
    run = Plain(tmp_path / "outputs" / "t")
    rows = read(run, tmp_path, "one", "two", "three")
    drawn = run(SAMPLE, SampleParams(n=1, seed=0), inputs={"rows": rows}).load().kept["text"][0]
    found = {text: outcomes(why(text, tmp_path / "outputs"))[-1] for text in ("one", "two", "three")}
    assert found == {text: ("sample", "kept" if text == drawn else "left-out") for text in ("one", "two", "three")}


# Several builds


def test_the_newest_build_comes_first_even_if_it_found_everything_stored(tmp_path: Path) -> None:
    first = scripted(tmp_path / "one")
    second = scripted(tmp_path / "two", labels=described(music="ask for a tune"))
    for folder in (first, second):
        build(folder, tmp_path / "outputs")
    found = [why(GOOD, tmp_path / "outputs")]
    build(first, tmp_path / "outputs")
    found.append(why(GOOD, tmp_path / "outputs"))
    asked = [["ask for a tune" in str(one.replies[0].messages) for one in told.histories] for told in found]
    assert asked == [[True, False], [False, True]]
    assert [one.is_newest for one in found[1].histories] == [True, False]


def test_equal_builds_are_told_once(tmp_path: Path) -> None:
    folder = scripted(tmp_path / "task")
    for _ in range(2):
        build(folder, tmp_path / "outputs")
    assert len(why(GOOD, tmp_path / "outputs").histories) == 1


def test_what_no_build_has_noted_is_told_all_the_same(noted: Built, tmp_path: Path) -> None:
    run = Plain(tmp_path / "outputs" / "t")
    read(run, tmp_path, "one")
    (history,) = why("one", tmp_path / "outputs").histories
    assert (history.build, history.started_at) == ("stored stages that no build has noted", "")
    assert history.summary == "kept so far; no student has been trained in this build"


def test_a_build_that_was_killed_leaves_a_note_that_can_be_read(tmp_path: Path) -> None:
    root = tmp_path / "outputs" / "t"
    run = Plain(root, note=BuildNote(root, prices=Prices(input_usd_per_million=1, output_usd_per_million=2)))
    read(run, tmp_path, "one")
    with (root / "builds.jsonl").open("ab") as file:
        file.write(b'{"build": "torn')
    others = {"openai:x": Prices(input_usd_per_million=3, output_usd_per_million=4), "mine": None}
    again = Plain(root, note=BuildNote(root, other_prices=others))
    read(again, tmp_path, "one", "two")
    newest, oldest = builds_of(root)
    assert [len(one.folders) for one in (newest, oldest)] == [1, 1]
    assert not newest.is_finished and "not finished" in newest.name
    assert oldest.prices is not None and oldest.prices.output_usd_per_million == 2
    assert (newest.prices, newest.other_prices, oldest.other_prices) == (None, others, {})


# What is missing or was changed


def test_a_pruned_reply_is_said_to_be_gone_and_a_failed_one_why_it_failed(tmp_path: Path) -> None:
    folder = scripted(tmp_path / "task")
    build(folder, tmp_path / "outputs")
    store = Replies(tmp_path / "outputs" / REPLIES_FILE)
    store.prune([])
    store.close()
    replies = why(GOOD, tmp_path / "outputs").histories[0].replies
    assert {one.problem for one in replies} == {"no longer in the reply store"}
    failure = {
        "at": "", "key": replies[0].key, "endpoint": "e", "reason": "deadline", "attempts": 3, "seconds": 9.5,
        "prompt_tokens": 0, "completion_tokens": 0, "usd": 0.0, "asked": "?", "detail": "HTTP 503",
    }  # fmt: skip
    store.ledger.path.write_text(json.dumps(failure) + "\n", encoding="utf-8")
    assert why(GOOD, tmp_path / "outputs").histories[0].replies[0].problem == "deadline after 3 attempts: HTTP 503"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ({"choices": ["what?"]}, "what?"),
        ({"choices": [{"message": "hello"}]}, "hello"),
        ({"choices": [{"message": {"content": ["parts"]}}]}, "parts"),
        ({"choices": []}, "choices"),
        (completion(None, refusal="I must not"), "I must not"),
    ],
)
def test_a_reply_that_is_none_is_shown_as_it_came(raw: dict[str, Any], shown: str, tmp_path: Path) -> None:
    asked = Exchange("e", {"model": "m", "messages": [{"role": "user", "content": "hi"}]}, 0, raw, 1.0)
    store = Replies(tmp_path / REPLIES_FILE)
    store.put(asked.key, asked)
    store.close()
    with Replied(tmp_path / REPLIES_FILE) as replied:
        told = replied.info(asked.key, "verify", Build())
    assert shown in told.reply
    assert told.finish_reason.endswith(": no answer")


def test_evidence_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    run = Plain(tmp_path / "outputs" / "t")
    path = read(run, tmp_path, "one").folder / "kept.parquet"
    other = read(run, tmp_path, "two").folder / "kept.parquet"
    path.write_bytes(other.read_bytes())
    with pytest.raises(ArtifactCorrupt, match=r"kept\.parquet: the file was changed"):
        why("one", tmp_path / "outputs")


# The command


def test_the_command_prints_the_story_for_people(factory: Factory, noted: Built) -> None:
    done = factory("why", WRONG, "--out", noted.outputs)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{WRONG}\nrow {row_id(WRONG)} of scripted\n")
    for said in ("synthetic, by attributes", "build of 20", "dropped by verify-attributes-1: disagrees", "  system:"):
        assert said in done.out
    assert "rejected: disagrees, as music, weight 1" in done.out
    assert f'    Text: "{WRONG}"' in done.out


def test_the_command_writes_json_for_programs(factory: Factory, noted: Built) -> None:
    told = json.loads(factory("why", row_id(GOOD), "--out", noted.outputs, "--json").out)
    assert told == json.loads(json.dumps(why(GOOD, noted.outputs).as_json()))


def test_hostile_texts_are_printed_as_they_are(factory: Factory, tmp_path: Path) -> None:
    text = "[red]not markup[/red] :smile: {x}"
    read(Plain(tmp_path / "outputs" / "t"), tmp_path, text)
    assert text in factory("why", text, "--out", tmp_path / "outputs").out


def test_rows_can_be_listed(factory: Factory, noted: Built) -> None:
    listed = {one.id: one.state for one in list_rows(noted.outputs)}
    assert (listed[row_id(GOOD)], listed[row_id(WRONG)]) == ("trained on", "verify-attributes-1: disagrees")
    lines = factory("why", "--list", "--out", noted.outputs).out.splitlines()
    assert [line.split("\t")[0] for line in lines] == list(listed)
    assert f"{row_id(GOOD)}\ttrained on\tmusic\t{GOOD}" in lines


@pytest.mark.parametrize("arguments", [[], ["x", "--list"]])
def test_a_row_or_the_list_is_asked_for(factory: Factory, arguments: list[str]) -> None:
    done = factory("why", *arguments)
    assert done.code == 2
    assert "give a row, or --list" in done.err


def test_an_error_is_said_in_a_line_with_a_hint(factory: Factory, tmp_path: Path) -> None:
    done = factory("why", "x", "--out", tmp_path / "nothing")
    assert done.code == 1
    assert done.err.startswith(f"error: {tmp_path / 'nothing'}: nothing is stored there{os.linesep}  hint: ")
