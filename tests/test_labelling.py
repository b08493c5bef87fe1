"""Labels from replies: the distribution behind a reply, and everything that is not an answer."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.labelling.annotate import ANNOTATE, AnnotateParams, annotate
from factory.labelling.asking import LABEL, Annotation, parse_label, requests_of, telling_tokens
from factory.labelling.distribution import label_distribution
from factory.labelling.verify import VERIFY, OnDisagreement, VerifyParams, verify
from factory.records import Origin, Rows, TextRow, all_kept, text_dataset
from factory.spec import Budget, Label
from factory.teacher.budget import Spending
from factory.teacher.protocol import Abstain, Reply, Request, TokenLogprob
from factory.teacher.replies import Replies
from factory.teacher.scripted import ScriptedTeacher
from tests.golden_file import check_golden, in_words

LABELS = (Label(name="PlayMusic", description="play music"), Label(name="PlayVideo"), Label(name="Weather"))
NAMES = ("PlayMusic", "PlayVideo", "Weather")
PARAMS = AnnotateParams(description="What a person asks.", labels=LABELS)


def token(text: str, probability: float, **others: float) -> TokenLogprob:
    top = tuple((other, math.log(value)) for other, value in others.items())
    return TokenLogprob(text, math.log(probability), top)


def reply(text: str, logprobs: Sequence[TokenLogprob] = (), finish_reason: str = "stop") -> Reply:
    return Reply(text, finish_reason, 10, 3, tuple(logprobs))


def test_mass_multiplies_along_the_reply_and_splits_where_labels_part() -> None:
    path = [token('"', 0.9), token("Play", 0.6, Weather=0.2, Banana=0.2), token("Music", 0.75, Video=0.25)]
    probs = label_distribution(path, NAMES)
    assert probs == pytest.approx((0.75 * 0.75, 0.75 * 0.25, 0.25), abs=1e-5)


def test_labels_that_were_never_told_apart_share_their_mass() -> None:
    path = [token('"', 1.0), token("Weather", 0.5, Play=0.5)]
    assert label_distribution(path, NAMES) == pytest.approx((0.25, 0.25, 0.5), abs=1e-5)


def test_a_label_cut_into_other_tokens_still_counts() -> None:
    path = [token('"', 1.0), token("Play", 0.5, Pl=0.1, We=0.4), token("Music", 1.0)]
    probs = label_distribution(path, NAMES)
    assert probs is not None
    assert probs[2] == pytest.approx(0.4, abs=1e-5)


def test_what_came_before_the_label_does_not_count() -> None:
    fence = [token("```", 0.9, P=0.1), token("json", 1.0), token("\n", 1.0)]
    path = [token('"', 1.0), token("Play", 0.5, Weather=0.5), token("Music", 1.0), token('"', 1.0), token("\n```", 1.0)]
    assert label_distribution([*fence, *path], NAMES) == label_distribution(path, NAMES)


def test_without_log_probabilities_there_is_no_distribution() -> None:
    assert label_distribution((), NAMES) is None
    assert label_distribution([token('"', 1.0)], NAMES) is None


@given(st.lists(st.tuples(st.text(max_size=5), st.floats(1e-9, 1.0)), max_size=6))
def test_whatever_the_server_reports_the_result_is_a_distribution_or_nothing(tokens: list[tuple[str, float]]) -> None:
    probs = label_distribution([token(text, p, P=0.3, W=0.1) for text, p in tokens], NAMES)
    assert probs is None or (len(probs) == 3 and math.isclose(sum(probs), 1) and all(value > 0 for value in probs))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (reply("Weather"), "unparseable"),
        (reply('"Play', finish_reason="length"), "truncated"),
        (reply('"Wet', finish_reason="length"), "truncated"),
        (reply("Weather", finish_reason="length"), "truncated"),
        (reply('"Sports"'), "unknown-label"),
        (reply("[]"), "unknown-label"),
        (reply("{}"), "unknown-label"),
        (reply("I am sorry, I cannot help with that."), "unparseable"),
        (reply(""), "unparseable"),
        (reply("[" * 100_000), "unparseable"),
        (reply("NaN"), "unknown-label"),
        (reply('["Weather"]'), "unknown-label"),
    ],
)
def test_what_is_not_one_known_label_is_an_abstention_never_a_label(answer: Reply, reason: str) -> None:
    parsed = parse_label(answer, NAMES)
    assert isinstance(parsed, Abstain)
    assert (parsed.reason, parsed.raw) == (reason, answer.text)


def test_all_requests_share_their_beginning_and_the_text_is_only_data() -> None:
    requests = requests_of(LABEL, PARAMS.description, LABELS, ["{{ 7 * 7 }} {% raw %}", "b"])
    assert requests[0].messages[0] == requests[1].messages[0]
    assert "{{ 7 * 7 }} {% raw %}" in requests[0].messages[1].content
    assert '"PlayVideo" means play video.' in requests[0].messages[0].content


def test_a_label_may_be_cut_off_where_no_other_begins_so() -> None:
    path = [token('"', 0.9), token("Wea", 0.6, Play=0.2)]
    parsed = parse_label(reply('"Wea', path, finish_reason="length"), NAMES)
    assert isinstance(parsed, Annotation)
    assert (parsed.label, parsed.probs) == ("Weather", label_distribution(path, NAMES))


def test_one_token_for_the_quotation_mark_and_one_for_four_letters() -> None:
    assert telling_tokens(["World", "Sports", "Sci/Tech"]) == 2
    assert telling_tokens(["PlayMusic", "PlayVideo"]) == 3
    assert telling_tokens(["refund", "refund request"]) == 3


def test_a_reply_that_ends_before_it_tells_the_label_is_asked_again_in_full() -> None:
    def answer(request: Request) -> str | Reply:
        text = json.dumps("Weather" if '"rain"' in request.messages[-1].content else "PlayVideo")
        cut = text[: request.max_tokens]  # tokens of one letter: shorter than was guessed
        return text if cut == text else reply(cut, finish_reason="length")

    teacher = ScriptedTeacher(answer)
    result = annotate(PARAMS, rows=rows(("rain", "Weather"), ("films", "Weather")), teacher=teacher)
    assert result.kept["label"][:] == ["Weather", "PlayVideo"]
    assert [request.max_tokens for request in teacher.history] == [3, 3, 64]
    assert [len(keys) for keys in result.kept["replies"]] == [1, 2]


def test_a_row_names_the_reply_that_wrote_it_and_then_those_that_labelled_it(tmp_path: Path) -> None:
    store = Replies(tmp_path / "replies.log")
    teacher = ScriptedTeacher(['"Weather"', "Sports", "Sports"], replies=store)
    written = [TextRow(text, "Weather", Origin.SYNTHETIC, replies=("writer",)) for text in ("rain", "goal")]
    params = VerifyParams(description="d", labels=LABELS)
    result = verify(params, rows=all_kept(text_dataset(written)), teacher=teacher)
    asked = [store.find(row["replies"][1]) for part in (result.kept, result.rejected) for row in part]
    assert [row["replies"][0] for part in (result.kept, result.rejected) for row in part] == ["writer"] * 2
    assert ["rain" in str(one and one.payload) for one in asked] == [True, False]
    again = verify(params, rows=all_kept(text_dataset(written)), teacher=ScriptedTeacher([], replies=store))
    assert (again.kept.to_list(), again.rejected.to_list()) == (result.kept.to_list(), result.rejected.to_list())
    teacher.close()


def test_a_text_the_budget_left_unasked_names_no_further_reply() -> None:
    teacher = ScriptedTeacher(['"Weather"'], spending=Spending(Budget(calls=1)))
    result = annotate(PARAMS, rows=rows(("a", "Weather"), ("b", "Weather")), teacher=teacher)
    assert [len(row["replies"]) for part in (result.kept, result.rejected) for row in part] == [1, 0]


def rows(*pairs: tuple[str, str]) -> Rows:
    return all_kept(text_dataset([TextRow(text, label, Origin.SYNTHETIC, "labels") for text, label in pairs]))


def teacher_that_says(answers: dict[str, str | Abstain]) -> ScriptedTeacher:
    def answer(request: Request) -> str | Abstain:
        text = request.messages[1].content.removeprefix('Text: "').removesuffix('"\nLabel in double quotes:')
        said = answers[text]
        return said if isinstance(said, Abstain) else json.dumps(said)

    return ScriptedTeacher(answer)


def test_verification_keeps_agreement_and_rejects_the_rest_with_reasons() -> None:
    teacher = teacher_that_says({"a": "PlayMusic", "b": "Weather", "c": Abstain("refusal", "no")})
    result = verify(
        VerifyParams(description="d", labels=LABELS),
        rows=rows(("a", "PlayMusic"), ("b", "PlayMusic"), ("c", "Weather")),
        teacher=teacher,
    )
    assert result.kept["text"][:] == ["a"]
    assert result.rejected["reason"][:] == ["disagrees", "abstain-refusal"]
    assert result.is_complete


def test_relabelling_keeps_the_row_and_reports_the_change() -> None:
    params = VerifyParams(description="d", labels=LABELS, on_disagreement=OnDisagreement.RELABEL)
    result = verify(params, rows=rows(("b", "PlayMusic")), teacher=teacher_that_says({"b": "Weather"}))
    assert result.kept["label"][:] == ["Weather"]
    assert [(change["from"], change["to"]) for change in result.report["relabelled"]] == [("PlayMusic", "Weather")]


def test_annotation_makes_silver_rows_and_never_shows_the_label_it_hides() -> None:
    teacher = teacher_that_says({"a": "Weather"})
    gold = all_kept(text_dataset([TextRow("a", "PlayMusic", Origin.GOLD)]))
    result = annotate(PARAMS, rows=gold, teacher=teacher)
    assert result.kept[0] | {"teacher": "", "replies": []} == text_dataset([TextRow("a", "Weather", Origin.SILVER)])[0]


def test_a_budget_that_ends_leaves_an_incomplete_result() -> None:
    teacher = teacher_that_says({"a": "Weather", "b": Abstain("budget")})
    result = annotate(PARAMS, rows=rows(("a", "Weather"), ("b", "Weather")), teacher=teacher)
    assert not result.is_complete
    assert (len(result.kept), result.report["stopped"]) == (1, "budget")


def test_the_prompt_of_the_annotate_stage_is_what_version_5_says() -> None:
    request = requests_of(LABEL, PARAMS.description, LABELS, ["play some jazz"])[0]
    assert ANNOTATE.version == 5
    assert [message.content for message in request.messages] == [
        "You sort texts by what they are about. What a person asks.\n"
        'Labels: "PlayMusic", "PlayVideo", "Weather".\n'
        '"PlayMusic" means play music.\n"PlayVideo" means play video.\n"Weather" means weather.\n'
        "Answer with one label in double quotes, nothing else.",
        'Text: "play some jazz"\nLabel in double quotes:',
    ]


def golden_teacher() -> ScriptedTeacher:
    """Answer with log-probabilities, without them, wrongly, and not at all."""
    path = [token('"', 0.9), token("Play", 0.6, Weather=0.2), token("Music", 0.75, Video=0.25), token('"', 1.0)]
    return ScriptedTeacher(
        [
            *[reply('"PlayMusic"', path), '"Weather"', "Sports", reply('"Play', finish_reason="length")],
            *["Sports", '"Weather"'],  # asked once more
        ]
    )


GOLDEN_ROWS = rows(("play some jazz", "PlayMusic"), ("rain?", "PlayVideo"), ("a goal!", "Weather"), ("wind", "Weather"))


def with_probs(result: Rows) -> dict[str, object]:
    probs = [row["label_probs"] and [round(value, 6) for value in row["label_probs"]] for row in result.kept]
    return {**in_words(result), "probs": probs, "origins": result.kept["origin"][:]}


def test_golden_annotate() -> None:
    check_golden(ANNOTATE, with_probs(annotate(PARAMS, rows=GOLDEN_ROWS, teacher=golden_teacher())))


def test_golden_verify() -> None:
    params = VerifyParams(description=PARAMS.description, labels=LABELS)
    check_golden(VERIFY, with_probs(verify(params, rows=GOLDEN_ROWS, teacher=golden_teacher())))


def test_labelling_again_loses_no_row_and_leaves_where_it_came_from_alone() -> None:
    made = TextRow("a", "Weather", Origin.AUGMENTED, "labels", "writer", ("parent",), weight=0.5)
    params = VerifyParams(description="d", labels=LABELS)
    verified = verify(params, rows=all_kept(text_dataset([made])), teacher=teacher_that_says({"a": "Weather"}))
    row = verified.kept[0]
    assert (row["origin"], row["strategy"], row["parents"], row["weight"]) == ("augmented", "labels", ["parent"], 0.5)


def test_no_rows_ask_nothing() -> None:
    teacher = ScriptedTeacher([])
    assert len(annotate(PARAMS, rows=rows(), teacher=teacher).kept) == 0
    assert teacher.history == []
