"""Turn a labelled text set of a data folder into a task folder, outside the repository.

    python -m benchmarks.make_task ag_news --data ../data --regime z1 --out ../ag_news

A set is a folder with `meta.json` (`kind: text`, `labels`, `label_descriptions`), `test.jsonl` and `train.jsonl`, rows
`{text, label}`. Regime z0 gives the factory label descriptions only; z1 also the training texts, without their labels.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from factory.errors import FactoryError, Problem, SpecError
from factory.spec import DEFAULT_ENCODER, SAFE_NAME, SPEC_FILE, load_spec
from factory.spec_errors import suggestion

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
PER_LABEL = {"ag_news": 40, "snips_intent": 48, "trec6": 48}
"""Accepted rows a label that fit into twelve minutes of the embedded teacher."""


def make_task(
    source: Path,
    out: Path,
    *,
    regime: str,
    with_train: bool,
    description: str | None = None,
    encoder: str = DEFAULT_ENCODER,
) -> None:
    """Write the task folder of one set.

    Args:
        source: Folder of the set.
        out: The task folder to make; absent or empty, and outside the repository, because not every licence allows
            copies in it.
        regime: `z0` or `z1`.
        with_train: Also write the labelled training rows as `data.ceiling`, which only evaluation reads.
        description: What the texts are; by default from `DESCRIPTIONS`.
        encoder: Compares texts, and is a part of the student `blend`; the others keep the small one.

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
        "name": _safe_name(f"{source.name}_{regime}"),
        "kind": "text-classification",
        "description": description,
        "labels": [{"name": name, "description": descriptions.get(name, "")} for name in meta["labels"]],
        "data": {"holdout": "holdout.jsonl"},
    }
    synthesis: dict[str, Any] = {"max_rounds": 2}
    if source.name in PER_LABEL and regime == "z0":
        synthesis["per_label"] = PER_LABEL[source.name]
    if source.name in STRATEGY_PARAMS:
        synthesis["strategies"] = [{"name": "attributes", "params": STRATEGY_PARAMS[source.name]}]
    spec["synthesis"] = synthesis
    if encoder != DEFAULT_ENCODER:
        spec["encoder"] = encoder
        large = {"name": "blend", "params": {"encoder": encoder}}
        spec["students"] = [large, "sentence-linear", "static-embedding", "tfidf-linear"]
    out.mkdir(parents=True, exist_ok=True)
    _write_rows(out / "holdout.jsonl", _rows(source / "test.jsonl", ("text", "label")))
    if regime == "z1":
        spec["data"]["pool"] = "pool.jsonl"
        _write_rows(out / "pool.jsonl", _rows(source / "train.jsonl", ("text",)))
    if with_train:
        spec["data"]["ceiling"] = "train.jsonl"
        _write_rows(out / "train.jsonl", _rows(source / "train.jsonl", ("text", "label")))
    text = yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, width=110)
    (out / SPEC_FILE).write_text(text, encoding="utf-8")
    load_spec(out)


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


def _write_rows(path: Path, rows: Iterator[dict[str, str]]) -> None:
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
    parser.add_argument("--regime", choices=("z0", "z1"), required=True, help="descriptions only, or also a pool")
    parser.add_argument("--out", type=Path, required=True, help="the task folder to make, outside the repository")
    parser.add_argument("--train", action="store_true", help="also write train.jsonl, for the ceiling in the report")
    parser.add_argument("--description", help="what the texts are and who writes them")
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, help="of filters, voters and the student blend")
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
        )
    except (FactoryError, OSError) as error:
        print(error, file=sys.stderr)
        return getattr(error, "exit_code", 1)
    print(f"{args.out}: written; next: factory check {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
