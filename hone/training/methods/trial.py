"""One method's run: what it scored, took and left, read from its events and its bundle."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from hone.models.bundle import Bundle
from hone.models.manifest import Score, Variant
from hone.models.measures import main_measure
from hone.training.events import Event


class CurvePoint(BaseModel):
    """An evaluation during the training; `accuracy` is of rows, or of a causal model's tokens."""

    model_config = ConfigDict(frozen=True)
    seconds: float
    accuracy: float
    loss: float


class Trial(BaseModel):
    """What one method did.

    `quality` is the score named by `measure` on `split`, of the variant that is served.
    `training_s` leaves out loading and exporting, `wall_s` has all. `peak_bytes` is the most
    memory that the training process held, on a GPU the most of the GPU's. `bundle_bytes` is what
    lies on disk of the bundle, `served_bytes` the one file that is served.
    """

    model_config = ConfigDict(frozen=True)
    method: str
    model: str
    version: int
    split: str
    measure: str
    quality: Score
    training_s: float
    wall_s: float
    peak_bytes: int
    trained_parameters: int
    all_parameters: int
    variant: Variant
    bundle_bytes: int
    served_bytes: int
    curve: list[CurvePoint]


def read_trial(
    method: str,
    events: Sequence[Event],
    bundle: Bundle,
    *,
    variant: Variant,
    wall_s: float,
    peak_bytes: int,
) -> Trial:
    """Put a trial together. `peak_bytes` is what the process held by the system's count."""
    manifest = bundle.manifest
    named: dict[str, Event] = {event["event"]: event for event in events}
    split, measure, quality = quality_of(events, variant)
    parameters: Any = named.get("settled") or named["probing"]
    if "trained_parameters" not in parameters:
        parameters = named["probing"]
    measured = named.get("memory_measured", {})
    curve = curve_of(events)
    sizes = {entry.path: entry.size for entry in manifest.files}
    return Trial(
        method=method,
        model=manifest.model,
        version=manifest.version,
        split=split,
        measure=measure,
        quality=quality,
        training_s=max((point.seconds for point in curve), default=wall_s),
        wall_s=wall_s,
        peak_bytes=measured.get("peak", peak_bytes),
        trained_parameters=parameters["trained_parameters"],
        all_parameters=parameters["all_parameters"],
        variant=variant,
        bundle_bytes=sum(sizes.values()),
        served_bytes=sizes[manifest.variants[variant]],
        curve=curve,
    )


def curve_of(events: Sequence[Event]) -> list[CurvePoint]:
    """Return all evaluations of a run, those before it was killed and resumed too."""
    told: list[Event] = []
    for event in events:
        if event["event"] == "resumed":
            told = [*event["evaluations"]]
        elif event["event"] == "evaluated":
            told.append(event)
    return [CurvePoint(seconds=e["seconds"], accuracy=e["accuracy"], loss=e["loss"]) for e in told]


def quality_of(events: Sequence[Event], variant: Variant) -> tuple[str, str, Score]:
    """Return the split, the measure and the score; test counts before validation."""
    for split in ("test", "validation"):
        for event in events:
            if event.get("split") != split:
                continue
            if event["event"] == "text_scored":
                name, words = main_measure(event)
                return split, words, Score(**event[name])
            if event["event"] == "scored" and event["variant"] == variant:
                return split, "accuracy", Score(**event["accuracy"])
    raise ValueError("the run told no score")
