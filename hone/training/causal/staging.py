"""What a bundle of a causal model holds, written into a staged folder: files, gate, record.

For whoever publishes: `stage_decoder` takes a trained model's folder, as transformers saves it, and
leaves beside each other all that serving needs. `stage_adapter` does so for an adapter, whose
base lies in a bundle of its own.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hone.models.bundle import Bundle
from hone.models.decoding.adapters import read_adapter
from hone.models.decoding.engine import OnnxDecoder
from hone.models.decoding.model_folder import FolderTemplate, read_object, read_template
from hone.models.errors import InvalidInput, ParityFailed
from hone.models.manifest import TOKENIZER_FILE, GenerationParity, GenerationRecord, Variant
from hone.training.causal.adapter_file import ADAPTER_FILE
from hone.training.causal.export import DecoderVariant, export_decoder
from hone.training.causal.parity import CONTINUATION_TOKENS, Ids, bounds_for, check_decoder
from hone.training.causal.trained import TorchModel

CHAT_TEMPLATE_FILE = "chat_template.txt"
_GATE_SLOTS = 8


@dataclass(frozen=True, slots=True)
class StagedDecoder:
    """What the manifest is told: files of the variants, reasons of those left out, the record."""

    variants: dict[Variant, str]
    left_out: dict[Variant, str]
    record: GenerationRecord


Export = Callable[[Path, DecoderVariant, Path], None]
"""Writes a variant of the model in a folder to a file."""


def stage_decoder(
    folder: Path,
    staged: Path,
    prompts: Sequence[Ids],
    variants: Sequence[DecoderVariant],
    *,
    export: Export = export_decoder,
    adapters: bool = False,
) -> StagedDecoder:
    """Export the variants of a trained model, judge each, and write what serving needs.

    `prompts` are token ids of validation prompts. A variant that fails the gate is left out with
    its reasons. With `adapters` the graphs take some. ParityFailed when none passes,
    InvalidInput when the folder lacks something.
    """
    if "fp16" in variants:
        raise InvalidInput("fp16 runs on a GPU alone, where this gate cannot judge it")
    about = _about(folder)
    trained = TorchModel(folder)
    files: dict[Variant, str] = {}
    parity: dict[Variant, GenerationParity] = {}
    left_out: dict[Variant, str] = {}
    for variant in variants:
        file = staged / f"model.{variant}.onnx"
        if adapters:
            export_decoder(folder, variant, file, adapters=True)
        else:
            export(folder, variant, file)
        engine = _gate_engine(file, prompts)
        found = check_decoder(engine, trained, prompts, bounds_for(variant))
        if found.passed:
            files[variant], parity[variant] = file.name, found
        else:
            left_out[variant] = "; ".join(found.reasons)
            file.unlink()
    if not files:
        told = "; ".join(f"{variant}: {why}" for variant, why in left_out.items())
        raise ParityFailed(f"the exported model does not answer as the trained one did: {told}")
    about.write(folder, staged)
    record = about.record(parity).model_copy(update={"takes_adapters": adapters})
    return StagedDecoder(files, left_out, record)


def stage_adapter(
    folder: Path, staged: Path, prompts: Sequence[Ids], variant: Variant, base: Bundle
) -> StagedDecoder:
    """Judge the staged adapter on a variant of its base, and write what serving needs beside.

    `folder` holds the trained model with the adapter merged. ParityFailed, with the reasons, unless
    base and adapter say what it says; InvalidInput when the base has no such variant.
    """
    if variant not in base.manifest.variants:
        why = base.manifest.left_out.get(variant, "it was not exported")
        raise InvalidInput(f"the base has no {variant}: {why}")
    about = _about(folder)
    engine = _gate_engine(base.variant_file(variant), prompts)
    adapter = engine.load_adapter(read_adapter(staged / ADAPTER_FILE))
    trained, bounds = TorchModel(folder), bounds_for(variant)
    record = check_decoder(engine, trained, prompts, bounds, adapter=adapter)
    if not record.passed:
        told = "; ".join(record.reasons)
        raise ParityFailed(f"the adapter on its base does not answer as the trained model: {told}")
    about.write(folder, staged)
    return StagedDecoder({variant: ADAPTER_FILE}, {}, about.record({variant: record}))


def _gate_engine(file: Path, prompts: Sequence[Ids]) -> OnnxDecoder:
    longest = max(map(len, prompts), default=1) + CONTINUATION_TOKENS
    return OnnxDecoder(file, slots=_GATE_SLOTS, longest=longest)


@dataclass(frozen=True, slots=True)
class _About:
    context_tokens: int
    eos_ids: list[int]
    template: FolderTemplate

    def record(self, parity: dict[Variant, GenerationParity]) -> GenerationRecord:
        return GenerationRecord(
            context_tokens=self.context_tokens,
            eos_ids=self.eos_ids,
            chat_template=None if self.template.source is None else CHAT_TEMPLATE_FILE,
            template_tokens=dict(self.template.special_tokens),
            tool_form=self.template.tool_form,
            parity=parity,
        )

    def write(self, folder: Path, staged: Path) -> None:
        """Write the tokenizer and the template of the model in `folder`."""
        shutil.copyfile(folder / TOKENIZER_FILE, staged / TOKENIZER_FILE)
        if self.template.source is not None:
            (staged / CHAT_TEMPLATE_FILE).write_text(self.template.source, encoding="utf-8")


def _about(folder: Path) -> _About:
    """Read what a folder says of its model; InvalidInput for what cannot be missing."""
    config = read_object(folder / "config.json")
    generation = read_object(folder / "generation_config.json", needed=False)
    if not (folder / TOKENIZER_FILE).is_file():
        raise InvalidInput(f"{folder} has no {TOKENIZER_FILE}")
    ends = generation.get("eos_token_id", config.get("eos_token_id"))
    eos_ids = ends if isinstance(ends, list) else [] if ends is None else [ends]
    context = config.get("max_position_embeddings")
    if not eos_ids or not isinstance(context, int):
        raise InvalidInput(f"{folder} does not say which token ends a text, or how long it may be")
    return _About(context, eos_ids, read_template(folder))
