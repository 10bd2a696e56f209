"""The prompt of each item: fixed examples, or the nearest ones; and which items it gives away."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hone.comparison.experiment import Prompted, ServedContender
from hone.comparison.items import Material
from hone.comparison.outcomes import Item
from hone.comparison.picture_features import PictureEncoder
from hone.comparison.prompts import choose_examples, served_template, templates_of
from hone.models.engines import FloatArray
from hone.models.examples import words_key
from hone.models.imaging.pictures import PictureFile
from hone.models.prompting.embedding import BertEncoder, kept_embeddings, nearest
from hone.models.prompting.inputs import Input, InputKind, Shot, identity, shown_as
from hone.models.prompting.prompts import Prompt, Templates, labels_list, nearest_last
from hone.models.tokenizer import IntArray

_LEAST_WORDS = 4
"""A text of fewer words may stand in an instruction by chance."""

Encoder = BertEncoder | PictureEncoder
"""Of texts or of pictures: what finds the examples that are like an item."""

PromptMaker = Callable[[int, Item], Prompt]
"""Makes the prompt of an item from its place among the items and itself."""


@dataclass(frozen=True, slots=True)
class PromptForm:
    """A prompt contender's templates with its labels and examples.

    `near` has the places of each item's nearest training examples, the nearest first; without it
    every item gets the `fixed` ones.
    """

    templates: Templates
    labels: str
    fixed: Sequence[Shot]
    training: Sequence[Shot] = ()
    near: IntArray | None = None

    def examples(self, place: int) -> list[Shot]:
        """Return an item's examples as they stand in its prompt: the nearest is the last."""
        if self.near is None:
            return list(self.fixed)
        return nearest_last(self.training, self.near[place].tolist())

    def prompt(self, place: int, item: Item) -> Prompt:
        """Return an item's prompt."""
        return self.templates.render(item.input, labels=self.labels, examples=self.examples(place))

    def leaked(self, items: Sequence[Item]) -> list[str]:
        """Return the ids of items that stand in their own prompt beside the question."""
        templates = f" {words_key(self.templates.system)} {words_key(self.templates.user)} "
        found = []
        for place, item in enumerate(items):
            key = identity(item.input)
            shown = any(identity(example.input) == key for example in self.examples(place))
            words = len(key.split()) if isinstance(item.input, str) else 0
            if shown or (words >= _LEAST_WORDS and f" {key} " in templates):
                found.append(item.id)
        return found


def fixed_form(
    contender: Prompted, material: Material, descriptions: Mapping[str, str], *, seed: int
) -> PromptForm:
    """Return a form whose examples are drawn by the seed, the same for every item."""
    return PromptForm(
        templates_of(contender, material.kind),
        labels_list(material.labels, descriptions),
        choose_examples(material.training, contender.shots, seed=seed),
    )


def bare_form(
    contender: Prompted, material: Material, descriptions: Mapping[str, str]
) -> PromptForm:
    """Return a form without any example, as long as none is found."""
    return PromptForm(
        templates_of(contender, material.kind), labels_list(material.labels, descriptions), fixed=()
    )


def retrieved_form(
    contender: Prompted,
    material: Material,
    descriptions: Mapping[str, str],
    encoder: Encoder,
    *,
    folder: Path,
    progressed: Callable[[int], None] | None = None,
) -> PromptForm:
    """Return a form with the nearest examples for each item, by an encoder of the base.

    Inputs are embedded once and kept in `folder`; `progressed` is told of each batch.
    """
    taught = [shot.input for shot in material.training]
    embed = _embedder(encoder, folder, progressed)
    examples, questions = embed(taught), embed([item.input for item in material.items])
    return PromptForm(
        templates_of(contender, material.kind),
        labels_list(material.labels, descriptions),
        (),
        material.training,
        nearest(questions, examples, contender.shots),
    )


def _embedder(
    encoder: Encoder, folder: Path, progressed: Callable[[int], None] | None
) -> Callable[[Sequence[Input]], FloatArray]:
    """Return what gives unit vectors, float32 of shape (inputs, features), for its inputs."""
    if isinstance(encoder, BertEncoder):
        return lambda inputs: kept_embeddings(encoder, [*map(shown_as, inputs)], folder, progressed)
    return lambda inputs: encoder.features(
        [each for each in inputs if isinstance(each, PictureFile)], folder, progressed
    )


def bare_prompt(contender: ServedContender, kind: InputKind) -> PromptMaker:
    """Return what gives a served model its text or picture, in its template."""
    bare = Templates("", served_template(contender, kind), "", as_turns=False)
    return lambda _place, item: bare.render(item.input, labels="", examples=())
