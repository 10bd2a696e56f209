"""From a verified bundle to a decoder with its tokenizer and its chat template."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hone.models.bundle import Bundle
from hone.models.decoding.adapters import BARE, AdapterWeights, read_adapter
from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.engine import OnnxDecoder
from hone.models.decoding.templates import ChatTemplate
from hone.models.decoding.tool_calls import marks
from hone.models.errors import BundleCorrupt, InvalidInput
from hone.models.manifest import (
    TOKENIZER_FILE,
    GenerationRecord,
    Manifest,
    Variant,
    file_sha256,
)
from hone.models.names import ModelReference
from hone.models.registry import Registry

_ORDER: Sequence[Literal["int8", "int4", "fp32"]] = ("int8", "int4", "fp32")
"""Which variant is run on a CPU, of those that passed the gate: int8 loses the least."""


@dataclass(frozen=True, slots=True)
class CausalParts:
    """What a bundle of a causal model consists of, before its weights are in memory.

    `template` is None for a model that does not chat. An adapter's weights are those of its base:
    `home` is the version in the store that has them, None where they are the bundle's own.
    """

    bundle: Bundle
    variant: Variant
    record: GenerationRecord
    template: ChatTemplate | None
    adapter: AdapterWeights | None
    home: ModelReference | None

    @property
    def shared_as(self) -> str | None:
        """The SHA-256 of weights that several models may run on; None where nobody else does."""
        on_base = self.bundle.manifest.adapter
        if on_base is not None:
            return on_base.base_files[self.variant]
        return (
            file_sha256(self.bundle.manifest, self.variant) if self.record.takes_adapters else None
        )

    @property
    def shown_tokens(self) -> tuple[str, ...]:
        """Special tokens of the tokenizer that are text in what the model writes."""
        return marks(self.record.tool_form)

    def open_weights(self, registry: Registry) -> Bundle:
        """Return the verified bundle with the weights: the adapter's base, else its own."""
        return self.bundle if self.home is None else registry.open(self.home)


@dataclass(frozen=True, slots=True)
class Decoder:
    """A loaded decoder; `template` is None for a model that does not chat.

    `adapter` is its number in the engine, `BARE` for a model that is no adapter.
    """

    engine: OnnxDecoder
    tokenizer: CausalTokenizer
    template: ChatTemplate | None
    adapter: int = BARE


def choose_decoder_variant(manifest: Manifest, wanted: Variant | None) -> Variant:
    """Return the variant to run on a CPU: the one asked for, else the first of int8, int4, fp32.

    InvalidInput when the bundle does not hold it.
    """
    present = manifest.variants
    if wanted is not None and wanted not in present:
        why = manifest.left_out.get(wanted, "it was not exported")
        raise InvalidInput(f"the bundle has no {wanted} variant: {why}")
    if wanted == "fp16":
        raise InvalidInput("fp16 is for a GPU, and causal models are served on the CPU")
    found = wanted or next((variant for variant in _ORDER if variant in present), None)
    if found is None:
        raise InvalidInput("the bundle has no variant for a CPU")
    return found


def causal_parts(bundle: Bundle, registry: Registry, wanted: Variant | None = None) -> CausalParts:
    """Read all of a bundle but its weights. An adapter's base is looked for in the same store.

    InvalidInput for a bundle of another task or without the wanted variant, NotFound for an adapter
    whose base is not there, BundleCorrupt for files that are not what the manifest says.
    """
    manifest, record = bundle.manifest, record_of(bundle.manifest)
    variant = choose_decoder_variant(manifest, wanted)
    on_base = manifest.adapter
    return CausalParts(
        bundle,
        variant,
        record,
        _template(bundle, record),
        adapter=read_adapter(bundle.variant_file(variant)) if on_base else None,
        # Looked for also where it is in memory already: what is served must be so after a restart.
        home=registry.base_of(on_base, variant) if on_base else None,
    )


def open_engine(
    weights: Bundle, variant: Variant, *, slots: int, most_tokens: int, intra_threads: int
) -> OnnxDecoder:
    """Load a bundle's own weights; a slot holds what the model can, `most_tokens` at most."""
    return OnnxDecoder(
        weights.variant_file(variant),
        slots=slots,
        longest=min(record_of(weights.manifest).context_tokens, most_tokens),
        intra_threads=intra_threads,
    )


def load_decoder(
    parts: CausalParts, registry: Registry, *, slots: int, most_tokens: int, intra_threads: int
) -> Decoder:
    """Load a causal model with nobody beside it, an adapter on its base.

    BundleCorrupt for parts that do not fit together.
    """
    engine = open_engine(
        parts.open_weights(registry),
        parts.variant,
        slots=slots,
        most_tokens=most_tokens,
        intra_threads=intra_threads,
    )
    tokenizer = CausalTokenizer.from_file(
        parts.bundle.file(TOKENIZER_FILE), eos_ids=parts.record.eos_ids, shown=parts.shown_tokens
    )
    if tokenizer.vocabulary_size > engine.vocabulary_size:
        raise BundleCorrupt(f"{parts.bundle.folder} has more tokens than logits")
    adapter = BARE if parts.adapter is None else engine.load_adapter(parts.adapter)
    return Decoder(engine, tokenizer, parts.template, adapter)


def record_of(manifest: Manifest) -> GenerationRecord:
    """Return how a model generates; InvalidInput for one that does not."""
    if manifest.generation is None:
        raise InvalidInput(f"{manifest.model} classifies: it cannot be asked a prompt")
    return manifest.generation


def _template(bundle: Bundle, record: GenerationRecord) -> ChatTemplate | None:
    if record.chat_template is None:
        return None
    try:
        source = bundle.file(record.chat_template).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BundleCorrupt(f"{record.chat_template} is not UTF-8") from None
    return ChatTemplate(source, record.template_tokens, tool_form=record.tool_form)
