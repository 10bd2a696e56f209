"""An instruction that generation's examples share is kept, and stays a cost of every request."""

from collections.abc import Sequence

from hone.models.savings import estimate_tokens
from hone.training.generation.conversations import Completion, Conversation, Example, as_json
from hone.training.preparation.chat import Chat
from hone.training.preparation.problems import Problem
from hone.training.preparation.prompts import PromptCompletion


def kept_instruction(examples: Sequence[Example]) -> list[Problem]:
    """Return advice where most chats have one system message, or all prompts one beginning."""
    chats = [as_json(example) for example in examples if isinstance(example, Conversation)]
    prompts = [as_json(example) for example in examples if isinstance(example, Completion)]
    shared = (
        Chat.found_in(chats, "messages").shared_instruction,
        PromptCompletion.found_in(prompts, "prompt", "completion").shared_instruction,
    )
    return [_advice(found.text) for found in shared if found is not None]


def _advice(instruction: str) -> Problem:
    tokens = estimate_tokens(instruction)
    message = (
        f"the examples share an instruction (about {tokens:,} tokens), which stays in them, so "
        "that every request has to send it: to have the model replace it, leave it out of the "
        "examples and give it as the recipe's baseline.instruction"
    )
    return Problem("shared_instruction", "advice", 1, message)
