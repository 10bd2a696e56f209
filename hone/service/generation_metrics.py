"""The metrics of causal models, with their units and buckets."""

import threading
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_MODEL = ("model", "version")
SECONDS = (
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0, 4.0, 8.0, 16.0,
    32.0, 64.0,
)  # fmt: skip


class GenerationFamilies:
    """All metrics of causal models, in the service's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.watched: dict[tuple[str, str], SequenceMetrics] = {}
        """Whose numbers the gauges of a version show."""
        self.lock = threading.Lock()
        self.completion_tokens = Counter(
            "hone_completion_tokens_total", "Tokens that our models said.", _MODEL,
            registry=registry,
        )  # fmt: skip
        self.reused_tokens = Counter(
            "hone_reused_prompt_tokens_total",
            "Prompt tokens that were known from an earlier prompt, and not read again.",
            _MODEL,
            registry=registry,
        )
        self.sequences = Counter("hone_sequences_total", "Completions that ended, by how.",
                                 (*_MODEL, "ended"), registry=registry)  # fmt: skip
        self.first_token_seconds = Histogram(
            "hone_time_to_first_token_seconds",
            "From a sequence's queueing to its first token.",
            _MODEL,
            buckets=SECONDS,
            registry=registry,
        )
        self.token_seconds = Histogram(
            "hone_time_per_output_token_seconds",
            "Time of a sequence after its first token, for each further token.",
            _MODEL,
            buckets=SECONDS,
            registry=registry,
        )
        self.running = Gauge(
            "hone_running_sequences", "Sequences that have a slot now.", _MODEL, registry=registry
        )
        self.waiting = Gauge(
            "hone_waiting_sequences", "Sequences that wait for one.", _MODEL, registry=registry
        )


class SequenceMetrics:
    """The metrics of one causal model's sequences, their label sets looked up once."""

    def __init__(self, families: GenerationFamilies, labels: tuple[str, str]) -> None:
        self._families = families
        self._labels = labels
        self.completion_tokens = families.completion_tokens.labels(*labels)
        self.reused_tokens = families.reused_tokens.labels(*labels)
        self.first_token_seconds = families.first_token_seconds.labels(*labels)
        self.token_seconds = families.token_seconds.labels(*labels)

    def watch(self, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Read the numbers of sequences whenever the metrics are read."""
        with self._families.lock:
            self._families.watched[self._labels] = self
            self._families.running.labels(*self._labels).set_function(running)
            self._families.waiting.labels(*self._labels).set_function(waiting)

    def retire(self) -> None:
        """Drop the gauges of a version that is no longer in memory; its counters stay.

        If it was loaded anew meanwhile, the gauges are that one's.
        """
        with self._families.lock:
            if self._families.watched.get(self._labels) is self:
                del self._families.watched[self._labels]
                self._families.running.remove(*self._labels)
                self._families.waiting.remove(*self._labels)

    def ended(self, how: str, *, completion_tokens: int, reused_tokens: int) -> None:
        """Count a sequence, `ended` by itself, `cancelled` by its client, or `failed`."""
        self._families.sequences.labels(*self._labels, how).inc()
        self.completion_tokens.inc(completion_tokens)
        self.reused_tokens.inc(reused_tokens)

    def paced(self, *, first_token_s: float, further_s: float, further_tokens: int) -> None:
        """Observe a sequence's times."""
        self.first_token_seconds.observe(first_token_s)
        if further_tokens > 0:
            self.token_seconds.observe(further_s / further_tokens)
