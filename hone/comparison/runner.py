"""Running a comparison: every contender on every item, one contender after another.

One after another, so that contenders do not slow each other down and the budget is spent in the
order of the file.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Protocol

from hone.comparison.asking import Asker, Stop, Stopped
from hone.comparison.budget import Budget
from hone.comparison.cache import AnswerCache, open_cache
from hone.comparison.experiment import (
    AnyContender,
    Asked,
    BundleContender,
    EmbeddedContender,
    GeneratingContender,
    MajorityContender,
    PromptContender,
    Prompted,
    RecordedContender,
    ServedContender,
)
from hone.comparison.generating import GeneratingAnswerer, load_generating
from hone.comparison.held_folder import RunFolder
from hone.comparison.local_contenders import (
    BundleAnswerer,
    LocalContender,
    RecordedAnswerer,
    embed_labels,
    find_majority,
    load_bundle,
    read_recorded,
)
from hone.comparison.outcomes import Item, Outcome
from hone.comparison.plan import Plan
from hone.comparison.prompt_making import (
    PromptForm,
    PromptMaker,
    bare_prompt,
    fixed_form,
    retrieved_form,
)
from hone.comparison.settings import read_api_key
from hone.models.prompting.answers import LabelReader
from hone.models.prompting.calls import connect
from hone.models.prompting.embedding import BertEncoder
from hone.models.prompting.prompts import Prompt
from hone.models.prompting.tokens import TokenRule


class Listener(Protocol):
    """Is told how far a run is, from any thread."""

    def begun(self, contender: str, steps: int, what: str) -> None:
        """Note that a contender begins with so many steps; `what` says of which kind."""

    def advanced(self, contender: str, steps: int, usd: float | None = None) -> None:
        """Note that more steps are done, and what the run has cost by now, if that has changed."""


@dataclass
class Found:
    """What a run found: outcomes, and what the judge should know of the contenders.

    `prompt_leaks` has, by contender, the items that stand in their own prompts; `static_tokens`
    how much of a prompt is the same in every call; `examples` a rendered prompt; `bundles` the
    versions that answered and whether they learned from the training file that was given.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    prompt_leaks: dict[str, list[str]] = field(default_factory=dict)
    static_tokens: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    bundles: dict[str, dict[str, object]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class Runner:
    """Runs a plan in a folder. For one event loop, once."""

    plan: Plan
    folder: RunFolder
    listener: Listener
    stop: Stop
    found: Found = field(default_factory=Found)

    def __post_init__(self) -> None:
        group = self.plan.experiment.experiment
        lenient = group.reading == "lenient"
        self._reader = LabelReader(self.plan.material.labels, lenient=lenient)

    async def run(self) -> Found:
        """Ask everything that has no answer yet; Stopped if the run should stop first.

        Otherwise raises as `Asker.ask` does, and as loading the contenders does, before anything
        is asked.
        """
        keys = {one.name: read_api_key(one.api_key_env) for one in self.plan.asked
                if one.api_key_env}  # fmt: skip
        local = await asyncio.to_thread(self._load_local)
        with open_cache(self.folder.path) as cache:
            sums = cache.sums()
            limit = self.plan.experiment.limits.dollars
            budget = Budget(limit, spent=sums.usd + sums.unclear_usd)
            for contender in self.plan.experiment.contenders:
                if isinstance(contender, ServedContender | PromptContender):
                    key = keys.get(contender.name)
                    await self._ask_all(contender, cache=cache, budget=budget, key=key)
                else:
                    answerer = local[contender.name]
                    if isinstance(answerer, GeneratingAnswerer):
                        answerer = replace(answerer, cache=cache)
                    await self._run_local(contender.name, answerer)
        return self.found

    # In this process

    def _load_local(self) -> dict[str, LocalContender]:
        loaded: dict[str, LocalContender] = {}
        for contender in self.plan.experiment.contenders:
            answerer = self._loaded(contender)
            if answerer is not None:
                loaded[contender.name] = answerer
        return loaded

    def _loaded(self, contender: AnyContender) -> LocalContender | None:
        material = self.plan.material
        descriptions = self.plan.experiment.experiment.label_descriptions
        if isinstance(contender, BundleContender):
            bundle = load_bundle(contender)
            self._note_bundle(bundle)
            return bundle
        if isinstance(contender, EmbeddedContender):
            encoder = BertEncoder.from_base(contender.base)
            return embed_labels(contender, encoder, material.labels, descriptions, material.items)
        if isinstance(contender, MajorityContender):
            return find_majority(contender.name, material.training)
        if isinstance(contender, GeneratingContender):
            return self._generating(contender)
        if isinstance(contender, RecordedContender):
            return read_recorded(contender, material.items, self._reader)
        return None

    def _generating(self, contender: GeneratingContender) -> GeneratingAnswerer:
        places = {item.id: place for place, item in enumerate(self.plan.material.items)}
        maker = self._noted_form(contender).prompt
        found = load_generating(
            contender,
            lambda item: maker(places[item.id], item),
            self._reader,
            self.plan.material.labels,
        )
        self.found.bundles[contender.name] = {
            "model": f"{found.manifest.model}@{found.manifest.version}",
            "digest": found.manifest.digest,
            "variant": found.variant,
        }
        return found

    def _note_bundle(self, bundle: BundleAnswerer) -> None:
        """Note what answered, and whether the training file given is the one it learned from."""
        manifest, given = bundle.manifest, self.plan.material.sha256.get("train")
        learned = manifest.data.get("train")
        same = None if given is None or learned is None else learned.sha256 == given
        self.found.bundles[bundle.name] = {
            "model": f"{manifest.model}@{manifest.version}",
            "digest": manifest.digest,
            "variant": bundle.variant,
            "trained_on_the_training_file": same,
        }
        if not same:
            self.found.notes.append(
                f"{bundle.name} learned from another file than the training examples given: "
                "items that stand in it cannot be found"
            )
        unknown = sorted(set(manifest.labels) ^ set(self.plan.material.labels))
        if unknown:
            self.found.notes.append(
                f"{bundle.name} and the items differ in labels: {', '.join(unknown[:10])}"
            )

    async def _run_local(self, name: str, answerer: LocalContender) -> None:
        items = self.plan.material.items
        repeats = answerer.repeats if isinstance(answerer, RecordedAnswerer) else 1
        self.listener.begun(name, len(items) * repeats, "items")

        def answer_all() -> list[Outcome]:
            outcomes = []
            for item in items:
                for repeat in range(repeats):
                    if self.stop.asked:
                        raise Stopped
                    outcomes.append(answerer.answer(item, repeat))
                    self.listener.advanced(name, 1)
            return outcomes

        self.found.outcomes += await asyncio.to_thread(answer_all)

    # Over HTTP

    async def _ask_all(
        self, contender: Asked, *, cache: AnswerCache, budget: Budget, key: str | None
    ) -> None:
        limits = self.plan.experiment.limits
        workers = contender.concurrency or limits.concurrency
        maker = await asyncio.to_thread(self._maker, contender)
        questions = self._questions(contender, maker)
        total = len(self.plan.material.items) * self.plan.repeats(contender)
        self.listener.begun(contender.name, total, "items")
        async with connect(
            contender.address,
            key=key,
            key_header=contender.key_header,
            timeout_s=limits.timeout_s,
            connections=workers,
            agent="hone-compare",
        ) as line:
            asker = Asker(
                contender=contender,
                line=line,
                cache=cache,
                budget=budget,
                tariff=self.plan.tariff(contender),
                tokens=TokenRule.of(contender.tokenizer),
                limits=limits,
                stop=self.stop,
                reader=self._reader,
                labels=self.plan.material.labels,
                descriptions=self.plan.experiment.experiment.label_descriptions,
            )

            async def work() -> list[tuple[int, Outcome]]:
                done: list[tuple[int, Outcome]] = []
                with suppress(Stopped):  # the others end their calls, too
                    for number, question in questions:
                        done.append((number, await asker.ask(*question)))
                        self.listener.advanced(contender.name, 1, budget.spent)
                return done

            answered = await _together(work, workers)
        if len(answered) < total:
            raise Stopped
        self.found.outcomes += [outcome for _, outcome in sorted(answered, key=itemgetter(0))]

    def _questions(
        self, contender: Asked, maker: PromptMaker
    ) -> Iterator[tuple[int, tuple[Item, int, Prompt]]]:
        """Yield every item and repeat with its prompt, numbered."""
        number = 0
        for place, item in enumerate(self.plan.material.items):
            for repeat in range(self.plan.repeats(contender)):
                yield number, (item, repeat, maker(place, item))
                number += 1

    def _maker(self, contender: Asked) -> PromptMaker:
        """Return what makes a contender's prompts, and note what they give away."""
        if not isinstance(contender, PromptContender):
            return bare_prompt(contender)
        form = self._noted_form(contender)
        self._note_static(contender, form)
        return form.prompt

    def _noted_form(self, contender: Prompted) -> PromptForm:
        """Return a contender's form; what it gives away is noted, and how a prompt looks."""
        form = self._form(contender)
        items = self.plan.material.items
        leaks = form.leaked(items)
        if leaks:
            self.found.prompt_leaks[contender.name] = leaks
        shown = form.prompt(0, items[0])
        self.found.examples[contender.name] = [turn._asdict() for turn in shown.messages]
        return form

    def _form(self, contender: Prompted) -> PromptForm:
        group = self.plan.experiment.experiment
        if contender.prompt != "retrieved":
            return fixed_form(
                contender, self.plan.material, group.label_descriptions, seed=group.seed
            )
        total = len(self.plan.material.training) + len(self.plan.material.items)
        self.listener.begun(contender.name, total, "texts embedded")

        def embedded(count: int) -> None:
            if self.stop.asked:
                raise Stopped
            self.listener.advanced(contender.name, count)

        return retrieved_form(
            contender,
            self.plan.material,
            group.label_descriptions,
            folder=self.folder.path,
            progressed=embedded,
        )

    def _note_static(self, contender: PromptContender, form: PromptForm) -> None:
        """Note how much of a prompt is the same in every call, where that is worth saying.

        Without retrieval the shortest prompt of the run says it well enough, unless the tokens
        can be counted exactly.
        """
        rule = TokenRule.of(contender.tokenizer)
        empty = Item(id="", text="", label="")
        if form.near is not None:
            bare = form.templates.render("", labels=form.labels, examples=())
            self.found.static_tokens[contender.name] = rule.count(bare.system)
        elif rule.tokenizer is not None:
            chat = contender.api == "chat"
            prompt = form.prompt(0, empty)
            self.found.static_tokens[contender.name] = rule.prompt_tokens(prompt, chat=chat)


async def _together(
    work: Callable[[], Coroutine[Any, Any, list[tuple[int, Outcome]]]], workers: int
) -> list[tuple[int, Outcome]]:
    """Run workers side by side; when one fails the others are ended and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work()) for _ in range(workers)]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [answered for task in tasks for answered in task.result()]
