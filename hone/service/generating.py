"""A loaded causal model: what it takes to complete, and how it comes into memory."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Sequence

from hone.models.bundle import Bundle
from hone.models.decoding.adapters import AdapterWeights
from hone.models.decoding.engine import DecoderEngine
from hone.models.decoding.generations import Generation, GenerationRequest, Update
from hone.models.decoding.loading import causal_parts, open_engine
from hone.models.decoding.sampling import SamplingParameters
from hone.models.decoding.scheduler import SchedulerClosed
from hone.models.decoding.templates import ChatTemplate
from hone.models.errors import BundleCorrupt
from hone.models.layout import usable_cores
from hone.models.manifest import TOKENIZER_FILE, Variant
from hone.models.prompt_form import PromptForm
from hone.models.registry import Registry
from hone.service.decoders import Decoder, Language
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
    """One version of a causal model in memory: a voice of a decoder, which it gives back.

    `adapter` is what it adds to the decoder's base, None for the base itself.
    """

    takes_pictures = False

    def __init__(  # noqa: PLR0913 - what two models on one decoder differ in, and the decoder
        self,
        facts: ModelFacts,
        decoder: Decoder,
        language: Language,
        host: Host,
        *,
        variant: str,
        template: ChatTemplate | None = None,
        savings: SavingsCounter | None = None,
        adapter: AdapterWeights | None = None,
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
        self.tokenizer = language.tokenizer
        self.constraints = language.constraints
        self._language = language
        self.template = template
        self.savings = savings
        engine = decoder.engine
        self.context_tokens = engine.longest
        self.vocabulary_size = engine.vocabulary_size
        beside = f", an adapter of rank {adapter.rank}" if adapter else ""
        self.layout = f"{engine.slots} slots of {engine.longest} tokens{beside}"
        self._decoder, self._decoders = decoder, host.decoders
        self.scheduler = decoder.scheduler
        self.voice = self.scheduler.enter(self.tokenizer, self.constraints, adapter)
        self.metrics = model_metrics(host.metrics, facts, savings)
        running = functools.partial(self.scheduler.running, self.voice)
        waiting = functools.partial(self.scheduler.waiting, self.voice)
        self.metrics.watch_queue(waiting)
        self.sequences = SequenceMetrics(host.metrics.generation, self.metrics.labels)
        self.sequences.watch(running, waiting)

    def submit(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Queue the requests of one answer, all or none of them; BatcherClosed when leaving."""
        begun: list[Generation] = []
        try:
            for request in requests:
                begun += self.scheduler.submit(request, self.voice)
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
        """Finish what is queued and give the decoder back. Blocks; not for the event loop."""
        self._decoders.give_back(self._decoder, self.voice, timeout_s)
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


def decoder_over(engine: DecoderEngine, host: Host, name: str) -> Decoder:
    """Return a decoder whose updates reach the inboxes of the host's event loop."""
    # It has no way back to the models that speak through it.
    return Decoder(engine, host.settings, functools.partial(_deliver, host.loop), name)


def load_generating(
    bundle: Bundle, facts: ModelFacts, host: Host, stamps: Sequence[FileStamp]
) -> GeneratingModel:
    """Load a verified bundle, warm it, and begin to decode. Takes seconds; not for the loop.

    An adapter's base is taken from the same store, or from memory if it is there already.
    BundleCorrupt or InvalidInput when the bundle cannot be served, NotFound without its base.
    """
    registry = Registry(host.settings.store)
    parts = causal_parts(bundle, registry, host.settings.variant)

    def load() -> Decoder:
        return _load_decoder(parts.open_weights(registry), parts.variant, host)

    decoder = host.decoders.borrow(parts.shared_as, load)
    try:
        language = decoder.language(
            bundle.file(TOKENIZER_FILE), parts.record.eos_ids, parts.shown_tokens
        )
        return GeneratingModel(
            facts, decoder, language, host,
            variant=parts.variant, template=parts.template, adapter=parts.adapter,
            savings=savings_counter(bundle, host.prices), stamps=stamps,
        )  # fmt: skip
    except Exception:
        host.decoders.give_back(decoder)
        raise


def _load_decoder(weights: Bundle, variant: Variant, host: Host) -> Decoder:
    """Load a bundle's own weights and warm them."""
    settings = host.settings
    engine = open_engine(
        weights,
        variant,
        slots=settings.decoder_slots,
        most_tokens=settings.max_context_tokens,
        intra_threads=usable_cores() if settings.threads == "auto" else settings.threads,
    )
    _warm(engine)
    return decoder_over(engine, host, f"{weights.manifest.model}@{weights.manifest.version}")


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
