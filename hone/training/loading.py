"""Reads a run's examples and tokenizes them within what the base can read."""

from dataclasses import dataclass
from pathlib import Path

import orjson

from hone.models.catalogue import Base
from hone.models.errors import InvalidExamples
from hone.models.examples import SPLITS, Example, read_examples, sha256_of_file
from hone.models.manifest import TOKENIZER_FILE, SplitRecord
from hone.models.prompt_form import PromptForm
from hone.models.tokenizer import TextTokenizer
from hone.training.classifier import token_limit
from hone.training.dataset import EncodedSplit, encode_split, label_order
from hone.training.hyperparameters import Hyperparameters, settle
from hone.training.preparation.report import REPORT_NAME
from hone.training.recipe import ClassifierRecipe

_TEXTS_MEASURED_TOGETHER = 4096


@dataclass(frozen=True, slots=True)
class Data:
    """The examples of a run, tokenized, with their labels in the model's order.

    `prompt_form` is what their prompts shared before they were prepared, or None if nobody knows.
    """

    examples: dict[str, list[Example]]
    encoded: dict[str, EncodedSplit]
    labels: list[str]
    tokenizer: TextTokenizer
    records: dict[str, SplitRecord]
    prompt_form: PromptForm | None = None


def load_data(recipe: ClassifierRecipe, base: Base) -> tuple[Data, Hyperparameters]:
    """Read and tokenize the splits, and settle what the recipe leaves to `auto`."""
    files = {split: recipe.dataset.file(split) for split in SPLITS}
    examples = {split: read_examples(file) for split, file in files.items() if file is not None}
    for needed in ("train", "validation"):
        if needed not in examples:
            raise InvalidExamples(f"the recipe names no {needed} examples")
    labels = label_order(examples["train"])
    positive = recipe.dataset.positive_label
    if positive is not None and positive not in labels:
        raise InvalidExamples(f"dataset.positive_label: no example has the label {positive!r}")
    limit = token_limit(base)
    policy = recipe.dataset.long_texts
    measuring = TextTokenizer.from_file(base.folder / TOKENIZER_FILE, max_tokens=2**31)
    settled = settle(
        recipe,
        rows=len(examples["train"]),
        longest=_longest(examples["train"], measuring),
        token_limit=limit,
    )
    tokenizer = TextTokenizer.from_file(
        base.folder / TOKENIZER_FILE, max_tokens=settled.max_tokens, long_texts=policy
    )
    encoded = {
        split: encode_split(rows, labels, tokenizer, split=split)
        for split, rows in examples.items()
    }
    records = {
        split: SplitRecord(rows=len(examples[split]), sha256=sha256_of_file(file))
        for split, file in files.items()
        if file is not None
    }
    form = None if recipe.dataset.path is None else read_prompt_form(Path(recipe.dataset.path))
    return Data(examples, encoded, labels, tokenizer, records, form), settled


def _longest(rows: list[Example], tokenizer: TextTokenizer) -> int:
    """Return the tokens of the longest text, in pieces so that uncut ids are never all held."""
    starts = range(0, len(rows), _TEXTS_MEASURED_TOGETHER)
    pieces = (rows[start : start + _TEXTS_MEASURED_TOGETHER] for start in starts)
    texts = (text for rows in pieces for text in tokenizer.encode([row.text for row in rows]))
    return max(len(text.ids) for text in texts)


def read_prompt_form(folder: Path) -> PromptForm | None:
    """Return the form that `hone prepare` wrote into its folder's report, or None if it did not.

    InvalidExamples when there is a report that cannot be read.
    """
    path = folder / REPORT_NAME
    if not path.is_file():
        return None
    try:
        found = orjson.loads(path.read_bytes()).get("prompt_form")
        return None if found is None else PromptForm.model_validate(found)
    except (ValueError, AttributeError):
        raise InvalidExamples(f"{path} is not a report of hone prepare: prepare again") from None
