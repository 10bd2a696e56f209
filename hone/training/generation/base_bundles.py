"""The base that adapters share: a bundle of its own, exported once for all of them.

It is called `base-` and the first 16 digits of the SHA-256 of the base's weights. Where a later run
wants another variant, a new version holds the old files, byte for byte, and the new one beside
them: an adapter finds the file that it was judged on in either.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hone.models.bundle import Bundle
from hone.models.errors import InvalidInput, NotFound, ParityFailed
from hone.models.manifest import (
    CARD_FILE,
    BaseModelRecord,
    Limits,
    Manifest,
    ManifestBody,
    RecipeRecord,
    TokenLengths,
    Variant,
    sha256_of_json,
)
from hone.models.names import ModelReference
from hone.models.registry import Registry
from hone.training.causal.export import DecoderVariant
from hone.training.causal.parity import Ids
from hone.training.causal.staging import StagedDecoder, stage_decoder
from hone.training.generation.causal_bases import CausalBase, load_causal_model
from hone.training.generation.causal_model import save_trained

_DIGITS = 16


def base_name(base: CausalBase) -> str:
    """Return the model name of a base's bundle."""
    return f"base-{base.revision[:_DIGITS]}"


def provide_base(
    registry: Registry,
    base: CausalBase,
    prompts: Sequence[Ids],
    variants: Sequence[DecoderVariant],
    scratch: Path,
) -> Bundle:
    """Return the base's bundle with the variants, published now unless it is there already.

    `prompts` are what the gate judges an export by; `scratch` is a folder that may be made and is
    removed. A variant that fails is left out with its reason; ParityFailed if fp32 does.
    """
    name = base_name(base)
    with registry.making(name):
        known = _newest(registry, name)
        missing = [v for v in variants if known is None or v not in known.manifest.variants]
        if missing:
            _publish(registry, base, prompts, (known, missing), scratch)
        return registry.open(ModelReference(name, alias="latest"))


def _newest(registry: Registry, name: str) -> Bundle | None:
    try:
        return registry.open(ModelReference(name, alias="latest"))
    except NotFound:
        return None


def _publish(
    registry: Registry,
    base: CausalBase,
    prompts: Sequence[Ids],
    wanted: tuple[Bundle | None, Sequence[DecoderVariant]],
    scratch: Path,
) -> None:
    """Export what is missing, and publish it with what is known, if any of it passes the gate."""
    known, missing = wanted
    try:
        save_trained(load_causal_model(base), base, scratch)
        with registry.staging() as staged:
            made, left_out = _stage_each(scratch, staged, prompts, missing)
            if not made:
                if known is None:
                    raise ParityFailed("; ".join(left_out.values()))
                return
            variants, parity = dict(known.manifest.variants if known else {}), {}
            if known is not None:
                for file in variants.values():
                    shutil.copyfile(known.file(file), staged / file)
                parity = known.manifest.generation.parity if known.manifest.generation else {}
            for one in made:
                variants |= one.variants
                parity = {**parity, **one.record.parity}
            record = made[0].record.model_copy(update={"parity": parity})
            decoder = StagedDecoder(variants, left_out, record)
            (staged / CARD_FILE).write_text(_card(base), encoding="utf-8")
            registry.publish(base_name(base), staged, _body(base, decoder, prompts))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _stage_each(
    folder: Path, staged: Path, prompts: Sequence[Ids], variants: Sequence[DecoderVariant]
) -> tuple[list[StagedDecoder], dict[Variant, str]]:
    made: list[StagedDecoder] = []
    left_out: dict[Variant, str] = {}
    for variant in variants:
        try:
            made.append(stage_decoder(folder, staged, prompts, [variant], adapters=True))
        except (InvalidInput, ParityFailed) as error:
            if variant == "fp32":
                raise
            (staged / f"model.{variant}.onnx").unlink(missing_ok=True)
            left_out[variant] = str(error)
    return made, left_out


def _body(base: CausalBase, decoder: StagedDecoder, prompts: Sequence[Ids]) -> ManifestBody:
    lengths = [len(prompt) for prompt in prompts]
    p50, p90, p99, longest = np.percentile(lengths, [50, 90, 99, 100], method="higher")
    return ManifestBody(
        task="text-generation",
        limits=Limits(max_tokens=decoder.record.context_tokens),
        base=BaseModelRecord(id=base.base.id, licence=base.base.licence, revision=base.revision),
        recipe=RecipeRecord(sha256=sha256_of_json({}), content={}),
        data={},
        scores={},
        variants=decoder.variants,
        generation=decoder.record,
        left_out=decoder.left_out,
        token_lengths=TokenLengths(p50=int(p50), p90=int(p90), p99=int(p99), longest=int(longest)),
        licence=base.base.licence,
    )


def _card(base: CausalBase) -> str:
    return (
        f"# {base_name(base)}\n\nThe base {base.base.id} as it is, exported so that adapters can "
        f"run on it. Licence: {base.base.licence}. SHA-256 of its weights: {base.revision}.\n"
    )


def adapter_files(manifest: Manifest, variants: Sequence[Variant]) -> dict[Variant, str]:
    """Return the SHA-256 of the base's file for each variant."""
    entries = {entry.path: entry.sha256 for entry in manifest.files}
    return {variant: entries[manifest.variants[variant]] for variant in variants}
