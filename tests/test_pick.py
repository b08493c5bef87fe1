"""Which student is released: out-of-fold scores count where the rows they stand on are real."""

from dataclasses import dataclass
from typing import Any

import pytest

from factory.records import Origin, Rows, TextRow, all_kept, text_dataset
from factory.spec import Plugin
from flows.products import Trained
from flows.recipe import pick
from tests.test_comparison import calibration


@dataclass
class Known:
    """Stands for a runner: an artifact is its result."""

    def peek(self, artifact: Any) -> Any:
        return artifact


def students(**macro_f1s: float | None) -> dict[str, Trained]:
    nothing: Any = None
    found = {}
    for name, macro_f1 in macro_f1s.items():
        measured: Any = None if macro_f1 is None else calibration(macro_f1)
        name = name.replace("_", "-")
        found[name] = Trained(Plugin(name=name), nothing, measured, nothing)
    return found


def rows(*origins: Origin) -> Rows:
    return all_kept(text_dataset([TextRow(str(n), "a", origin) for n, origin in enumerate(origins)]))


def picked(given: Rows | None, **macro_f1s: float | None) -> str:
    found: Any = given
    runner: Any = Known()
    return pick(students(**macro_f1s), found, runner)


@pytest.mark.parametrize("real", [Origin.GOLD, Origin.SILVER, Origin.AUGMENTED])
def test_real_rows_say_who_is_best(real: Origin) -> None:
    assert picked(rows(real, real, Origin.SYNTHETIC), sentence_linear=0.7, static_embedding=0.96) == "static-embedding"


def test_written_rows_do_not_and_the_first_of_the_spec_is_released() -> None:
    given = rows(Origin.SYNTHETIC, Origin.SYNTHETIC, Origin.SILVER)
    assert picked(given, sentence_linear=0.94, static_embedding=0.96) == "sentence-linear"
    assert picked(given, static_embedding=0.9, sentence_linear=0.99) == "static-embedding"


@pytest.mark.parametrize("origin", [Origin.GOLD, Origin.SYNTHETIC])
def test_a_student_without_an_encoder_is_released_only_alone(origin: Origin) -> None:
    assert picked(rows(origin), tfidf_linear=0.99, sentence_linear=0.5) == "sentence-linear"
    assert picked(rows(origin), tfidf_linear=0.99) == "tfidf-linear"


def test_what_is_not_known_yet_is_not_guessed() -> None:
    assert picked(None, sentence_linear=0.7, static_embedding=0.96) == "sentence-linear"
    assert picked(rows(Origin.GOLD), sentence_linear=None, static_embedding=0.96) == "sentence-linear"
