"""Running a comparison: every contender on every item, one contender after another.

One after another, so that contenders do not slow each other down and the budget is spent in the
order of the file.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

from hone.comparison.asking import Asker, Stop, Stopped
from hone.comparison.budget import Budget
from hone.comparison.cache import AnswerCache, open_cache
from hone.comparison.experiment import Asked, PromptContender, Prompted, ServedContender
from hone.comparison.generating import GeneratingAnswerer
from hone.comparison.held_folder import RunFolder
from hone.comparison.listener import Listener
from hone.comparison.local_contenders import BundleAnswerer, LocalContender, RecordedAnswerer
from hone.comparison.outcomes import Item, Outcome
from hone.comparison.picture_features import PictureEncoder
from hone.comparison.plan import Plan
from hone.comparison.prompt_making import (
    Encoder,
    PromptForm,
    PromptMaker,
    bare_prompt,
    retrieved_form,
)
from hone.comparison.readiness import Ready, learned_from, notes_on
from hone.models.prompting.calls import connect
from hone.models.prompting.prompts import Prompt, in_words
from hone.models.prompting.tokens import TokenRule


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
    """Runs what is ready in a folder. For one event loop, once."""

    ready: Ready
    folder: RunFolder
    listener: Listener
    stop: Stop
    found: Found = field(default_factory=Found)

    @property
    def plan(self) -> Plan:
        """The plan that is run."""
        return self.ready.plan

    async def run(self) -> Found:
        """Ask everything that has no answer yet; Stopped if the run should stop first.

        Otherwise raises as `Asker.ask` does.
        """
        self.found.prompt_leaks = {n: ids for n, ids in self.ready.leaks.items() if ids}
        for name, answerer in self.ready.local.items():
            if isinstance(answerer, BundleAnswerer | GeneratingAnswerer):
                self._note_bundle(name, answerer)
        with open_cache(self.folder.path) as cache:
            sums = cache.sums()
            limit = self.plan.experiment.limits.dollars
            budget = Budget(limit, spent=sums.usd + sums.unclear_usd)
            for contender in self.plan.experiment.contenders:
                if isinstance(contender, Prompted):
                    await asyncio.to_thread(self._note_form, contender)
                if isinstance(contender, ServedContender | PromptContender):
                    await self._ask_all(contender, cache=cache, budget=budget)
                    continue
                answerer = self.ready.local[contender.name]
                if isinstance(answerer, GeneratingAnswerer):
                    answerer = replace(answerer, cache=cache)
                await self._run_local(contender.name, answerer)
        return self.found

    # In this process

    def _note_bundle(self, name: str, bundle: BundleAnswerer | GeneratingAnswerer) -> None:
        """Note which version answers."""
        manifest = bundle.manifest
        self.found.bundles[name] = {
            "model": f"{manifest.model}@{manifest.version}",
            "digest": manifest.digest,
            "variant": bundle.variant,
        }
        if isinstance(bundle, BundleAnswerer):
            same = learned_from(manifest, self.plan.material)
            self.found.bundles[name]["trained_on_the_training_file"] = same
            self.found.notes += notes_on(name, manifest, self.plan.material)

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

    async def _ask_all(self, contender: Asked, *, cache: AnswerCache, budget: Budget) -> None:
        limits = self.plan.experiment.limits
        workers = contender.concurrency or limits.concurrency
        questions = self._questions(contender)
        total = len(self.plan.material.items) * self.plan.repeats(contender)
        self.listener.begun(contender.name, total, "items")
        async with connect(
            contender.address,
            key=self.ready.keys.get(contender.name),
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
                tokens=TokenRule.of(contender.tokenizer, contender.detail),
                limits=limits,
                stop=self.stop,
                reader=self.ready.reader,
                labels=self.plan.material.labels,
                descriptions=self.plan.experiment.experiment.label_descriptions,
            )

            async def work() -> list[tuple[int, Outcome]]:
                done: list[tuple[int, Outcome]] = []
                with suppress(Stopped):  # the others end their calls, too
                    for number, question in questions:
                        done.append((number, await asker.ask(*question)))
                        self.listener.advanced(contender.name, 1, budget.spending)
                return done

            answered = await _together(work, workers)
        if len(answered) < total:
            raise Stopped
        self.found.outcomes += [outcome for _, outcome in sorted(answered, key=itemgetter(0))]

    def _questions(self, contender: Asked) -> Iterator[tuple[int, tuple[Item, int, Prompt]]]:
        """Yield every item and repeat with its prompt, numbered."""
        maker: PromptMaker
        if isinstance(contender, ServedContender):
            maker = bare_prompt(contender, self.plan.material.kind)
        else:
            maker = self.ready.forms[contender.name].prompt
        number = 0
        for place, item in enumerate(self.plan.material.items):
            for repeat in range(self.plan.repeats(contender)):
                yield number, (item, repeat, maker(place, item))
                number += 1

    def _note_form(self, contender: Prompted) -> None:
        """Find what is retrieved, and note what a prompt gives away and how it looks."""
        name, items = contender.name, self.plan.material.items
        if contender.prompt == "retrieved":
            form = self.ready.forms[name] = self._retrieved(contender)
            self.found.prompt_leaks |= {name: leaks} if (leaks := form.leaked(items)) else {}
        form = self.ready.forms[name]
        self.found.examples[name] = [
            {"role": role, "content": in_words(content)}
            for role, content in form.prompt(0, items[0]).messages
        ]
        if isinstance(contender, PromptContender):
            self._note_static(contender, form)

    def _retrieved(self, contender: Prompted) -> PromptForm:
        total = len(self.plan.material.training) + len(self.plan.material.items)
        what = "texts" if self.plan.material.kind == "text" else "pictures"
        self.listener.begun(contender.name, total, f"{what} embedded")

        def embedded(count: int) -> None:
            if self.stop.asked:
                raise Stopped
            self.listener.advanced(contender.name, count)

        return retrieved_form(
            contender,
            self.plan.material,
            self.plan.experiment.experiment.label_descriptions,
            self._encoder(contender.base),
            folder=self.folder.path,
            progressed=embedded,
        )

    def _encoder(self, base: str) -> Encoder:
        """Return what a base is in this run: one commit of it for all that retrieve by it."""
        encoder = self.ready.encoders[base]
        if isinstance(encoder, PictureEncoder):
            encoder = self.ready.encoders[base] = encoder.pinned(self.folder.path)
        return encoder

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
        elif rule.tokenizer is not None and self.plan.material.kind == "text":
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
