"""How fast published models answer on this machine, measured in turns.

Two models that are measured one after the other are measured on two machines, as far as a shared
machine's speed goes; so each takes a turn in each round, and counts with the median of its rounds.
"""

import queue
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from hone.models.bundle import Bundle
from hone.models.decoding.adapters import read_adapter
from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.engine import OnnxDecoder
from hone.models.decoding.generations import Generation, GenerationRequest, Update
from hone.models.decoding.sampling import SamplingParameters
from hone.models.decoding.scheduler import Scheduler
from hone.models.imaging.predictor import blank_picture, load_picture_predictor
from hone.models.layout import usable_cores
from hone.models.manifest import TOKENIZER_FILE, Variant
from hone.models.predictor import load_predictor
from hone.models.registry import Registry

ROUNDS = 3
STREAMS = (1, 16)
"""Sequences that a causal model decodes at once."""
BATCH = 16
"""Texts or pictures that a classifier answers in one run."""

_PROMPT_TOKENS = 16
_MOST_TOKENS = 64
_LEAST_S = 0.5
_GREEDY = SamplingParameters(temperature=0)


@dataclass(frozen=True, slots=True)
class Pace:
    """Tokens (of pictures: pictures) a second, by what the column is called."""

    unit: str
    per_s: Mapping[str, float]


Course = Callable[[], float]
"""Does a stretch of work and returns how many tokens or pictures a second that was."""


def measure_paces(bundles: Sequence[tuple[Bundle, Variant]], texts: Sequence[str]) -> list[Pace]:
    """Return the pace of each model. `texts` are what classifiers of texts are asked."""
    with ExitStack() as stack:
        courses = [_courses(bundle, variant, texts, stack) for bundle, variant in bundles]
        seen: list[dict[str, list[float]]] = [{name: [] for name in found} for found in courses]
        for _ in range(ROUNDS):
            for found, rates in zip(courses, seen, strict=True):
                for name, course in found.items():
                    rates[name].append(course())
    units = ["pictures" if b.manifest.preprocessing is not None else "tokens" for b, _ in bundles]
    return [
        Pace(unit, {name: statistics.median(values) for name, values in rates.items()})
        for unit, rates in zip(units, seen, strict=True)
    ]


def _courses(
    bundle: Bundle, variant: Variant, texts: Sequence[str], stack: ExitStack
) -> dict[str, Course]:
    record = bundle.manifest.generation
    if record is not None:
        return _decoding(bundle, variant, record.context_tokens, stack)
    if bundle.manifest.preprocessing is not None:
        return _pictures(bundle, variant)
    return _texts(bundle, variant, texts)


def _decoding(
    bundle: Bundle, variant: Variant, context_tokens: int, stack: ExitStack
) -> dict[str, Course]:
    """Return a course for one stream and one for many, greedy, each of equally long answers."""
    engine = OnnxDecoder(
        _weights_of(bundle, variant).variant_file(variant),
        slots=max(STREAMS),
        longest=min(context_tokens, 2 * (_PROMPT_TOKENS + _MOST_TOKENS)),
        intra_threads=usable_cores(),
    )
    # Without the ids that end a completion: all answers are then equally long.
    tokenizer = CausalTokenizer.from_file(bundle.file(TOKENIZER_FILE))
    ended: queue.Queue[Generation] = queue.Queue()

    def hear(updates: list[Update]) -> None:
        for update in updates:
            if update.last:
                ended.put(update.generation)

    scheduler = Scheduler(engine, deliver=hear)
    stack.callback(scheduler.close)
    adapter = read_adapter(bundle.variant_file(variant)) if bundle.manifest.adapter else None
    voice = scheduler.enter(tokenizer, None, adapter)
    prompt_tokens = min(_PROMPT_TOKENS, engine.longest // 2)
    tokens = min(_MOST_TOKENS, engine.longest - prompt_tokens)

    def course(streams: int) -> Course:
        def run() -> float:
            started = time.perf_counter()
            for stream in range(streams):
                ids = range(stream, stream + prompt_tokens)
                prompt = tuple(place % engine.vocabulary_size for place in ids)
                scheduler.submit(GenerationRequest(prompt, _GREEDY, tokens), voice)
            failed = [g for g in (ended.get() for _ in range(streams)) if g.generated != tokens]
            if failed:
                raise RuntimeError("a sequence ended early")
            return streams * tokens / (time.perf_counter() - started)

        return run

    return {f"{n} stream{'s' * (n > 1)}": course(n) for n in STREAMS}


def _weights_of(bundle: Bundle, variant: Variant) -> Bundle:
    """Return the bundle that holds what a causal model decodes with: of an adapter, its base's."""
    adapter = bundle.manifest.adapter
    if adapter is None:
        return bundle
    registry = Registry(bundle.folder.parents[1])
    return registry.open(registry.base_of(adapter, variant))


def _texts(bundle: Bundle, variant: Variant, texts: Sequence[str]) -> dict[str, Course]:
    predictor = load_predictor(bundle, variant=variant, intra_threads=usable_cores())
    rows = predictor.encode(list(texts[:256]) or ["a"])
    rows.sort(key=lambda row: row.length)
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    tokens = sum(row.length for row in rows)
    return {f"batches of {BATCH}": _repeated(lambda: _each(predictor.logits, batches), tokens)}


def _pictures(bundle: Bundle, variant: Variant) -> dict[str, Course]:
    predictor = load_picture_predictor(bundle, variant=variant, intra_threads=usable_cores())
    batch = predictor.encode([blank_picture()]) * BATCH
    return {f"batches of {BATCH}": _repeated(lambda: predictor.logits(batch), BATCH)}


def _each(run: Callable[..., object], batches: Sequence[object]) -> None:
    for batch in batches:
        run(batch)


def _repeated(work: Callable[[], object], amount: int) -> Course:
    """Return a course that repeats some work for half a second."""

    def run() -> float:
        started, done = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < _LEAST_S or not done:
            work()
            done += amount
        return done / max(elapsed, 1e-9)

    return run
