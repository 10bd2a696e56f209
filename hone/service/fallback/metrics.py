"""The metrics of fallbacks, with their units and buckets."""

from prometheus_client import CollectorRegistry, Counter, Histogram

_MODEL = ("model", "version")
SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2)


class FallbackFamilies:
    """All metrics of fallbacks, in the service's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, documentation: str, *more: str) -> Counter:
            return Counter(name, documentation, (*_MODEL, *more), registry=registry)

        self.texts = counter(
            "hone_fallback_texts_total",
            "Texts below the threshold, by what became of asking the prompt.",
            "outcome",
        )
        self.seconds = Histogram(
            "hone_fallback_duration_seconds",
            "A call to the prompt, by how it ended; waiting for a place left out.",
            (*_MODEL, "outcome"),
            buckets=SECONDS,
            registry=registry,
        )
        self.tokens = counter(
            "hone_fallback_tokens_total",
            "Tokens of calls to the prompt: of prompts (cached ones too), and of answers.",
            "kind",
        )
        self.dollars = counter(
            "hone_fallback_dollars_total",
            "What the calls to the prompt cost, in US dollars.",
            "price_model",
        )
        self.unpriced = counter(
            "hone_fallback_unpriced_calls_total",
            "Answered calls to the prompt whose price is not known.",
        )
