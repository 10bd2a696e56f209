"""The prompt whose work a causal model takes over: what a large model was sent before its input."""

import json
from collections.abc import Sequence

import numpy as np

from hone.models import examples
from hone.models.prompt_form import INSTRUCTING_ROLES, Turn, joined
from hone.models.savings import BaselineExample, BaselinePrompt, median_first
from hone.training.baseline import BASELINE_TOKENIZER_FILE, token_counter
from hone.training.generation.conversations import Completion, Example, Message, Preference
from hone.training.generation.encoding import Template
from hone.training.recipe_groups import BaselineGroup


def build_causal_baseline(
    group: BaselineGroup, train: Sequence[Example], template: Template
) -> BaselinePrompt | None:
    """Return the prompt that the recipe describes; None where it names no instruction or example.

    Its examples are training examples whose prompts are of middle length. Whether tokens are
    counted or estimated is as `training.baseline` says.
    """
    if group.instruction is None and not group.examples:
        return None
    count, method = token_counter(group)
    pairs = [_asked_and_answered(example) for example in train]
    shots = median_first([pair for pair in pairs if pair.text.strip()])[: group.examples]
    prompt = BaselinePrompt(
        instruction=group.instruction or "",
        examples=[BaselineExample(text=shot.text, label=shot.label) for shot in shots],
        static_tokens=0,
        output_tokens=float(np.mean([count(pair.label) for pair in pairs])),
        method=method,
        tokenizer_file=BASELINE_TOKENIZER_FILE if group.tokenizer else None,
        price_model=group.price_model,
        form=template,
    )
    return prompt.model_copy(update={"static_tokens": count(prompt.render(""))})


def _asked_and_answered(example: Example) -> examples.Example:
    """Return what an example asks as one text, and the answer that is wanted."""
    if isinstance(example, Completion):
        return examples.Example(example.prompt, example.completion)
    if isinstance(example, Preference):
        asked = example.prompt
        return examples.Example(asked if isinstance(asked, str) else _said(asked), example.chosen)
    last = max(n for n, m in enumerate(example.messages) if m.role == "assistant")
    answer = example.messages[last]
    called = (json.dumps(call.shown()["function"]) for call in answer.calls)
    text = "\n".join(part for part in (answer.content, *called) if part)
    return examples.Example(_said(example.messages[:last]), text)


def _said(messages: Sequence[Message]) -> str:
    """Return a user's one turn as it is, several turns behind their roles."""
    turns = [Turn(m.role, m.content) for m in messages if m.role not in INSTRUCTING_ROLES]
    return turns[0].content if len(turns) == 1 else joined(turns)
