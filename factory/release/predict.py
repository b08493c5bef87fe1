#!/usr/bin/env python3
"""Answer with a released student: needs this folder, numpy, onnxruntime and (for token ids) tokenizers; no more.

    python predict.py "play some jazz"                     one text, or several
    python predict.py --in texts.jsonl --out answers.jsonl  a JSON object a line, its text under "text"
    echo "play some jazz" | python predict.py --json        a text a line from standard input
    python predict.py '{"age": 35, "job": "cook"}'          a row of a table; in files a row a line
    python predict.py --explain '{"age": 35, ...}'          what its columns added to the answer

From Python: `Predictor(folder).predict(["play some jazz"])`. This file is copied into every artifact as it is.
"""

import argparse
import importlib.util
import json
import math
import os
import re
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NotRequired, Protocol, TextIO, TypedDict

import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION = 1
REJECTING_VERSION = 2
"""Of an artifact that may say `abstained`; a program that reads version 1 only would answer instead."""
BATCH_CELLS = 512
"""Inputs in one run of the graph, padding included: 32 texts of 16 tokens. More leave the processor's cache."""
LEAST_CELLS = 64
"""In a run, where there are more runs than one: fewer are not worth a thread of their own."""
CHUNK_TEXTS = 2048
"""Texts whose inputs are in memory at once."""

Cells = tuple[NDArray[Any], NDArray[Any]]


CHUNK_ROWS = 8192
"""Rows of a table in one run of the graph."""


class ArtifactError(Exception):
    """The folder is not an artifact that this program can read, or what it is asked cannot be answered."""


class WrongInput(ArtifactError):
    """A row of a table that cannot be answered."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(f"row {position + 1}: {message}")
        self.position = position
        self.message = message


class Answer(TypedDict):
    """What is said about one text or row."""

    label: str
    probability: float
    probabilities: dict[str, float]
    abstained: NotRequired[bool]
    """Only of artifacts with a rule for it: the text seems to belong to no label, and `label` is but the nearest."""


class Answering(Protocol):
    """Whoever answers texts, or rows of a table."""

    def predict(self, texts: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
        """Return an answer for each text, ready for JSON."""


class Number(TypedDict):
    """What is said about one row where the answer is a number."""

    value: float
    unit: str


class Predictor:
    """A released student; opening it takes a fraction of a second, and it may be used from several threads."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.config: dict[str, Any] = _read_config(self.folder)
        self.labels: tuple[str, ...] = tuple(self.config["labels"])
        self._temperature = float(self.config.get("calibration_temperature", 1.0))
        self._rule: dict[str, Any] | None = self.config.get("calibration")
        self._reject_below = _rejection(self.folder, self.config)
        inputs = self.config["inputs"]
        self._cells = _beside("table_cells").Cells(inputs) if inputs["kind"] == "cells" else None
        self._explainer: Any = None
        self._featurisers = (
            []
            if self._cells
            else [self._featuriser(part) for part in (inputs["parts"] if inputs["kind"] == "both" else [inputs])]
        )
        self._session = _open_session(self.folder / "model.onnx")
        self._threads: ThreadPoolExecutor | None = None

    @property
    def is_table(self) -> bool:
        """Whether it answers rows of a table and not texts."""
        return self._cells is not None

    def predict_proba(self, texts: Sequence[Any]) -> NDArray[np.float64]:
        """Return calibrated probabilities, shape (n_texts, n_labels), rows sum to 1, columns as in `labels`.

        Args:
            texts: Texts; for a table, a mapping of column names to cells each.

        Returns:
            Probabilities; of a student that answers with a number, the numbers, shape (n_rows, 1).

        Raises:
            ArtifactError: A row of a table cannot be answered.
        """
        logits = self.predict_logits(texts)
        return _softmax(logits) if self.labels else logits

    def predict_logits(self, texts: Sequence[Any]) -> NDArray[np.float64]:
        """Return what `predict_proba` is the softmax of, shape (n_texts, n_labels); of numbers, the numbers."""
        if self._cells is not None:
            return self._calibrated(self.predict_scores(texts))
        logits = np.zeros((len(texts), len(self.labels)))
        for start in range(0, len(texts), CHUNK_TEXTS):
            rows = [featurise.rows(texts[start : start + CHUNK_TEXTS]) for featurise in self._featurisers]
            # Of two kinds of inputs, the first are tokens, and the encoder that reads them takes nearly all the time.
            batches = list(_batches([len(row[0]) for row in rows[0]]))
            for batch, found in zip(batches, self._each(partial(self._run_batch, rows), batches), strict=True):
                logits[start + batch] = found.astype(np.float64) / self._temperature
        return logits

    def _run_batch(self, rows: Sequence[Sequence[Any]], batch: NDArray[np.intp]) -> NDArray[np.float32]:
        feeds: dict[str, NDArray[Any]] = {}
        for featurise, its_rows in zip(self._featurisers, rows, strict=True):
            cells = _pad([its_rows[position] for position in batch], featurise.value_type)
            feeds.update(zip(featurise.names, cells, strict=True))
        return np.asarray(self._session.run(["logits"], feeds)[0])

    def _each(self, run: Callable[[Any], NDArray[np.float32]], parts: Sequence[Any]) -> Iterator[NDArray[np.float32]]:
        """Return what the graph says of each part, in order; several are run side by side.

        Two small runs with a thread each are twice as fast as a large one whose every operator two threads share.

        Args:
            run: Of a part, what the graph says.
            parts: Batches of texts, or where chunks of rows start.

        Returns:
            An array a part.
        """
        if len(parts) < 2 or _n_cores() < 2:
            return map(run, parts)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_n_cores(), thread_name_prefix="predict")
        return self._threads.map(run, parts)

    def explain(self, rows: Sequence[Any], label: str | None = None) -> list[dict[str, Any]]:
        """Return the answers to some rows of a table, and what each column added to them; see `table_explain.py`.

        Args:
            rows: Mappings of column names to cells.
            label: The label to explain; default: of each row the one that is answered.

        Returns:
            Answers with `base`, `score`, `shares`, `summary`.

        Raises:
            ArtifactError: A row cannot be answered, there is no such label, or the folder cannot explain.
        """
        answers = self.predict(rows)
        try:
            explainer, matrix = self._explained(rows)
            found: list[dict[str, Any]] = explainer.explain(rows, matrix, answers, label)
        except ValueError as error:  # NoExplanation of the module beside this one
            raise ArtifactError(str(error)) from error
        return found

    def check_rows(self, rows: Sequence[Any]) -> None:
        """Raise `WrongInput` for the first row of a table that cannot be answered."""
        try:
            self._cells.matrix(rows) if self._cells is not None else None
        except ValueError as error:  # WrongRow of the module beside this one
            raise WrongInput(int(getattr(error, "position", 0)), getattr(error, "message", str(error))) from error

    def explained_scores(self, rows: Sequence[Any]) -> NDArray[np.float64]:
        """Return what explanations add up to, shape (n_rows, n_labels): `predict_scores`, but for rounding."""
        explainer, matrix = self._explained(rows)
        return np.asarray(explainer.base + explainer.shares(matrix).sum(axis=1))

    def _explained(self, rows: Sequence[Any]) -> tuple[Any, NDArray[np.float32]]:
        if self._cells is None:
            raise ArtifactError(f"{self.folder}: explains rows of tables, and this student answers texts")
        if self._explainer is None:
            self._explainer = _beside("table_explain").Explainer(self.folder, self.config)
        return self._explainer, self._cells.matrix(rows)

    def predict_scores(self, rows: Sequence[Any]) -> NDArray[np.float64]:
        """Return what the graph says of rows of a table, shape (n_rows, n_labels), before any calibration."""
        scores = np.zeros((len(rows), max(1, len(self.labels))))
        starts = range(0, len(rows), CHUNK_ROWS)
        for start, found in zip(starts, self._each(partial(self._run_rows, rows), starts), strict=True):
            scores[start : start + CHUNK_ROWS] = found
        return scores

    def _run_rows(self, rows: Sequence[Any], start: int) -> NDArray[np.float32]:
        try:
            cells = self._cells.matrix(rows[start : start + CHUNK_ROWS]) if self._cells else None
        except ValueError as error:  # WrongRow of the module beside this one, which counts within the chunk
            position = start + int(getattr(error, "position", 0))
            raise WrongInput(position, getattr(error, "message", str(error))) from error
        return np.asarray(self._session.run(["logits"], {"cells": cells})[0])

    def _calibrated(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self.labels:
            return scores
        if self._rule is None:
            return scores / self._temperature
        odds = scores[:, 1] - scores[:, 0]
        before, after = self._rule["before"], self._rule["after"]
        if before:
            outside = np.minimum(odds - before[0], 0) + np.maximum(odds - before[-1], 0)
            odds = np.interp(odds, before, after) + outside
        else:
            odds = self._rule["slope"] * odds + self._rule["shift"]
        return np.stack([-odds / 2, odds / 2], axis=1)

    def predict(self, texts: Sequence[Any]) -> list[Any]:
        """Return the most probable label of each text with its probability, and those of all labels; or the number."""
        if not self.labels:
            unit = str(self.config.get("unit", ""))
            return [Number(value=float(value), unit=unit) for (value,) in self.predict_proba(texts)]
        answers: list[Answer] = []
        logits = self.predict_logits(texts)
        for row, score in zip(_softmax(logits), familiarity(logits).tolist(), strict=True):
            best = int(row.argmax())
            probabilities = dict(zip(self.labels, row.tolist(), strict=True))
            answer: Answer = {
                "label": self.labels[best],
                "probability": float(row[best]),
                "probabilities": probabilities,
            }
            if self._reject_below is not None:
                answer["abstained"] = not score >= self._reject_below
            answers.append(answer)
        return answers

    def _featuriser(self, inputs: dict[str, Any]) -> "_Tokens | _NGrams":
        if inputs["kind"] not in ("tokens", "ngrams"):
            raise ArtifactError(f"{self.folder}: expected inputs of kind tokens or ngrams, got {inputs['kind']!r}")
        return (_Tokens if inputs["kind"] == "tokens" else _NGrams)(self.folder, inputs)


class _Tokens:
    """Token ids and mask, for graphs with token vectors inside."""

    names = ("input_ids", "attention_mask")
    value_type = np.int64

    def __init__(self, folder: Path, inputs: dict[str, Any]) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / inputs["tokenizer"]))
        self._tokenizer.enable_truncation(inputs["max_length"])
        self._tokenizer.no_padding()
        self._add_special_tokens = bool(inputs["add_special_tokens"])

    def rows(self, texts: Sequence[str]) -> list[tuple[Sequence[int], Any]]:
        # A lone surrogate, legal in JSON, has no UTF-8 form and the tokenizer would refuse it.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encodings = self._tokenizer.encode_batch_fast(clean, add_special_tokens=self._add_special_tokens)
        return [(encoding.ids, 1) for encoding in encodings]


class _NGrams:
    """Positions and weights of known n-grams: what scikit-learn's TfidfVectorizer computes, term by term."""

    names = ("indices", "values")
    value_type = np.float32

    def __init__(self, folder: Path, inputs: dict[str, Any]) -> None:
        saved = json.loads((folder / inputs["vocabulary"]).read_text(encoding="ascii"))
        self._blocks = []
        n_terms = 0
        for name, block in saved.items():
            position = {term: n_terms + index for index, term in enumerate(block["terms"])}
            idf = dict(zip(position.values(), block["idf"], strict=True))
            split = {"word": _word_ngrams, "char_wb": _char_ngrams}[name]
            self._blocks.append((split, block["ngrams"], position, idf))
            n_terms += len(position)

    def rows(self, texts: Sequence[str]) -> list[tuple[Sequence[int], Any]]:
        return [self._row(text.lower()) for text in texts]

    def _row(self, text: str) -> tuple[Sequence[int], Any]:
        indices: list[int] = []
        values: list[float] = []
        for split, (shortest, longest), position, idf in self._blocks:
            known = (position[ngram] for ngram in split(text, shortest, longest) if ngram in position)
            weights = {index: (1 + math.log(count)) * idf[index] for index, count in Counter(known).items()}
            length = math.sqrt(sum(weight * weight for weight in weights.values()))
            indices += weights
            values += [weight / length for weight in weights.values()]
        return indices, values


_WORDS = re.compile(r"(?u)\b\w\w+\b")
_SPACES = re.compile(r"\s\s+")


def _word_ngrams(text: str, shortest: int, longest: int) -> Iterator[str]:
    """Yield runs of words of two letters or more."""
    words = _WORDS.findall(text)
    for n in range(shortest, longest + 1):
        for start in range(len(words) - n + 1):
            yield " ".join(words[start : start + n])


def _char_ngrams(text: str, shortest: int, longest: int) -> Iterator[str]:
    """Yield runs of characters inside words, each word between two spaces."""
    for bare in _SPACES.sub(" ", text).split():
        word = f" {bare} "
        for n in range(shortest, longest + 1):
            # A word shorter than the run counts once, as itself.
            for start in range(max(1, len(word) - n + 1)):
                yield word[start : start + n]
            if n >= len(word):
                break


def _batches(lengths: Sequence[int]) -> Iterator[NDArray[np.intp]]:
    """Yield positions of rows of similar length, longest first, so that little is padded; few rows go to all cores."""
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    cells = min(BATCH_CELLS, max(LEAST_CELLS, math.ceil(sum(lengths) / _n_cores())))
    start = 0
    while start < len(order):
        size = max(1, cells // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size


def _pad(rows: Sequence[tuple[Sequence[int], Any]], value_type: type[Any]) -> Cells:
    """Return keys and values, shape (n_rows, longest row), 0 where a row has ended."""
    longest = max(1, *(len(keys) for keys, _ in rows), 1)
    all_keys = np.zeros((len(rows), longest), dtype=np.int64)
    all_values = np.zeros((len(rows), longest), dtype=value_type)
    for position, (keys, values) in enumerate(rows):
        all_keys[position, : len(keys)] = keys
        all_values[position, : len(keys)] = values
    return all_keys, all_values


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def familiarity(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return minus the energy of each text, shape (n_texts,): the lower, the less it is like what was trained on.

    Liu, Wang, Owens and Li, "Energy-based Out-of-distribution Detection", NeurIPS 2020, arXiv:2010.03759.
    """
    if not len(logits):
        return np.zeros(0)
    top = logits.max(axis=1, keepdims=True)
    return np.asarray(top[:, 0] + np.log(np.exp(logits - top).sum(axis=1)))


def _rejection(folder: Path, config: dict[str, Any]) -> float | None:
    """Return the familiarity below which a text is refused, None where the artifact has no such rule."""
    rule = config.get("rejection")
    if rule is None:
        return None
    below = rule.get("below") if isinstance(rule, dict) and rule.get("score") == "energy" else None
    if isinstance(below, bool) or not isinstance(below, int | float) or not math.isfinite(below):
        raise ArtifactError(
            f'{folder / "config.json"}: rejection: expected {{"score": "energy", "below": number}}, got {rule!r}'
        )
    return float(below)


def _beside(name: str) -> Any:
    """Load a module beside this file; artifacts of tables have some, those of texts none."""
    path = Path(__file__).resolve().with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ArtifactError(f"expected {path}, which belongs to the artifact")
    module = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the folder stays as it was released
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    return module


def _open_session(path: Path) -> Any:
    # Read at import, which else leaves a device id in the user's cache folder; `disable_telemetry_events` is too late.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = 1  # runs are side by side, see `Predictor._each`
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no public base class for its errors
        raise ArtifactError(f"{path}: expected an ONNX graph: {error}") from error


def _n_cores() -> int:
    """Count the cores this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ArtifactError(f"{path}: not JSON: {error}") from error
    found = config.get("format_version") if isinstance(config, dict) else None
    if found not in (FORMAT_VERSION, REJECTING_VERSION):
        known = f"{FORMAT_VERSION} or {REJECTING_VERSION}"
        raise ArtifactError(
            f"{path}: expected format_version {known}, got {found!r}; use the predict.py of that artifact"
        )
    return dict(config)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise ValueError(f"{twice!r} is given twice")
    return found


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no JSON number, or too large")
    return number


_ROW = json.JSONDecoder(object_pairs_hook=_object, parse_float=_number, parse_constant=_number)


def _read_rows(lines: Iterable[bytes], source: str, *, texts: bool = True) -> Iterator[dict[str, Any] | None]:
    """Yield the row of each line, None for a blank one; each must have a text, unless it is of a table."""
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            row = _ROW.decode(text) if text else None
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{source}:{number}: expected a JSON object: {error}") from error
        if not text:
            yield None
            continue
        if not isinstance(row, dict) or (texts and not isinstance(row.get("text"), str)):
            wanted = ' with a string under "text"' if texts else ""
            raise ArtifactError(f"{source}:{number}: expected a JSON object{wanted}")
        yield row


def answers_rows(predictor: Answering) -> bool:
    """Tell whether somebody answers rows of a table and not texts."""
    return bool(getattr(predictor, "is_table", False))


def answer_file(predictor: Answering, source: Path, target: Path | None) -> None:
    """Write a line for each line: the row with its answer, `label` and `probability`...; blank lines stay blank."""
    if target is not None and target.exists() and source.exists() and target.samefile(source):
        raise ArtifactError(f"{target}: expected another file than the one that is read")
    with ExitStack() as stack:
        rows = _read_rows(stack.enter_context(source.open("rb")), str(source), texts=not answers_rows(predictor))
        out = sys.stdout if target is None else stack.enter_context(_whole_file(target))
        n_before = 0
        while chunk := [row for _, row in zip(range(CHUNK_TEXTS), rows, strict=False)]:
            asked = [row if answers_rows(predictor) else row["text"] for row in chunk if row is not None]
            try:
                answers = iter(predictor.predict(asked))
            except WrongInput as error:
                lines = [line for line, row in enumerate(chunk, start=n_before + 1) if row is not None]
                raise ArtifactError(f"{source}:{lines[error.position]}: {error.message}") from error
            out.writelines("\n" if row is None else json.dumps({**row, **next(answers)}) + "\n" for row in chunk)
            n_before += len(chunk)


def read_arguments(predictor: Answering, texts: Sequence[str]) -> list[Any]:
    """Return what is asked on the command line: texts as they are, rows of a table read from JSON."""
    if not answers_rows(predictor):
        return list(texts)
    lines = (text.encode("utf-8", "surrogateescape") for text in texts)
    return [row for row in _read_rows(lines, "row", texts=False) if row is not None]


def read_file(predictor: Answering, source: Path) -> list[Any]:
    """Return all texts or rows of a JSONL file, blank lines apart."""
    with source.open("rb") as file:
        rows = list(_read_rows(file, str(source), texts=not answers_rows(predictor)))
    return [row if answers_rows(predictor) else row["text"] for row in rows if row is not None]


def in_short(answer: Any) -> str:
    """Write an answer for people."""
    if "label" in answer:
        label = "abstain" if answer.get("abstained") else answer["label"]
        return f"{label}\t{answer['probability']:.3f}"
    return f"{answer['value']:.6g} {answer['unit']}".rstrip()


@contextmanager
def _whole_file(target: Path) -> Iterator[TextIO]:
    """Open a file that gets its name when it is whole; what is no regular file, as a pipe, is written into directly."""
    if target.is_dir():
        raise ArtifactError(f"{target}: expected a file to write, got a folder")
    try:
        if target.exists() and not target.is_file():
            with target.open("w", encoding="utf-8") as out:
                yield out
            return
        # Under another name until it is whole: a file that stops in the middle looks like an answer to fewer rows.
        final = target.resolve()  # a link stays, and what it points to is replaced
        part = final.with_name(f".{uuid.uuid4().hex}.part")
        try:
            with part.open("x", encoding="utf-8") as out:
                yield out
            part.replace(final)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ArtifactError(f"{target}: cannot be written: {error.strerror}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description="Answer with this released student.")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts; default: the lines of standard input")
    parser.add_argument(
        "--in", dest="source", type=Path, metavar="FILE.jsonl", help='rows with their text under "text"'
    )
    parser.add_argument("--out", dest="target", type=Path, metavar="FILE.jsonl", help="default: standard output")
    parser.add_argument("--json", action="store_true", help="print a JSON object a text")
    parser.add_argument("--explain", action="store_true", help="of a table: say why")
    options = parser.parse_args(arguments)
    try:
        predictor = Predictor(Path(__file__).resolve().parent)
        if options.source is not None:
            answer_file(predictor, options.source, options.target)
            return 0
        texts = options.texts or [line.rstrip("\r\n") for line in sys.stdin]
        asked = read_arguments(predictor, texts)
        if options.explain:
            for explanation in predictor.explain(asked):
                print(json.dumps(explanation) if options.json else explanation["summary"])
            return 0
        for row, answer in zip(asked, predictor.predict(asked), strict=True):
            line = json.dumps({**(row if predictor.is_table else {"text": row}), **answer})
            print(line if options.json else in_short(answer))
    except (ArtifactError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
