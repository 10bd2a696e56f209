"""Checkpoints: everything a run needs to go on where it was, without pickles.

A run of one process goes on to the last bit as if nothing had been. Of several processes the
weights, the optimizer, the losses of all rows and the counters come back whole, but of their
random generators only the main process's.

<run>/checkpoint-<step>/     0700, complete or absent
    model.safetensors        the weights that are trained
    optimizer.safetensors    AdamW's moments and step counts
    random.safetensors       the state of the main process's generator
    rows.safetensors         the latest loss of every row
    state.json               counters, history, what it belongs to (settled values, base,
                             processes), fp16's loss scale, the numbers of the optimizer's
                             groups, the SHA-256 of the files above and its own
<run>/best.safetensors       the weights to keep, of an evaluation so far, with their SHA-256
"""

import hashlib
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.amp import GradScaler

from hone.models import durable
from hone.models.errors import BundleCorrupt
from hone.models.examples import sha256_of_file
from hone.models.manifest import sha256_of_json
from hone.training.progress import Progress
from hone.training.row_schedule import RowLosses

BEST_FILE = "best.safetensors"
Origin = Mapping[str, Any]
"""What a checkpoint belongs to, as JSON values: going on with others would train another model."""
_FILES = (
    "model.safetensors",
    "optimizer.safetensors",
    "random.safetensors",
    "rows.safetensors",
)


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are trained, on the CPU, by name."""
    return {
        name: parameter.detach().to("cpu", copy=True).contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def load_trained_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Put weights from `trained_weights` back; BundleCorrupt if a name or a shape does not fit."""
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    shapes = ({name: t.shape for name, t in tensors.items()} for tensors in (own, weights))
    if next(shapes) != next(shapes):
        raise BundleCorrupt("the checkpoint is of another model: start anew with --fresh")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])


def save_best(run: Path, model: nn.Module) -> None:
    """Keep the weights of this evaluation."""
    beside, weights = run / f".{BEST_FILE}.new", trained_weights(model)
    save_file(weights, beside, metadata={"sha256": _sha256_of_tensors(weights)})
    durable.fsync_file(beside)
    durable.rename(beside, run / BEST_FILE)


def load_best(run: Path, model: nn.Module) -> None:
    """Put the weights that were kept back into the model; BundleCorrupt if they have changed."""
    weights = _read_best(run)
    if weights is None:
        raise BundleCorrupt(f"{run / BEST_FILE} is damaged: start anew with --fresh")
    load_trained_weights(model, weights)


def save_checkpoint(
    run: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    losses: RowLosses,
    origin: Origin,
    scaler: GradScaler | None = None,
) -> None:
    """Write a checkpoint beside the last one, make it complete in one rename, drop the old."""
    folder = run / f".checkpoint-{progress.step}.new"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    save_file(trained_weights(model), folder / _FILES[0])
    save_file(_optimizer_tensors(optimizer), folder / _FILES[1])
    save_file({"torch": torch.get_rng_state(), **_cuda_state()}, folder / _FILES[2])
    save_file(
        {"known": torch.from_numpy(losses.known), "fresh": torch.from_numpy(losses.fresh)},
        folder / _FILES[3],
    )
    hashes = {name: sha256_of_file(folder / name) for name in _FILES}
    content: dict[str, Any] = {
        "progress": asdict(progress),
        "origin": dict(origin),
        "loss_scale": scaler.state_dict() if scaler else None,
        "optimizer_groups": _group_numbers(optimizer),
        "sha256": hashes,
    }
    content["digest"] = sha256_of_json(content)
    (folder / "state.json").write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    for path in folder.iterdir():
        durable.fsync_file(path)
    durable.fsync_folder(folder)
    target = run / f"checkpoint-{progress.step}"
    shutil.rmtree(target, ignore_errors=True)
    durable.rename(folder, target)
    for other in [*run.glob("checkpoint-*"), *run.glob(".checkpoint-*.new")]:
        if other != target:
            shutil.rmtree(other, ignore_errors=True)


def load_checkpoint(
    run: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    losses: RowLosses,
    origin: Origin,
    scaler: GradScaler | None = None,
) -> Progress | None:
    """Restore the newest checkpoint whose hashes hold; None when there is none to go on from.

    BundleCorrupt, with what differs, when it belongs to something else than `origin`: what it
    holds may be hours of work, which is not thrown away unasked.
    """
    for folder in reversed(_checkpoints(run)):
        content = _read_state(folder)
        if content is None:
            continue
        progress = _progress(content["progress"])
        if progress.evaluations and _read_best(run) is None:
            continue
        _refuse_another(content["origin"], origin)
        load_trained_weights(model, load_file(folder / _FILES[0]))
        _restore_optimizer(optimizer, load_file(folder / _FILES[1]))
        for group, numbers in zip(
            optimizer.param_groups, content.get("optimizer_groups", ()), strict=False
        ):
            group.update(numbers)
        _restore_random(load_file(folder / _FILES[2]))
        rows = load_file(folder / _FILES[3])
        losses.known, losses.fresh = rows["known"].numpy(), rows["fresh"].numpy()
        if scaler and content["loss_scale"]:
            scaler.load_state_dict(content["loss_scale"])
        return progress
    return None


def remove_remains(run: Path) -> None:
    """Delete what only a run that is still going on needs."""
    for pattern in ("checkpoint-*", ".checkpoint-*.new", BEST_FILE, f".{BEST_FILE}.new"):
        for spent in run.glob(pattern):
            shutil.rmtree(spent) if spent.is_dir() else spent.unlink()


def _refuse_another(found: Origin, wanted: Origin) -> None:
    """Raise BundleCorrupt if a checkpoint belongs to something else."""
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        were = ", ".join(f"{name} {found.get(name)} (now {wanted[name]})" for name in differing)
        raise BundleCorrupt(
            f"the checkpoint was made with {were}: go on as it was made, or start anew with --fresh"
        )


def _read_state(folder: Path) -> dict[str, Any] | None:
    """Return a checkpoint's state.json; None unless all its files are as they were written."""
    try:
        content: dict[str, Any] = orjson.loads((folder / "state.json").read_bytes())
        digest = content.pop("digest")
        hashes = {name: sha256_of_file(folder / name) for name in _FILES}
        if digest != sha256_of_json(content) or hashes != content["sha256"]:
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # lost, or no state at all
        return None
    return content if "origin" in content else None


def _progress(content: dict[str, Any]) -> Progress:
    progress = Progress(**content)
    # JSON has no infinity and no NaN: they were written as null.
    progress.best_loss = math.inf if progress.best_loss is None else progress.best_loss
    progress.losses = [(step, math.nan if loss is None else loss) for step, loss in progress.losses]
    return progress


def _read_best(run: Path) -> dict[str, Tensor] | None:
    """Return the weights that were kept; None unless they are as they were written."""
    try:
        with safe_open(run / BEST_FILE, framework="pt") as file:
            expected = (file.metadata() or {}).get("sha256")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    return weights if _sha256_of_tensors(weights) == expected else None


def _sha256_of_tensors(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {tuple(weights[name].shape)}".encode())
        digest.update(weights[name].numpy().tobytes())
    return digest.hexdigest()


def _checkpoints(run: Path) -> list[Path]:
    found = [path for path in run.glob("checkpoint-*") if (path / "state.json").is_file()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value).to("cpu", copy=True).contiguous()
        for index, values in state.items()
        for name, value in values.items()
    }


def _group_numbers(optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
    """Return what an optimizer counts or estimates for a whole group, as Prodigy its rate.

    What is infinite is a setting that never changes, and JSON could not hold it.
    """
    return [
        {n: v for n, v in group.items() if isinstance(v, int | float) and math.isfinite(v)}
        for group in optimizer.param_groups
    ]


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _cuda_state() -> dict[str, Tensor]:
    return {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}


def _restore_random(tensors: dict[str, Tensor]) -> None:
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
