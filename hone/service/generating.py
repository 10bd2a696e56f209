"""A loaded causal model: what it takes to complete, and how it comes into memory."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from hone.models.bundle import Bundle
from hone.models.decoding.constraints import ConstraintFactory
from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.engine import DecoderEngine, OnnxDecoder
from hone.models.decoding.generations import Generation, GenerationRequest, Update
from hone.models.decoding.loading import choose_decoder_variant
from hone.models.decoding.prefixes import PrefixStore
from hone.models.decoding.sampling import SamplingParameters
from hone.models.decoding.scheduler import Scheduler, SchedulerClosed
from hone.models.decoding.templates import ChatTemplate
from hone.models.decoding.tool_calls import marks
from hone.models.errors import BundleCorrupt, InvalidInput
from hone.models.layout import usable_cores
from hone.models.manifest import TOKENIZER_FILE, GenerationRecord, Manifest
from hone.models.prompt_form import PromptForm
from hone.service.errors import BatcherClosed, InferenceFailed, NotReady
from hone.service.generation_metrics import SequenceMetrics
from hone.service.savings import SavingsCounter, savings_counter
from hone.service.serving import FileStamp, Host, ModelFacts, model_metrics

logger = logging.getLogger(__name__)

TASK = "text-generation"


class Inbox:
    """Where the updates of one request arrive, on the event loop; None says the client has left."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Update | None] = asyncio.Queue()

    def put(self, update: Update | None) -> None:
        """Take an update."""
        self._queue.put_nowait(update)

    async def take(self, timeout_s: float | None = None) -> list[Update | None]:
        """Wait for what is new; nothing if it takes longer than `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                found = [await self._queue.get()]
        except TimeoutError:
            return []
        while not self._queue.empty():
            found.append(self._queue.get_nowait())
        return found


class GeneratingModel:
    """One version of a causal model in memory, with its own scheduler."""

    takes_pictures = False

    def __init__(  # noqa: PLR0913 - a bundle's parts, and what it shares with others
        self,
        facts: ModelFacts,
        engine: DecoderEngine,
        tokenizer: CausalTokenizer,
        host: Host,
        *,
        variant: str,
        template: ChatTemplate | None = None,
        savings: SavingsCounter | None = None,
        stamps: Sequence[FileStamp] = (),
    ) -> None:
        self.facts = facts
        self.id = str(facts)
        self.shown_as = self.id
        """What answers call it: a fine-tuned model goes by its id in the API."""
        self.variant = variant
        self.device = "cpu"
        self.labels: tuple[str, ...] = ()
        self.prompt_form = PromptForm()
        self.stamps = tuple(stamps)
        self.last_used = 0.0
        """When it was last asked for, by the monotonic clock; 0 if nobody did yet."""
        self.tokenizer = tokenizer
        self.template = template
        self.savings = savings
        self.context_tokens = engine.longest
        self.vocabulary_size = engine.vocabulary_size
        self.constraints = _constraints(tokenizer, engine)
        self.layout = f"{engine.slots} slots of {engine.longest} tokens"
        settings = host.settings
        prefixes = PrefixStore(settings.prefix_cache_bytes) if settings.prefix_cache_bytes else None
        self.scheduler = Scheduler(
            engine,
            tokenizer,
            deliver=functools.partial(_deliver, host.loop),  # no way back to this model
            prefixes=prefixes,
            constraints=self.constraints,
            most_waiting_tokens=settings.max_waiting_tokens,
            name=self.id,
        )
        self.metrics = model_metrics(host.metrics, facts, savings)
        self.metrics.watch_queue(self.scheduler.waiting)
        self.sequences = SequenceMetrics(host.metrics.generation, self.metrics.labels)
        self.sequences.watch(self.scheduler.running, self.scheduler.waiting)

    def submit(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Queue the requests of one answer, all or none of them; BatcherClosed when leaving."""
        begun: list[Generation] = []
        try:
            for request in requests:
                begun += self.scheduler.submit(request)
        except SchedulerClosed as error:
            self.cancel(begun)
            raise BatcherClosed(str(error)) from None
        except Exception:
            self.cancel(begun)
            raise
        return begun

    def cancel(self, generations: Sequence[Generation]) -> None:
        """Forget generations whose client has left; their slots are free at the next step."""
        for generation in generations:
            self.scheduler.cancel(generation)

    async def probe(self, timeout_s: float) -> None:
        """Complete one token through the queue; NotReady or InferenceFailed if that fails."""
        if self.scheduler.running() and not self.stalled(timeout_s):
            return  # it is answering others; a probe would have to wait with them for a slot
        inbox = Inbox()
        sampling = SamplingParameters(temperature=0)
        generations = self.submit([GenerationRequest((0,), sampling, 1, sender=inbox)])
        updates = await inbox.take(timeout_s)
        if not updates:
            self.cancel(generations)
            raise NotReady(f"{self.id} did not answer in {timeout_s:g} s")
        if any(update and update.error for update in updates):
            raise InferenceFailed(f"{self.id} cannot complete")

    def stalled(self, after_s: float) -> bool:
        """Tell whether there is something to do and nothing has moved for so long."""
        return self.scheduler.stalled(after_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Finish what is queued and end the scheduler. Blocks; not for the event loop."""
        self.scheduler.close(timeout_s=timeout_s)
        self.metrics.retire()
        self.sequences.retire()


def _deliver(loop: asyncio.AbstractEventLoop, updates: list[Update]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(_hand_out, updates)


def _hand_out(updates: list[Update]) -> None:
    for update in updates:
        sender = update.generation.request.sender
        if isinstance(sender, Inbox):
            sender.put(update)


def _constraints(tokenizer: CausalTokenizer, engine: DecoderEngine) -> ConstraintFactory | None:
    try:
        return ConstraintFactory(tokenizer, engine.vocabulary_size)
    except InvalidInput as error:
        logger.warning("no constrained decoding", extra={"reason": str(error)})
        return None


def load_generating(
    bundle: Bundle, facts: ModelFacts, host: Host, stamps: Sequence[FileStamp]
) -> GeneratingModel:
    """Load a verified bundle, warm it, and start its scheduler. Takes seconds; not for the loop.

    BundleCorrupt or InvalidInput when the bundle cannot be served.
    """
    record = _record(bundle.manifest)
    variant = choose_decoder_variant(bundle.manifest, host.settings.variant)
    settings = host.settings
    engine = OnnxDecoder(
        bundle.variant_file(variant),
        slots=settings.decoder_slots,
        longest=min(record.context_tokens, settings.max_context_tokens),
        intra_threads=usable_cores() if settings.threads == "auto" else settings.threads,
    )
    tokenizer = CausalTokenizer.from_file(
        bundle.file(TOKENIZER_FILE), eos_ids=record.eos_ids, shown=marks(record.tool_form)
    )
    if tokenizer.vocabulary_size > engine.vocabulary_size:
        raise BundleCorrupt(f"{facts} has more tokens than logits")
    _warm(engine)
    template = None
    if record.chat_template is not None:
        source = _read(bundle.file(record.chat_template))
        template = ChatTemplate(source, record.template_tokens, tool_form=record.tool_form)
    return GeneratingModel(
        facts,
        engine,
        tokenizer,
        host,
        variant=variant,
        template=template,
        savings=savings_counter(bundle, host.prices),
        stamps=stamps,
    )


def _record(manifest: Manifest) -> GenerationRecord:
    if manifest.generation is None:
        raise BundleCorrupt("the manifest does not say how to generate")
    return manifest.generation


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BundleCorrupt(f"{path.name} is not UTF-8") from None


def _warm(engine: DecoderEngine) -> None:
    """Read a token before there is traffic, and see that the answer has the right form."""
    started = time.perf_counter()
    try:
        logits = engine.prefill(0, [0], 0, every=False)
    except Exception as error:  # the library's errors share no class but Exception
        raise BundleCorrupt("the model does not run") from error
    if logits.shape != (1, engine.vocabulary_size):
        raise BundleCorrupt("the model does not give a logit for each token")
    logger.debug("warmed", extra={"seconds": time.perf_counter() - started})
