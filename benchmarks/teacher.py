"""The teacher's engine beside its peers, in one run: speed, what is asked twice, and what a bad day costs.

python -m benchmarks.teacher                       everything; installs the peers first, each in its own environment
python -m benchmarks.teacher --only resume         one section
python -m benchmarks.teacher --peers none          the factory and the two plain loops alone
python -m benchmarks.teacher --scale 0.1           a tenth of the calls, to try it out
python -m benchmarks.teacher --json                all figures of every run

Everybody asks the same local stub server (`benchmarks.stub_server`), which has a process of its own. Seconds are those
of the job without imports; processor time is that of the whole process and its children. The factory runs with
everything on; its peers with their caches on and the settings that suit them best (`benchmarks/peers`).
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from benchmarks import embedded as llama
from benchmarks.peers.peer_job import ANSWERS_FILE, Job
from benchmarks.stub_server import Settings, StubServer
from factory.teacher.llama_server import Settings as LlamaSettings

ROOT = Path(__file__).parents[1]
INSTALL_LIMIT_S = 1200.0
RESUME_LIMIT_S = 90.0
"""For what takes seconds when it works: whoever needs longer hangs."""
POLL_S = 0.01
BEAT_S = 10.0
"""How often a long run says that it is alive."""
NOTE_CHARS = 200
FACTORY = "factory"
NOT_MEASURED = "–"


@dataclass(frozen=True)
class Contender:
    """Somebody who makes the calls; `script` is a module of `benchmarks.peers`."""

    name: str
    script: str
    requirements: tuple[str, ...] = ()
    """Installed into an environment of its own; none: it runs in ours."""
    remembers: bool = True
    """Whether it keeps anything between two runs."""
    takes_schema: bool = True
    """Whether it can ask for JSON of a schema in a way the server understands."""


CONTENDERS = (
    Contender(FACTORY, "factory_run"),
    Contender("openai loop", "openai_run", remembers=False),
    Contender("aiohttp floor", "aiohttp_run", remembers=False),
    Contender("curator", "curator_run", ("bespokelabs-curator==0.1.31",)),
    Contender("data-designer", "data_designer_run", ("data-designer>=0.9.6",)),
    # It forgets to require the middle two, and knows no newer client than the last.
    Contender(
        "distilabel",
        "distilabel_run",
        ("distilabel[openai]==1.5.3", "requests", "beautifulsoup4", "openai<2"),
        takes_schema=False,
    ),
)
PEERS = tuple(contender.name for contender in CONTENDERS if contender.requirements)


@dataclass(frozen=True)
class Run:
    """What one process did."""

    what: str
    contender: str
    figures: Mapping[str, float]
    """What it says of itself, see `peer_job.measure`; empty when it failed."""
    server: Mapping[str, Any]
    """What the server says, see `Stub.stats`."""
    error: str = ""


@dataclass(frozen=True)
class Line:
    """One line of a table."""

    what: str
    must_reach: str
    cells: Mapping[str, str]
    has_reached: bool | None
    """Whether the factory has; None when that was not measured, or not at full size."""


class Unavailable(Exception):
    """A peer cannot be installed."""


class Bench:
    """What the sections share: the contenders, the servers, the folders, and a record of every run."""

    def __init__(self, contenders: Sequence[Contender], folder: Path, options: argparse.Namespace) -> None:
        self.contenders = list(contenders)
        self.environments: Path = options.environments.resolve()
        self.pythons: dict[str, Path] = {}
        self.folder = folder
        self.repeat: int = options.repeat
        self.scale: float = options.scale
        self.limit_s: float = options.time_limit
        self.runs: list[Run] = []
        self.notes: list[str] = []
        self._servers = ExitStack()
        self.stub = self.another_stub()

    def another_stub(self) -> StubServer:
        """Start a server; `close` ends it."""
        return self._servers.enter_context(StubServer())

    def close(self) -> None:
        """End the servers."""
        self._servers.close()

    def install(self) -> None:
        """Make every contender's environment; leave out, with a note, whose cannot be made. Safe to call twice."""
        for contender in list(self.contenders):
            try:
                self.pythons[contender.name] = python_of(contender, self.environments)
            except Unavailable as error:
                self.note(f"{contender.name}: left out, cannot be installed: {error}")
                self.contenders.remove(contender)

    def note(self, text: str) -> None:
        """Keep something that belongs under the tables."""
        if text not in self.notes:
            self.notes.append(text)

    def n(self, calls: int) -> int:
        """Return how many calls to make of those a full run makes."""
        return max(20, round(calls * self.scale))

    @property
    def factory(self) -> list[Contender]:
        """The factory alone."""
        return [contender for contender in self.contenders if contender.name == FACTORY]

    @property
    def rememberers(self) -> list[Contender]:
        """Those who keep anything between two runs."""
        return [contender for contender in self.contenders if contender.remembers]

    def new_folder(self, contender: Contender) -> Path:
        """Return a work folder nobody has used."""
        return Path(tempfile.mkdtemp(prefix=f"{contender.script}-", dir=self.folder))

    def start(self, contender: Contender, job: Job) -> subprocess.Popen[bytes]:
        """Start a contender in a process group of its own; `end` it."""
        job.folder.mkdir(parents=True, exist_ok=True)
        home = self.folder / "home" / contender.script
        home.mkdir(parents=True, exist_ok=True)
        command = [str(self.pythons[contender.name]), "-m", f"benchmarks.peers.{contender.script}", *job.arguments()]
        with (job.folder / "report.json").open("wb") as out, (job.folder / "stderr.log").open("wb") as err:
            return subprocess.Popen(
                command,
                cwd=job.folder,
                env=child_environment(home),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def run(
        self,
        what: str,
        contender: Contender,
        job: Job,
        *,
        limit_s: float | None = None,
        asked: StubServer | None = None,
    ) -> Run:
        """Let a contender do a job to its end, or to the time limit.

        Args:
            what: For the record.
            contender: Who.
            job: What.
            limit_s: Of the whole process, start and end included; None for the default.
            asked: The server whose word counts; None for the usual one.

        Returns:
            What came out; a failure is a run with an `error`.
        """
        limit_s = limit_s or self.limit_s
        process = self.start(contender, job)
        error = ""
        try:
            code = self._wait(what, contender, process, limit_s)
            if code:
                error = f"ends with {code}: {_last_line(job.folder / 'stderr.log')}"
        except subprocess.TimeoutExpired:
            error = f"not done after {limit_s:.0f} s"
        finally:
            end(process)
        server = (asked or self.stub).stats()
        figures = {} if error else _report(job.folder / "report.json")
        done = Run(what, contender.name, figures, server, error)
        self.record(done)
        return done

    def _wait(self, what: str, contender: Contender, process: subprocess.Popen[bytes], limit_s: float) -> int:
        deadline = time.monotonic() + limit_s
        while True:
            try:
                return process.wait(min(BEAT_S, max(0.0, deadline - time.monotonic())))
            except subprocess.TimeoutExpired:
                if time.monotonic() >= deadline:
                    raise
                progress(f"{what}: {contender.name}: at work")

    def record(self, done: Run) -> None:
        """Keep a run and tell whoever waits."""
        self.runs.append(done)
        if done.error:
            self.note(f"{done.contender}: {done.what}: {done.error}")
        if done.figures.get("wrong_rows"):
            self.note(f"{done.contender}: {done.what}: {done.figures['wrong_rows']} answers belong to other rows")
        took = done.error or f"{done.figures['wall_s']:.2f} s, {done.figures['rows']:,} rows"
        progress(f"{done.what}: {done.contender}: {took}, {done.server['calls']:,} calls")

    def timed(self, what: str, settings: Settings, job: Job) -> dict[str, list[Run]]:
        """Let everybody do a job several times, in turns, so that a busy minute of the machine hits all alike.

        Args:
            what: For the record.
            settings: Of the server, for each run anew.
            job: The folder is where each run gets one of its own.

        Returns:
            The runs of each; who fails once is not asked again.
        """
        runs: dict[str, list[Run]] = {}
        for _ in range(self.repeat):
            for contender in self.contenders:
                mine = runs.setdefault(contender.name, [])
                if any(one.error for one in mine):
                    continue
                folder = self.new_folder(contender)
                self.stub.reset(settings)
                mine.append(self.run(what, contender, replace(job, folder=folder)))
                shutil.rmtree(folder, ignore_errors=True)
        return runs

    def line(self, what: str, must_reach: str, cells: Mapping[str, str], *, has_reached: bool | None) -> Line:
        """Make a line of a table; what is not measured at full size reaches nothing."""
        return Line(what, must_reach, cells, has_reached if self.scale == 1 else None)


# Throughput


def throughput(bench: Bench) -> list[Line]:
    """Measure how fast calls are made, what they cost the processor, and how fast stored replies come back."""
    bench.install()
    latency = Settings(latency_ms=50)
    lines = []
    for calls, in_flight, limit_s, ideal_s in ((2_000, 64, 2.4, 1.56), (10_000, 256, 8.0, 1.95)):
        job = _job(bench, calls=calls, in_flight=in_flight)
        what = f"{job.calls:,} calls, {in_flight} in flight, 50 ms"
        runs = bench.timed(what, latency, job)
        lines.append(_seconds_line(bench, what, f"{limit_s:g} s (ideal {ideal_s:g})", runs, job, limit_s))
    cpu = {name: _median(mine, "cpu_s") for name, mine in runs.items()}
    cells = {name: _cell(mine, lambda s: f"{1000 * s / job.calls:.2f} ms", "cpu_s") for name, mine in runs.items()}
    reached = _is_within(cpu.get(FACTORY), 1.3 * job.calls / 1000)
    lines.append(bench.line(f"processor time a call, of the {job.calls:,}", "1.3 ms", cells, has_reached=reached))
    return [*lines, _memory_line(bench), _cached_line(bench)]


def _memory_line(bench: Bench) -> Line:
    job = _job(bench, calls=100_000, in_flight=256)
    what = f"peak memory above start, {job.calls:,} calls"
    cells, mb = {}, None
    for contender in bench.factory:
        bench.stub.reset(Settings(latency_ms=5))
        folder = bench.new_folder(contender)
        done = bench.run(what, contender, replace(job, folder=folder))
        shutil.rmtree(folder, ignore_errors=True)
        if done.figures:
            mb = done.figures["peak_mb"] - done.figures["start_mb"]
        cells[contender.name] = "fails" if mb is None else f"{mb:.0f} MB"
    return bench.line(what, "at most 300 MB", cells, has_reached=_is_within(mb, 300))


def _cached_line(bench: Bench) -> Line:
    job = _job(bench, calls=10_000, in_flight=256)
    what = f"everything cached, {job.calls:,} rows"
    runs: list[Run] = []
    for contender in bench.factory:
        job = replace(job, folder=bench.new_folder(contender))
        bench.stub.reset(Settings())
        first = bench.run(f"{what}: the first time", contender, job)
        for _ in range(0 if first.error else bench.repeat):
            bench.stub.reset(Settings())
            runs.append(bench.run(what, contender, job))
    calls = sum(one.server["calls"] for one in runs)
    cell = _seconds(runs, job) + (f", {calls} calls" if calls else "")
    reached = _is_within(_median(runs, "wall_s"), 2.0) if runs and not calls else False
    return bench.line(what, "2 s, no call", {FACTORY: cell}, has_reached=reached)


# Resume


def resume(bench: Bench) -> list[Line]:
    """Measure what is asked twice after a crash, after an addition and after a change."""
    bench.install()
    return [_killed_line(bench), _more_line(bench), *_changed_lines(bench)]


def _killed_line(bench: Bench) -> Line:
    job = _job(bench, calls=1_000, in_flight=64)
    what = f"`kill -9` in the middle of {job.calls:,} calls, same command again: calls in all"
    most = job.calls + job.in_flight
    cells, calls = {}, {}
    for contender in bench.rememberers:
        bench.stub.reset(Settings(latency_ms=50))
        mine = replace(job, folder=bench.new_folder(contender))
        n_first = _kill_midway(bench, contender, mine)
        done = bench.run(what, contender, mine, limit_s=min(RESUME_LIMIT_S, bench.limit_s))
        calls[contender.name] = done.server["calls"]
        if done.error:
            cells[contender.name] = f"never ends ({n_first:,} before, {done.server['calls'] - n_first:,} after)"
        else:
            cells[contender.name] = f"{done.server['calls']:,}{_lost(job.calls - int(done.figures['rows']))}"
    # A cell that is a bare number: it ended, and no row is missing.
    reached = cells[FACTORY].replace(",", "").isdigit() and _is_within(calls[FACTORY], most)
    return bench.line(what, f"at most {most:,}", cells, has_reached=reached)


def _kill_midway(bench: Bench, contender: Contender, job: Job) -> int:
    """Start a job, kill it when half of its calls are made, and return how many those were."""
    process = bench.start(contender, job)
    deadline = time.monotonic() + bench.limit_s
    try:
        while bench.stub.stats()["calls"] < job.calls / 2 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(POLL_S)
    finally:
        end(process)
    while bench.stub.stats()["in_flight"] and time.monotonic() < deadline:
        time.sleep(POLL_S)  # the server answers nobody
    calls: int = bench.stub.stats()["calls"]
    progress(f"killed after {calls:,} calls: {contender.name}")
    if calls >= job.calls:
        bench.note(f"{contender.name}: had made all its calls when it was killed")
    return calls


def _more_line(bench: Bench) -> Line:
    job = _job(bench, calls=500, in_flight=64)
    what = f"finished job of {job.calls:,}, 10 rows more: calls"
    more = replace(job, calls=job.calls + 10)
    cells, calls = {}, {}
    for contender in bench.rememberers:
        folder = bench.new_folder(contender)
        bench.stub.reset(Settings(latency_ms=50))
        first = bench.run(f"{what}: the first time", contender, replace(job, folder=folder))
        if first.error:
            cells[contender.name] = "fails"
            continue
        bench.stub.reset(Settings(latency_ms=50))
        limit_s = min(RESUME_LIMIT_S, bench.limit_s)
        done = bench.run(what, contender, replace(more, folder=folder), limit_s=limit_s)
        calls[contender.name] = done.server["calls"]
        lost = _lost(more.calls - int(done.figures["rows"])) if done.figures else ", fails"
        cells[contender.name] = f"{done.server['calls']:,}{lost}"
    reached = calls.get(FACTORY) == 10 and cells[FACTORY] == "10"
    return bench.line(what, "exactly 10", cells, has_reached=reached)


def _changed_lines(bench: Bench) -> list[Line]:
    other = bench.another_stub()
    base = _job(bench, calls=200, in_flight=64)
    stale: dict[str, dict[str, str]] = {}
    for contender in bench.rememberers:
        fields = "answer" if contender.takes_schema else ""
        job = replace(base, folder=bench.new_folder(contender), fields=fields)
        changes = {
            "system prompt": replace(job, system="You write reviews of films, in few words."),
            "model": replace(job, model="gpt-4o"),
            "schema": replace(job, fields="answer,note"),
            "endpoint": replace(job, url=other.url),
        }
        if not contender.takes_schema:
            del changes["schema"]
        bench.stub.reset()
        first = bench.run("before any change", contender, job)
        answers = [_answers(first, job)]
        for aspect, changed in changes.items():
            what = f"only the {aspect} changed: stale answers of {base.calls}"
            cells = stale.setdefault(what, {})
            if first.error:
                cells[contender.name] = "fails"
                continue
            bench.stub.reset()
            other.reset()
            limit_s, asked = min(RESUME_LIMIT_S, bench.limit_s), other if changed.url == other.url else bench.stub
            done = bench.run(what, contender, changed, limit_s=limit_s, asked=asked)
            answers.append(_answers(done, changed))
            n_stale = sum(any(old.get(key) == new for old in answers[:-1]) for key, new in answers[-1].items())
            lost = _lost(base.calls - len(answers[-1])) if not done.error else ", fails"
            cells[contender.name] = f"{n_stale}{lost}"
    return [
        bench.line(what, "0", cells, has_reached=cells[FACTORY] == "0" if FACTORY in cells else None)
        for what, cells in stale.items()
    ]


# Faults


def faults(bench: Bench) -> list[Line]:
    """Measure what a busy server and bad requests cost."""
    bench.install()
    job = _job(bench, calls=500, in_flight=50)
    what = f"{job.calls} calls, 5% scattered 429 with `Retry-After: 1`"
    runs = bench.timed(what, Settings(latency_ms=50, busy_ratio=0.05, retry_after_s=1), job)
    return [_seconds_line(bench, what, "4 s", runs, job, 4.0), _bad_line(bench)]


def _bad_line(bench: Bench) -> Line:
    job = _job(bench, calls=500, in_flight=50)
    every = 50
    what = f"{job.calls} calls, 2% permanent 400s: rows lost beside them, extra calls"
    good = {str(number) for number in job.ids if number % every}
    cells = {}
    for contender in bench.contenders:
        bench.stub.reset(Settings(latency_ms=50, refuse_every=every))
        mine = replace(job, folder=bench.new_folder(contender))
        done = bench.run(what, contender, mine)
        lost = len(good - _answers(done, mine).keys())
        cells[contender.name] = f"{lost}, {max(0, done.server['calls'] - job.calls)}" + (
            " (fails)" if done.error else ""
        )
    return bench.line(what, "0, 0", cells, has_reached=cells[FACTORY] == "0, 0" if FACTORY in cells else None)


def embedded(bench: Bench) -> list[Line]:
    """Sweep the settings of llama.cpp; see `benchmarks.embedded`."""
    found = llama.medians(llama.sweep(bench.repeat))
    bench.note(f"Settings of llama.cpp, the shipped one in bold:\n\n{llama.table(found)}\n")
    written = {settings: speed.written_per_s for settings, speed in found.items()}
    labels = {settings: speed.labels_per_s for settings, speed in found.items()}
    return [
        _share_line(bench, "embedded teacher, tokens written/s", written),
        _share_line(bench, "embedded teacher, labels/s", labels),
    ]


def _share_line(bench: Bench, what: str, figures: Mapping[LlamaSettings, float]) -> Line:
    best = max(figures, key=lambda settings: figures[settings])
    share = figures[llama.OURS] / figures[best]
    cell = f"{figures[llama.OURS]:.1f}, {share:.2f} of the best ({llama.name_of(best)})"
    return bench.line(what, "0.95 of the best", {FACTORY: cell}, has_reached=share >= 0.95)


SECTIONS: dict[str, Callable[[Bench], list[Line]]] = {
    "throughput": throughput,
    "resume": resume,
    "faults": faults,
    "embedded": embedded,
}
"""To add a section: a function that measures, and a line here."""


# Cells


def _job(bench: Bench, *, calls: int, in_flight: int) -> Job:
    return Job(url=bench.stub.url, calls=bench.n(calls), in_flight=in_flight, folder=bench.folder)


def _seconds_line(
    bench: Bench, what: str, must_reach: str, runs: Mapping[str, Sequence[Run]], job: Job, limit_s: float
) -> Line:
    cells = {name: _seconds(mine, job) for name, mine in runs.items()}
    mine = runs.get(FACTORY, [])
    is_whole = bool(mine) and all(one.figures and one.figures["rows"] == job.calls for one in mine)
    reached = is_whole and _is_within(_median(mine, "wall_s"), limit_s)
    return bench.line(what, must_reach, cells, has_reached=reached)


def _seconds(runs: Sequence[Run], job: Job) -> str:
    n_lost = max((job.calls - int(one.figures["rows"]) for one in runs if one.figures), default=0)
    return _cell(runs, lambda seconds: f"{seconds:.2f} s{_lost(n_lost)}", "wall_s")


def _cell(runs: Sequence[Run], show: Callable[[float], str], figure: str) -> str:
    median = _median(runs, figure)
    return "fails" if median is None else show(median)


def _median(runs: Iterable[Run], figure: str) -> float | None:
    """Return the median of a figure, or None when a run failed."""
    values = [one.figures.get(figure) for one in runs]
    known = [value for value in values if value is not None]
    return statistics.median(known) if known and len(known) == len(values) else None


def _is_within(value: float | None, limit: float) -> bool:
    return value is not None and value <= limit


def _lost(n: int) -> str:
    return f", {n} rows lost" if n > 0 else ""


# Processes and environments


def child_environment(home: Path) -> dict[str, str]:
    """Return an environment in which nobody asks the network, reports home, or writes into the user's home."""
    return {
        **os.environ,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "PYTHONPATH": str(ROOT),
        "OPENAI_API_KEY": "none",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NEMO_TELEMETRY_ENABLED": "false",
        "TELEMETRY_ENABLED": "False",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a contender and every process it has started; one that has ended too."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def python_of(contender: Contender, environments: Path) -> Path:
    """Return the interpreter of a contender's environment, which is made when it is not there.

    Args:
        contender: Whose.
        environments: Where environments are kept between runs.

    Returns:
        Path of the interpreter.

    Raises:
        Unavailable: What it needs cannot be installed.
    """
    if not contender.requirements:
        return Path(sys.executable)
    wanted = f"{platform.python_version()} {contender.requirements}"
    folder = environments / f"{contender.name}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"
    python, marker = folder / "bin" / "python", folder / "installed"
    if marker.is_file():
        return python
    progress(f"installing {contender.name} into {folder}")
    shutil.rmtree(folder, ignore_errors=True)  # of an installation that was interrupted
    _command(sys.executable, "-m", "venv", str(folder))
    _command(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *contender.requirements)
    marker.touch()
    return python


def _command(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"not done after {INSTALL_LIMIT_S:.0f} s") from error
    if done.returncode:
        raise Unavailable(done.stderr.strip().rpartition("\n")[2][:NOTE_CHARS])


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip()[:NOTE_CHARS] for line in reversed(lines) if line.strip()), "says nothing")


def _answers(done: Run, job: Job) -> dict[str, str]:
    """Read the answers a run ended with, by id."""
    if done.error:
        return {}
    answers: dict[str, str] = json.loads((job.folder / ANSWERS_FILE).read_text(encoding="utf-8"))
    return answers


def _report(path: Path) -> dict[str, float]:
    figures: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return figures


def progress(text: str) -> None:
    """Tell whoever waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# Output


def table(lines: Sequence[Line], columns: Sequence[str]) -> str:
    """Write a section as a markdown table."""
    rows = [["what", "must reach", *columns], ["---"] * (2 + len(columns))]
    for line in lines:
        cells = {name: line.cells.get(name, NOT_MEASURED) for name in columns}
        if line.has_reached is False:
            cells[FACTORY] += " (missed)"
        rows.append([line.what, line.must_reach, *cells.values()])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(SECTIONS), help="one section; default: all")
    parser.add_argument("--peers", nargs="+", default=["all"], choices=["none", "all", *PEERS], metavar="NAME")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="of what is timed; default: 3")
    parser.add_argument("--scale", type=float, default=1.0, metavar="SHARE", help="of the calls; default: 1")
    parser.add_argument("--time-limit", type=float, default=300.0, metavar="S", help="of one process; default: 300")
    parser.add_argument(
        "--environments",
        type=Path,
        metavar="FOLDER",
        default=user_cache_path("task-model-factory") / "peers",
        help="where the peers are installed, for the next time too; default: in the user's cache folder",
    )
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="keep what the runs write; default: thrown away")
    parser.add_argument("--json", action="store_true", help="print every run instead of the tables")
    return parser.parse_args()


def main() -> None:
    """Run the sections and print their tables."""
    options = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that every process is ended
    chosen = set(PEERS) if "all" in options.peers else set(options.peers)
    contenders = [one for one in CONTENDERS if not one.requirements or one.name in chosen]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch) if options.work is None else options.work.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(contenders, folder, options)
        try:
            names = [options.only] if options.only else list(SECTIONS)
            sections = {name: SECTIONS[name](bench) for name in names}
        finally:
            bench.close()
    where = f"{os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    if options.json:
        runs = [asdict(one) for one in bench.runs]
        tables = {name: [asdict(line) for line in lines] for name, lines in sections.items()}
        found = {"where": where, "repeat": bench.repeat, "scale": bench.scale, "sections": tables, "runs": runs}
        print(json.dumps({**found, "notes": bench.notes}, indent=1))
        return
    columns = [contender.name for contender in CONTENDERS]
    for name, lines in sections.items():
        print(f"## {name.capitalize()}\n\n{table(lines, columns)}\n")
    print("\n".join(f"- {note}" for note in [f"Measured on {where}; medians of {bench.repeat} runs.", *bench.notes]))


if __name__ == "__main__":
    main()
