"""A teacher that verifies its own answers: the promise about what it gives, its confidence, its replies, its faults."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.check import check_task
from factory.errors import FactoryError, SpecError, TeacherUnavailable
from factory.evaluation.cascade import CascadeParams, cascade, choose_thresholds
from factory.evaluation.policies import Tier
from factory.evaluation.thresholds import search
from factory.evaluation.verification import NOTHING_SAID, UNVERIFIED, Verification, confidences, fit_verification
from factory.labelling.annotate import AskParams
from factory.labelling.asking import Annotation
from factory.labelling.self_verify import N_SAMPLES, SELF_VERIFY, self_verify, verify_answers
from factory.records import Origin, Predictions, Rejection, TextRow, all_kept, split, text_dataset
from factory.release.cascade_file import CascadeFile, TierEntry
from factory.release.predict import Answer
from factory.serving.cascade import Cascade
from factory.serving.cascade import Tier as ServingTier
from factory.spec import CascadeSpec, Label, TeacherSpec
from factory.spec_file import load_spec
from factory.teacher import Abstain, Reply, Request, ScriptedTeacher, open_teacher
from factory.teacher.limits import Limits
from factory.teacher.openai import OpenAITeacher
from factory.teacher.replies import Replies
from flows.cascading import asking
from flows.recipe import recipe
from tests.fault_server import FaultServer, Say, completion
from tests.golden_file import check_golden, in_words
from tests.plain_runner import Plain
from tests.scripted_task import LABELS as SCRIPTED
from tests.scripted_task import make_task, texts_of
from tests.test_labelling import reply, token

PARAMS = AskParams(description="What a person asks.", labels=(Label(name="music"), Label(name="weather")))
GOAL = CascadeSpec(tiers=("blend", "teacher"), accuracy=0.93, self_verification=True)


def verifying(n_rows: int, seed: int) -> list[Tier]:
    """A student, and a teacher whose yes is far too bold and tells right answers from wrong ones all the same."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(4, 0.6, n_rows)
    student = np.clip(chance - 0.1, 0.3, 1)
    yes = 1 / (1 + np.exp(-2 * (np.log(chance / (1 - chance + 1e-9) + 1e-9) + 1)))
    teacher = Tier("teacher", np.clip(yes, 0, 1), rng.random(n_rows) < chance)
    return [Tier("blend", student, rng.random(n_rows) < student), teacher]


# The promise


def test_of_the_answers_that_are_given_as_many_are_right_as_was_promised_in_all_but_delta_of_the_draws() -> None:
    everything = verifying(50_000, seed=0)
    n_broken = n_certified = 0
    for seed in range(40):
        rows = np.random.default_rng(seed).choice(50_000, size=900, replace=False)
        part = [Tier(one.name, one.confidence[rows], one.is_right[rows]) for one in everything]
        found = search(part, GOAL, seed=seed)
        assert found.verification is not None
        sure = confidences(found.verification, everything[1].confidence)
        limits = found.cascades.thresholds[found.chosen]
        by_student = everything[0].confidence >= limits[0]
        given_ = by_student | (sure >= limits[1])
        right = np.where(by_student, everything[0].is_right, everything[1].is_right)[given_].mean()
        n_certified += bool(found.certified)
        n_broken += bool(found.certified) and right < 0.93
    assert n_broken <= 0.1 * 40
    assert n_certified >= 20, "a promise that is never given is no use"


def test_what_the_teacher_is_not_sure_of_is_given_up_and_the_rest_is_better_than_the_teacher() -> None:
    choice = choose_thresholds(verifying(3_000, seed=1), GOAL)
    assert choice.is_certified
    assert choice.abstained is not None
    assert 0 < choice.abstained.value < 0.5
    assert choice.accuracy.value > choice.tiers["teacher"].value + 0.03
    assert choice.rule[-1].threshold is not None
    assert sum(one.share for one in choice.rule) + choice.abstained.value == pytest.approx(1, abs=1e-5)
    assert choice.promise.startswith("With confidence 90 %, at least 93 % of the answers that are given are right, for")
    assert ", nobody " in choice.summary


def test_giving_up_every_answer_keeps_no_promise() -> None:
    rng = np.random.default_rng(0)
    wrong = np.zeros(600, dtype=bool)
    tiers = [Tier("blend", rng.random(600), wrong), Tier("teacher", np.full(600, UNVERIFIED), wrong)]
    choice = choose_thresholds(tiers, GOAL)
    assert not choice.is_certified
    assert [(one.name, one.threshold) for one in choice.rule] == [("teacher", None)]


def test_a_promise_that_holds_without_verification_gives_up_nothing() -> None:
    choice = choose_thresholds(verifying(3_000, seed=1), GOAL.model_copy(update={"accuracy": 0.5}))
    assert choice.rule[-1].threshold is None
    assert choice.abstained is not None
    assert choice.abstained.value == 0


# The confidence


def test_a_bold_yes_is_made_as_modest_as_it_deserves() -> None:
    rng = np.random.default_rng(0)
    yes = np.clip(rng.beta(8, 1, 4_000), 0, 1)
    right = rng.random(4_000) < 0.6 * yes
    curve = fit_verification(yes, right)
    sure = confidences(curve, yes)
    assert yes.mean() - right.mean() > 0.3
    assert sure.mean() == pytest.approx(right.mean(), abs=0.02)
    assert curve.confidence(0.9) > curve.confidence(0.5)


def test_what_is_no_probability_takes_no_part_and_is_never_sure_or_always_given() -> None:
    yes, right = np.array([0.9, 0.8, 0.2, 0.1]), np.array([True, True, False, False])
    more = np.array([UNVERIFIED, NOTHING_SAID])
    curve = fit_verification(np.r_[yes, more], np.r_[right, False, False])
    assert curve == fit_verification(yes, right)
    assert confidences(curve, more).tolist() == [0.0, 1.0]
    assert curve.confidence(None) == 0.0


@given(st.lists(st.tuples(st.floats(0, 1) | st.just(UNVERIFIED) | st.just(NOTHING_SAID), st.booleans())))
def test_any_verifications_give_confidences_that_are_probabilities(rows: list[tuple[float, bool]]) -> None:
    yes, right = np.array([one for one, _ in rows]), np.array([one for _, one in rows], dtype=bool)
    sure = confidences(fit_verification(yes, right), yes)
    assert ((sure >= 0) & (sure <= 1)).all()


# The replies


def test_log_probabilities_of_yes_are_taken_from_one_call() -> None:
    def answer(request: Request) -> Reply:
        if 'Label given: "music"' in request.messages[-1].content:
            return reply('"yes"', [token('"', 1.0), token("yes", 0.7, no=0.3)])
        return reply('"no"', [token('"no', 0.9, **{'"yes': 0.1})])

    teacher = ScriptedTeacher(answer)
    texts = ["play jazz", "{{ 7 * 7 }}"]
    first, second = verify_answers(PARAMS, texts, ["music", "weather"], teacher, stage="x")
    assert isinstance(first.answer, Annotation)
    assert isinstance(second.answer, Annotation)
    assert first.answer.probs == pytest.approx((0.7, 0.3), abs=1e-5)
    assert second.answer.probs == pytest.approx((0.1, 0.9), abs=1e-5)
    assert len(teacher.history) == 2
    assert '"weather" means weather.' in teacher.history[0].messages[0].content
    assert 'Text: "{{ 7 * 7 }}"' in teacher.history[1].messages[1].content


def test_without_log_probabilities_it_is_asked_again_and_the_share_of_yes_counts() -> None:
    teacher = ScriptedTeacher(lambda request: '"no"' if request.sample in (2, 4) else '"yes"')
    (one,) = verify_answers(PARAMS, ["play jazz"], ["music"], teacher, stage="x")
    assert isinstance(one.answer, Annotation)
    assert one.answer.probs == pytest.approx((5 / 8, 3 / 8))
    assert [asked.sampling_temperature for asked in teacher.history] == [0.0] + N_SAMPLES * [1.0]


@pytest.mark.parametrize("said", ["maybe", '"music"', "{}", "I cannot say."])
def test_what_is_neither_yes_nor_no_verifies_nothing(said: str) -> None:
    (one,) = verify_answers(PARAMS, ["play jazz"], ["music"], ScriptedTeacher(lambda request: said), stage="x")
    assert isinstance(one.answer, Abstain)


def test_the_stage_keeps_what_was_verified_and_says_why_the_rest_was_not() -> None:
    def answer(request: Request) -> Reply | Abstain:
        text = request.messages[1].content
        if "rain" in text:
            return Abstain("refusal")
        return reply('"yes"', [token('"', 1.0), token("yes", 0.75, no=0.25)])

    rows = all_kept(
        text_dataset([TextRow("play jazz", "music", Origin.SILVER), TextRow("rain", "music", Origin.SILVER)])
    )
    verified = self_verify(PARAMS, rows=rows, teacher=ScriptedTeacher(answer))
    assert verified.kept["id"] == rows.kept["id"][:1]
    assert verified.kept["label_probs"][0] == pytest.approx([0.75, 0.25], abs=1e-5)
    check_golden(SELF_VERIFY, in_words(verified))


# From rows to a choice


def test_rows_whose_verification_may_still_come_are_left_out_and_a_useless_one_is_never_sure() -> None:
    texts = [f"text {n}" for n in range(40)]
    gold = [TextRow(text, ("music", "weather")[n % 2], Origin.GOLD) for n, text in enumerate(texts)]
    rows = all_kept(text_dataset(gold))
    silver = all_kept(text_dataset([TextRow(one.text, one.label, Origin.SILVER) for one in gold]))
    said = [TextRow(text, "yes", Origin.SILVER, label_probs=(0.8, 0.2)) for text in texts]
    rejected = {4: Rejection("abstain-unparseable"), 5: Rejection("abstain-unavailable")}
    verified = split(text_dataset(said), rejected, by="self-verify")
    student = Predictions(("music", "weather"), tuple(rows.kept["id"]), np.full((40, 2), 0.5))
    params = CascadeParams(labels=("music", "weather"), goal=GOAL, truth="gold")
    choice = cascade(params, rows=rows, teacher=silver, verified=verified, blend=student)
    assert choice.n_design + choice.n_test == 39
    with pytest.raises(FactoryError, match="no verification was handed in"):
        cascade(params, rows=rows, teacher=silver, blend=student)


# The spec


@pytest.mark.parametrize(
    ("cascade_", "data", "message"),
    [
        (
            {"tiers": ["tfidf-linear", "sentence-linear"], "accuracy": 0.9},
            "calibration",
            "name it last among the tiers",
        ),
        ({"tiers": ["tfidf-linear", "teacher"]}, "calibration", "say under accuracy how many"),
        ({"tiers": ["tfidf-linear", "teacher"], "accuracy": 0.9}, "pool", "only people can tell"),
    ],
)
def test_a_spec_that_cannot_verify_says_what_is_missing(
    cascade_: dict[str, Any], data: str, message: str, tmp_path: Path
) -> None:
    folder = make_task(tmp_path / "task", cascade={**cascade_, "self_verification": True}, data={data: "rows.jsonl"})
    with pytest.raises(SpecError, match=message):
        load_spec(folder)


def test_nothing_is_verified_unless_a_spec_says_so() -> None:
    assert not CascadeSpec(tiers=("blend", "teacher")).self_verification


# Over the wire, with faults


def with_logprobs(text: str, probability: float) -> dict[str, Any]:
    """A chat completion of one token besides its quotation mark, `yes` against `no`."""
    body = completion(f'"{text}"')
    other = {"yes": "no", "no": "yes"}[text]

    def seen(word: str, p: float) -> dict[str, Any]:
        return {"token": word, "logprob": math.log(p), "bytes": None}

    top = [seen(text, probability), seen(other, 1 - probability)]
    content = [{**seen('"', 1.0), "top_logprobs": []}, {**seen(text, probability), "top_logprobs": top}]
    body["choices"][0]["logprobs"] = {"content": content}
    return body


def file_of(identity: str, verification: Verification) -> CascadeFile:
    """Describe a cascade whose teacher abstains below one half."""
    return CascadeFile(
        format_version=2,
        tiers=(
            TierEntry(name="tfidf-linear", threshold=0.9, is_released=True),
            TierEntry(name="teacher", threshold=0.5, is_released=False),
        ),
        promise="",
        is_certified=True,
        delta=0.1,
        truth="gold",
        n_rows=100,
        teacher=identity,
        verification=verification,
    )


def served(folder: Path, url: str) -> Path:
    """Write a task whose teacher is at an address, and that verifies its answers."""
    make_task(folder, teacher={"name": "openai", "model": "m", "base_url": f"{url}/v1", "api_key_env": "FAULT_KEY"})
    return folder


def test_the_last_tier_verifies_over_http_and_what_is_garbled_or_unsure_is_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT_KEY", "k")

    def behave(body: dict[str, Any], number: int) -> Say:
        said = str(body["messages"][1]["content"])
        if "Label given" not in said:
            return Say(body=completion('"music"'))
        if "garbled" in said:
            return Say(body=b"{")
        if "nonsense" in said:
            return Say(body=completion("certainly"))
        if number % 2:
            return Say(503, headers={"Retry-After": "0"})
        return Say(body=with_logprobs("yes", 0.9) if "jazz" in said else with_logprobs("no", 0.9))

    with FaultServer(behave) as server:
        folder = served(tmp_path / "task", server.url)
        identity = OpenAITeacher(load_spec(folder).teacher).identity
        described = file_of(identity, Verification(slope=1.0, intercept=0.0))
        with asking(folder, described, tmp_path / "outputs") as fallback:
            assert fallback is not None
            jazz, hum, garbled, nonsense = fallback(["jazz", "hum", "garbled", "nonsense"])
    found = [dict(one or {}).get("confidence") for one in (jazz, hum, garbled, nonsense)]
    assert found == pytest.approx([0.9, 0.1, 0.0, 0.0], abs=1e-3)


@pytest.mark.parametrize("gone", ["at once", "before it verified"])
def test_without_its_teacher_a_cascade_answers_what_the_student_can_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, gone: str
) -> None:
    monkeypatch.setenv("FAULT_KEY", "k")

    def behave(body: dict[str, Any], number: int) -> Say:
        if gone == "at once" or "Label given" in str(body["messages"][1]["content"]):
            return Say(503, headers={"Retry-After": "0"})
        return Say(body=completion('"weather"'))

    with FaultServer(behave) as server:
        folder = served(tmp_path / "task", server.url)
        described = file_of(OpenAITeacher(load_spec(folder).teacher).identity, Verification(slope=1.0, intercept=0.0))
        with asking(folder, described, tmp_path / "outputs") as fallback:
            tiers = [ServingTier("tfidf-linear", 0.9, SureOf("sure")), ServingTier("teacher", 0.5, None)]
            sure, rain = Cascade(tiers, fallback=fallback).predict(["sure", "rain"])
    assert (sure["label"], sure["tier"], sure["unanswered"]) == ("music", "tfidf-linear", False)
    if gone == "at once":
        assert (rain["label"], rain["tier"], rain["unanswered"]) == ("music", "tfidf-linear", True)
    else:
        assert (rain["label"], rain["tier"], rain["confidence"], rain.get("abstained")) == (
            "weather",
            "teacher",
            0,
            True,
        )
    assert "1 texts go without the teacher" in caplog.text
    assert "rain" not in caplog.text


def test_a_server_that_is_gone_before_it_verified_makes_no_confidence(tmp_path: Path) -> None:
    spec = TeacherSpec(name="openai", model="m", base_url="http://127.0.0.1:9/v1", api_key_env="FAULT_KEY")
    limits = Limits(concurrency=1, timeout_s=1.0, first_delay_s=0.01, max_attempts=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAULT_KEY", "k")
        teacher = OpenAITeacher(spec, replies=Replies(tmp_path / "replies.log"), limits=limits)
        try:
            with pytest.raises(TeacherUnavailable):
                verify_answers(PARAMS, ["play jazz"], ["music"], teacher, stage="x")
        finally:
            teacher.close()


def test_the_curve_is_read_as_it_was_written() -> None:
    curve = Verification(slope=0.123456789, intercept=-1.0)
    assert Verification.model_validate_json(curve.model_dump_json()) == curve
    assert json.loads(curve.model_dump_json())["slope"] == 0.123457


# A whole build


@pytest.mark.slow
def test_a_build_verifies_the_calibration_rows_and_its_curve_makes_the_last_tier_abstain(tmp_path: Path) -> None:
    goal = {"tiers": ["tfidf-linear", "teacher"], "accuracy": 0.8, "delta": 0.3, "self_verification": True}
    data = {"holdout": "holdout.jsonl", "calibration": "calibration.jsonl"}
    folder = make_task(tmp_path / "task", data=data, curation=[], students=["tfidf-linear"], cascade=goal)
    # People say that nobody books tables here; the teacher says so too when it is asked again.
    gold = {label: label if label != "table" else "music" for label in SCRIPTED}
    texts = [(text, label) for label in SCRIPTED for text in texts_of(label)]
    lines = [json.dumps({"text": text, "label": gold[label]}) + "\n" for text, label in texts]
    (folder / "calibration.jsonl").write_text("".join(lines), encoding="utf-8")
    replies = folder / "replies.jsonl"
    said = {'Label given: "table"': '"no"', "Label given": '"yes"'}
    first = [json.dumps({"contains": shown, "reply": reply_}) + "\n" for shown, reply_ in said.items()]
    replies.write_text("".join(first) + replies.read_text(encoding="utf-8"), encoding="utf-8")

    task, run = check_task(folder), Plain(tmp_path / "outputs" / "scripted")
    teacher = open_teacher(task.spec.teacher, folder=folder, outputs=tmp_path / "outputs")
    try:
        products = recipe(task, teacher, run)
    finally:
        teacher.close()
    assert products.tiers is not None
    choice = products.tiers.choice.load()
    assert choice.abstained is not None
    assert choice.verification is not None
    assert choice.verification.slope > 0
    verified = run.artifacts["self-verify-cascade"].load()
    assert sorted(verified.kept["label"]) == 16 * ["no"] + 32 * ["yes"]
    described = file_of(teacher.identity, choice.verification)
    student, last = ServingTier("tfidf-linear", 0.9, SureOf("no text")), ServingTier("teacher", 0.5, None)
    with asking(folder, described, tmp_path / "outputs") as fallback:
        asked = [texts_of("table")[0], texts_of("weather")[0]]
        table, weather = Cascade([student, last], fallback=fallback).predict(asked)
    assert (table["label"], table["abstained"], table["tier"]) == ("table", True, "teacher")
    assert (weather["label"], weather.get("abstained"), weather["tier"]) == ("weather", None, "teacher")
    assert weather["confidence"] > 0.5 > table["confidence"]


class SureOf:
    """A student that is sure of one text only."""

    def __init__(self, text: str) -> None:
        self._text = text

    def predict(self, texts: Sequence[str]) -> list[Answer]:
        probabilities = dict.fromkeys(SCRIPTED, 0.0)
        return [
            {"label": "music", "probability": float(text == self._text), "probabilities": probabilities}
            for text in texts
        ]
