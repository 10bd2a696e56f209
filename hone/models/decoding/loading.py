"""From a verified bundle to a decoder with its tokenizer and its chat template."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hone.models.bundle import Bundle
from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.engine import OnnxDecoder
from hone.models.decoding.templates import ChatTemplate
from hone.models.errors import BundleCorrupt, InvalidInput
from hone.models.manifest import TOKENIZER_FILE, Manifest, Variant

_ORDER: Sequence[Literal["int8", "int4", "fp32"]] = ("int8", "int4", "fp32")
"""Which variant is run on a CPU, of those that passed the gate: int8 loses the least."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """A loaded decoder; `template` is None for a model that does not chat."""

    engine: OnnxDecoder
    tokenizer: CausalTokenizer
    template: ChatTemplate | None


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


def load_decoder(
    bundle: Bundle, variant: Variant, *, slots: int, most_tokens: int, intra_threads: int
) -> Decoder:
    """Load a bundle of a causal model; a slot holds what the model can, `most_tokens` at most.

    InvalidInput for a bundle of another task or of an adapter alone, BundleCorrupt for one that
    does not fit together.
    """
    record = bundle.manifest.generation
    if record is None:
        raise InvalidInput(f"{bundle.manifest.model} classifies: it cannot be asked a prompt")
    if bundle.manifest.adapter is not None:
        name, base = bundle.manifest.model, bundle.manifest.adapter.base
        raise InvalidInput(f"{name} is an adapter on {base}: serve it, and ask it there")
    engine = OnnxDecoder(
        bundle.variant_file(variant),
        slots=slots,
        longest=min(record.context_tokens, most_tokens),
        intra_threads=intra_threads,
    )
    tokenizer = CausalTokenizer.from_file(bundle.file(TOKENIZER_FILE), eos_ids=record.eos_ids)
    if tokenizer.vocabulary_size > engine.vocabulary_size:
        raise BundleCorrupt(f"{bundle.folder} has more tokens than logits")
    template = None
    if record.chat_template is not None:
        try:
            source = bundle.file(record.chat_template).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise BundleCorrupt(f"{record.chat_template} is not UTF-8") from None
        template = ChatTemplate(source, record.template_tokens)
    return Decoder(engine, tokenizer, template)
