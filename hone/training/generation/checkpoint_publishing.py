"""Publishes checkpoints while the run goes on, so that a person can ask them.

Each is exported in fp32 and held against its own weights by the gate of every bundle, and stands in
the store as `<name>-ckpt@<step>`: a run that was killed and comes by the same step again finds it
there. What fails the gate is left out; the training goes on.
"""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hone.models.errors import Conflict, InvalidInput, NotFound, ParityFailed
from hone.models.manifest import SplitRecord
from hone.models.names import checkpoints_of
from hone.models.registry import Registry
from hone.training.causal.staging import stage_decoder
from hone.training.checkpoint import load_trained_weights, trained_weights
from hone.training.generation.causal_bases import CausalBase
from hone.training.generation.causal_data import CausalData
from hone.training.generation.causal_model import build_causal_model, merged, save_trained
from hone.training.generation.causal_publishing import causal_body, gate_prompts
from hone.training.generation.generation_recipe import GenerationRecipe
from hone.training.run_context import RunContext

_ALWAYS_S = 60.0
_SHARE = 0.5
"""Checkpoints may take a minute, or half as long as the training itself; then one is skipped."""


@dataclass(slots=True)
class CheckpointPublisher:
    """Publishes the weights of an evaluation; called on the main process alone."""

    recipe: GenerationRecipe
    base: CausalBase
    data: CausalData
    records: Mapping[str, SplitRecord]
    folder: Path
    context: RunContext
    _spent_s: float = 0.0
    _started: float = field(default_factory=time.monotonic)

    def __call__(self, step: int, model: Any) -> None:  # noqa: ANN401 - transformers has no types
        """Publish what the model is after so many steps, and drop what is more than are kept."""
        kept = self.recipe.saving.checkpoints
        registry = Registry(Path(self.recipe.saving.store))
        name = checkpoints_of(self.recipe.saving.name)
        if not kept or self.context.stop_requested() or self._has_spent_enough():
            return
        began = time.monotonic()
        try:
            if step <= registry.highest(name):
                return  # by an earlier process of this run
            self._publish(registry, name, step, model)
        except (InvalidInput, ParityFailed, Conflict) as error:
            self.context.events.emit("checkpoint_left_out", step=step, reason=str(error))
        else:
            took = round(time.monotonic() - began, 1)
            self.context.events.emit("checkpoint_published", model=name, version=step, seconds=took)
        finally:
            self._spent_s += time.monotonic() - began
        _keep_newest(registry, name, kept)

    def _has_spent_enough(self) -> bool:
        trained_s = time.monotonic() - self._started - self._spent_s
        return self._spent_s > max(_ALWAYS_S, _SHARE * trained_s)

    def _publish(self, registry: Registry, name: str, step: int, model: Any) -> None:  # noqa: ANN401
        # The loop's checkpoints clear away what a killed process leaves under this name.
        with (
            tempfile.TemporaryDirectory(
                dir=self.folder, prefix=".checkpoint-", suffix=".new"
            ) as folder,
            registry.staging() as staged,
        ):
            save_trained(self._whole(model), self.base, Path(folder))
            prompts = gate_prompts(self.base, self.data)
            decoder = stage_decoder(Path(folder), staged, prompts, ["fp32"])
            body = causal_body(self.recipe, self.base, self.data, self.records, decoder)
            registry.publish(name, staged, body, version=step)

    def _whole(self, model: Any) -> Any:  # noqa: ANN401
        """Return a copy of the model as it is now, LoRA merged, in fp32 on the CPU.

        Nothing that is drawn here may change what the training draws.
        """
        group = self.recipe.model
        if group.method == "qlora":
            group = group.model_copy(update={"method": "lora"})
        with torch.random.fork_rng():
            whole = build_causal_model(self.base, group)
        load_trained_weights(whole, trained_weights(model))
        return merged(whole)


def _keep_newest(registry: Registry, name: str, kept: int) -> None:
    try:
        versions = registry.listing(name).versions
        for version in versions[: max(0, len(versions) - kept)]:
            registry.remove(name, version)
    except (NotFound, Conflict):
        return  # none is there; or somebody promoted one, which is theirs to remove
