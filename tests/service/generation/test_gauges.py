"""The gauges of a causal model's sequences, while one object of a version takes another's place."""

from prometheus_client import CollectorRegistry

from hone.service.generation_metrics import GenerationFamilies, SequenceMetrics

LABELS = ("support", "1")


def test_a_version_that_is_loaded_anew_keeps_its_gauges_when_the_old_object_goes() -> None:
    registry = CollectorRegistry()
    families = GenerationFamilies(registry)
    old, new = SequenceMetrics(families, LABELS), SequenceMetrics(families, LABELS)

    def shown() -> list[float | None]:
        labels = dict(zip(("model", "version"), LABELS, strict=True))
        names = ("hone_running_sequences", "hone_waiting_sequences")
        return [registry.get_sample_value(name, labels) for name in names]

    old.watch(lambda: 1, lambda: 2)
    new.watch(lambda: 3, lambda: 4)
    old.retire()
    assert shown() == [3, 4]
    new.retire()
    assert shown() == [None, None]
    new.retire()
