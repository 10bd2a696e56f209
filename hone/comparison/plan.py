"""What an experiment comes to before anything is asked: material, prices, costs, warnings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hone.comparison.asking import Tariff
from hone.comparison.experiment import (
    Asked,
    Contender,
    Experiment,
    PromptContender,
    RecordedContender,
    ServedContender,
    billing_of,
)
from hone.comparison.experiment_file import ExperimentFile, InvalidExperiment
from hone.comparison.items import InvalidMaterial, Material, read_material
from hone.comparison.prices import MOST_USD_A_TOKEN, SNAPSHOT, Price, load_prices, why_unpriced
from hone.comparison.prompt_making import PromptMaker, bare_prompt, fixed_form
from hone.models.errors import InvalidInput
from hone.models.prompting.tokens import TokenRule

_NOTHING = Material((), 0, (), (), (), 0, {}, "text")
_MATERIAL_KEYS = (
    "path",
    "test",
    "train",
    "made_by",
    "labels",
    "label_descriptions",
    "most_items",
    "seed",
)
"""What reading the items rests on, in the group `experiment`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An experiment with everything that its files say. `price_file` is where prices are from.

    Where there are `problems`, those of the experiment's file among them, nothing may be asked by
    it; what is `unread` is empty, and is there so that the rest can be looked at.
    """

    file: ExperimentFile
    material: Material
    prices: Mapping[str, Price]
    price_file: Path
    problems: tuple[str, ...] = ()
    unread: frozenset[Literal["items", "prices"]] = frozenset()

    @property
    def experiment(self) -> Experiment:
        """The experiment."""
        return self.file.experiment

    @property
    def asked(self) -> list[Asked]:
        """The contenders that are asked over HTTP."""
        found = self.experiment.contenders
        return [one for one in found if isinstance(one, ServedContender | PromptContender)]

    def tariff(self, contender: Asked) -> Tariff:
        """Return what a contender's calls cost."""
        if billing_of(contender) == "hosting":
            return Tariff(None, free=True)
        return Tariff(self.prices.get(price_name(contender)))

    def repeats(self, contender: Asked) -> int:
        """Return how often each item is asked of a contender."""
        return contender.repeats or self.experiment.experiment.repeats


@dataclass(frozen=True, slots=True)
class Estimate:
    """What asking one contender would take, by the rule that `counting` names.

    `usd` is None where the price is unknown. Nothing is deducted for cached prompts.
    """

    contender: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    counting: str
    usd: float | None


def make_plan(file: ExperimentFile) -> Plan:
    """Read the files that an experiment names for all its contenders.

    InvalidExperiment with every problem of theirs, and of the experiment's own file.
    """
    plan = survey(file)
    if plan.problems:
        raise InvalidExperiment(plan.problems)
    return plan


def survey(file: ExperimentFile) -> Plan:
    """Read the files that an experiment names for all its contenders, and note every problem."""
    experiment, problems = file.experiment, list(file.problems)
    unread: set[Literal["items", "prices"]] = set()
    material, prices, price_file = _NOTHING, {}, SNAPSHOT
    try:
        if file.is_sound("costs", "prices"):
            named = experiment.costs.prices
            price_file = SNAPSHOT if named is None else Path(named)
            prices = load_prices(None if named is None else price_file)
        else:
            unread.add("prices")
    except InvalidInput as error:
        problems.append(str(error))
        unread.add("prices")
    try:
        if file.is_sound("experiment", *_MATERIAL_KEYS):
            material = read_material(experiment.experiment)
        else:
            unread.add("items")
    except InvalidMaterial as error:
        problems += error.problems
        unread.add("items")
    return Plan(file, material, prices, price_file, tuple(problems), frozenset(unread))


def price_name(contender: Contender) -> str:
    """Return a contender's name in the price file."""
    if isinstance(contender, ServedContender | PromptContender):
        return contender.price_model or contender.model
    return (contender.price_model if isinstance(contender, RecordedContender) else None) or ""


def check_price(plan: Plan, contender: Asked) -> None:
    """Raise InvalidInput where the budget needs a price that is not known, or one is for too many.

    A price for a million tokens, in the place of one for a single token, would make every figure of
    costs a million times too high.
    """
    tariff, limits = plan.tariff(contender), plan.experiment.limits
    unknown = tariff.price is None and not tariff.free
    if unknown and limits.dollars is not None and limits.unknown_prices == "refuse":
        named = plan.experiment.costs.prices
        reason = why_unpriced(price_name(contender), None if named is None else Path(named))
        raise InvalidInput(
            f"{reason}, so that limits.dollars cannot hold: "
            'give costs.prices or price_model, or say billing = "hosting" of what costs nothing '
            'by the call, or limits.unknown_prices = "allow"'
        )
    price = tariff.price
    if price is not None:
        dearest = max(price.input_cost_per_token, price.output_cost_per_token)
        if dearest > MOST_USD_A_TOKEN:
            raise InvalidInput(
                f"{price_name(contender)} would cost ${dearest:g} a token by {plan.price_file}: a "
                "price file's prices are US dollars for one token, not for a thousand or a million"
            )


def _maker(plan: Plan, contender: Asked) -> PromptMaker:
    """Return what makes a contender's prompts; where examples are retrieved, with drawn ones."""
    if isinstance(contender, ServedContender):
        return bare_prompt(contender, plan.material.kind)
    group = plan.experiment.experiment
    descriptions = group.label_descriptions
    return fixed_form(contender, plan.material, descriptions, seed=group.seed).prompt


def estimates(plan: Plan) -> Iterator[Estimate]:
    """Yield what asking each contender would take.

    Retrieved examples are stood for by fixed ones: finding them is part of the run. An answer is
    taken for a label of mean length.
    """
    for contender in plan.asked:
        rule = TokenRule.of(contender.tokenizer, contender.detail)
        pictures = plan.material.kind == "image"
        maker = _maker(plan, contender)
        chat = contender.api == "chat"
        items = plan.material.items
        counts = (rule.prompt_tokens(maker(n, item), chat=chat) for n, item in enumerate(items))
        repeats = plan.repeats(contender)
        prompt_tokens = sum(counts) * repeats
        completion = 0
        if contender.api in {"chat", "completions"}:
            lengths = [rule.count(label) for label in plan.material.labels]
            completion = round(sum(lengths) / len(lengths) * len(items) * repeats)
        usage = rule.total(prompt_tokens, completion, pictures=pictures)
        yield Estimate(
            contender.name,
            len(items) * repeats,
            prompt_tokens,
            completion,
            usage.counting,
            plan.tariff(contender).dollars(usage),
        )
