"""Filters: what they reject and why, and that they lose nothing."""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from factory.curation import FILTERS
from factory.curation.dedup import DEDUP, DedupParams, deduplicate
from factory.curation.description import DESCRIPTION, DescriptionParams, reject_distant
from factory.curation.label_noise import LABEL_NOISE, LabelNoiseParams, reject_noise
from factory.curation.leakage import LEAKAGE, LeakageParams, remove_leaks
from factory.curation.texts import encode, fold
from factory.encoders import Encoder
from factory.errors import FactoryError
from factory.events import Event, Progressed, listening
from factory.records import Origin, Predictions, Rows, TextRow, all_kept, row_id, text_dataset
from tests.golden_file import check_golden, in_words


@dataclass(frozen=True)
class Trigrams:
    """An encoder of hashed character trigrams: texts that share letters are near."""

    n_dimensions: int = 256
    identity: str = "trigrams"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.n_dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            padded = f"  {text} "
            for start in range(len(padded) - 2):
                vectors[row, zlib.crc32(padded[start : start + 3].encode()) % self.n_dimensions] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@dataclass(frozen=True)
class Angles:
    """An encoder whose vectors are given in degrees."""

    degrees: Mapping[str, float]
    identity: str = "angles"
    seen: list[str] = field(default_factory=list)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.seen.extend(texts)
        turns = np.deg2rad([self.degrees[text] for text in texts])
        return np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)


ENCODER: Encoder = Trigrams()


def rows_of(*pairs: tuple[str, str | None]) -> Rows:
    return all_kept(text_dataset([TextRow(text, label, Origin.SYNTHETIC) for text, label in pairs]))


def texts_of(rows: Rows) -> list[str]:
    return list(rows.kept["text"])


def reasons_of(rows: Rows) -> dict[str, str]:
    return dict(zip(rows.rejected["text"], rows.rejected["reason"], strict=True))


# Folding


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Play some jazz!", "play  some jazz"),
        ("don't", "dont"),
        ("don’t", "DON'T"),
        ("“Straße”", "STRASSE"),
        ("ｆｕｌｌ ｗｉｄｔｈ", "full width"),
        ("ﬁne", "fine"),
        ("one, two; three...", "one two three"),
        ("caf\u0065\u0301", "café"),
        ("tab\tand\nnewline", "tab and newline"),
    ],
)
def test_texts_that_say_the_same_fold_to_the_same(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("great :)", "great :("), ("C#", "C"), ("-5 degrees", "5 degrees"), ("3.5", "35"), ("?", "!"), ("50%", "50")],
)
def test_punctuation_that_carries_meaning_is_not_folded(one: str, other: str) -> None:
    assert fold(one) != fold(other)


@given(st.text())
def test_folding_twice_changes_nothing_more(text: str) -> None:
    # NFKC and case folding may each undo the other once (Unicode, section 3.13), so the second fold settles it.
    assert fold(fold(fold(text))) == fold(fold(text))


def test_encoding_reports_progress_and_keeps_the_order() -> None:
    texts = [f"text {number}" for number in range(2500)]
    seen: list[Event] = []
    with listening(seen.append):
        vectors = encode(texts, ENCODER, stage="dedup")
    assert np.array_equal(vectors, ENCODER.encode(texts))
    assert seen[-1] == Progressed("dedup", 2500, 2500, "texts encoded")


# Duplicates


def test_the_first_of_equal_texts_is_kept() -> None:
    result = deduplicate(DedupParams(), rows=rows_of(("Play jazz!", "play"), ("play jazz", "play")), encoder=ENCODER)
    assert texts_of(result) == ["Play jazz!"]
    assert list(result.rejected["reason"]) == ["duplicate"]
    assert result.report["matches"] == [{"id": row_id("play jazz"), "of": row_id("Play jazz!")}]


def test_one_text_under_two_labels_is_rejected_under_both() -> None:
    rows = rows_of(("it is on", "on"), ("something else", "on"), ("It is on.", "off"), ("it is on", "on"))
    result = deduplicate(DedupParams(), rows=rows, encoder=ENCODER)
    assert texts_of(result) == ["something else"]
    assert set(result.rejected["reason"]) == {"conflicting-labels"}


def test_a_missing_label_conflicts_with_none() -> None:
    result = deduplicate(DedupParams(), rows=rows_of(("it is on", "on"), ("It is on.", None)), encoder=ENCODER)
    assert texts_of(result) == ["it is on"]


def test_near_texts_of_one_label_are_duplicates_and_of_two_labels_are_not() -> None:
    encoder = Angles({"lights on": 0, "lights on now": 10, "lights off": 5})
    rows = rows_of(("lights on", "on"), ("lights off", "off"), ("lights on now", "on"))
    result = deduplicate(DedupParams(threshold=0.95), rows=rows, encoder=encoder)
    assert texts_of(result) == ["lights on", "lights off"]
    assert reasons_of(result) == {"lights on now": "near-duplicate"}
    assert list(result.rejected["score"]) == [pytest.approx(np.cos(np.deg2rad(10)), abs=1e-6)]


def test_a_chain_of_near_texts_is_not_swallowed_whole() -> None:
    """The third is near the second, but not near the first, which alone is kept of the two."""
    encoder = Angles({"a": 0, "b": 15, "c": 30})
    result = deduplicate(DedupParams(threshold=0.95), rows=rows_of(("a", "x"), ("b", "x"), ("c", "x")), encoder=encoder)
    assert texts_of(result) == ["a", "c"]


def test_a_repeat_of_a_near_duplicate_points_to_the_row_that_was_kept() -> None:
    encoder = Angles({"a": 0, "b": 5})
    result = deduplicate(DedupParams(), rows=rows_of(("a", "x"), ("b", "x"), ("B!", "x")), encoder=encoder)
    assert {match["of"] for match in result.report["matches"]} == {row_id("a")}


def test_a_cluster_of_thousands_of_near_texts_leaves_one() -> None:
    encoder = Angles({f"text {number}": number / 1000 for number in range(3000)})
    rows = rows_of(*((f"text {number}", "x") for number in range(3000)))
    assert texts_of(deduplicate(DedupParams(), rows=rows, encoder=encoder)) == ["text 0"]


def test_comparing_reports_progress() -> None:
    seen: list[Event] = []
    with listening(seen.append):
        deduplicate(DedupParams(), rows=rows_of(("one thing", "a"), ("another", "b"), ("third", "b")), encoder=ENCODER)
    assert seen[-2:] == [Progressed("dedup", n, 3, "texts compared") for n in (1, 3)]


def test_duplicates_of_no_rows_are_no_rows() -> None:
    assert len(deduplicate(DedupParams(), rows=rows_of(), encoder=ENCODER).kept) == 0


# Leakage


def test_a_row_that_equals_a_protected_text_leaks_it_with_its_source() -> None:
    holdout, seeds = rows_of(("Play jazz", "play")), rows_of(("Book a table", "book"))
    rows = rows_of(("play jazz!", "play"), ("something quite different", "play"), ("book a table", "book"))
    result = remove_leaks(LeakageParams(), rows=rows, encoder=ENCODER, holdout=holdout, seeds=seeds)
    assert texts_of(result) == ["something quite different"]
    assert reasons_of(result) == {"play jazz!": "leakage-exact", "book a table": "leakage-exact"}
    assert result.report["matches"] == [
        {"id": row_id("play jazz!"), "of": row_id("Play jazz"), "in": "holdout"},
        {"id": row_id("book a table"), "of": row_id("Book a table"), "in": "seeds"},
    ]
    assert result.report["protected"] == {"holdout": 1, "seeds": 1}


@pytest.mark.parametrize(("degrees", "reason"), [(10, {"near": "leakage-near"}), (20, {})])
def test_a_row_leaks_when_its_cosine_reaches_the_threshold(degrees: float, reason: dict[str, str]) -> None:
    encoder = Angles({"near": degrees, "held out": 0, "far": 90})
    result = remove_leaks(
        LeakageParams(threshold=0.95),
        rows=rows_of(("far", "x"), ("near", "x")),
        encoder=encoder,
        holdout=rows_of(("held out", "x")),
    )
    assert reasons_of(result) == reason


def test_labels_of_the_holdout_make_no_difference() -> None:
    encoder = Angles({"jazz": 0, "some jazz": 10, "weather": 90, "held out": 5})
    rows = rows_of(("jazz", "play"), ("some jazz", "play"), ("weather", "weather"))
    first, *others = (
        in_words(remove_leaks(LeakageParams(), rows=rows, encoder=encoder, holdout=rows_of(("held out", label))))
        for label in ("play", "weather", None)
    )
    assert others == [first, first]
    assert [text for text, *_ in first["rejected"]] == ["jazz", "some jazz"]


def test_without_protected_rows_nothing_leaks_and_nothing_is_encoded() -> None:
    encoder = Angles({})
    rows = rows_of(("play jazz", "play"))
    for protected in ({}, {"holdout": rows_of()}):
        result = remove_leaks(LeakageParams(), rows=rows, encoder=encoder, **protected)
        assert texts_of(result) == ["play jazz"]
    assert encoder.seen == []


# Label noise


def noisy(n_rows: int, wrong: Sequence[int], n_labels: int = 2) -> tuple[Rows, Predictions]:
    """Rows whose student is sure of the right label; those in `wrong` carry another one."""
    labels = tuple("abcdef"[:n_labels])
    truth = [position % n_labels for position in range(n_rows)]
    shown = [(label + 1) % n_labels if position in wrong else label for position, label in enumerate(truth)]
    # Surest about the rows whose label is wrong, and the surer the higher the position.
    sure = np.where(np.isin(np.arange(n_rows), wrong), 0.95, 0.6) + np.arange(n_rows) / n_rows / 25
    probs = np.repeat((1 - sure)[:, None] / (n_labels - 1), n_labels, axis=1)
    probs[np.arange(n_rows), truth] = sure
    rows = rows_of(*((f"text {position}", labels[label]) for position, label in enumerate(shown)))
    # In another order than the rows: they are matched by id.
    ids = tuple(rows.kept["id"])[::-1]
    return rows, Predictions(labels, ids, probs[::-1])


@pytest.mark.parametrize("n_labels", [2, 4])
def test_wrong_labels_are_found_and_right_ones_kept(n_labels: int) -> None:
    rows, oof = noisy(80, wrong=(3, 20, 41), n_labels=n_labels)
    result = reject_noise(LabelNoiseParams(), rows=rows, oof=oof)
    assert sorted(result.rejected["text"]) == ["text 20", "text 3", "text 41"]
    assert set(result.rejected["reason"]) == {"label-noise"}
    assert all(score < 0.2 for score in result.rejected["score"])
    assert result.report["suspects"] == 3


def test_at_most_the_allowed_share_is_rejected_the_least_believable_first() -> None:
    rows, oof = noisy(80, wrong=(3, 20, 41, 60))
    result = reject_noise(LabelNoiseParams(max_rejected_ratio=0.03), rows=rows, oof=oof)
    assert sorted(result.rejected["text"]) == ["text 41", "text 60"]
    assert (result.report["suspects"], result.report["spared"]) == (4, 2)


def test_a_label_keeps_its_last_rows_whatever_the_student_believes() -> None:
    rows, oof = noisy(20, wrong=range(0, 20, 2))  # every row is labelled "b"
    texts = [(text, "a" if number < 6 else "b") for number, text in enumerate(rows.kept["text"])]
    relabelled = rows_of(*texts)
    params = LabelNoiseParams(filter_by="predicted_neq_given", max_rejected_ratio=1, min_per_label=4)
    result = reject_noise(params, rows=relabelled, oof=oof)
    assert len(result.rejected) > 0
    assert min(Counter(result.kept["label"]).values()) >= 4


@pytest.mark.parametrize("origin", ["gold", "silver"])
def test_what_people_or_voters_labelled_is_not_called_noise(origin: str) -> None:
    rows, oof = noisy(80, wrong=(3, 20, 41))
    settled = rows.kept.map(
        lambda row: {"origin": origin if row["text"] == "text 20" else row["origin"]}, load_from_cache_file=False
    )
    result = reject_noise(LabelNoiseParams(), rows=all_kept(settled), oof=oof)
    assert sorted(result.rejected["text"]) == ["text 3", "text 41"]
    everybody = LabelNoiseParams(origins=tuple(Origin))
    assert len(reject_noise(everybody, rows=all_kept(settled), oof=oof).rejected) == 3


def test_labels_without_a_row_are_no_obstacle() -> None:
    rows, oof = noisy(40, wrong=(7,), n_labels=2)
    wider = Predictions(("z", *oof.labels), oof.ids, np.hstack([np.zeros((40, 1)), oof.probs]))
    assert list(reject_noise(LabelNoiseParams(), rows=rows, oof=wider).rejected["text"]) == ["text 7"]


def test_one_label_alone_has_nothing_to_be_confused_with() -> None:
    rows = rows_of(("one", "a"), ("two", "a"))
    oof = Predictions(("a", "b"), tuple(rows.kept["id"]), np.array([[0.1, 0.9], [0.2, 0.8]]))
    assert len(reject_noise(LabelNoiseParams(), rows=rows, oof=oof).kept) == 2


def test_a_row_without_probabilities_is_an_error() -> None:
    rows, oof = noisy(10, wrong=())
    with pytest.raises(FactoryError, match="1 of 11 rows have no out-of-fold probabilities, such as row"):
        reject_noise(
            LabelNoiseParams(),
            rows=rows_of(*zip(rows.kept["text"], rows.kept["label"], strict=True), ("new", "a")),
            oof=oof,
        )


def test_a_label_the_student_does_not_know_is_an_error() -> None:
    rows = rows_of(("one", "a"), ("two", "refund"))
    oof = Predictions(("a", "b"), tuple(rows.kept["id"]), np.full((2, 2), 0.5))
    with pytest.raises(FactoryError, match="expected labels a, b, got refund"):
        reject_noise(LabelNoiseParams(), rows=rows, oof=oof)


# Distance from descriptions


def near_descriptions(*own: float) -> tuple[Rows, Predictions]:
    """Rows of `a` and `b` in turn, with what the descriptions give to their own label."""
    rows = rows_of(*((f"text {number}", "ab"[number % 2]) for number in range(len(own))))
    probs = np.array([[one, 1 - one] if number % 2 == 0 else [1 - one, one] for number, one in enumerate(own)])
    return rows, Predictions(("a", "b"), tuple(rows.kept["id"]), probs)


def test_rows_far_from_their_own_description_go_and_the_share_is_that_of_all_labels() -> None:
    rows, opinion = near_descriptions(0.9, 0.2, 0.8, 0.1, 0.7, 0.3)
    result = reject_distant(DescriptionParams(min_per_label=0), rows=rows, opinion=opinion)
    assert texts_of(result) == ["text 0", "text 2", "text 4"]
    assert set(result.rejected["reason"]) == {"far-from-description"}
    assert list(result.rejected["score"]) == [0.2, 0.1, 0.3]


def test_a_label_far_from_its_description_keeps_its_best_rows() -> None:
    rows, opinion = near_descriptions(0.9, 0.2, 0.8, 0.1, 0.7, 0.3)
    result = reject_distant(DescriptionParams(min_per_label=2), rows=rows, opinion=opinion)
    assert texts_of(result) == ["text 0", "text 1", "text 2", "text 5"]


def test_rows_that_people_labelled_stay_however_far() -> None:
    rows, opinion = near_descriptions(0.9, 0.1)
    gold = rows.kept.map(lambda row: {"origin": "gold"}, load_from_cache_file=False)
    params = DescriptionParams(rejected_ratio=1, min_per_label=0)
    assert len(reject_distant(params, rows=all_kept(gold), opinion=opinion).kept) == 2


# What all filters promise


def run_filter(name: str, rows: Rows) -> Rows:
    """Run a filter by its name as a flow would, with plausible inputs."""
    ids = tuple(dict.fromkeys(rows.kept["id"]))
    first = np.array([0.2 + 0.6 * (zlib.crc32(row_id.encode()) % 100) / 100 for row_id in ids])
    opinion = Predictions(("a", "b"), ids, np.stack([first, 1 - first], axis=1))
    extra: dict[str, dict[str, Any]] = {
        "dedup": {"encoder": ENCODER},
        "leakage": {"encoder": ENCODER, "holdout": rows_of(("aab", "a"), ("ba!", "b"))},
        "label-noise": {"oof": opinion},
        "description": {"opinion": opinion},
    }
    stage = FILTERS[name]
    return stage.run(stage.params(), rows=rows, **extra[name])


LABELLED = st.lists(st.tuples(st.text("ab !é", min_size=1, max_size=6), st.sampled_from(["a", "b"])), max_size=25)


@pytest.mark.parametrize("name", FILTERS)
@settings(max_examples=30, deadline=None)
@given(pairs=LABELLED)
def test_no_filter_loses_or_invents_a_row(name: str, pairs: list[tuple[str, str]]) -> None:
    result = run_filter(name, rows_of(*pairs))
    found = [(row["text"], row["label"]) for half in (result.kept, result.rejected) for row in half]
    assert Counter(found) == Counter(pairs)
    assert all(reason for reason in result.rejected["reason"])
    assert set(result.rejected["rejected_by"]) <= {name}
    assert sum(result.report["rejected_by_reason"].values()) == len(result.rejected)


@pytest.mark.parametrize("name", ["leakage", "label-noise", "description"])
@settings(max_examples=30, deadline=None)
@given(pairs=LABELLED, data=st.data())
def test_the_order_of_rows_does_not_decide_what_is_kept(name: str, pairs: list[tuple[str, str]], data: Any) -> None:
    unique = list(dict(pairs).items())
    shuffled = data.draw(st.permutations(unique))
    assert sorted(texts_of(run_filter(name, rows_of(*unique)))) == sorted(
        texts_of(run_filter(name, rows_of(*shuffled)))
    )


@settings(max_examples=30, deadline=None)
@given(pairs=LABELLED, data=st.data())
def test_the_order_of_rows_does_not_decide_which_texts_conflict(pairs: list[tuple[str, str]], data: Any) -> None:
    shuffled = data.draw(st.permutations(pairs))
    conflicting = [
        sorted(text for text, reason in reasons_of(run_filter("dedup", rows_of(*some))).items() if "conflict" in reason)
        for some in (pairs, shuffled)
    ]
    assert conflicting[0] == conflicting[1]


@settings(max_examples=30, deadline=None)
@given(pairs=LABELLED)
def test_deduplicating_twice_rejects_nothing_more(pairs: list[tuple[str, str]]) -> None:
    once = run_filter("dedup", rows_of(*pairs))
    assert len(run_filter("dedup", once).rejected) == 0


def test_filters_are_found_by_the_name_of_their_stage_and_have_defaults() -> None:
    assert {name: stage.name for name, stage in FILTERS.items()} == {name: name for name in FILTERS}
    assert set(FILTERS) == {"dedup", "leakage", "label-noise", "description"}
    for stage in FILTERS.values():
        stage.params()


# Golden

GOLDEN_ROWS = rows_of(
    ("Play some jazz", "PlayMusic"),
    ("play some jazz!", "PlayMusic"),
    ("play some jazzy", "PlayMusic"),
    ("book a table for two", "BookRestaurant"),
    ("book a table for four", "BookRestaurant"),
    ("stop", "PlayMusic"),
    ("Stop.", "BookRestaurant"),
    ("will it rain tomorrow", "GetWeather"),
)


def test_golden_dedup() -> None:
    check_golden(DEDUP, in_words(deduplicate(DedupParams(threshold=0.85), rows=GOLDEN_ROWS, encoder=ENCODER)))


def test_golden_leakage() -> None:
    holdout = rows_of(("Play some jazz", None), ("will it rain tomorow", None))
    result = remove_leaks(LeakageParams(threshold=0.9), rows=GOLDEN_ROWS, encoder=ENCODER, holdout=holdout)
    check_golden(LEAKAGE, in_words(result))


def test_golden_label_noise() -> None:
    rows, oof = noisy(30, wrong=(3, 20), n_labels=3)
    check_golden(LABEL_NOISE, in_words(reject_noise(LabelNoiseParams(), rows=rows, oof=oof)))


def test_golden_description() -> None:
    rows, opinion = near_descriptions(0.9, 0.2, 0.8, 0.1, 0.7, 0.3)
    params = DescriptionParams(min_per_label=1)
    check_golden(DESCRIPTION, in_words(reject_distant(params, rows=rows, opinion=opinion)))
