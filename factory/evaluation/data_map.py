"""The data map: where what was written, what is real and what was rejected lie, seen from the encoder.

A projection onto the two directions in which the drawn texts differ most (principal components; Hotelling, "Analysis of
a complex of statistical variables into principal components", 1933). Neighbour embeddings (t-SNE, UMAP) show tighter
groups, take a minute for as many points, and the distances between their groups mean nothing; here near is alike, as
far as two directions can say, and the map says how far that is.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from factory.curation.texts import encode
from factory.encoders import Encoder
from factory.evaluation.result import JsonResult, Number, Part
from factory.records import Origin, Rows
from factory.spec import Model
from factory.store import Stage

if TYPE_CHECKING:
    from datasets import Dataset

REAL_FILE = "real_"
"""Begins the names of inputs that are files of real texts."""
MOST_CHARACTERS = 240
"""Shown of a text; a report of long documents would grow beyond what opens at once."""


Line = Mapping[str, Any]
"""A row with its columns."""


class Group(StrEnum):
    """What a point is drawn as."""

    WRITTEN = "written"
    """Made by the teacher, and trained on."""
    REAL = "real"
    """Of people: trained on, or only looked at."""
    REJECTED = "rejected"
    """Dropped on the way, whoever made it."""


class DataMapParams(Model):
    """How much is drawn."""

    most_points: Annotated[int, Field(ge=3)] = 3000
    """Points on the map. Each of the groups has at least its third of them, where it has so many rows."""
    seed: Annotated[int, Field(ge=0)] = 0


class Point(Part):
    """One row on the map."""

    x: Number
    """0 to 1, from left to right."""
    y: Number
    """0 to 1, upwards, in the same unit as `x`."""
    group: Group
    label: str
    """Empty where it has none."""
    text: str
    """At most `MOST_CHARACTERS` of it."""
    provenance: str
    """Who made it, how, and what became of it."""


class DataMap(JsonResult):
    """The points, and what they were drawn from."""

    file: ClassVar[str] = "data-map.json"

    points: tuple[Point, ...]
    n_rows: dict[Group, int]
    """Different texts there are of each group."""
    explained: Number
    """Share of the variance of the vectors that the two directions show, 0 to 1."""

    @property
    def summary(self) -> str:
        """One line for a person."""
        return f"{len(self.points):,} of {sum(self.n_rows.values()):,} rows, {self.explained:.0%} of their variance"

    @property
    def n_drawn(self) -> dict[Group, int]:
        """Points of each group."""
        counts = dict.fromkeys(self.n_rows, 0)
        for point in self.points:
            counts[point.group] += 1
        return counts


def data_map(params: DataMapParams, *, rows: Rows, encoder: Encoder, **others: Rows) -> DataMap:
    """Draw rows from each group and place them.

    Args:
        params: How many.
        rows: What students were trained on.
        encoder: Gives the vectors.
        **others: Files of the task by their names with `REAL_FILE` before, never the holdout; by any other name what a
            stage rejected.

    Returns:
        The map; which rows are drawn depends on the seed alone. A text that comes several times is one point, and what
        was trained on is never shown as rejected.
    """
    return draw_map(
        params,
        rows,
        others,
        place=lambda read: encode([row["text"] for row in read], encoder, stage=DATA_MAP.name),
        show=lambda row: (row["text"], row["label"] or ""),
    )


def draw_map(
    params: DataMapParams,
    rows: Rows,
    others: Mapping[str, Rows],
    *,
    place: Callable[[list[Line]], NDArray[np.floating[Any]]],
    show: Callable[[Line], tuple[str, str]],
) -> DataMap:
    """Draw rows of any kind, and place them by their vectors.

    Args:
        params: How many.
        rows: What students were trained on.
        others: As `data_map` takes them.
        place: Returns the vectors of the rows that were drawn, shape (n_rows, n_dimensions).
        show: Returns what a person reads of a row, and its label.

    Returns:
        The map.
    """
    sources = _sources(rows, others)
    found = _different(sources)
    drawn = [(group, sources[place_.source], place_.position) for group, place_ in _draw(found, params)]
    read: list[Line] = [source.rows[position] for _, source, position in drawn]
    places, explained = _project(place(read))
    points = []
    for (group, source, _), row, (x, y) in zip(drawn, read, places.tolist(), strict=True):
        text, label = show(row)
        points.append(Point(x=x, y=y, group=group, label=label, text=_short(text), provenance=source.provenance(row)))
    return DataMap(
        points=tuple(points), n_rows={group: len(some) for group, some in found.items()}, explained=explained
    )


DATA_MAP = Stage("data-map", 1, DataMapParams, data_map, DataMap)

_BY = {
    Origin.GOLD: "real, labelled by people",
    Origin.SILVER: "real, labelled by the teacher",
    Origin.SYNTHETIC: "written by the teacher",
    Origin.AUGMENTED: "a real text, varied by the teacher",
}


class _Place(NamedTuple):
    """Where a row is found: only what is drawn is read."""

    source: int
    position: int


class _Source(NamedTuple):
    """Rows of one kind."""

    rows: "Dataset"
    file: str = ""
    """The file of the task they are from; empty for rows of stages."""

    @property
    def is_rejected(self) -> bool:
        return "reason" in self.rows.column_names

    def groups(self) -> Iterator[tuple[str, Group]]:
        """Yield the id of each row, and what it is drawn as."""
        for row_id, origin in zip(self.rows["id"][:], self.rows["origin"][:], strict=True):
            made = origin in (Origin.SYNTHETIC, Origin.AUGMENTED) and not self.file
            yield row_id, Group.REJECTED if self.is_rejected else Group.WRITTEN if made else Group.REAL

    def provenance(self, row: Mapping[str, Any]) -> str:
        """Say who made a row, how, and what became of it."""
        if self.file:
            return f"real, from {self.file}; not trained on"
        who = _who(row["origin"], row["strategy"])
        return f"{who}; rejected by {row['rejected_by']}: {row['reason']}" if self.is_rejected else f"{who}; trained on"


def _sources(rows: Rows, others: Mapping[str, Rows]) -> list[_Source]:
    """List them in the order in which they claim a text: trained on, else real, else rejected."""
    files = [_Source(some.kept, name.removeprefix(REAL_FILE)) for name, some in others.items() if _is_file(name)]
    return [
        _Source(rows.kept),
        *files,
        *(_Source(some.rejected) for name, some in others.items() if not _is_file(name)),
    ]


def _is_file(name: str) -> bool:
    return name.startswith(REAL_FILE)


def _different(sources: list[_Source]) -> dict[Group, list[_Place]]:
    """Find each text once."""
    found: dict[Group, list[_Place]] = {group: [] for group in Group}
    seen: set[str] = set()
    for at, source in enumerate(sources):
        for position, (row_id, group) in enumerate(source.groups()):
            if row_id not in seen:
                seen.add(row_id)
                found[group].append(_Place(at, position))
    return found


def _who(origin: str, strategy: str) -> str:
    by = _BY.get(Origin(origin), origin)
    return f"{by} ({strategy})" if strategy else by


def _draw(found: Mapping[Group, list[_Place]], params: DataMapParams) -> list[tuple[Group, _Place]]:
    """Take all, or of each group a third of the points at least and its share of what the others leave."""
    rng = np.random.default_rng(params.seed)
    drawn: list[tuple[Group, _Place]] = []
    room, left = params.most_points, len(found)
    for group, some in sorted(found.items(), key=lambda one: len(one[1])):  # what small ones leave goes to the others
        n = min(len(some), room // left)
        drawn += [(group, some[position]) for position in np.sort(rng.permutation(len(some))[:n])]
        room, left = room - n, left - 1
    return drawn


def _project(vectors: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], float]:
    """Return places between 0 and 1, shape (n, 2), and the share of the variance that they show."""
    centred = np.asarray(vectors, dtype=np.float64) - vectors.mean(axis=0) if len(vectors) else np.zeros((0, 2))
    if len(centred) < 2 or not centred.any():
        return np.full((len(centred), 2), 0.5), 0.0
    variances, directions = np.linalg.eigh(centred.T @ centred)
    main = directions[:, ::-1][:, :2]
    # The sign of a direction is arbitrary; without a rule the map of the same rows would flip between machines.
    main = main * np.where(main[np.abs(main).argmax(axis=0), np.arange(main.shape[1])] < 0, -1, 1)
    places = centred @ main
    if places.shape[1] < 2:
        places = np.column_stack([places, np.zeros(len(places))])
    low, span = places.min(axis=0), np.ptp(places, axis=0).max()
    explained = float(variances[::-1][:2].sum() / variances.sum())
    return (places - low + (span - np.ptp(places, axis=0)) / 2) / span, min(1.0, explained)


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
