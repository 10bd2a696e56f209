"""A loaded model: what it takes to answer for one version, and how it comes into memory."""

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hone.comparison.prices import Price
from hone.models.bundle import Bundle
from hone.models.catalogue import Task
from hone.models.errors import BundleCorrupt, InvalidInput
from hone.models.imaging.predictor import PicturePredictor, blank_picture
from hone.models.layout import SessionLayout
from hone.models.manifest import MANIFEST_FILE, Manifest, Variant
from hone.models.predictor import Predictor, choose_variant, load_tokenizer
from hone.models.prompt_form import PromptForm
from hone.models.tokenizer import TokenizedText
from hone.service.batcher import Batcher
from hone.service.decoders import SharedDecoders
from hone.service.errors import InferenceFailed, NotReady
from hone.service.fallback.asking import ModelFallback, load_fallback
from hone.service.fallback.line import FallbackLine
from hone.service.layouts import load_engines, load_picture_engines
from hone.service.metrics import Metrics, ModelMetrics
from hone.service.savings import SavingsCounter, SentTokens, savings_counter
from hone.service.settings import Settings
from hone.service.tickets import Input

PROBE_TEXT = "a"

FileStamp = tuple[str, int, int, int]
"""A file's name, inode, size and time of change: it differs when the file was touched."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model says about itself, the same whether it is loaded or not."""

    name: str
    version: int
    created: int
    labels: tuple[str, ...]
    digest: str
    prompt_form: PromptForm = PromptForm()  # noqa: RUF009 - it is frozen
    positive_label: str | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Host:
    """What every loaded model of one service shares."""

    settings: Settings
    metrics: Metrics
    prices: Mapping[str, Price]
    loop: asyncio.AbstractEventLoop
    fallback: FallbackLine | None = None
    decoders: SharedDecoders = field(default_factory=SharedDecoders)


class LoadedModel:
    """One version in memory, with its own batcher."""

    def __init__(  # noqa: PLR0913 - what a model is made of
        self,
        facts: ModelFacts,
        predictor: Predictor | PicturePredictor,
        layout: SessionLayout,
        host: Host,
        *,
        variant: str,
        savings: SavingsCounter | None,
        stamps: Sequence[FileStamp] = (),
        fallback: ModelFallback | None = None,
    ) -> None:
        self.facts = facts
        self.id = str(facts)
        self.shown_as = self.id
        """What answers call it: a fine-tuned model goes by its id in the API."""
        self.labels = facts.labels
        self.variant = variant
        self.takes_pictures = isinstance(predictor, PicturePredictor)
        self._probe: Input = blank_picture() if self.takes_pictures else PROBE_TEXT
        self.device = predictor.engine.device
        self.layout = layout
        self.savings = savings
        self.fallback = fallback
        self.stamps = tuple(stamps)
        self.last_used = 0.0
        """When it was last asked for, by the monotonic clock; 0 if nobody did yet."""
        self.prompt_form = facts.prompt_form
        self._sent = SentTokens(savings.count_text) if savings else None
        self.metrics = model_metrics(host.metrics, facts, savings)
        self.batcher = Batcher(
            predictor,
            layout=layout,
            loop=host.loop,
            max_queue_items=host.settings.max_queue_items,
            count_baseline=savings.count if savings else None,
            on_batch=functools.partial(_count_batch, self.metrics),  # no way back to this model
            name=self.id,
        )
        self.metrics.watch_queue(self.batcher.waiting)

    async def probe(self, timeout_s: float) -> None:
        """Classify one text or picture through the queue; NotReady or InferenceFailed if not."""
        ticket = self.batcher.submit([self._probe], probe=True)
        try:
            await asyncio.wait_for(ticket.future, timeout_s)
        except TimeoutError:
            self.batcher.cancel(ticket)
            raise NotReady(f"{self.id} did not answer in {timeout_s:g} s") from None
        failed = ticket.first_error()
        if failed is not None and not isinstance(failed[1], InvalidInput):
            raise InferenceFailed(f"{self.id} cannot classify")

    async def sent_tokens(self, sent: Sequence[str]) -> int:
        """Return the baseline's tokens of what was sent beside texts; 0 without a baseline."""
        return await self._sent.total(sent) if self._sent else 0

    def stalled(self, after_s: float) -> bool:
        """Tell whether texts wait and nothing has moved for so long."""
        return self.batcher.stalled(after_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Finish what is queued and end the workers. Blocks; not for the event loop."""
        self.batcher.close(timeout_s=timeout_s)
        self.metrics.retire()


def _count_batch(metrics: ModelMetrics, texts: int, padding: float) -> None:
    metrics.batch_texts.observe(texts)
    metrics.batch_padding.observe(padding)


def model_metrics(
    metrics: Metrics, facts: ModelFacts, savings: SavingsCounter | None
) -> ModelMetrics:
    """Return the metrics of a version, whatever its task."""
    method = savings.method if savings else None
    priced = savings.baseline.price_model if savings and savings.price else None
    return ModelMetrics(metrics, facts.name, facts.version, method=method, price_model=priced)


def load_classifier(
    bundle: Bundle, facts: ModelFacts, host: Host, stamps: Sequence[FileStamp]
) -> LoadedModel:
    """Load a verified bundle, warm it, and start its batcher. Takes seconds; not for the loop.

    BundleCorrupt or InvalidInput when the bundle cannot be served.
    """
    load = LOADERS[bundle.manifest.task]
    variant = choose_variant(bundle, host.settings.variant, host.settings.device)
    predictor, layout = load(bundle, variant, host.settings)
    return LoadedModel(
        facts,
        predictor,
        layout,
        host,
        variant=variant,
        savings=savings_counter(bundle, host.prices),
        stamps=stamps,
        fallback=load_fallback(
            bundle,
            variant=variant,
            line=host.fallback,
            prices=host.prices,
            families=host.metrics.fallback,
        ),
    )


def _load_text_classifier(
    bundle: Bundle, variant: Variant, settings: Settings
) -> tuple[Predictor, SessionLayout]:
    manifest = bundle.manifest
    tokenizer = load_tokenizer(bundle)
    engines = load_engines(bundle, variant, tokenizer.vocabulary_size, settings)
    predictor = Predictor(
        tokenizer,
        engines.engine,
        tuple(manifest.labels),
        manifest.calibration.temperature,
        engines.lone_engine,
    )
    limits, lengths = manifest.text_limits, manifest.text_lengths
    for texts, length in ((1, lengths.p50), (2, lengths.p90)):
        ids = [tokenizer.pad_id] * min(max(1, length), limits.max_tokens)
        _warm(predictor, [TokenizedText(ids, len(ids))] * texts)
    return predictor, engines.layout


def _load_picture_classifier(
    bundle: Bundle, variant: Variant, settings: Settings
) -> tuple[PicturePredictor, SessionLayout]:
    manifest = bundle.manifest
    engines = load_picture_engines(bundle, variant, settings)
    predictor = PicturePredictor(
        manifest.picture_rule,
        engines.engine,
        tuple(manifest.labels),
        manifest.calibration.temperature,
        engines.lone_engine,
    )
    for pictures in (1, 2):
        _warm(predictor, predictor.encode([blank_picture()] * pictures))
    return predictor, engines.layout


LOADERS: Mapping[
    Task,
    Callable[[Bundle, Variant, Settings], tuple[Predictor | PicturePredictor, SessionLayout]],
] = {
    "text-classification": _load_text_classifier,
    "image-classification": _load_picture_classifier,
}
"""How a classifier of each task comes into memory, warm."""


def _positive_label(manifest: Manifest) -> str | None:
    """Return the label that the recipe calls positive, if it names one that the model has."""
    dataset = manifest.recipe.content.get("dataset")
    named = dataset.get("positive_label") if isinstance(dataset, dict) else None
    return named if named in manifest.labels else None


def facts_of(manifest: Manifest) -> ModelFacts:
    """Return what a manifest says about its model."""
    created = int(manifest.created_at.timestamp())
    labels = tuple(manifest.labels)
    return ModelFacts(
        manifest.model,
        manifest.version,
        created,
        labels,
        manifest.digest,
        manifest.prompt_form or PromptForm(),
        _positive_label(manifest),
    )


def stamps_of(folder: Path) -> tuple[FileStamp, ...]:
    """Return the stamps of a bundle's files, in the order of their names; none if it is gone."""
    try:
        files = [(path.name, path.lstat()) for path in sorted(folder.iterdir())]
    except OSError:
        return ()
    return tuple((name, info.st_ino, info.st_size, info.st_mtime_ns) for name, info in files)


def manifest_stamp(stamps: Sequence[FileStamp]) -> FileStamp | None:
    """Return the manifest's stamp among a folder's."""
    return next((stamp for stamp in stamps if stamp[0] == MANIFEST_FILE), None)


def _warm(predictor: Predictor | PicturePredictor, inputs: Sequence[Any]) -> None:
    """Run a shape before there is traffic, and see that the answers have the right form."""
    labels = len(predictor.labels)
    for alone in (False, True):
        try:
            scores = predictor.probabilities(inputs, alone=alone)
        except Exception as error:  # the library's errors share no class but Exception
            raise BundleCorrupt("the model does not run") from error
        if scores.shape != (len(inputs), labels) or not np.isfinite(scores).all():
            raise BundleCorrupt(f"the model does not give a score to each of {labels} labels")
