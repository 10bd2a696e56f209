"""The templates of contenders: their defaults, what is wrong with them, and the examples."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hone.comparison.experiment import EmbeddedContender, Prompted, ServedContender
from hone.models.examples import Example
from hone.models.prompting.prompts import Templates, placeholders

_KNOWN = ("text", "labels", "examples")

ZERO_SHOT_SYSTEM = (
    "Classify the text into exactly one of these labels:\n{labels}\n\n"
    "Answer with the label only, exactly as it is written above."
)
FEW_SHOT_SYSTEM = f"{ZERO_SHOT_SYSTEM}\n\nExamples:\n\n{{examples}}"
RETRIEVED_TEMPLATE = (
    "Similar texts and their labels:\n\n{examples}\n\n"
    "Give the label of this one.\n\nText: {text}\nLabel:"
)
DECISION_SYSTEM = "Which of the choices does the text belong to?"
DECISION_FEW_SHOT = f"{DECISION_SYSTEM}\n\nExamples:\n\n{{examples}}"


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at a contender's templates found, each by its key."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def _api(contender: Prompted) -> str:
    return str(getattr(contender, "api", "chat"))


def templates_of(contender: Prompted) -> Templates:
    """Return a contender's templates, the file's or the defaults.

    Examples that are the same for all items stand before the input, so that a provider's cache
    can hold them; those retrieved for an item stand with it.
    """
    in_text = bool(contender.shots) and contender.examples_as == "text"
    retrieved = contender.prompt == "retrieved"
    few_shot = in_text and not retrieved
    if _api(contender) == "decisions":
        system = DECISION_FEW_SHOT if in_text else DECISION_SYSTEM
        user = "{text}"
    else:
        system = FEW_SHOT_SYSTEM if few_shot else ZERO_SHOT_SYSTEM
        user = RETRIEVED_TEMPLATE if retrieved and in_text else "{text}"
        if _api(contender) == "completions" and not (retrieved and in_text):
            user = "Text: {text}\nLabel:"
    given_system, given_user = contender.system, contender.template
    if given_user is not None and given_system is None:
        # A template that says everything itself needs no system message of ours.
        named = placeholders(given_user)
        if "labels" in named:
            system = ""
        elif "examples" in named and in_text:
            system = ZERO_SHOT_SYSTEM if _api(contender) != "decisions" else DECISION_SYSTEM
    if given_system is not None and given_user is None and "examples" in placeholders(given_system):
        user = "{text}" if _api(contender) != "completions" else "Text: {text}\nLabel:"
    return Templates(
        system if given_system is None else given_system,
        user if given_user is None else given_user,
        contender.example,
        contender.examples_as == "turns",
    )


def check_prompt(contender: Prompted) -> Findings:
    """Find what is wrong with a prompt contender's templates."""
    templates = templates_of(contender)
    both = [*placeholders(templates.system), *placeholders(templates.user)]
    errors = [
        *_unknown("system", templates.system, _KNOWN),
        *_unknown("template", templates.user, _KNOWN),
        *_unknown("example", templates.example, ("text", "label")),
    ]
    warnings = []
    if "text" not in both:
        errors.append(_missing_text("template", f"{templates.system}{templates.user}"))
    if "text" not in placeholders(templates.user) and templates.as_turns:
        errors.append("template: examples as turns need {text} in the user's message")
    in_text = bool(contender.shots) and not templates.as_turns
    if in_text and "examples" not in both:
        errors.append(f"template: a {contender.prompt} prompt needs the placeholder {{examples}}")
    if not in_text and "examples" in both:
        why = "are turns" if templates.as_turns else "are none"
        errors.append(f"template: {{examples}} has no place in a prompt whose examples {why}")
    if contender.shots:
        errors += [
            f"example: the placeholder {{{name}}} is missing"
            for name in ("text", "label")
            if name not in placeholders(templates.example)
        ]
    if "labels" not in both and _api(contender) != "decisions":
        warnings.append("the prompt does not list the labels ({labels})")
    return Findings(tuple(errors), tuple(warnings))


def check_served(contender: ServedContender) -> Findings:
    """Find what is wrong with a served contender's template."""
    errors = list(_unknown("template", contender.template, ("text",)))
    if "text" not in placeholders(contender.template):
        errors.append(_missing_text("template", contender.template))
    return Findings(tuple(errors))


def check_embedded(contender: EmbeddedContender) -> Findings:
    """Find what is wrong with the template of a label that is embedded."""
    known = ("label", "description")
    errors = _unknown("template", contender.template, known)
    if not set(known) & set(placeholders(contender.template)):
        errors.append("template: it has neither {label} nor {description}, so all labels are alike")
    return Findings(tuple(errors))


def _unknown(key: str, template: str, known: Sequence[str]) -> list[str]:
    found = []
    for name in dict.fromkeys(placeholders(template)):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {{{near[0]}}}?" if near else ""
            found.append(f"{key}: unknown placeholder {{{name}}}{hint}")
    return found


def _missing_text(key: str, template: str) -> str:
    hint = " ({{text}} is shown as {text})" if "{{text}}" in template else ""
    return f"{key}: the input's placeholder {{text}} is missing{hint}"


def choose_examples(examples: Sequence[Example], count: int, *, seed: int) -> list[Example]:
    """Draw `count` examples by the seed, going round the labels so that each has its share.

    Labels and the examples of each are shuffled; the same examples and seed give the same choice.
    """
    generator = np.random.default_rng(seed)
    by_label: dict[str, list[Example]] = {}
    for example in examples:
        by_label.setdefault(example.label, []).append(example)
    names = sorted(by_label)
    order = [names[place] for place in generator.permutation(len(names))]
    shuffled = {
        name: [by_label[name][place] for place in generator.permutation(len(by_label[name]))]
        for name in order
    }
    longest = max((len(rows) for rows in shuffled.values()), default=0)
    turns = (shuffled[name][turn : turn + 1] for turn in range(longest) for name in order)
    return [example for one in turns for example in one][:count]
