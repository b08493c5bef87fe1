"""How large the report of a build of 10,000 rows is, and how soon a browser can use it.

    python -m benchmarks.report --data ../data --out ../report_benchmark

Builds a small student from 10,000 labelled rows, without a teacher, then opens the report from disk in a headless
Chromium, each time in a new context. Rows are those of two public sets, whose labels are joined, since one has 5,000
(folders of texts as `benchmarks.make_task` reads them). Interactive is the end of the load event or of the last task of
over 50 ms, whichever is later; then the pointer is moved over the data map until it shows a text. Times are those of
the page's own clock; on a busy machine they are the neighbours' too, so the processor time of the page's main thread is
shown beside them.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SETS = ("snips_intent+trec6", "banking77+trec6")
N_ROWS = 10_000
N_OPENED = 10
MOST_MB, MOST_S = 6.0, 2.0
WATCH = """
window.lastLong = 0;
new PerformanceObserver((list) => {
  for (const task of list.getEntries()) window.lastLong = Math.max(window.lastLong, task.startTime + task.duration);
}).observe({ type: "longtask", buffered: true });
"""


class Opened(NamedTuple):
    """One opening of the page."""

    interactive_s: float
    answer_ms: float
    """From a move of the pointer to the text of the point under it."""
    processor_s: float
    """Of the main thread, until then."""


def make_task(data: Path, sets: Sequence[str], folder: Path, n_rows: int) -> None:
    """Write a task that is trained on rows of some sets; where they have fewer, it is as large as they are."""
    metas = [json.loads((data / name / "meta.json").read_text(encoding="utf-8")) for name in sets]
    labels = [label for meta in metas for label in meta["labels"]]
    described = {label: text for meta in metas for label, text in meta.get("label_descriptions", {}).items()}
    folder.mkdir(parents=True)
    for file in ("train", "test"):
        texts = ((data / name / f"{file}.jsonl").read_text(encoding="utf-8") for name in sets)
        rows = [line for text in texts for line in text.splitlines()]
        random.Random(0).shuffle(rows)
        (folder / f"{file}.jsonl").write_text("\n".join(rows[:n_rows]) + "\n", encoding="utf-8")
    spec: dict[str, Any] = {
        "name": folder.name,
        "kind": "text-classification",
        "description": "Rows of a public set, to measure the report.",
        "labels": [{"name": label, "description": described.get(label) or label} for label in labels],
        "data": {"train": "train.jsonl", "holdout": "test.jsonl"},
        "synthesis": {"strategies": []},
        "augmentation": {"strategies": []},
        "labelling": {"ask_directly": 0},
        "curation": [],
        "students": ["static-embedding"],
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")


def build(folder: Path, outputs: Path) -> Path:
    """Build a task, and return its report."""
    command = [sys.executable, "-m", "factory", "build", str(folder), "--outputs", str(outputs)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return max((outputs / folder.name / "release").glob("*/report.html"), key=lambda path: path.stat().st_mtime)


def open_report(browser: "Browser", report: Path) -> Opened:
    """Open the report as a person would, and point at the map."""
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(WATCH)
    devtools = context.new_cdp_session(page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(report.as_uri())
    page.wait_for_timeout(300)  # a task that begins after loading would be one too
    loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    interactive = max(loaded, page.evaluate("window.lastLong"))
    spent = {one["name"]: one["value"] for one in devtools.send("Performance.getMetrics")["metrics"]}["TaskDuration"]
    answer = page.evaluate(ASK)
    context.close()
    return Opened(interactive / 1000, answer, spent)


ASK = """
() => {
  const svg = document.querySelector(".plane svg"), said = document.querySelector(".said");
  const mark = svg.querySelector('[class*="_marks"] path').getBoundingClientRect(), before = said.textContent;
  const start = performance.now();
  const at = { clientX: mark.x + mark.width / 2, clientY: mark.y + mark.height / 2, bubbles: true };
  svg.dispatchEvent(new PointerEvent("pointermove", at));
  if (said.textContent === before) throw new Error("the map says nothing");
  return performance.now() - start;
}
"""


def measure(report: Path, n_opened: int) -> list[Opened]:
    """Open a report so many times; the first, which also starts the browser's caches, does not count."""
    from playwright.sync_api import sync_playwright

    program = os.environ.get("FACTORY_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        opened = [open_report(browser, report) for _ in range(n_opened + 1)][1:]
        browser.close()
    return opened


def take_pictures(report: Path, folder: Path) -> None:
    """Save what a person sees: the first screen in light, in dark and on a phone, and the data map."""
    from playwright.sync_api import sync_playwright

    views = {"light": ("light", 1280, 800), "dark": ("dark", 1280, 800), "phone": ("light", 390, 844)}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("FACTORY_CHROMIUM") or shutil.which("chromium")
        )
        for name, (scheme, width, height) in views.items():
            size: Any = {"width": width, "height": height}
            page = browser.new_page(color_scheme="dark" if scheme == "dark" else "light", viewport=size)
            page.goto(report.as_uri())
            page.screenshot(path=folder / f"report-{name}.png")
            if name in ("light", "dark"):
                page.set_viewport_size({"width": 1000, "height": 660})
                page.evaluate(ASK)
                page.evaluate("document.querySelector('#map').scrollIntoView()")
                page.screenshot(path=folder / f"report-map-{name}.png")
        page = browser.new_page(viewport={"width": 794, "height": 1123})  # A4
        page.goto(report.as_uri())
        page.emulate_media(media="print")
        page.screenshot(path=folder / "report-print.png")
        browser.close()


def line(name: str, report: Path, opened: Sequence[Opened]) -> str:
    """Write a row of the table: medians, and the range."""
    size = report.stat().st_size / 1e6
    parts = [
        f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
        for values, digits in zip(zip(*opened, strict=True), (2, 1, 2), strict=True)
    ]
    return f"| {name} | {size:.2f} | {' | '.join(parts)} |"


def main() -> int:
    """Build, measure, print a table; 1 where a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of public sets")
    parser.add_argument("--out", type=Path, required=True, help="where task folders and outputs go")
    parser.add_argument("--sets", nargs="+", default=SETS, help="joined by +")
    parser.add_argument("--rows", type=int, default=N_ROWS)
    parser.add_argument("--opened", type=int, default=N_OPENED)
    parser.add_argument("--pictures", type=Path, help="a folder for pictures of the first report")
    asked = parser.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n")
    print("| set | size, MB | interactive, s | answer of the map, ms | processor, s |\n|---|---|---|---|---|")
    is_met = True
    for name in asked.sets:
        folder = asked.out / name.replace("+", "_")
        if not folder.is_dir():
            make_task(asked.data, name.split("+"), folder, asked.rows)
        report = build(folder, asked.out / "outputs")
        opened = measure(report, asked.opened)
        print(line(name, report, opened), flush=True)
        if asked.pictures and name == asked.sets[0]:
            take_pictures(report, asked.pictures)
        is_met &= report.stat().st_size <= MOST_MB * 1e6
        is_met &= statistics.median(one.interactive_s for one in opened) <= MOST_S
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
