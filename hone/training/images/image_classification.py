"""A picture classifier: pictures -> probe or fine-tuned -> calibrated -> exported -> published."""

import math
from collections.abc import Callable
from pathlib import Path

from accelerate.utils import set_seed

from hone.models.errors import InvalidRecipe
from hone.models.manifest import Manifest
from hone.training.checkpoint import remove_remains
from hone.training.classifier import trained_parameters
from hone.training.finetune import Run, fine_tune
from hone.training.hyperparameters import (
    PictureHyperparameters,
    choose_device,
    choose_precision,
)
from hone.training.images.backbones import (
    ImageClassifier,
    PictureBase,
    build_image_classifier,
    merge_picture_lora,
    obtain_picture_base,
)
from hone.training.images.delivery import PictureDelivery, calibrating_pictures
from hone.training.images.feeding import PictureFeed
from hone.training.images.loading import (
    PictureExamples,
    PictureSplit,
    decode_split,
    read_picture_examples,
    remove_pixels,
    training_rule,
)
from hone.training.images.probe import fit_probe
from hone.training.images.recipe import ImageRecipe
from hone.training.loop import Interrupted
from hone.training.progress import Progress
from hone.training.publishing import publish
from hone.training.run_context import RunContext, refuse_early, run_folder

_FEWEST_STEPS, _LEAST_EPOCHS, _MOST_EPOCHS = 420, 4, 30
_SCRATCH_EPOCHS = 40


def train_image_classifier(recipe: ImageRecipe, context: RunContext) -> Manifest | None:
    """Train, check and publish a picture classifier, as `run_recipe` says."""
    _refuse_what_texts_have(recipe)
    base = obtain_picture_base(recipe.model)
    data = read_picture_examples(recipe)
    refuse_early(recipe)
    settled = settle_pictures(recipe, base, rows=len(data.examples["train"]))
    folder, events = run_folder(recipe, data.records), context.events
    with context.claimed(folder):
        events.emit("run_started", folder=str(folder), model=recipe.saving.name)
        events.emit(
            "data_loaded",
            rows={split: record.rows for split, record in data.records.items()},
            labels=len(data.labels),
            truncated=0,
            max_tokens=0,
        )
        set_seed(recipe.training.seed)
        model = build_image_classifier(base, recipe.model, labels=len(data.labels))
        feed = PictureFeed(base.rule, recipe.augmentation)
        run = Run(
            folder,
            recipe,
            settled,
            events,
            context.stop_requested,
            base.revision,
            feed=feed,
            labels=data.labels,
        )
        check = _stopper(run)
        splits = _decoded(recipe, base, data, folder, check)
        progress = _trained(model, splits, run, feed, check)
        if not context.processes.is_main_process:
            return None
        merge_picture_lora(model)
        model.to("cpu").float().eval()
        kept = base.rule if _is_probe(recipe) else training_rule(base.rule)
        delivery = PictureDelivery(
            model,
            base.rule,
            data,
            {split: rows for split, rows in splits.items() if split != "train"},
            calibrating_pictures(splits["train"], kept, base.rule),
            recipe,
            lambda left_out: events.emit("quantized", left_out=left_out),
        )
        manifest = publish(delivery, base.base, run, progress)
        remove_remains(folder)
        remove_pixels(folder)
    return manifest


def settle_pictures(recipe: ImageRecipe, base: PictureBase, *, rows: int) -> PictureHyperparameters:
    """Replace every `auto` of the recipe by a value that fits the data and this machine.

    A probe has no epochs and no rate.
    """
    training, device = recipe.training, choose_device(recipe.training.device)
    batch_size = training.batch_size
    if batch_size == "auto":
        batch_size = 8 if rows < 300 else 16 if rows < 5000 else 32
    epochs = training.epochs
    if epochs == "auto":
        wanted = math.ceil(_FEWEST_STEPS / math.ceil(rows / batch_size))
        epochs = float(min(_MOST_EPOCHS, max(_LEAST_EPOCHS, wanted)))
        epochs = float(_SCRATCH_EPOCHS) if recipe.model.scratch else epochs
    rate = recipe.optimizer.learning_rate
    if rate == "auto":
        usual = {"lora": 1e-3, "full": 2e-3 if recipe.model.scratch else 2e-4, "probe": 0.0}
        rate = usual[recipe.model.settled_method] * math.sqrt(batch_size / 32)
    probe = _is_probe(recipe)
    return PictureHyperparameters(
        epochs=0.0 if probe else epochs,
        batch_size=batch_size,
        learning_rate=0.0 if probe else rate * recipe.optimizer.learning_rate_multiplier,
        precision="fp32" if probe else choose_precision(training.precision, device),
        device=device,
        picture_size=base.rule.height,
        easy_share=0.0 if training.easy_share == "auto" else training.easy_share,
    )


def _is_probe(recipe: ImageRecipe) -> bool:
    return recipe.model.settled_method == "probe"


def _refuse_what_texts_have(recipe: ImageRecipe) -> None:
    if recipe.baseline.tokenizer is not None or recipe.baseline.model_fields_set & {"examples"}:
        raise InvalidRecipe(
            ["baseline: 'tokenizer' and 'examples' are for texts; pictures' tokens are estimated"]
        )


def _stopper(run: Run) -> Callable[[], None]:
    """Return what raises Interrupted when the run is asked to stop, where nothing is to save."""

    def check() -> None:
        if run.stop_requested():
            run.events.emit("interrupted", step=0, during="before the training")
            raise Interrupted

    return check


def _decoded(
    recipe: ImageRecipe,
    base: PictureBase,
    data: PictureExamples,
    folder: Path,
    check: Callable[[], None],
) -> dict[str, PictureSplit]:
    """Decode all splits; training pictures with a margin where they are to be cropped anew."""
    kept = base.rule if _is_probe(recipe) else training_rule(base.rule)
    rules = {split: kept if split == "train" else base.rule for split in data.examples}
    return {
        split: decode_split(data, split, rule, folder, check=check) for split, rule in rules.items()
    }


def _trained(
    model: ImageClassifier,
    splits: dict[str, PictureSplit],
    run: Run,
    feed: PictureFeed,
    check: Callable[[], None],
) -> Progress:
    train, validation = splits["train"], splits["validation"]
    if run.settled.epochs == 0:
        trained, everything = trained_parameters(model)
        run.events.emit("probing", trained_parameters=trained, all_parameters=everything)
        return fit_probe(model, train, validation, run, feed, check=check)
    return fine_tune(model, train, validation, run)
