"""The baseline prompt of a bundle, and how its tokens are counted."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from hone.models.errors import InvalidInput
from hone.models.examples import Example
from hone.models.prompt_form import PromptForm
from hone.models.savings import (
    ESTIMATED,
    BaselinePrompt,
    TokenCounter,
    default_examples,
    default_instruction,
    estimate_tokens,
)
from hone.training.recipe_groups import BaselineGroup

BASELINE_TOKENIZER_FILE = "baseline_tokenizer.json"


def build_baseline(
    group: BaselineGroup, train: list[Example], labels: list[str], form: PromptForm | None = None
) -> BaselinePrompt:
    """Return the prompt that the model replaces.

    The recipe's if it has an instruction; else the one that the training data's prompts shared,
    which is known to the word, so that no examples are added unless the recipe says how many;
    else one made from labels and training texts. With `baseline.tokenizer`, a tokenizer.json of
    the model that was prompted, tokens are counted exactly; otherwise they are estimated, and the
    method says so.
    """
    shared = form.shared_text if form and group.instruction is None else ""
    instruction = group.instruction or shared or default_instruction(labels)
    known = shared and "examples" not in group.model_fields_set
    examples = default_examples(train, labels, 0 if known else group.examples)
    count, method = token_counter(group)
    # A completion's label costs output tokens as well; its mean over the training labels.
    output = float(np.mean([count(row.label) for row in train]))
    prompt = BaselinePrompt(
        instruction=instruction,
        examples=examples,
        static_tokens=0,
        output_tokens=output,
        method=method,
        tokenizer_file=BASELINE_TOKENIZER_FILE if group.tokenizer else None,
        price_model=group.price_model,
        separator=form.separator if form and known else None,
    )
    return prompt.model_copy(update={"static_tokens": count(prompt.render(""))})


def token_counter(group: BaselineGroup) -> tuple[TokenCounter, str]:
    """Return what counts the prompt's tokens, and its name; InvalidInput if it cannot be read."""
    if group.tokenizer is None:
        return estimate_tokens, ESTIMATED
    path = Path(group.tokenizer)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise InvalidInput(f"baseline.tokenizer: {path} is not a tokenizer file") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count, f"exact:{path.parent.name or path.stem}"
