"""A small task whose teacher's replies are written beforehand, so that a whole build runs in seconds."""

import json
from pathlib import Path
from typing import Any

import yaml

LABELS = {
    "weather": "ask about the weather",
    "music": "play a song or a record",
    "table": "book a table",
}
WORDS = {
    "weather": ("will it {} in {}", ("rain", "snow", "be sunny", "get cold"), ("Oslo", "Rome", "Kyoto", "my town")),
    "music": ("play {} by {}", ("a ballad", "the album", "some jazz", "that tune"), ("Adele", "U2", "Miles", "Björk")),
    "table": ("reserve a table {} for {}", ("at nine", "outside", "tonight", "indoors"), ("two", "six", "us", "ten")),
}


def texts_of(label: str) -> list[str]:
    """Return 16 texts of a label, all different."""
    pattern, firsts, seconds = WORDS[label]
    return [pattern.format(first, second) for first in firsts for second in seconds]


def holdout_rows() -> list[dict[str, str]]:
    """Return gold rows that no reply contains."""
    gold = {
        "weather": ["is it going to be windy tomorrow", "how hot is it outside", "do I need an umbrella"],
        "music": ["put on something by Prince", "I want to hear the Beatles", "start my party songs"],
        "table": ["find us a place for dinner", "four people at the steak house", "I need a lunch booking"],
    }
    return [{"text": text, "label": label} for label, texts in gold.items() for text in texts]


def write_replies(path: Path) -> None:
    """Write what the scripted teacher says: texts when asked to write, labels when shown one of them."""
    texts = [(text, label) for label in LABELS for text in texts_of(label)]
    lines = [{"contains": f'Text: "{text}"\n', "reply": json.dumps(label)} for text, label in texts]
    lines += [{"contains": f'Text: "{row["text"]}"\n', "reply": json.dumps(row["label"])} for row in holdout_rows()]
    for label in LABELS:
        texts = texts_of(label)
        both = ["\n".join(texts[:8]), "\n".join(texts[8:])]
        lines.append({"contains": f"different texts with the label {label}:", "reply": both})
    # Whatever else is asked is a list of things to write about.
    lines.append({"contains": "", "reply": "a place\na time"})
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def make_task(folder: Path, **changes: Any) -> Path:
    """Write a task folder; `changes` replace keys of its spec, None removes one."""
    folder.mkdir(parents=True)
    spec: dict[str, Any] = {
        "name": "scripted",
        "kind": "text-classification",
        "description": "What people say to a machine.",
        "labels": [{"name": name, "description": description} for name, description in LABELS.items()],
        "data": {"holdout": "holdout.jsonl"},
        "teacher": {"name": "scripted", "model": "replies.jsonl"},
        "synthesis": {"per_label": 12, "max_rounds": 2},
        "students": ["sentence-linear", "tfidf-linear"],
        **changes,
    }
    text = yaml.safe_dump({key: value for key, value in spec.items() if value is not None}, sort_keys=False)
    (folder / "spec.yaml").write_text(text, encoding="utf-8")
    rows = "".join(json.dumps(row) + "\n" for row in holdout_rows())
    (folder / "holdout.jsonl").write_text(rows, encoding="utf-8")
    write_replies(folder / "replies.jsonl")
    return folder
