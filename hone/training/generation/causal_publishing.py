"""From a trained Hugging Face folder to a published bundle: export, compare, describe."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from hone.models.errors import InvalidInput, ParityFailed
from hone.models.manifest import (
    CARD_FILE,
    AdapterRecord,
    BaseModelRecord,
    GenerationParity,
    Limits,
    Manifest,
    ManifestBody,
    RecipeRecord,
    SplitRecord,
    TokenLengths,
    Variant,
)
from hone.models.names import ModelReference
from hone.models.registry import Registry
from hone.training.baseline import BASELINE_TOKENIZER_FILE
from hone.training.causal.adapter_file import ADAPTER_FILE, LoraMatrices, write_adapter
from hone.training.causal.export import DecoderVariant
from hone.training.causal.parity import CONTINUATION_TOKENS
from hone.training.causal.staging import StagedDecoder, stage_adapter, stage_decoder
from hone.training.continuing import WEIGHTS_FILE
from hone.training.generation.base_bundles import adapter_files, provide_base
from hone.training.generation.causal_bases import CausalBase
from hone.training.generation.causal_card import CausalSummary, write_card
from hone.training.generation.causal_data import CausalData
from hone.training.generation.conversations import Conversation, Example
from hone.training.generation.encoding import Prompt
from hone.training.generation.generation_recipe import GenerationRecipe
from hone.training.loop import Interrupted
from hone.training.run_context import RunContext

_LIBRARIES = (
    "torch", "transformers", "peft", "onnx", "onnxruntime", "onnxruntime-genai", "tokenizers",
)  # fmt: skip
_PROMPTS_COMPARED = 32


@dataclass(frozen=True, slots=True)
class TrainedFolder:
    """A finished training: the run's folder, the trained model in it, and what is known of it."""

    run: Path
    model: Path
    base: CausalBase
    data: CausalData
    summary: CausalSummary
    weights: dict[str, Any]
    lora: Mapping[str, LoraMatrices]
    """The matrices to keep as an adapter; none where they are merged."""


def publish_causal(trained: TrainedFolder, context: RunContext) -> Manifest:
    """Publish the trained model as the next version; ParityFailed if its export is not the same.

    Raises Interrupted when asked to stop; the trained folder is still there.
    """
    recipe = trained.summary.recipe
    registry = Registry(Path(recipe.saving.store))
    with registry.staging() as staged:
        baseline = trained.summary.baseline
        if recipe.baseline.tokenizer is not None and baseline is not None:
            shutil.copyfile(recipe.baseline.tokenizer, staged / BASELINE_TOKENIZER_FILE)
        decoder, adapter = _stage(trained, context, staged, registry)
        if recipe.saving.keep_weights and adapter is None:
            save_file(trained.weights, staged / WEIGHTS_FILE, metadata={"format": "pt"})
        card = write_card(trained.summary, trained.run, decoder)
        (staged / CARD_FILE).write_text(card, encoding="utf-8")
        body = _body(trained, decoder, adapter)
        manifest = registry.publish(recipe.saving.name, staged, body)
    if recipe.saving.promote:
        registry.promote(ModelReference(manifest.model, version=manifest.version))
    context.events.emit(
        "published",
        model=manifest.model,
        version=manifest.version,
        folder=str(registry.folder(manifest.model, manifest.version)),
        card=str(trained.run / "card.html"),
    )
    return manifest


def _stage(
    trained: TrainedFolder, context: RunContext, staged: Path, registry: Registry
) -> tuple[StagedDecoder, AdapterRecord | None]:
    """Write what serving needs: a decoder of its own, or an adapter on the base's."""
    prompts = gate_prompts(trained.base, trained.data)
    if not trained.lora:

        def alone(variant: DecoderVariant) -> StagedDecoder:
            return stage_decoder(trained.model, staged, prompts, [variant])

        return _export(trained, context, staged, alone), None
    variants = trained.summary.recipe.saving.variants
    scratch = trained.run / "base-to-export"
    base = provide_base(registry, trained.base, prompts, variants, scratch)
    context.events.emit("base_provided", model=base.manifest.model, version=base.manifest.version)
    rank = write_adapter(trained.lora, trained.model, staged / ADAPTER_FILE)

    def on_base(variant: DecoderVariant) -> StagedDecoder:
        return stage_adapter(trained.model, staged, prompts, variant, base)

    decoder = _export(trained, context, staged, on_base)
    files = adapter_files(base.manifest, list(decoder.variants))
    return decoder, AdapterRecord(rank=rank, base=base.manifest.model, base_files=files)


def _export(
    trained: TrainedFolder,
    context: RunContext,
    staged: Path,
    stage: Callable[[DecoderVariant], StagedDecoder],
) -> StagedDecoder:
    """Write each variant and hold it against the trained model; fp32 must pass."""
    files: dict[Variant, str] = {}
    left_out: dict[Variant, str] = {}
    parity: dict[Variant, GenerationParity] = {}
    record = None
    for variant in sorted(trained.summary.recipe.saving.variants, key=lambda v: v != "fp32"):
        if context.stop_requested():
            step = trained.summary.progress.step
            context.events.emit("interrupted", step=step, during="during the export")
            raise Interrupted
        try:
            found = stage(variant)
        except (InvalidInput, ParityFailed) as error:
            if variant == "fp32":
                raise
            left_out[variant] = str(error)
            (staged / f"model.{variant}.onnx").unlink(missing_ok=True)
            context.events.emit("variant_left_out", variant=variant, reason=str(error))
            continue
        record = found.record
        files[variant], parity[variant] = found.variants[variant], record.parity[variant]
        size = (staged / files[variant]).stat().st_size
        context.events.emit("exported", variant=variant, bytes=size)
        context.events.emit("decoder_parity", variant=variant, **parity[variant].model_dump())
    if record is None:
        raise ParityFailed("no variant was exported")
    return StagedDecoder(files, left_out, record.model_copy(update={"parity": parity}))


def gate_room(base: CausalBase) -> int:
    """Return how long the gate's prompts may be; InvalidInput where the base has no room for one.

    Better asked before a training than after it.
    """
    room = base.max_tokens - CONTINUATION_TOKENS
    if room < 1:
        raise InvalidInput(
            f"the base reads {base.max_tokens} tokens, and the gate continues prompts by "
            f"{CONTINUATION_TOKENS}"
        )
    return room


def gate_prompts(base: CausalBase, data: CausalData) -> list[list[int]]:
    """Return the first validation prompts, the ends of long ones, within the base's positions."""
    room = gate_room(base)
    rows = data.examples["validation"][:_PROMPTS_COMPARED]
    ids = [data.encoder.prompt_ids(prompt_of(row)) for row in rows]
    fallback = base.tokenizer.eos_token_id
    return [prompt[-room:] or [fallback] for prompt in ids]


def prompt_of(example: Example) -> Prompt:
    """Return what an answer is to follow: of a chat, the messages before its last answer."""
    if isinstance(example, Conversation):
        answers = [n for n, m in enumerate(example.messages) if m.role == "assistant"]
        return example.until(answers[-1])
    return example.prompt


def _body(
    trained: TrainedFolder, decoder: StagedDecoder, adapter: AdapterRecord | None
) -> ManifestBody:
    summary = trained.summary
    body = causal_body(summary.recipe, trained.base, trained.data, summary.records, decoder)
    return body.model_copy(
        update={"scores": summary.scores, "baseline": summary.baseline, "adapter": adapter}
    )


def causal_body(
    recipe: GenerationRecipe,
    base: CausalBase,
    data: CausalData,
    records: Mapping[str, SplitRecord],
    decoder: StagedDecoder,
) -> ManifestBody:
    """Return what a manifest says of a model that was not scored, and replaces no prompt."""
    chats = {"trained_on_chats": data.encoder.template == "chat"}
    return ManifestBody(
        task="text-generation",
        limits=Limits(max_tokens=decoder.record.context_tokens, long_texts="reject"),
        base=BaseModelRecord(id=base.base.id, licence=base.base.licence, revision=base.revision),
        recipe=RecipeRecord(sha256=recipe.sha256(), content=recipe.model_dump(mode="json")),
        data=dict(records),
        scores={},
        variants=decoder.variants,
        generation=decoder.record.model_copy(update=chats),
        left_out=decoder.left_out,
        token_lengths=_token_lengths(data),
        libraries={name: version(name) for name in _LIBRARIES},
        licence=recipe.saving.licence,
    )


def _token_lengths(data: CausalData) -> TokenLengths:
    p50, p90, p99, longest = np.percentile(
        data.encoded["train"].lengths, [50, 90, 99, 100], method="higher"
    )
    return TokenLengths(p50=int(p50), p90=int(p90), p99=int(p99), longest=int(longest))
