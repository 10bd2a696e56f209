"""The templates of contenders: their defaults, what is wrong with them, and the examples."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hone.comparison.experiment import EmbeddedContender, Prompted, ServedContender
from hone.models.prompting.inputs import InputKind, Shot
from hone.models.prompting.prompts import Templates, placeholders

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
PICTURES_SYSTEM = ZERO_SHOT_SYSTEM.replace("the text", "the picture")
_LAST_PICTURE = "Give the label of this one.\n\n{image}\n\nLabel:"
FEW_PICTURES = f"Pictures and their labels:\n\n{{examples}}\n\n{_LAST_PICTURE}"
RETRIEVED_PICTURES = f"Similar pictures and their labels:\n\n{{examples}}\n\n{_LAST_PICTURE}"
_EXAMPLES: dict[InputKind, str] = {
    "text": "Text: {text}\nLabel: {label}",
    "image": "{image}\nLabel: {label}",
}


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at a contender's templates found, each by its key."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def _api(contender: Prompted) -> str:
    return str(getattr(contender, "api", "chat"))


def templates_of(contender: Prompted, kind: InputKind) -> Templates:
    """Return a contender's templates for inputs of a kind, the file's or the defaults.

    Examples that are the same for all items stand before the input, so that a provider's cache
    can hold them; those retrieved for an item stand with it.
    """
    system, user = _texts(contender) if kind == "text" else _pictures(contender)
    example = _EXAMPLES[kind] if contender.example is None else contender.example
    return Templates(system, user, example, contender.examples_as == "turns")


def served_template(contender: ServedContender, kind: InputKind) -> str:
    """Return the template of what a served model is sent: the file's, or the bare input."""
    return f"{{{kind}}}" if contender.template is None else contender.template


def check_unread(contender: Prompted | ServedContender) -> Findings:
    """Find what is wrong with a contender's templates, whatever kind the items will turn out to be.

    They are looked at for the kind of their own placeholders; where those say none, for either.
    """
    own = [contender.template]
    if isinstance(contender, Prompted):
        own += [contender.system, contender.example]
    named = {name for template in own if template is not None for name in placeholders(template)}
    if "image" in named:
        return _check(contender, "image")
    found = _check(contender, "text")
    either = "text" not in named and not _check(contender, "image").errors
    return Findings((), found.warnings) if either else found


def _check(contender: Prompted | ServedContender, kind: InputKind) -> Findings:
    if isinstance(contender, Prompted):
        return check_prompt(contender, kind)
    return check_served(contender, kind)


def _pictures(contender: Prompted) -> tuple[str, str]:
    """Return the templates of the system's and the user's message, which has all pictures."""
    system, user = PICTURES_SYSTEM, "{image}"
    if contender.shots and contender.examples_as == "text":
        user = RETRIEVED_PICTURES if contender.prompt == "retrieved" else FEW_PICTURES
    if contender.template is not None:
        user = contender.template
        system = "" if "labels" in placeholders(user) else system
    return system if contender.system is None else contender.system, user


def _texts(contender: Prompted) -> tuple[str, str]:
    """Return the templates of the system's and the user's message."""
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
    return (
        system if given_system is None else given_system,
        user if given_user is None else given_user,
    )


def check_prompt(contender: Prompted, kind: InputKind) -> Findings:
    """Find what is wrong with a prompt contender's templates for inputs of a kind."""
    templates = templates_of(contender, kind)
    both = [*placeholders(templates.system), *placeholders(templates.user)]
    known = (kind, "labels", "examples")
    errors = [
        *_unknown("system", templates.system, known if kind == "text" else ("labels",)),
        *_unknown("template", templates.user, known),
        *_unknown("example", templates.example, (kind, "label")),
    ]
    warnings = []
    if kind not in both:
        errors.append(_missing_input("template", f"{templates.system}{templates.user}", kind))
    if kind not in placeholders(templates.user) and templates.as_turns:
        errors.append(f"template: examples as turns need {{{kind}}} in the user's message")
    in_text = bool(contender.shots) and not templates.as_turns
    if in_text and "examples" not in both:
        errors.append(f"template: a {contender.prompt} prompt needs the placeholder {{examples}}")
    if not in_text and "examples" in both:
        why = "are turns" if templates.as_turns else "are none"
        errors.append(f"template: {{examples}} has no place in a prompt whose examples {why}")
    if contender.shots:
        errors += [
            f"example: the placeholder {{{name}}} is missing"
            for name in (kind, "label")
            if name not in placeholders(templates.example)
        ]
    if "labels" not in both and _api(contender) != "decisions":
        warnings.append("the prompt does not list the labels ({labels})")
    return Findings(tuple(errors), tuple(warnings))


def check_served(contender: ServedContender, kind: InputKind) -> Findings:
    """Find what is wrong with a served contender's template for inputs of a kind."""
    template = served_template(contender, kind)
    errors = list(_unknown("template", template, (kind,)))
    if kind not in placeholders(template):
        errors.append(_missing_input("template", template, kind))
    return Findings(tuple(errors))


def check_embedded(contender: EmbeddedContender) -> Findings:
    """Find what is wrong with the template of a label that is embedded."""
    known = ("label", "description")
    errors = _unknown("template", contender.template, known)
    if not set(known) & set(placeholders(contender.template)):
        errors.append("template: it has neither {label} nor {description}, so all labels are alike")
    return Findings(tuple(errors))


_ONLY_FOR = {"text": "texts", "image": "pictures"}


def _unknown(key: str, template: str, known: Sequence[str]) -> list[str]:
    found = []
    for name in dict.fromkeys(placeholders(template)):
        if name in known:
            continue
        if name in _ONLY_FOR:
            other = "image" if name == "text" else "text"
            found.append(
                f"{key}: {{{name}}} is for {_ONLY_FOR[name]}, and the inputs are "
                f"{_ONLY_FOR[other]}" + (f": {{{other}}}" if other in known else "")
            )
        elif name == "examples" and known == ("labels",):
            found.append(
                f"{key}: {{examples}} are pictures, which only the user's message can show"
            )
        else:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {{{near[0]}}}?" if near else ""
            found.append(f"{key}: unknown placeholder {{{name}}}{hint}")
    return found


def _missing_input(key: str, template: str, kind: InputKind) -> str:
    hint = f" ({{{{{kind}}}}} is shown as {{{kind}}})" if f"{{{{{kind}}}}}" in template else ""
    other = ", or {image} for pictures," if kind == "text" else ""
    return f"{key}: the input's placeholder {{{kind}}}{other} is missing{hint}"


def choose_examples(examples: Sequence[Shot], count: int, *, seed: int) -> list[Shot]:
    """Draw `count` examples by the seed, going round the labels so that each has its share.

    Labels and the examples of each are shuffled; the same examples and seed give the same choice.
    """
    generator = np.random.default_rng(seed)
    by_label: dict[str, list[Shot]] = {}
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
