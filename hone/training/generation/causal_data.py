"""Reads a run's conversations, and writes them as the base reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hone.models.errors import InvalidExamples, InvalidInput, ToolsUnknown
from hone.models.examples import SPLITS, sha256_of_file
from hone.models.manifest import SplitRecord
from hone.training.generation.causal_bases import CausalBase
from hone.training.generation.conversations import (
    Completion,
    Conversation,
    Example,
    Preference,
    read_conversations,
)
from hone.training.generation.encoding import (
    ConversationEncoder,
    EncodedExamples,
    TrainedText,
    fit,
    is_chat,
    template_for,
)
from hone.training.generation.generation_recipe import GenerationRecipe
from hone.training.generation.settling import (
    CausalHyperparameters,
    objective_for,
    settle_causal,
)

_LINES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Conversations:
    """The examples of a run as they were read, by split."""

    examples: Mapping[str, list[Example]]
    records: Mapping[str, SplitRecord]

    @property
    def preferences(self) -> bool:
        """Whether they are preferences, not completions to learn."""
        return isinstance(self.examples["train"][0], Preference)


@dataclass(frozen=True, slots=True)
class CausalData:
    """The examples as tokens. For preferences `encoded` has the better answers, `rejected` the
    worse ones, row for row.
    """

    examples: Mapping[str, list[Example]]
    encoder: ConversationEncoder
    encoded: Mapping[str, EncodedExamples]
    rejected: Mapping[str, EncodedExamples]

    @property
    def left_out(self) -> int:
        """How many examples were too long, or had nothing to learn once they were cut."""
        return sum(split.left_out for split in self.encoded.values())

    @property
    def truncated(self) -> int:
        """How many examples were cut."""
        return sum(split.truncated for split in self.encoded.values())


def read_splits(recipe: GenerationRecipe) -> Conversations:
    """Read every split that the recipe names; InvalidExamples unless all are of one kind.

    InvalidInput if they are not of the kind that the recipe's objective is for, or for what the
    recipe asks of completions where the data has preferences.
    """
    files = {split: recipe.dataset.file(split) for split in SPLITS}
    named = {split: file for split, file in files.items() if file is not None}
    examples = {split: read_conversations(file) for split, file in named.items()}
    kinds = {isinstance(rows[0], Preference) for rows in examples.values()}
    if len(kinds) > 1:
        raise InvalidExamples("one split has preferences, and another completions to learn")
    records = {
        split: SplitRecord(rows=len(examples[split]), sha256=sha256_of_file(file))
        for split, file in named.items()
    }
    found = Conversations(examples, records)
    objective_for(recipe.training.objective, preferences=found.preferences)
    if found.preferences:
        _refuse_of_completions(recipe)
    return found


def encode_splits(
    found: Conversations, recipe: GenerationRecipe, base: CausalBase
) -> tuple[CausalData, CausalHyperparameters]:
    """Encode all splits, and settle what the recipe leaves to `auto`.

    InvalidExamples when no training or no validation example is short enough.
    """
    train = found.examples["train"]
    for split, rows in found.examples.items():
        refuse_without_template(rows, base.tokenizer, f"the {split} file's line")
    template = template_for(recipe.dataset.template, train)
    weight = recipe.dataset.prompt_loss_weight
    trained = ConversationEncoder(base.tokenizer, template=template, prompt_loss_weight=weight)
    # A model is judged by what it answers: who wants prompts learned a little does not want them
    # to be guessed.
    encoder = ConversationEncoder(base.tokenizer, template=template)
    for split, rows in found.examples.items():
        refuse_unknown_tools(rows, encoder, f"the {split} file's line")
    texts = {
        split: encode_all(
            rows, trained if split == "train" else encoder, f"the {split} file's line"
        )
        for split, rows in found.examples.items()
    }
    settled = settle_causal(
        recipe,
        preferences=found.preferences,
        rows=len(train),
        longest=max(len(text.ids) for all_of in texts.values() for some in all_of for text in some),
        token_limit=base.max_tokens,
    )
    encoded, rejected = {}, {}
    for split, sides in texts.items():
        encoded[split], rejected[split] = _fitted(sides, recipe, settled.max_tokens)
        if split != "test" and not len(encoded[split]):
            raise InvalidExamples(
                f"no {split} example is within {settled.max_tokens} tokens: raise "
                "dataset.max_tokens, or take a base that reads more"
            )
    return CausalData(found.examples, encoder, encoded, rejected), settled


def _refuse_of_completions(recipe: GenerationRecipe) -> None:
    """Raise InvalidInput for a setting that DPO's loss has no place for."""
    for name, value in (
        ("dataset.prompt_loss_weight", recipe.dataset.prompt_loss_weight),
        ("training.label_smoothing", recipe.training.label_smoothing),
    ):
        if value:
            raise InvalidInput(f"{name} is for completions, and the data has preferences")


def encode_all(
    examples: Sequence[Example], encoder: ConversationEncoder, place: str
) -> list[tuple[TrainedText, ...]]:
    """Return each example's text; of a preference that with the better answer and the worse.

    InvalidExamples, naming lines at `place`, for those that the base's template does not take.
    """
    texts: list[tuple[TrainedText, ...]] = []
    refused: dict[str, list[int]] = {}
    for example in examples:
        try:
            texts.append(_encoded(example, encoder))
        except InvalidExamples as error:
            line = 0 if isinstance(example, Completion) else example.line
            refused.setdefault(str(error), []).append(line)
    if refused:
        raise InvalidExamples(
            "; ".join(f"{place} {_shown(lines)}: {reason}" for reason, lines in refused.items())
        )
    return texts


def _encoded(example: Example, encoder: ConversationEncoder) -> tuple[TrainedText, ...]:
    if isinstance(example, Preference):
        return encoder.encode_pair(example)
    return (encoder.encode(example),)


def refuse_unknown_tools(
    examples: Sequence[Example], encoder: ConversationEncoder, place: str
) -> None:
    """Raise ToolsUnknown, naming lines, for tools that the base's template does not know."""
    lines = [row.line for row in examples if isinstance(row, Conversation) and row.uses_tools]
    if lines and not encoder.knows_tools:
        raise ToolsUnknown(
            "the base's chat template does not know tools, or not in a form that can be served, "
            f"and {place} {_shown(lines)} has some: take a base whose template knows them, or "
            "leave these lines out"
        )


def refuse_without_template(
    examples: Sequence[Example],
    tokenizer: Any,  # noqa: ANN401 - transformers has no types
    place: str,
) -> None:
    """Raise InvalidInput, naming lines, for chats that the base has no template for."""
    lines = [row.line for row in examples if is_chat(row) and not isinstance(row, Completion)]
    if lines and not tokenizer.chat_template:
        raise InvalidInput(
            f"the base has no chat template, and {place} {_shown(lines)} has a chat: take an "
            "instruction-tuned base or a scratch: base, or write prompts with completions, or "
            "plain preferences"
        )


def _shown(lines: Sequence[int]) -> str:
    more = f" and {len(lines) - _LINES_SHOWN} more" if len(lines) > _LINES_SHOWN else ""
    return ", ".join(map(str, lines[:_LINES_SHOWN])) + more


def _fitted(
    sides: Sequence[tuple[TrainedText, ...]], recipe: GenerationRecipe, longest: int
) -> tuple[EncodedExamples, EncodedExamples]:
    """Cut or leave out long examples; a pair is used only if both of its texts are."""
    policy = recipe.dataset.long_examples
    first, last = (
        fit([pair[place] for pair in sides], longest=longest, policy=policy) for place in (0, -1)
    )
    both = sorted(set(first.rows) & set(last.rows))
    return _only(first, both, len(sides)), _only(last, both, len(sides))


def _only(encoded: EncodedExamples, rows: Sequence[int], given: int) -> EncodedExamples:
    texts = dict(zip(encoded.rows, encoded.texts, strict=True))
    used = [texts[row] for row in rows]
    truncated = sum(len(text.ids) < text.full_length for text in used)
    return EncodedExamples(used, list(rows), given - len(used), truncated)
