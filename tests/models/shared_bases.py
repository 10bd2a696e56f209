"""A base and adapters on it in a store, of random bytes."""

from typing import Any

from hone.models.manifest import Manifest, ManifestBody, file_sha256
from hone.models.registry import Registry
from tests.models.bodies import fill, make_body

GENERATION: dict[str, Any] = {"context_tokens": 64, "eos_ids": [2]}


def generating(**changes: Any) -> ManifestBody:
    return make_body(task="text-generation", labels=[], generation=GENERATION, **changes)


def publish_base(registry: Registry, seed: int = 0) -> Manifest:
    takes = {**GENERATION, "takes_adapters": True}
    with registry.staging() as staged:
        fill(staged, seed=seed)
        body = make_body(task="text-generation", labels=[], generation=takes)
        return registry.publish("base-0", staged, body)


def publish_adapter(registry: Registry, base: Manifest, name: str = "support") -> Manifest:
    sha256 = file_sha256(base, "fp32")
    about = {"rank": 4, "base": base.model, "base_files": {"fp32": sha256}}
    with registry.staging() as staged:
        (staged / "adapter.safetensors").write_bytes(b"0" * 64)
        body = generating(adapter=about, variants={"fp32": "adapter.safetensors"})
        return registry.publish(name, staged, body)
