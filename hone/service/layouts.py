"""Which session layout is the fastest here: measured once, then remembered on disk."""

import functools
import hashlib
import logging
import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import orjson

from hone.models import durable
from hone.models.bundle import Bundle
from hone.models.engines import (
    ONNXRUNTIME_VERSION,
    Engine,
    FloatArray,
    OnnxEngine,
    OnnxPictureEngine,
    PictureEngine,
    choose_device,
)
from hone.models.errors import BundleCorrupt
from hone.models.imaging.preprocessing import Preprocessing
from hone.models.layout import (
    EngineFactory,
    SessionLayout,
    Workload,
    layout_candidates,
    measure_layout,
    measure_lone_threads,
    usable_cores,
)
from hone.models.manifest import TokenLengths, Variant
from hone.models.tokenizer import IntArray
from hone.service.settings import Settings

logger = logging.getLogger(__name__)

_MOST_PICTURES = 64
"""In one batch, whatever the device could hold: the others of it wait for the last."""

_MEASUREMENT = "3"
"""Changes when layouts come to be measured in another way: what was remembered is then void."""


@dataclass(frozen=True, slots=True)
class LoadedEngines:
    """A variant in memory: the engine for batches, and the one for a lone text.

    The two are the same where one session is the best for both.
    """

    engine: Engine
    lone_engine: Engine
    layout: SessionLayout


def load_engines(
    bundle: Bundle, variant: Variant, vocabulary_size: int, settings: Settings
) -> LoadedEngines:
    """Load a variant in the layout that is the fastest on this machine."""

    @functools.cache
    def engine_for(intra_threads: int) -> Engine:
        return OnnxEngine(
            bundle.variant_file(variant), intra_threads=intra_threads, device=settings.device
        )

    workload = Workload(bundle.manifest.text_lengths, vocabulary_size)
    layout = _layout(bundle, variant, settings, workload, engine_for)
    engine = engine_for(layout.intra_threads)
    lone = engine_for(layout.lone_threads) if layout.lone_threads else engine
    return LoadedEngines(engine, lone, layout)


@dataclass(frozen=True, slots=True)
class LoadedPictureEngines:
    """A variant of a picture classifier in memory; a layout's tokens are pictures."""

    engine: PictureEngine
    lone_engine: PictureEngine
    layout: SessionLayout


@dataclass(frozen=True, slots=True)
class _AsTexts:
    """A picture engine to be measured as one of texts: a token stands for a picture.

    Pictures cost all the same, so each is a text of one token, and what it shows does not matter.
    """

    engine: PictureEngine
    rule: Preprocessing

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return self.engine.device

    def run(self, input_ids: IntArray, attention_mask: IntArray) -> FloatArray:
        """Run as many grey pictures as there are ids."""
        del attention_mask
        shape = (len(input_ids), 3, self.rule.height, self.rule.width)
        return self.engine.run(np.zeros(shape, dtype=np.float32))


def load_picture_engines(
    bundle: Bundle, variant: Variant, settings: Settings
) -> LoadedPictureEngines:
    """Load a variant of a picture classifier in the layout that is the fastest on this machine."""
    rule = bundle.manifest.picture_rule

    @functools.cache
    def engine_for(intra_threads: int) -> PictureEngine:
        return OnnxPictureEngine(
            bundle.variant_file(variant), intra_threads=intra_threads, device=settings.device
        )

    workload = Workload(TokenLengths(p50=1, p90=1, p99=1, longest=1), 2)
    layout = _layout(
        bundle,
        variant,
        settings,
        workload,
        lambda threads: _AsTexts(engine_for(threads), rule),
        most_tokens=_MOST_PICTURES,
    )
    engine = engine_for(layout.intra_threads)
    lone = engine_for(layout.lone_threads) if layout.lone_threads else engine
    return LoadedPictureEngines(engine, lone, layout)


def _layout(
    bundle: Bundle,
    variant: Variant,
    settings: Settings,
    workload: Workload,
    engine_for: EngineFactory,
    *,
    most_tokens: int = 2**31,
) -> SessionLayout:
    lengths, cores = workload.lengths, usable_cores()
    on_gpu = choose_device(settings.device) == "cuda"
    offered = [
        replace(candidate, batch_tokens=min(candidate.batch_tokens, most_tokens))
        for candidate in layout_candidates(cores=cores, lengths=lengths, on_gpu=on_gpu)
    ]
    candidates = _with_overrides(list(dict.fromkeys(offered)), settings)
    path = settings.layouts_folder / f"{_key(bundle, variant, candidates)}.json"
    remembered = _recall(path)
    if remembered is not None and _plain(remembered) in candidates:
        return remembered
    lone_candidates = (cores,) if not on_gpu and settings.threads == "auto" else ()
    try:
        layout, trials = measure_layout(engine_for, candidates, workload)
        tried = (layout.intra_threads, *lone_candidates)
        threads = measure_lone_threads(engine_for, tried, workload)
    except Exception as error:  # the library's errors share no class but Exception
        raise BundleCorrupt(f"{bundle.folder} holds a model that does not run") from error
    for trial in trials:
        logger.debug("layout tried", extra={"layout": str(trial.layout), "rate": trial.texts_per_s})
    steady = all(trial.steady for trial in trials if trial.layout == layout)
    if threads != layout.intra_threads:
        layout = replace(layout, lone_threads=threads)
    if steady:
        _remember(path, layout)
    return layout


def _plain(layout: SessionLayout) -> SessionLayout:
    """Return what was chosen among the candidates, without what was measured afterwards."""
    return SessionLayout(layout.workers, layout.intra_threads, layout.batch_tokens)


def _with_overrides(candidates: list[SessionLayout], settings: Settings) -> list[SessionLayout]:
    given = {
        "workers": settings.workers,
        "intra_threads": settings.threads,
        "batch_tokens": settings.batch_tokens,
    }
    fixed = {name: value for name, value in given.items() if isinstance(value, int)}
    return list(dict.fromkeys(replace(candidate, **fixed) for candidate in candidates))


def _key(bundle: Bundle, variant: Variant, candidates: list[SessionLayout]) -> str:
    """Return a name that differs wherever another layout might win."""
    parts = [
        _MEASUREMENT,
        bundle.manifest.digest,
        variant,
        _processor(),
        ONNXRUNTIME_VERSION,
        *map(str, candidates),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.machine())


def _recall(path: Path) -> SessionLayout | None:
    try:
        return SessionLayout(**orjson.loads(path.read_bytes()))
    except (OSError, orjson.JSONDecodeError, TypeError):
        return None


def _remember(path: Path, layout: SessionLayout) -> None:
    """Write the layout; a store that cannot be written only means measuring again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write_atomically(path, orjson.dumps(asdict(layout)))
    except OSError:
        logger.debug("layout not remembered", extra={"folder": str(path.parent)})
