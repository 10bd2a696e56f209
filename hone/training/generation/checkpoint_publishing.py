"""Publishes checkpoints while the run goes on, so that a person can ask them.

Each is exported in fp32 and held against its own weights by the gate of every bundle, and stands in
the store as `<name>-ckpt@<step>`: a run that was killed and comes by the same step again finds it
there. What fails the gate is left out; the training goes on. The first one is exported as any model
is; the next ones are, where that can be, its graph with other weights, which takes no second.
"""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hone.models.errors import HoneError, ParityFailed
from hone.models.manifest import SplitRecord
from hone.models.names import checkpoints_of
from hone.models.registry import Registry
from hone.training.causal.export import DecoderVariant, export_decoder
from hone.training.causal.regrafting import WeightPlaces, Weights, find_weights
from hone.training.causal.staging import Export, stage_decoder
from hone.training.checkpoint import load_trained_weights, trained_weights
from hone.training.failures import failure_code
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
    _graph: Path | None = None
    """The last one that was published, whose graph the next one has, too."""
    _places: WeightPlaces | None = None
    _looked: bool = False

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
        except Exception as error:  # noqa: BLE001 - it must not cost the training
            told = {"reason": str(error), "code": failure_code(error)}
            self.context.events.emit("checkpoint_left_out", step=step, **told)
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
        with tempfile.TemporaryDirectory(
            dir=self.folder, prefix=".checkpoint-", suffix=".new"
        ) as made:
            whole, folder = self._whole(model), Path(made)
            save_trained(whole, self.base, folder)
            weights = {n: p.detach().numpy() for n, p in whole.named_parameters()}
            if self._graph is None or not self._graph.is_file():
                self._stage(registry, name, step, folder, weights, export_decoder)
                return
            try:
                self._stage(registry, name, step, folder, weights, self._regraft(weights))
            except (ParityFailed, FileNotFoundError):
                # The builder folds something in that only looks like a weight; or somebody has
                # just removed the last one.
                self._places = None
                self._stage(registry, name, step, folder, weights, export_decoder)

    def _stage(
        self,
        registry: Registry,
        name: str,
        step: int,
        folder: Path,
        weights: Weights,
        export: Export,
    ) -> None:
        prompts = gate_prompts(self.base, self.data)
        with registry.staging() as staged:
            decoder = stage_decoder(folder, staged, prompts, ["fp32"], export=export)
            body = causal_body(self.recipe, self.base, self.data, self.records, decoder)
            registry.publish(name, staged, body, version=step)
        self._graph = registry.folder(name, step) / decoder.variants["fp32"]
        if export is export_decoder and not self._looked:
            self._looked, self._places = True, find_weights(self._graph, weights)

    def _regraft(self, weights: Weights) -> Export:
        """Return what puts the weights into the last checkpoint's graph, where that can be."""
        places, graph = self._places, self._graph
        if places is None or graph is None:
            return export_decoder

        def export(_folder: Path, _variant: DecoderVariant, path: Path) -> None:
            places.write(graph, weights, path)

        return export

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
    except (HoneError, OSError):
        return  # none is there, or somebody promoted one; or the disk refuses: the next one tries
