"""Every metric of the service, with its unit and its buckets.

A request that classifies (`/v1/classify`, completions, decisions) moves `hone_requests_total` by
exactly one, whatever becomes of it; one that is refused also moves `hone_rejections_total` by
exactly one. The four durations are observed once for each answered request.
"""

import platform
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

import prometheus_client as prometheus
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

import hone
from hone.models.engines import ONNXRUNTIME_VERSION
from hone.service.fallback.metrics import FallbackFamilies
from hone.service.generation_metrics import GenerationFamilies
from hone.service.savings import Savings
from hone.service.tickets import Ticket

Outcome = Literal["answered", "rejected", "failed", "cancelled"]
OUTCOMES: tuple[Outcome, ...] = ("answered", "rejected", "failed", "cancelled")

SECONDS = (
    0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0, 4.0,
    8.0, 16.0, 32.0,
)  # fmt: skip
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

_MODEL = ("model", "version")
NO_MODEL = ("", "")
"""The labels of a request that was refused before its model was known."""


class Metrics:
    """All metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.queues: dict[tuple[str, str], Callable[[], int]] = {}
        counter = self._counter
        self.requests = counter(
            "hone_requests_total", "Classification requests.", (*_MODEL, "outcome")
        )
        self.rejections = counter(
            "hone_rejections_total", "Requests and connections refused.", ("reason",)
        )
        self.texts = counter("hone_texts_total", "Texts classified.", _MODEL)
        self.prompt_tokens = counter(
            "hone_prompt_tokens_total", "Tokens that our models read.", _MODEL
        )
        self._savings(counter)
        self._durations(self.registry)
        self.fallback = FallbackFamilies(self.registry)
        self.batch_texts = Histogram(
            "hone_batch_texts", "Texts in a batch.", _MODEL, buckets=TEXTS, registry=self.registry
        )
        self.batch_padding = Histogram(
            "hone_batch_padding_ratio",
            "Share of a batch's tokens that is padding.",
            _MODEL,
            buckets=RATIOS,
            registry=self.registry,
        )
        self.queue_texts = Gauge(
            "hone_queue_texts", "Texts that wait now.", _MODEL, registry=self.registry
        )
        self._memory(self.registry)
        self._standing_facts()

    def _counter(self, name: str, documentation: str, labels: Iterable[str]) -> Counter:
        return Counter(name, documentation, labels, registry=self.registry)

    def _savings(self, counter: Callable[..., Counter]) -> None:
        """Make the metrics of what the baseline would have cost."""
        self.baseline_tokens = counter(
            "hone_baseline_tokens_total",
            "Prompt tokens that the baseline would have read for the same texts.",
            (*_MODEL, "method"),
        )
        self.baseline_completion_tokens = counter(
            "hone_baseline_completion_tokens_total",
            "Tokens of our causal models' answers, as the baseline would have counted them.",
            (*_MODEL, "method"),
        )
        self.tokens_saved = counter(
            "hone_tokens_saved_total",
            "Baseline's prompt tokens less ours, of requests where that is positive.",
            (*_MODEL, "method"),
        )
        self.tokens_lost = counter(
            "hone_tokens_lost_total",
            "Our prompt tokens less the baseline's, of requests where that is positive.",
            (*_MODEL, "method"),
        )
        self.dollars_saved = counter(
            "hone_dollars_saved_total",
            "What the baseline's calls would have cost (list price, no cache) less the fallback's, "
            "in US dollars, of requests where that is positive.",
            (*_MODEL, "method", "price_model"),
        )
        self.dollars_lost = counter(
            "hone_dollars_lost_total",
            "What the fallback's calls cost less what the baseline's would have, in US dollars, of "
            "requests where that is positive.",
            (*_MODEL, "method", "price_model"),
        )
        self.unpriced = counter(
            "hone_unpriced_requests_total",
            "Answered requests with a baseline, its price or the fallback's not known.",
            _MODEL,
        )

    def _memory(self, registry: CollectorRegistry) -> None:
        """Make the metrics of what is loaded."""
        self.loaded_models = Gauge(
            "hone_loaded_models", "Model versions in memory.", registry=registry
        )
        self.load_failures = self._counter(
            "hone_model_load_failures_total", "Versions that could not be loaded.", ("model",)
        )
        self.unloads = Counter(
            "hone_model_unloads_total",
            "Models taken out of memory to make room for others.",
            registry=registry,
        )

    def _durations(self, registry: CollectorRegistry) -> None:
        self.generation = GenerationFamilies(registry)

        def seconds(name: str, documentation: str) -> Histogram:
            return Histogram(name, documentation, _MODEL, buckets=SECONDS, registry=registry)

        self.request_seconds = seconds(
            "hone_request_duration_seconds", "From the whole body's arrival to the answer."
        )
        self.tokenization_seconds = seconds(
            "hone_tokenization_duration_seconds", "Tokenizing the texts of a request."
        )
        self.queue_seconds = seconds(
            "hone_queue_duration_seconds", "Waiting for an engine, tokenizing left out."
        )
        self.inference_seconds = seconds(
            "hone_inference_duration_seconds", "The batch in which a request's last text ran."
        )

    def _standing_facts(self) -> None:
        prometheus.ProcessCollector(registry=self.registry)
        build = Gauge(
            "hone_build_info",
            "Always 1; the labels say what runs here.",
            ("version", "python", "onnxruntime"),
            registry=self.registry,
        )
        build.labels(hone.__version__, platform.python_version(), ONNXRUNTIME_VERSION).set(1)

    def refuse(self, reason: str, labels: tuple[str, str] | None = NO_MODEL) -> None:
        """Count a refused request; with `labels` None, a connection that made none."""
        self.rejections.labels(reason).inc()
        if labels is not None:
            self.requests.labels(*labels, "rejected").inc()

    def exposition(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return prometheus.generate_latest(self.registry)


class ModelMetrics:
    """The metrics of one loaded version, their label sets looked up once."""

    def __init__(
        self,
        metrics: Metrics,
        model: str,
        version: int,
        *,
        method: str | None,
        price_model: str | None,
    ) -> None:
        self._metrics = metrics
        self.labels = labels = (model, str(version))
        self.outcomes = {outcome: metrics.requests.labels(*labels, outcome) for outcome in OUTCOMES}
        self.texts = metrics.texts.labels(*labels)
        self.prompt_tokens = metrics.prompt_tokens.labels(*labels)
        self.request_seconds = metrics.request_seconds.labels(*labels)
        self.tokenization_seconds = metrics.tokenization_seconds.labels(*labels)
        self.queue_seconds = metrics.queue_seconds.labels(*labels)
        self.inference_seconds = metrics.inference_seconds.labels(*labels)
        self.batch_texts = metrics.batch_texts.labels(*labels)
        self.batch_padding = metrics.batch_padding.labels(*labels)
        self.dollars_saved: Counter | None = None
        if method is not None:
            self.baseline_tokens = metrics.baseline_tokens.labels(*labels, method)
            self.baseline_completion_tokens = partial(
                metrics.baseline_completion_tokens.labels, *labels, method
            )
            self.tokens_saved = metrics.tokens_saved.labels(*labels, method)
            self.tokens_lost = metrics.tokens_lost.labels(*labels, method)
            self.unpriced = metrics.unpriced.labels(*labels)
            if price_model is not None:
                self.dollars_saved = metrics.dollars_saved.labels(*labels, method, price_model)
                self.dollars_lost = metrics.dollars_lost.labels(*labels, method, price_model)

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Read the queue's length whenever the metrics are read."""
        self._length = length
        self._metrics.queues[self.labels] = length
        self._metrics.queue_texts.labels(*self.labels).set_function(length)

    def retire(self) -> None:
        """Drop the gauge of a version that is no longer in memory; its counters stay."""
        if self._metrics.queues.get(self.labels) == self._length:
            del self._metrics.queues[self.labels]
            self._metrics.queue_texts.remove(*self.labels)

    def answered(
        self, ticket: Ticket, *, arrived_at: float, ended_at: float, savings: Savings | None
    ) -> None:
        """Count one answered request; the times are `time.perf_counter` seconds."""
        last = ticket.last
        self.outcomes["answered"].inc()
        self.texts.inc(len(ticket.items))
        self.request_seconds.observe(ended_at - arrived_at)
        self.tokenization_seconds.observe(last.tokenization_s)
        queued_s = last.started_at - ticket.submitted_at - last.tokenization_s
        self.queue_seconds.observe(max(0.0, queued_s))
        self.inference_seconds.observe(last.ended_at - last.started_at)
        if savings is not None:
            self.count_savings(savings)

    def count_savings(self, savings: Savings) -> None:
        """Count what an answered request saved; the model has a baseline."""
        if savings.baseline_completion_tokens is not None:
            self.baseline_completion_tokens().inc(savings.baseline_completion_tokens)
        self.baseline_tokens.inc(savings.baseline_prompt_tokens)
        if savings.tokens_saved >= 0:
            self.tokens_saved.inc(savings.tokens_saved)
        else:
            self.tokens_lost.inc(-savings.tokens_saved)
        if savings.dollars is None or self.dollars_saved is None:
            self.unpriced.inc()
        elif savings.dollars >= 0:
            self.dollars_saved.inc(savings.dollars)
        else:
            self.dollars_lost.inc(-savings.dollars)
