"""A base of causal models and adapters on it, published as real bundles."""

import shutil
from pathlib import Path
from typing import Any

from hone.models.bundle import Bundle
from hone.models.manifest import ManifestBody, file_sha256
from hone.models.names import ModelReference
from hone.models.registry import Registry
from hone.training.causal.adapter_file import ADAPTER_FILE, write_adapter
from hone.training.causal.staging import stage_adapter, stage_decoder
from tests.bases import base_folder
from tests.training.causal import reference
from tests.training.causal.adapting import merged, random_lora

BASE = "base-of-stories"


def body(made: Any, **more: Any) -> ManifestBody:
    return ManifestBody.model_validate(
        {
            "task": "text-generation",
            "limits": {"max_tokens": 512},
            "base": {"id": "stories260K", "licence": "MIT", "revision": "0" * 64},
            "recipe": {"sha256": "1" * 64, "content": {}},
            "data": {},
            "scores": {},
            "variants": made.variants,
            "token_lengths": {"p50": 5, "p90": 9, "p99": 12, "longest": 13},
            "generation": made.record.model_dump(),
            **more,
        }
    )


def publish_base(registry: Registry) -> Bundle:
    folder = base_folder("stories260K")
    with registry.staging() as staged:
        made = stage_decoder(folder, staged, reference.prompts(folder, 2), ["fp32"], adapters=True)
        registry.publish(BASE, staged, body(made))
    return registry.open(ModelReference(BASE))


def publish_adapter(registry: Registry, name: str, base: Bundle, seed: int, trained: Path) -> None:
    """Publish random LoRA of this seed, through the gate."""
    folder = base_folder("stories260K")
    lora = random_lora(folder, 4, seed)
    if not trained.is_dir():
        merged(folder, lora).save_pretrained(trained)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(folder / file, trained)
    with registry.staging() as staged:
        rank = write_adapter(lora, folder, staged / ADAPTER_FILE)
        made = stage_adapter(trained, staged, reference.prompts(folder, 2), "fp32", base)
        files = {"fp32": file_sha256(base.manifest, "fp32")}
        about = {"rank": rank, "base": base.manifest.model, "base_files": files}
        registry.publish(name, staged, body(made, adapter=about))
