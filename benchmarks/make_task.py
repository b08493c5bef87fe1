"""Turn a labelled text set of a data folder into a task folder, outside the repository.

    python -m benchmarks.make_task ag_news --data ../data --regime z1 --out ../ag_news

A set is a folder with `meta.json` (`kind: text`, `labels`, `label_descriptions`), `test.jsonl` and `train.jsonl`, rows
`{text, label}`. What the factory is given beside the label descriptions depends on the regime:

    z0    nothing
    z1    the training texts, without their labels
    fs    a few labelled training rows a label, as seeds: 8, drawn at random
    aug   some labelled training rows a label, as training rows to be varied: 16, drawn at random
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from factory.errors import FactoryError, Problem, SpecError
from factory.spec import DEFAULT_ENCODER
from factory.spec_checks import SAFE_NAME
from factory.spec_errors import suggestion
from factory.spec_file import SPEC_FILE, load_spec

REPOSITORY = Path(__file__).resolve().parent.parent

DESCRIPTIONS = {
    "ag_news": "The opening of a news article: its headline and first sentences.",
    "banking77": "What a customer writes to the support chat of an online bank.",
    "human_vs_ai_en": "A passage of an encyclopedia or news text.",
    "medical_abstracts": "The abstract of a medical research article, with its title.",
    "sms_spam": "A text message (SMS) received on a mobile phone.",
    "snips_intent": "What a person asks a voice assistant to do.",
    "sst2": "A sentence from a film review.",
    "trec6": "A question a person asks to find out a fact.",
    "tweet_emotion": "A tweet in which a person shows an emotion.",
}
"""What the texts of each set are and who writes them: the teacher reads it in every prompt."""


STRATEGY_PARAMS: dict[str, dict[str, Any]] = {
    "ag_news": {"genre": "article", "texts_per_call": 6},
    "human_vs_ai_en": {"genre": "article", "texts_per_call": 6},
    "medical_abstracts": {"genre": "article", "texts_per_call": 3, "max_tokens_per_text": 300},
    "trec6": {
        "styles": ["plain", "as in a quiz", "curious", "unusual wording"],
        "lengths": ["a short question", "one question with a detail or two"],
    },
}
"""Options of the `attributes` strategy for sets whose texts are not what people say to somebody."""
PER_LABEL = {"ag_news": 40, "banking77": 8, "medical_abstracts": 16, "snips_intent": 48, "sst2": 160, "trec6": 48}
"""Accepted rows a label that fit into twenty minutes of the embedded teacher, without a real text."""
BESIDE_SEEDS = {"banking77": 4, "medical_abstracts": 8}
"""Accepted rows a label beside a few real ones, where that is not 16."""
LABEL_POOL = {"banking77": 800}
"""Rows of the pool that the teacher labels, where that is not the default."""
LEAST_PER_LABEL = {"banking77": 4}
"""Rows a label with a pool, below which the teacher writes more. Ten, the default, are as many as 800 rows of 77 labels
have on average: writing for half of the labels would take longer than twenty minutes."""
AUGMENT_PER_LABEL = {"banking77": 8}
"""Texts made from the real rows of a label, where that is not the default."""
REGIMES = ("z0", "z1", "fs", "aug")
REAL_ROWS = {"fs": ("seeds", 8), "aug": ("train", 16)}
"""The key of the spec that real labelled rows stand under, and how many of them a label."""


def make_task(
    source: Path,
    out: Path,
    *,
    regime: str,
    with_train: bool = False,
    description: str | None = None,
    encoder: str = DEFAULT_ENCODER,
    per_label: int | None = None,
    draw: int = 0,
) -> None:
    """Write the task folder of one set.

    Args:
        source: Folder of the set.
        out: The task folder to make; absent or empty, and outside the repository, because not every licence allows
            copies in it.
        regime: One of `REGIMES`.
        with_train: Also write the labelled training rows as `data.ceiling`, which only evaluation reads.
        description: What the texts are; by default from `DESCRIPTIONS`.
        encoder: Compares texts, and is a part of the student `blend`; the others keep the small one.
        per_label: Real labelled rows a label in the regimes fs and aug; by default 8 and 16.
        draw: Which rows are drawn for them: another number, other rows.

    Raises:
        SpecError: The set is missing, of another kind or broken, has no description, or `out` cannot be used.
    """
    _check_out(out)
    meta = _read_meta(source)
    description = description or DESCRIPTIONS.get(source.name)
    if description is None:
        message = "no description of this set is known: say in a line what its texts are (--description)"
        raise SpecError([Problem(source, None, "", message)])
    descriptions = meta.get("label_descriptions", {})
    spec: dict[str, Any] = {
        "name": _safe_name(f"{source.name}_{regime}" + (f"_{draw}" if draw else "")),
        "kind": "text-classification",
        "description": description,
        "labels": [{"name": name, "description": descriptions.get(name, "")} for name in meta["labels"]],
        "data": {"holdout": "holdout.jsonl"},
        **_recipe(source.name, regime, encoder),
    }
    rows: dict[str, Iterable[dict[str, str]]] = {"holdout": _rows(source / "test.jsonl", ("text", "label"))}
    if regime == "z1":
        rows["pool"] = _rows(source / "train.jsonl", ("text",))
    if regime in REAL_ROWS:
        key, usual = REAL_ROWS[regime]
        rows[key] = draw_rows([*_rows(source / "train.jsonl", ("text", "label"))], per_label or usual, draw)
    if with_train:
        rows["ceiling"] = _rows(source / "train.jsonl", ("text", "label"))
    out.mkdir(parents=True, exist_ok=True)
    for key, content in rows.items():
        spec["data"][key] = f"{key}.jsonl"
        _write_rows(out / f"{key}.jsonl", content)
    text = yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, width=110)
    (out / SPEC_FILE).write_text(text, encoding="utf-8")
    load_spec(out)


def _recipe(name: str, regime: str, encoder: str) -> dict[str, Any]:
    """Return what a set and a regime change of the defaults."""
    synthesis: dict[str, Any] = {"max_rounds": 2}
    if name in PER_LABEL and regime == "z0":
        synthesis["per_label"] = PER_LABEL[name]
    if regime == "fs":
        synthesis["per_label"] = BESIDE_SEEDS.get(name, 16)
    if name in STRATEGY_PARAMS:
        synthesis["strategies"] = [{"name": "attributes", "params": STRATEGY_PARAMS[name]}]
    spec: dict[str, Any] = {"synthesis": synthesis}
    if name in LABEL_POOL and regime == "z1":
        spec["labelling"] = {"label_pool": LABEL_POOL[name]}
    if name in LEAST_PER_LABEL and regime == "z1":
        synthesis["per_label"] = LEAST_PER_LABEL[name]
    if regime in REAL_ROWS:
        # Compared with the same rows alone; how the teacher fares is told by the other regimes.
        spec["labelling"] = {"ask_directly": 0}
        if name in AUGMENT_PER_LABEL:
            spec["augmentation"] = {"per_label": AUGMENT_PER_LABEL[name]}
    if encoder != DEFAULT_ENCODER:
        spec["encoder"] = encoder
        large = {"name": "blend", "params": {"encoder": encoder}}
        spec["students"] = [large, "sentence-linear", "static-embedding", "tfidf-linear"]
    return spec


def draw_rows(rows: Sequence[dict[str, str]], per_label: int, draw: int) -> list[dict[str, str]]:
    """Draw rows of each label at random.

    Args:
        rows: Labelled rows.
        per_label: How many; all of a label that has fewer.
        draw: Another number, other rows.

    Returns:
        The rows, in the order they had.
    """
    rng = np.random.default_rng(draw)
    by_label: dict[str, list[int]] = {}
    for position in rng.permutation(len(rows)).tolist():
        by_label.setdefault(rows[position]["label"], []).append(position)
    drawn = sorted(position for found in by_label.values() for position in found[:per_label])
    return [rows[position] for position in drawn]


def _check_out(out: Path) -> None:
    if out.resolve().is_relative_to(REPOSITORY):
        raise _wrong(out, "is inside the repository: choose a folder outside, licences differ from set to set")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise _wrong(out, "already exists: delete it or choose another folder")


def _read_meta(source: Path) -> dict[str, Any]:
    path = source / "meta.json"
    if not path.is_file():
        sets = sorted(found.parent.name for found in source.parent.glob("*/meta.json"))
        raise _wrong(source, f"no such set (a folder with meta.json){suggestion(source.name, sets)}")
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _wrong(path, f"not JSON: {error}") from error
    if not isinstance(meta, dict) or meta.get("kind") != "text":
        kind = meta.get("kind") if isinstance(meta, dict) else None
        raise _wrong(path, f"expected a set of kind 'text', got {kind!r}")
    if not isinstance(meta.get("labels"), list):
        raise _wrong(path, "expected a list under `labels`")
    return meta


def _rows(path: Path, keys: Sequence[str]) -> Iterator[dict[str, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    yield {key: row[key] for key in keys}
                except (ValueError, KeyError, TypeError) as error:
                    raise _wrong(path, f"expected an object with {' and '.join(keys)}: {error!r}", number) from error
    except FileNotFoundError as error:
        raise _wrong(path, "no such file") from error
    except UnicodeDecodeError as error:
        raise _wrong(path, f"not UTF-8: {error}") from error


def _write_rows(path: Path, rows: Iterable[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _safe_name(name: str) -> str:
    safe = re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_-")[:64]
    return safe if SAFE_NAME.fullmatch(safe) else f"task_{safe}"[:64]


def _wrong(path: Path, message: str, line: int | None = None) -> SpecError:
    return SpecError([Problem(path, line, "", message)])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.make_task", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("set", help="name of a text set, such as ag_news")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets")
    parser.add_argument(
        "--regime",
        choices=REGIMES,
        required=True,
        help="what else than descriptions: nothing; a pool; seeds; real rows",
    )
    parser.add_argument("--out", type=Path, required=True, help="the task folder to make, outside the repository")
    parser.add_argument("--train", action="store_true", help="also write train.jsonl, for the ceiling in the report")
    parser.add_argument("--description", help="what the texts are and who writes them")
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, help="of filters, voters and the student blend")
    parser.add_argument("--per-label", type=int, metavar="N", help="real rows a label; default: 8 in fs, 16 in aug")
    parser.add_argument("--draw", type=int, default=0, metavar="N", help="which rows those are")
    args = parser.parse_args(argv)
    source = args.data / args.set
    try:
        make_task(
            source,
            args.out,
            regime=args.regime,
            with_train=args.train,
            description=args.description,
            encoder=args.encoder,
            per_label=args.per_label,
            draw=args.draw,
        )
    except (FactoryError, OSError) as error:
        print(error, file=sys.stderr)
        return getattr(error, "exit_code", 1)
    print(f"{args.out}: written; next: factory check {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
