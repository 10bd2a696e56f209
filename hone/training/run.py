"""One run of a recipe, by the pipeline of its task."""

from collections.abc import Callable

import transformers

from hone.models.errors import InvalidRecipe
from hone.models.manifest import Manifest
from hone.training.classification import train_classifier
from hone.training.events import Events
from hone.training.generation.generation_recipe import GenerationRecipe
from hone.training.generation.text_generation import train_generator
from hone.training.images.image_classification import train_image_classifier
from hone.training.images.recipe import ImageRecipe
from hone.training.recipe import ClassifierRecipe
from hone.training.recipe_groups import Recipe
from hone.training.run_context import RunContext, join_processes


def run_recipe(
    recipe: Recipe,
    *,
    events: Events,
    stop_requested: Callable[[], bool],
    fresh: bool = False,
) -> Manifest | None:
    """Train, check and publish; return the new version's manifest.

    Goes on from the last checkpoint of the same recipe and data unless `fresh`; BundleCorrupt if
    that was made with other weights of the base, another number of processes, or on a machine
    where `auto` meant something else. Raises ParityFailed when the exported model does not answer
    as the trained one, Interrupted when asked to stop, and the other HoneErrors for bad input.
    With several processes only the main one publishes; the others return None.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    context = RunContext(events, stop_requested, join_processes(recipe), fresh)
    if isinstance(recipe, ClassifierRecipe):
        return train_classifier(recipe, context)
    if isinstance(recipe, GenerationRecipe):
        return train_generator(recipe, context)
    if isinstance(recipe, ImageRecipe):
        return train_image_classifier(recipe, context)
    raise InvalidRecipe(["model.task: no pipeline trains it"])
