"""What can be refused before a run's folder is touched and before anything is paid.

Every contender is loaded or looked at, and all that is wrong is named at once, by the contender's
name. `hone compare --dry-run` looks at the same.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hone.comparison.experiment import (
    AnyContender,
    BundleContender,
    EmbeddedContender,
    GeneratingContender,
    MajorityContender,
    PromptContender,
    Prompted,
    RecordedContender,
    ServedContender,
)
from hone.comparison.experiment_file import TEMPLATE_KEYS, InvalidExperiment
from hone.comparison.fitting import misfits
from hone.comparison.generating import load_generating
from hone.comparison.items import Material, files_of
from hone.comparison.listener import Listener
from hone.comparison.local_contenders import (
    BundleAnswerer,
    LocalContender,
    embed_labels,
    find_majority,
    load_bundle,
    read_recorded,
)
from hone.comparison.outcomes import Item
from hone.comparison.picture_check import undecodable
from hone.comparison.picture_features import PictureEncoder
from hone.comparison.plan import Plan, check_price
from hone.comparison.prompt_making import Encoder, PromptForm, bare_form, fixed_form
from hone.comparison.settings import read_api_key
from hone.comparison.stores import looked_up
from hone.comparison.verdict import LEAST_ITEMS
from hone.comparison.wording import counted
from hone.models.catalogue import HUB_PREFIX, folder_of_base
from hone.models.errors import HoneError, InvalidInput
from hone.models.manifest import Manifest
from hone.models.names import parse_reference
from hone.models.prompting.answers import LabelReader
from hone.models.prompting.embedding import BertEncoder
from hone.models.prompting.inputs import InputKind, identity
from hone.models.prompting.prompts import Prompt
from hone.models.prompting.tokens import TokenRule
from hone.models.registry import Registry

_LOOKS_AT_NONE = (MajorityContender, RecordedContender)
"""Contenders that answer without the pictures."""


@dataclass
class Ready:
    """A plan that nothing stands in the way of.

    All by the contenders' names: `keys` of those that have one, `local` those of this process,
    `forms` of the prompts (what is retrieved is not in them yet), `leaks` the items that stand in
    their own prompts. `encoders`, by the bases' names, are what finds examples, one for all that
    retrieve by a base. `warnings` are worth reading before paying.
    """

    plan: Plan
    reader: LabelReader
    keys: dict[str, str] = field(default_factory=dict)
    local: dict[str, LocalContender] = field(default_factory=dict)
    forms: dict[str, PromptForm] = field(default_factory=dict)
    encoders: dict[str, Encoder] = field(default_factory=dict)
    leaks: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def kind(self) -> InputKind | None:
        """The kind of the items; None where they could not be read."""
        return None if "items" in self.plan.unread else self.plan.material.kind


def make_ready(plan: Plan, listener: Listener | None = None, *, needs_keys: bool = True) -> Ready:
    """Load what runs in this process, and check all else that can be without asking anybody.

    Raises InvalidExperiment with every problem, the plan's among them. Without `needs_keys`, a key
    that is not there is a warning. The listener is told of the pictures that are looked at.
    """
    lenient = plan.experiment.experiment.reading == "lenient"
    ready = Ready(plan, LabelReader(plan.material.labels, lenient=lenient))
    problems = list(plan.problems)
    keyless: list[tuple[str, str, str]] = []
    for place, contender in plan.file.contenders:
        problems += [f"{place}: {said}" for said in _problems(ready, place, contender)]
        if (said := _said(partial(_read_key, ready, place, contender))) is not None:
            keyless.append((place, contender.name, said))
    problems += [said for said in _undecodable(ready, listener) if said is not None]
    about_items: list[str] = []
    if "items" not in plan.unread and (said := _said(lambda: about_items.extend(_on_items(ready)))):
        problems.append(said)
    if problems or (keyless and needs_keys):
        missing = [f"{place}: {said}" for place, _, said in keyless]
        raise InvalidExperiment(_in_order(plan, [*problems, *missing]))
    ready.warnings += [f"{name}: {said}; the run will need it" for _, name, said in keyless]
    for name, answerer in ready.local.items():
        if isinstance(answerer, BundleAnswerer):
            ready.warnings += notes_on(name, answerer.manifest, plan.material)
    ready.warnings += about_items
    return ready


def _undecodable(ready: Ready, listener: Listener | None) -> Iterator[str | None]:
    """Yield, by file, the pictures that would be asked about or shown and cannot be decoded."""
    contenders = ready.plan.experiment.contenders
    if ready.kind != "image" or all(isinstance(one, _LOOKS_AT_NONE) for one in contenders):
        return
    material = ready.plan.material
    test, train = files_of(ready.plan.experiment.experiment)
    yield undecodable((item.input for item in material.items), test, listener)
    prompts = [one for one in contenders if isinstance(one, Prompted)]
    shown = [shot for form in ready.forms.values() for shot in form.fixed]
    if any(one.prompt == "retrieved" for one in prompts):
        shown = list(material.training)
    if train is not None:
        in_order = dict.fromkeys(shot.input for shot in material.training)
        named = {identity(shot.input) for shot in shown}
        yield undecodable((each for each in in_order if identity(each) in named), train, listener)


def _in_order(plan: Plan, problems: Sequence[str]) -> list[str]:
    """Return problems with those of the whole first, and then by contender, each named once."""

    def rank(problem: str) -> int:
        own = (n for n, place in enumerate(plan.file.places, 1) if problem.startswith(f"{place}: "))
        return next(own, 0)

    return sorted(dict.fromkeys(problems), key=rank)


def _problems(ready: Ready, place: str, contender: AnyContender) -> Iterator[str]:
    """Make one contender ready but for its key, and yield what stands in the way."""
    unfit = list(_misfits(ready, place, contender))
    yield from unfit
    for step, keys in _STEPS.items():
        if unfit and ready.kind == "image" and step in _OF_INPUTS:
            continue
        if ready.plan.file.is_sound(place, *keys):
            problem = _said(partial(step, ready, contender))
            if problem is not None:
                yield problem


def _misfits(ready: Ready, place: str, contender: AnyContender) -> Iterator[str]:
    """Yield what a contender cannot do with the items, as far as both are known."""
    if ready.kind is not None and ready.plan.file.is_sound(place, *TEMPLATE_KEYS, "detail"):
        yield from misfits(contender, ready.kind)


def _said(step: Callable[[], None]) -> str | None:
    """Return what an expected error says; None if there was none."""
    try:
        step()
    except HoneError as error:
        return str(error)
    return None


def _read_key(ready: Ready, place: str, contender: AnyContender) -> None:
    if not ready.plan.file.is_sound(place, "api_key_env"):
        return
    if isinstance(contender, ServedContender | PromptContender) and contender.api_key_env:
        ready.keys[contender.name] = read_api_key(contender.api_key_env)


def _check_price(ready: Ready, contender: AnyContender) -> None:
    known = "prices" not in ready.plan.unread
    if known and isinstance(contender, ServedContender | PromptContender):
        check_price(ready.plan, contender)


def _check_tokenizer(ready: Ready, contender: AnyContender) -> None:
    del ready
    if isinstance(contender, ServedContender | PromptContender):
        TokenRule.of(contender.tokenizer)


def _note_prompt(ready: Ready, contender: AnyContender) -> None:
    """Note a prompt's form and what it gives away; what is retrieved is found in the run."""
    if not isinstance(contender, Prompted):
        return
    group, material = ready.plan.experiment.experiment, ready.plan.material
    if contender.prompt == "retrieved":
        _note_encoder(ready, contender.base)
        form = bare_form(contender, material, group.label_descriptions)
    else:
        form = fixed_form(contender, material, group.label_descriptions, seed=group.seed)
    ready.forms[contender.name] = form
    ready.leaks[contender.name] = form.leaked(material.items)


def _note_encoder(ready: Ready, base: str) -> None:
    """Look at a base, once for all contenders that retrieve by it."""
    if base in ready.encoders:
        return
    if ready.kind == "image":
        ready.encoders[base] = PictureEncoder.of(base)
    elif ready.kind == "text" or not _may_see(base):
        ready.encoders[base] = BertEncoder.from_base(base)


def _may_see(base: str) -> bool:
    """Whether a base may be one of pictures, as far as its name tells."""
    return base.startswith(HUB_PREFIX) or folder_of_base(base) is not None


def _load(ready: Ready, contender: AnyContender) -> None:
    """Load a contender of this process; where the items are unread, what needs none of them."""
    material, name, read = ready.plan.material, contender.name, "items" not in ready.plan.unread
    if isinstance(contender, BundleContender):
        _find_model(contender, ready.kind)
        ready.local[name] = load_bundle(contender)
    elif isinstance(contender, GeneratingContender):
        _find_model(contender, ready.kind)
        ready.local[name] = load_generating(
            contender, _prompts_of(ready, name), ready.reader, material.labels
        )
    elif isinstance(contender, EmbeddedContender):
        descriptions = ready.plan.experiment.experiment.label_descriptions
        encoder = BertEncoder.from_base(contender.base)
        if read:
            ready.local[name] = embed_labels(
                contender, encoder, material.labels, descriptions, material.items
            )
    elif isinstance(contender, MajorityContender) and material.training:
        ready.local[name] = find_majority(name, material.training)
    elif isinstance(contender, RecordedContender):
        ready.local[name] = read_recorded(contender, material.items, ready.reader)


_STEPS: dict[Callable[[Ready, AnyContender], None], tuple[str, ...]] = {
    _check_price: ("model", "price_model", "billing", "api"),
    _check_tokenizer: ("tokenizer",),
    _note_prompt: (*TEMPLATE_KEYS, "base"),
    _load: ("model", "store", "variant", "api", "base", "template", "path"),
}
"""What makes a contender ready, each with the keys that it rests on: of them all must be sound."""

_OF_INPUTS = (_note_prompt, _load)
"""What cannot be done by a contender that does not read the items."""


def _find_model(contender: BundleContender | GeneratingContender, kind: InputKind | None) -> None:
    """Raise NotFound with the store, and the name that may have been meant, for no such model.

    InvalidInput for a model of another task than the contender's kind is for.
    """
    registry, reference = Registry(Path(contender.store)), parse_reference(contender.model)
    with looked_up(registry, reference):
        task = registry.manifest(reference).task
    if contender.kind == "generating" and task == "text-classification":
        raise InvalidInput(f'{contender.model} classifies: use kind = "bundle"')
    if contender.kind == "bundle" and task == "text-generation":
        raise InvalidInput(f'{contender.model} generates: use kind = "generating", with a prompt')
    if task == "image-classification" and kind == "text":
        raise InvalidInput(f"{contender.model} is for pictures, and the items are texts")
    if task == "text-classification" and kind == "image":
        raise InvalidInput(f"{contender.model} is for texts, and the items are pictures")


def learned_from(manifest: Manifest, material: Material) -> bool | None:
    """Whether a classifier learned from the training file given; None if that is unknown."""
    given, learned = material.sha256.get("train"), manifest.data.get("train")
    return None if given is None or learned is None else learned.sha256 == given


def notes_on(name: str, manifest: Manifest, material: Material) -> Iterator[str]:
    """Yield what is odd about a classifier beside the experiment's files."""
    if not learned_from(manifest, material):
        yield (
            f"{name} learned from another file than the training examples given: items that stand "
            "in it cannot be found"
        )
    unknown = sorted(set(manifest.labels) ^ set(material.labels))
    if unknown:
        yield f"{name} and the items differ in labels: {', '.join(unknown[:10])}"


def _prompts_of(ready: Ready, name: str) -> Callable[[Item], Prompt]:
    """Return what makes a contender's prompts, by the form that is there when it is asked."""
    places = {item.id: place for place, item in enumerate(ready.plan.material.items)}
    return lambda item: ready.forms[name].prompt(places[item.id], item)


def _on_items(ready: Ready) -> Iterator[str]:
    """Warn of items that will not count; InvalidInput if none will."""
    items = ready.plan.material.items
    reasons = contamination(ready.plan.material, ready.leaks)
    aside = {one for ids in reasons.values() for one in ids}
    if len(aside) == len(items):
        raise InvalidInput(
            f"every item stands in the training data ({len(reasons['training data'])} of "
            f"{len(items)}) or in a prompt ({len(reasons['prompt'])}): nothing could be judged, "
            "and nobody is asked"
        )
    if aside:
        yield (
            f"{len(aside)} of {len(items)} items also stand in the training data "
            f"({len(reasons['training data'])}) or in a prompt ({len(reasons['prompt'])}): they "
            "are asked and paid for, and no figure of quality rests on them"
        )
    left = len(items) - len(aside)
    if left < LEAST_ITEMS:
        yield (
            f"{counted(left, 'item', 'count')}, and below {LEAST_ITEMS} nothing is judged: the "
            "verdict will be NOT ENOUGH DATA"
        )


def contamination(material: Material, leaks: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return the ids of items that stand in the training data or in a prompt, in their order."""
    leaked = {one for ids in leaks.values() for one in ids}
    in_order = [item.id for item in material.items if item.id in leaked]
    return {"training data": list(material.leaked), "prompt": in_order}
