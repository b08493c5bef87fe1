"""What Prometheus reads at /metrics."""

from collections import Counter as Tally
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from factory.release.predict import Answer
from factory.serving.http.live import Opened

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.3, 2.5, 5, 10, 30)
TEXTS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counts of one server. Label values are routes, statuses and the model's labels: nothing a client can invent."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self._requests = Counter("factory_requests", "Requests.", ["route", "status"], registry=registry)
        self._seconds = Histogram(
            "factory_request_seconds",
            "From the head of a request to its answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._answers = Counter("factory_answers", "Texts answered.", ["version", "label", "tier"], registry=registry)
        self._batches = Histogram("factory_batch_texts", "Texts in a run.", buckets=TEXTS, registry=registry)
        self.waiting = Gauge("factory_waiting_texts", "Texts that no run has taken yet.", registry=registry)
        self._version = Gauge("factory_model_version", "The version that answers.", ["name"], registry=registry)
        self._switches = Counter("factory_switches", "Attempts to switch.", ["outcome"], registry=registry)
        self._unlogged = Counter("factory_unlogged_texts", "Texts the text log lost.", registry=registry)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def answers(self, version: int, answers: Sequence[Answer]) -> None:
        """Count answers by label and by the tier of a cascade that gave them."""
        tally = Tally((answer.get("label", "number"), str(answer.get("tier", "student"))) for answer in answers)
        for (label, tier), n_texts in tally.items():
            self._answers.labels(str(version), label, tier).inc(n_texts)

    def batch(self, n_texts: int) -> None:
        """Count a run of the model."""
        self._batches.observe(n_texts)

    def switch(self, outcome: str, opened: Opened) -> None:
        """Count an attempt to switch and note what answers after it."""
        self._switches.labels(outcome).inc()
        self.serves(opened)

    def serves(self, opened: Opened) -> None:
        """Note what answers."""
        self._version.labels(opened.name).set(opened.version)

    def unlogged(self, n_texts: int) -> None:
        """Count texts that could not be written to the text log."""
        self._unlogged.inc(n_texts)

    def page(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self._registry)
