"""How long the review page takes from a key to the next row, in Chromium, with 10,000 rows.

    python -m benchmarks.review --rows 10000 --labels 7 --keys 200

Time runs from the `timeStamp` of the keydown event, which the browser sets when the key arrives, to the first task
after the frame that shows the next row. Every decision is saved meanwhile, as always. Rows are made up; no build is
needed.
"""

import argparse
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.queues import Queue
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from playwright.sync_api import Page

WORDS = "parcel refund order where when is my the a late broken again please money back shop open phone card".split()
WATCH = """
window.measured = [];
addEventListener("keydown", (event) => {
  const before = document.querySelector("#text").textContent;
  requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      const changed = document.querySelector("#text").textContent !== before;
      window.measured.push(changed ? performance.now() - event.timeStamp : NaN);
    };
    port2.postMessage(0);
  });
}, true);
"""


def serve(folder: Path, n_rows: int, n_labels: int, addresses: "Queue[str]") -> None:
    """Serve made-up rows until the process is ended."""
    from factory.labelling.decision_journal import DecisionJournal
    from factory.labelling.review_rows import ReviewRow
    from factory.records import row_id
    from factory.reviewing.desk import Desk
    from factory.reviewing.run import serve_review
    from factory.spec import Label, Spec

    rng = np.random.default_rng(0)
    names = [f"label_{number}" for number in range(n_labels)]
    spec = Spec(
        name="benchmark",
        kind="text-classification",
        description="Made-up rows.",
        labels=tuple(Label(name=name, description=name) for name in names),
    )
    rows = []
    for number in range(n_rows):
        text = f"{number} " + " ".join(rng.choice(WORDS, size=int(rng.integers(5, 60))))
        probabilities = dict(zip(names, rng.dirichlet(np.full(n_labels, 0.3)).tolist(), strict=True))
        votes = {voter: str(rng.choice(names)) for voter in ("label", "tfidf-linear", "sentence-linear")}
        rows.append(ReviewRow(row_id(text), text, votes, probabilities, votes["label"], "attributes"))
    journal = DecisionJournal(folder / "reviewed.jsonl", spec.label_names)
    desk = Desk(spec, rows, journal, by="benchmark", measured=frozenset())
    serve_review(desk, folder, 0, started=addresses.put)


def press(page: "Page", n_keys: int, pause_s: float) -> NDArray[np.float64]:
    """Decide on rows by key.

    Args:
        page: At its first row.
        n_keys: How many, of which a third accept, relabel and reject each.
        pause_s: Between one and the next.

    Returns:
        Milliseconds from each key to the next row, shape (n_keys,); NaN where the text did not change.
    """
    page.evaluate("window.measured.length = 0")
    for number in range(n_keys):
        page.keyboard.press(("Enter", "2", "x")[number % 3])
        time.sleep(pause_s)
    while page.evaluate("window.measured.length") < n_keys:
        time.sleep(0.05)
    return np.array(page.evaluate("window.measured"), dtype=np.float64)


def described(times: NDArray[np.float64], quantile: float) -> str:
    """Return a quantile with its bootstrap 95% interval."""
    rng = np.random.default_rng(0)
    drawn = np.quantile(rng.choice(times, size=(2000, len(times))), quantile, axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{np.quantile(times, quantile):.1f} ms ({low:.1f} to {high:.1f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Key to next row on the review page.")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--labels", type=int, default=7)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    options = parser.parse_args(arguments)
    from playwright.sync_api import sync_playwright

    context = multiprocessing.get_context("spawn")
    addresses: Queue[str] = context.Queue()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        began = time.perf_counter()
        server = context.Process(target=serve, args=(Path(folder), options.rows, options.labels, addresses))
        server.start()
        address = addresses.get(timeout=300)
        print(f"{options.rows:,} rows, {options.labels} labels: served after {time.perf_counter() - began:.1f} s")
        browser = playwright.chromium.launch(executable_path=options.chromium)
        page = browser.new_page()
        page.add_init_script(WATCH)
        began = time.perf_counter()
        page.goto(address)
        page.wait_for_selector("#row:not([hidden])", timeout=60_000)
        print(f"first row after {time.perf_counter() - began:.2f} s")
        for name, pause_s in (("a key every 200 ms", 0.2), ("keys without a pause", 0.0)):
            times = press(page, options.keys, pause_s)
            assert not np.isnan(times).any(), "a key did not bring another row"
            said = f"median {described(times, 0.5)}, p95 {described(times, 0.95)}, longest {times.max():.1f} ms"
            print(f"{name}, n={len(times)}: {said}")
        while page.inner_text("#saved") != "Saved":
            time.sleep(0.05)
        n_lines = len((Path(folder) / "reviewed.jsonl").read_text(encoding="utf-8").splitlines())
        print(f"{n_lines} decisions in the file of {2 * options.keys}")
        browser.close()
        server.terminate()
        server.join(timeout=30)


if __name__ == "__main__":
    main()
