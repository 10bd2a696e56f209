"""From a trained model to a published bundle: calibrate, export, compare, score, describe."""

from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from hone.models.catalogue import Base
from hone.models.engines import Device, FloatArray
from hone.models.errors import BundleCorrupt, ParityFailed
from hone.models.imaging.predictor import PicturePredictor
from hone.models.manifest import (
    CARD_FILE,
    BaseModelRecord,
    Calibration,
    Manifest,
    ManifestBody,
    ParityRecord,
    RecipeRecord,
    Variant,
)
from hone.models.names import ModelReference
from hone.models.predictor import Predictor, softmax
from hone.models.registry import Registry
from hone.models.scoring import Evaluation, evaluate
from hone.training.calibration import fit_temperature
from hone.training.card import RunSummary, card_html, card_markdown
from hone.training.card_scores import served_evaluation
from hone.training.continuing import WEIGHTS_FILE
from hone.training.dataset import length_sorted_batches
from hone.training.delivery import Delivery
from hone.training.finetune import Run
from hone.training.loop import Interrupted
from hone.training.parity import Reference, bounds_for, check_parity, encode_all
from hone.training.progress import Progress

_LIBRARIES = ("torch", "transformers", "peft", "onnx", "onnxruntime", "onnxscript", "tokenizers")
_EVALUATION_BATCH = 32


@dataclass(frozen=True, slots=True)
class Exported:
    """What the parity gate let through, and what it did not.

    `logits` has those of each evaluation, float32 (rows, labels).
    """

    variants: dict[Variant, str]
    parity: dict[Variant, ParityRecord]
    left_out: dict[Variant, str]
    evaluations: dict[str, Evaluation]
    logits: dict[str, FloatArray]


def publish(delivery: Delivery, base: Base, run: Run, progress: Progress) -> Manifest:
    """Publish the trained model as the next version; ParityFailed if the export is not the same.

    Raises Interrupted when asked to stop; the checkpoint of the finished training is still there.
    """
    recipe, classes = run.recipe, delivery.splits["validation"].classes
    logits = delivery.trained_logits()
    calibration = fit_temperature(logits, classes)
    run.events.emit("calibrated", **calibration.model_dump())
    inputs = delivery.inputs("validation")
    reference = Reference(tuple(delivery.labels), inputs, logits, classes)
    registry = Registry(Path(recipe.saving.store))
    with registry.staging() as staged:
        delivery.stage(staged)
        exported = _export(delivery, reference, calibration, run, progress, staged)
        body = _body(delivery, base, run, calibration, exported)
        if recipe.saving.keep_weights:
            save_file(delivery.model.state_dict(), staged / WEIGHTS_FILE)
        _describe(delivery, body, run, progress, exported, staged)
        manifest = registry.publish(recipe.saving.name, staged, body)
    if recipe.saving.promote:
        registry.promote(ModelReference(manifest.model, version=manifest.version))
    run.events.emit(
        "published",
        model=manifest.model,
        version=manifest.version,
        folder=str(registry.folder(manifest.model, manifest.version)),
        card=str(run.folder / "card.html"),
    )
    return manifest


def _describe(
    delivery: Delivery,
    body: ManifestBody,
    run: Run,
    progress: Progress,
    exported: Exported,
    staged: Path,
) -> None:
    """Write the model card: into the bundle as Markdown, into the run's folder as a page."""
    served = served_evaluation(exported.evaluations)
    logits = exported.logits[f"{served.split}:{served.variant}"]
    summary = RunSummary(
        name=run.recipe.saving.name,
        body=body,
        settled=asdict(run.settled),
        progress=progress,
        evaluations=exported.evaluations,
        more_mistakes=delivery.more_mistakes(served, logits, body.calibration.temperature),
    )
    (staged / CARD_FILE).write_text(card_markdown(summary), encoding="utf-8")
    (run.folder / "card.html").write_text(card_html(summary), encoding="utf-8")


def _export(
    delivery: Delivery,
    reference: Reference,
    calibration: Calibration,
    run: Run,
    progress: Progress,
    staged: Path,
) -> Exported:
    """Write each variant, hold it against the trained model, and score those that pass."""
    result = Exported({}, {}, {}, {}, {})
    for variant in sorted(run.recipe.saving.variants, key=lambda v: v != "fp32"):
        if run.stop_requested():
            run.events.emit("interrupted", step=progress.step, during="during the export")
            raise Interrupted
        file = staged / f"model.{variant}.onnx"
        delivery.write(variant, file, fp32=staged / "model.fp32.onnx")
        run.events.emit("exported", variant=variant, bytes=file.stat().st_size)
        try:
            # fp16 is for GPUs, and is judged on one where there is one.
            device: Device = "auto" if variant == "fp16" else "cpu"
            predictor = delivery.predictor(staged, file, calibration.temperature, device)
            record = _checked(predictor, reference, variant, run)
        except (BundleCorrupt, ParityFailed) as error:
            if variant == "fp32":
                why = f"the exported model is not the trained one: {error}"
                raise ParityFailed(why) from None
            result.left_out[variant] = str(error)
            file.unlink()
            run.events.emit("variant_left_out", variant=variant, reason=str(error))
        else:
            result.variants[variant] = file.name
            result.parity[variant] = record
            _score(predictor, delivery, variant, run, result)
    return result


def _checked(
    predictor: Predictor | PicturePredictor, reference: Reference, variant: Variant, run: Run
) -> ParityRecord:
    """Hold a variant against the trained model; ParityFailed, with the reasons, if it differs."""
    record = check_parity(predictor, reference, bounds_for(variant))
    run.events.emit("parity", variant=variant, **record.model_dump())
    if not record.passed:
        raise ParityFailed("; ".join(record.reasons))
    return record


def _score(
    predictor: Predictor | PicturePredictor,
    delivery: Delivery,
    variant: Variant,
    run: Run,
    result: Exported,
) -> None:
    """Score a variant on validation and test, through the code that serves it."""
    for split in ("validation", "test"):
        if split not in delivery.splits:
            continue
        rows_of, encoded = delivery.splits[split], encode_all(predictor, delivery.inputs(split))
        logits = np.empty((len(rows_of), len(delivery.labels)), dtype=np.float32)
        for rows in length_sorted_batches(rows_of.lengths, _EVALUATION_BATCH):
            logits[rows] = predictor.logits([encoded[i] for i in rows])
        evaluation = evaluate(
            rows_of.classes,
            softmax(logits, predictor.temperature),
            delivery.labels,
            positive_label=run.recipe.dataset.positive_label,
            betas=run.recipe.dataset.betas,
        )
        result.evaluations[f"{split}:{variant}"] = evaluation
        result.logits[f"{split}:{variant}"] = logits
        run.events.emit(
            "scored",
            split=split,
            variant=variant,
            **{name: score.model_dump() for name, score in evaluation.scores.items()},
        )


def _body(
    delivery: Delivery, base: Base, run: Run, calibration: Calibration, exported: Exported
) -> ManifestBody:
    recipe = run.recipe
    return ManifestBody(
        labels=list(delivery.labels),
        base=BaseModelRecord(id=base.id, licence=base.licence, revision=run.base_revision),
        recipe=RecipeRecord(sha256=recipe.sha256(), content=recipe.model_dump(mode="json")),
        data=delivery.records,
        scores={name: found.scores for name, found in exported.evaluations.items()},
        calibration=calibration,
        variants=exported.variants,
        parity=exported.parity,
        left_out=exported.left_out,
        libraries=_library_versions(),
        licence=recipe.saving.licence,
        **delivery.fields(),
    )


def _library_versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
