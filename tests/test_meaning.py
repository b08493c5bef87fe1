"""Varied rows: near enough to their parent and not too near. Weights: labels weigh what they weigh among real rows."""

import pytest

from factory.curation.meaning import MEANING, MeaningParams, check_meaning
from factory.curation.weigh import WEIGH, WeighParams, weigh
from factory.errors import FactoryError
from factory.records import Origin, Rows, TextRow, all_kept, row_id, text_dataset
from tests.golden_file import check_golden, in_words
from tests.test_curation import Angles

PARENTS = all_kept(text_dataset([TextRow("north", "a", Origin.GOLD), TextRow("east", "b", Origin.GOLD)]))
ENCODER = Angles({"north": 90, "east": 0, "nearly north": 85, "north-east": 45, "south": 270, "between": 60})


def varied(*rows: tuple[str, tuple[str, ...]]) -> Rows:
    made = [
        TextRow(text, "a", Origin.AUGMENTED, "paraphrase", "t", tuple(map(row_id, parents)), replies=("key",))
        for text, parents in rows
    ]
    return all_kept(text_dataset(made))


def test_a_row_that_copies_its_parent_and_one_that_drifted_are_rejected_with_the_cosine() -> None:
    rows = varied(("nearly north", ("north",)), ("between", ("north",)), ("south", ("north",)), ("south", ()))
    made = check_meaning(MeaningParams(least=0.5), rows=rows, parents=PARENTS, encoder=ENCODER)
    assert made.kept["text"][:] == ["between", "south"]
    found = {row["text"]: (row["rejected_by"], row["reason"], row["score"]) for row in made.rejected}
    assert found["nearly north"] == ("meaning", "copies-parent", pytest.approx(0.996195))
    assert found["south"] == ("meaning", "drifted", pytest.approx(-1))
    assert made.kept[0] == rows.kept[1]


def test_of_several_parents_the_nearest_counts() -> None:
    rows = varied(("nearly north", ("east",)), ("nearly north", ("east", "north")), ("between", ("east", "north")))
    made = check_meaning(MeaningParams(least=0.5), rows=rows, parents=PARENTS, encoder=ENCODER)
    assert made.kept["text"][:] == ["between"]
    assert made.rejected["reason"][:] == ["drifted", "copies-parent"]


def test_a_row_that_shall_mean_something_else_has_no_lower_bound() -> None:
    rows = varied(("south", ("north",)), ("nearly north", ("north",)))
    made = check_meaning(MeaningParams(least=-1), rows=rows, parents=PARENTS, encoder=ENCODER)
    assert made.kept["text"][:] == ["south"]


def test_a_parent_that_nobody_has_is_an_error() -> None:
    rows = varied(("south", ("north", "west")))
    with pytest.raises(FactoryError, match=f"every parent among the 2 rows given, got 1 .* such as {row_id('west')}"):
        check_meaning(MeaningParams(least=0), rows=rows, parents=PARENTS, encoder=ENCODER)


def test_no_rows_are_no_error() -> None:
    made = check_meaning(MeaningParams(least=0), rows=varied(), parents=PARENTS, encoder=ENCODER)
    assert (len(made.kept), len(made.rejected)) == (0, 0)


def test_golden_meaning() -> None:
    rows = varied(("nearly north", ("north",)), ("between", ("north", "east")), ("south", ("east", "north")))
    made = check_meaning(MeaningParams(least=0.2), rows=rows, parents=PARENTS, encoder=ENCODER)
    check_golden(MEANING, in_words(made))


def labelled(**counts: tuple[int, int]) -> Rows:
    rows = [
        TextRow(f"{label} {number} {origin}", label, origin)
        for label, (n_gold, n_made) in counts.items()
        for origin, n in ((Origin.GOLD, n_gold), (Origin.AUGMENTED, n_made))
        for number in range(n)
    ]
    return all_kept(text_dataset(rows))


def mass(rows: Rows, label: str) -> float:
    return sum(row["weight"] for row in rows.kept if row["label"] == label)


def test_labels_weigh_as_much_as_among_gold_rows_however_many_were_made() -> None:
    rows = labelled(a=(5, 0), b=(2, 28))
    made = weigh(WeighParams(labels=("a", "b")), rows=rows)
    assert mass(made, "a") / mass(made, "b") == pytest.approx(6 / 3)
    assert mass(made, "a") + mass(made, "b") == pytest.approx(35)
    assert [{**row, "weight": 1.0} for row in made.kept] == rows.kept.to_list()
    assert len({row["weight"] for row in made.kept if row["label"] == "b"}) == 1


@pytest.mark.parametrize("counts", [{}, {"a": (3, 0)}, {"a": (4, 4), "b": (2, 2)}, {"a": (0, 3), "b": (0, 3)}])
def test_weights_that_are_right_already_stay(counts: dict[str, tuple[int, int]]) -> None:
    rows = labelled(**counts)
    made = weigh(WeighParams(labels=("a", "b", "never seen")), rows=rows)
    if counts.get("b") != (2, 2):
        assert made.kept["weight"][:] == pytest.approx([1.0] * len(rows.kept))
    assert sum(made.kept["weight"]) == pytest.approx(len(rows.kept))


def test_a_label_that_only_the_teacher_wrote_for_still_counts() -> None:
    made = weigh(WeighParams(labels=("a", "b")), rows=labelled(a=(9, 0), b=(0, 9)))
    assert mass(made, "b") == pytest.approx(18 / 11)


def test_written_rows_weigh_less_than_the_real_and_varied_ones_beside_them() -> None:
    origins = [Origin.GOLD, Origin.AUGMENTED, Origin.SYNTHETIC, Origin.SYNTHETIC]
    rows = all_kept(text_dataset([TextRow(str(n), "ab"[n % 2], origin) for n, origin in enumerate(origins)]))
    assert weigh(WeighParams(written=0.25), rows=rows).kept["weight"][:] == [1.0, 1.0, 0.25, 0.25]
    both = weigh(WeighParams(labels=("a", "b"), written=0.25), rows=rows).kept["weight"][:]
    assert both[0] / both[2] == pytest.approx(4)
    assert sum(both) == pytest.approx(2.5)


def test_golden_weigh() -> None:
    made = weigh(WeighParams(labels=("a", "b")), rows=labelled(a=(3, 1), b=(1, 4)))
    check_golden(WEIGH, {"weights": made.kept["weight"][:], **in_words(made)})
