"""A tiny causal model with weights of nothing, exported through the gate and published."""

from pathlib import Path
from typing import Any

from hone.models.catalogue import Base
from hone.models.manifest import ManifestBody
from hone.models.registry import Registry
from hone.training.causal.staging import stage_decoder
from hone.training.generation.causal_bases import open_causal_base
from hone.training.generation.conversations import Completion
from hone.training.generation.scratch import make_base

POSITIONS = 1024


def make_folder(folder: Path, *, template: str | None = None) -> Path:
    """Make a base whose tokenizer has a token for each byte, and few more; maybe a template."""
    texts = [Completion("Where is my card?", " On its way.")]
    make_base(folder, "scratch:llama-1m", texts, vocabulary=300, positions=POSITIONS, seed=3)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def publish_causal(
    registry: Registry, name: str, folder: Path, *, tokenizer_too: bool = False, **more: Any
) -> None:
    """Publish a base's folder as it is; `more` goes into the manifest.

    With `tokenizer_too` its own tokenizer is also the baseline's.
    """
    base = open_causal_base(Base("tiny", folder, "none", "text-generation", POSITIONS))
    prompts = [base.tokenizer.encode(text) for text in ("Where is it?", "Is it here?")]
    with registry.staging() as staged:
        made = stage_decoder(folder, staged, prompts, ["fp32"])
        if tokenizer_too:
            tokenizer = (folder / "tokenizer.json").read_bytes()
            (staged / "baseline_tokenizer.json").write_bytes(tokenizer)
        body: dict[str, Any] = {
            "task": "text-generation",
            "limits": {"max_tokens": POSITIONS},
            "base": {"id": "tiny", "licence": "none", "revision": "0" * 64},
            "recipe": {"sha256": "1" * 64, "content": {}},
            "data": {"train": {"rows": 0, "sha256": "2" * 64}},
            "scores": {},
            "variants": made.variants,
            "token_lengths": {"p50": 5, "p90": 9, "p99": 12, "longest": 13},
            "generation": made.record.model_dump(),
            **more,
        }
        registry.publish(name, staged, ManifestBody.model_validate(body))
