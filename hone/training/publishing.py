"""From a trained model to a published bundle: calibrate, export, compare, score, describe."""

import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from hone.models.catalogue import Base
from hone.models.engines import Device, OnnxEngine
from hone.models.errors import BundleCorrupt, ParityFailed
from hone.models.manifest import (
    CARD_FILE,
    TOKENIZER_FILE,
    BaseModelRecord,
    Calibration,
    Limits,
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
from hone.models.tokenizer import TextTokenizer
from hone.training.baseline import BASELINE_TOKENIZER_FILE, build_baseline
from hone.training.calibration import fit_temperature
from hone.training.card import RunSummary, card_html, card_markdown
from hone.training.classifier import TextClassifier, run_over
from hone.training.continuing import WEIGHTS_FILE
from hone.training.dataset import length_sorted_batches, token_lengths
from hone.training.export import convert_fp16, export_fp32, quantize_int8
from hone.training.finetune import Interrupted, Run
from hone.training.loading import Data
from hone.training.parity import Reference, bounds_for, check_parity
from hone.training.progress import Progress

_LIBRARIES = ("torch", "transformers", "peft", "onnx", "onnxruntime", "onnxscript", "tokenizers")
_EVALUATION_BATCH = 32


@dataclass(frozen=True, slots=True)
class Exported:
    """What the parity gate let through, and what it did not."""

    variants: dict[Variant, str]
    parity: dict[Variant, ParityRecord]
    left_out: dict[Variant, str]
    evaluations: dict[str, Evaluation]


def publish(
    model: TextClassifier, base: Base, data: Data, run: Run, progress: Progress
) -> Manifest:
    """Publish the trained model as the next version; ParityFailed if the export is not the same.

    `model` is on the CPU, in fp32, with LoRA merged. Raises Interrupted when asked to stop; the
    checkpoint of the finished training is still there.
    """
    recipe, validation = run.recipe, data.encoded["validation"]
    logits = run_over(model, validation, model, pad_id=data.tokenizer.pad_id).numpy()
    calibration = fit_temperature(logits, validation.classes)
    run.events.emit("calibrated", **calibration.model_dump())
    texts = [row.text for row in data.examples["validation"]]
    reference = Reference(tuple(data.labels), texts, logits, validation.classes)
    registry = Registry(Path(recipe.saving.store))
    with registry.staging() as staged:
        shutil.copyfile(base.folder / TOKENIZER_FILE, staged / TOKENIZER_FILE)
        exported = _export(model, data, reference, calibration, run, progress, staged)
        body = _body(base, data, run, calibration, exported)
        if recipe.baseline.tokenizer is not None:
            shutil.copyfile(recipe.baseline.tokenizer, staged / BASELINE_TOKENIZER_FILE)
        if recipe.saving.keep_weights:
            save_file(model.state_dict(), staged / WEIGHTS_FILE)
        _describe(body, run, progress, exported, staged)
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
    body: ManifestBody, run: Run, progress: Progress, exported: Exported, staged: Path
) -> None:
    """Write the model card: into the bundle as Markdown, into the run's folder as a page."""
    summary = RunSummary(
        name=run.recipe.saving.name,
        body=body,
        settled=asdict(run.settled),
        progress=progress,
        evaluations=exported.evaluations,
    )
    (staged / CARD_FILE).write_text(card_markdown(summary), encoding="utf-8")
    (run.folder / "card.html").write_text(card_html(summary), encoding="utf-8")


def _export(
    model: TextClassifier,
    data: Data,
    reference: Reference,
    calibration: Calibration,
    run: Run,
    progress: Progress,
    staged: Path,
) -> Exported:
    """Write each variant, hold it against the trained model, and score those that pass."""
    result = Exported({}, {}, {}, {})
    for variant in sorted(run.recipe.saving.variants, key=lambda v: v != "fp32"):
        if run.stop_requested():
            run.events.emit("interrupted", step=progress.step, during="during the export")
            raise Interrupted
        file = staged / f"model.{variant}.onnx"
        write_variant(model, variant, file, fp32=staged / "model.fp32.onnx")
        run.events.emit("exported", variant=variant, bytes=file.stat().st_size)
        try:
            # fp16 is for GPUs, and is judged on one where there is one.
            device: Device = "auto" if variant == "fp16" else "cpu"
            predictor = _staged_predictor(staged, file, data, calibration, device)
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
            _score(predictor, data, variant, run, result.evaluations)
    return result


def _checked(
    predictor: Predictor, reference: Reference, variant: Variant, run: Run
) -> ParityRecord:
    """Hold a variant against the trained model; ParityFailed, with the reasons, if it differs."""
    record = check_parity(predictor, reference, bounds_for(variant))
    run.events.emit("parity", variant=variant, **record.model_dump())
    if not record.passed:
        raise ParityFailed("; ".join(record.reasons))
    return record


def _staged_predictor(
    staged: Path, file: Path, data: Data, calibration: Calibration, device: Device
) -> Predictor:
    """Load a variant from the files that would be published, as the service would load it."""
    tokenizer = TextTokenizer.from_file(
        staged / TOKENIZER_FILE,
        max_tokens=data.tokenizer.max_tokens,
        long_texts=data.tokenizer.long_texts,
    )
    engine = OnnxEngine(file, intra_threads=torch.get_num_threads(), device=device)
    return Predictor(tokenizer, engine, tuple(data.labels), calibration.temperature)


def write_variant(model: TextClassifier, variant: Variant, file: Path, *, fp32: Path) -> None:
    """Write one ONNX variant; those with fewer bits are made from the fp32 file."""
    if variant == "fp32":
        export_fp32(model, file)
    elif variant == "int8":
        quantize_int8(fp32, file)
    else:
        convert_fp16(fp32, file)


def _score(
    predictor: Predictor,
    data: Data,
    variant: Variant,
    run: Run,
    evaluations: dict[str, Evaluation],
) -> None:
    """Score a variant on validation and test, through the code that serves it."""
    for split in ("validation", "test"):
        if split not in data.encoded:
            continue
        encoded = data.encoded[split]
        logits = np.empty((len(encoded), len(data.labels)), dtype=np.float32)
        for rows in length_sorted_batches(encoded.lengths, _EVALUATION_BATCH):
            logits[rows] = predictor.logits([encoded.texts[i] for i in rows])
        evaluation = evaluate(
            encoded.classes,
            softmax(logits, predictor.temperature),
            data.labels,
            positive_label=run.recipe.dataset.positive_label,
            betas=run.recipe.dataset.betas,
        )
        evaluations[f"{split}:{variant}"] = evaluation
        run.events.emit(
            "scored",
            split=split,
            variant=variant,
            **{name: score.model_dump() for name, score in evaluation.scores.items()},
        )


def _body(
    base: Base, data: Data, run: Run, calibration: Calibration, exported: Exported
) -> ManifestBody:
    recipe = run.recipe
    return ManifestBody(
        task="text-classification",
        labels=data.labels,
        limits=Limits(max_tokens=data.tokenizer.max_tokens, long_texts=data.tokenizer.long_texts),
        base=BaseModelRecord(id=base.id, licence=base.licence, revision=run.base_revision),
        recipe=RecipeRecord(sha256=recipe.sha256(), content=recipe.model_dump(mode="json")),
        data=data.records,
        scores={name: found.scores for name, found in exported.evaluations.items()},
        calibration=calibration,
        variants=exported.variants,
        parity=exported.parity,
        left_out=exported.left_out,
        baseline=build_baseline(
            recipe.baseline, data.examples["train"], data.labels, data.prompt_form
        ),
        prompt_form=data.prompt_form,
        token_lengths=token_lengths(data.encoded["train"]),
        libraries=_library_versions(),
        licence=recipe.saving.licence,
    )


def _library_versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
