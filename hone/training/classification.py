"""A text classifier: examples -> fine-tuned -> calibrated -> exported -> checked -> published."""

from accelerate.utils import set_seed

from hone.models.manifest import Manifest
from hone.training.bases import obtain_base
from hone.training.checkpoint import remove_remains
from hone.training.classifier import build_classifier, merge_lora, weights_revision
from hone.training.continuing import begin_from, find_earlier
from hone.training.delivery import TextDelivery
from hone.training.events import Events
from hone.training.feeding import TextFeed
from hone.training.finetune import Run, fine_tune
from hone.training.hyperparameters import Hyperparameters
from hone.training.loading import Data, load_data
from hone.training.publishing import publish
from hone.training.recipe import ClassifierRecipe
from hone.training.run_context import RunContext, refuse_early, run_folder


def train_classifier(recipe: ClassifierRecipe, context: RunContext) -> Manifest | None:
    """Train, check and publish a text classifier, as `run_recipe` says."""
    base = obtain_base(recipe.model.base)
    earlier = find_earlier(recipe, base)
    data, settled = load_data(recipe, base)
    refuse_early(recipe)
    folder = run_folder(recipe, data.records)
    events = context.events
    with context.claimed(folder):
        events.emit("run_started", folder=str(folder), model=recipe.saving.name)
        _tell_data(data, settled, events)
        set_seed(recipe.training.seed)
        model = build_classifier(
            base,
            recipe.model,
            labels=len(data.labels),
            train_embeddings=recipe.training.train_embeddings,
        )
        if earlier is not None:
            begin_from(earlier, model, data.labels)
        tokenizer = data.tokenizer
        run = Run(
            folder,
            recipe,
            settled,
            events,
            context.stop_requested,
            weights_revision(base),
            feed=TextFeed(tokenizer.pad_id, tokenizer.mask_id, recipe.training.token_dropout),
            labels=data.labels,
        )
        progress = fine_tune(model, data.encoded["train"], data.encoded["validation"], run)
        if not context.processes.is_main_process:
            return None
        merge_lora(model)
        model.to("cpu").float().eval()
        manifest = publish(TextDelivery(model, base, data, recipe), base, run, progress)
        remove_remains(folder)
    return manifest


def _tell_data(data: Data, settled: Hyperparameters, events: Events) -> None:
    events.emit(
        "data_loaded",
        rows={split: record.rows for split, record in data.records.items()},
        labels=len(data.labels),
        truncated=sum(split.truncated for split in data.encoded.values()),
        max_tokens=settled.max_tokens,
    )
