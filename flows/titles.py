"""What a stage is called where people look on: `annotate-pool-1` is "the teacher labels the pool, part 1"."""

TITLES = {
    "aggregate": "weigh the votes of all labellers",
    "annotate-cascade": "the teacher labels rows for the cascade",
    "annotate-teacher": "ask the teacher directly, to compare",
    "annotate": "the teacher labels",
    "answer": "let the release answer",
    "attributes": "the teacher writes texts, round",
    "audit": "audit what was written",
    "calibrate": "calibrate",
    "cascade": "choose the thresholds of the cascade",
    "clusters": "let the pool settle what the descriptions say",
    "contrastive": "the teacher writes pairs that differ little, round",
    "cross-predict": "train and predict out of fold:",
    "curate-rows": "filter rows",
    "data-map": "draw the map of all rows",
    "dedup": "drop near duplicates, round",
    "decided": "take what people decided",
    "description": "drop what its description does not fit, round",
    "evaluate": "judge everything on the holdout",
    "explain": "explain answers",
    "export": "export to ONNX",
    "fit": "train",
    "focus": "find what is hard",
    "gather": "gather rows:",
    "label-free": "guess the accuracy on rows without labels",
    "label-noise": "drop labels that are hard to believe",
    "labels": "the teacher writes texts, round",
    "leakage": "drop what is too near to the holdout, round",
    "learning-curve": "measure what more rows teach",
    "majority": "baseline: the most frequent label",
    "mean": "baseline: the mean",
    "meaning": "drop what changed its meaning:",
    "measure": "measure speed and size",
    "nearest-description": "baseline: the nearest description",
    "no-audit": "audit what was written",
    "predict": "predict with",
    "priors": "ask the teacher what it believes",
    "read": "read",
    "refine": "narrow candidate labels down",
    "refusal": "learn what is foreign",
    "register": "package and register",
    "release": "write the release folder",
    "reviewed": "read what people reviewed",
    "robustness": "disturb the texts",
    "sample": "draw a sample for the teacher:",
    "select": "choose rows of the pool, part",
    "self-verify-cascade": "the teacher verifies its answers for the cascade",
    "self-train": "let a student label the rest of the pool",
    "set-aside": "set rows aside:",
    "things": "the teacher lists things to write about",
    "tune": "search settings of",
    "unlabel": "set labels of the pool aside:",
    "verify": "the teacher labels again what it wrote:",
    "weigh": "weigh written rows and labels beside real ones",
}
"""The longest beginning of a stage's name decides; what follows it is added."""


def title_of(stage: str) -> str:
    """Return a stage's name in words a person understands, with the rest of its name; else the words of its name."""
    parts = stage.split("-")
    for n_parts in range(len(parts), 0, -1):
        title = TITLES.get("-".join(parts[:n_parts]))
        if title is not None:
            rest = " ".join(parts[n_parts:]) if title.endswith((":", "round", "part")) else "-".join(parts[n_parts:])
            words = (
                f"{title} {rest}" if rest else title.removesuffix(":").removesuffix(", round").removesuffix(", part")
            )
            return words[0].upper() + words[1:]
    words = stage.replace("-", " ")
    return words[:1].upper() + words[1:]
