"""One run of a comparison, from its plan to a folder that can be judged."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hone.comparison.arms import note_on, question_of
from hone.comparison.asking import Stop, Stopped
from hone.comparison.budget import BudgetSpent
from hone.comparison.cache import Sums, open_cache
from hone.comparison.experiment import PromptContender, ServedContender, billing_of
from hone.comparison.held_folder import RunFolder, hold, now_text, versions
from hone.comparison.listener import Listener
from hone.comparison.outcomes import Outcome
from hone.comparison.plan import Plan, price_name
from hone.comparison.question import Question
from hone.comparison.readiness import Ready, contamination
from hone.comparison.runner import Found, Runner
from hone.comparison.wording import counted
from hone.models.examples import sha256_of_file
from hone.models.imaging.tokens import PICTURE_TOKENS


class Interrupted(Exception):
    """The run was stopped by a signal; run again, it goes on."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A whole run: its folder, what the judge is asked, the outcomes and what all calls cost."""

    folder: Path
    question: Question
    outcomes: list[Outcome]
    sums: Sums


def compare(ready: Ready, out: Path, listener: Listener, *, decision_changed: bool) -> Finished:
    """Run what is ready in the folder `out`, going on where an earlier run there ended.

    Interrupted after a signal; otherwise raises as `Runner.run` does, and Conflict before anything
    is written. Whatever happens, run.json says it, answers that arrived are kept, and so is the
    whole run before until this one is whole.
    """
    plan = ready.plan
    with hold(out) as folder:
        items = plan.material.items
        changes = folder.begin(plan.file, items, decision_changed=decision_changed)
        record = _beginning(plan, changes, called_in=_called_in(out))
        folder.write_record(record)
        found, state = Found(), "failed"
        try:
            found = asyncio.run(_run(ready, folder, listener))
            state = "complete"
        except (Stopped, asyncio.CancelledError, KeyboardInterrupt):
            state = "interrupted"
            raise Interrupted from None
        except BudgetSpent:
            state = "budget spent"
            raise
        finally:
            with open_cache(out) as cache:
                sums = cache.sums()
            record |= _ending(ready, found, sums, state, changes)
            if state != "complete":
                folder.write_record(record)
        question = question_of(plan, found.static_tokens)
        folder.finish(found.outcomes, question, record)
    return Finished(out, question, found.outcomes, sums)


def _called_in(out: Path) -> str:
    """Return the folder that the experiment's relative paths are from, as seen from the run's.

    So a project may be moved as a whole, and nobody's folders are told to who reads the record.
    """
    return os.path.relpath(Path.cwd(), out.resolve())


async def _run(ready: Ready, folder: RunFolder, listener: Listener) -> Found:
    stop = Stop()
    with _listening(stop):
        return await Runner(ready, folder, listener, stop).run()


@contextmanager
def _listening(stop: Stop) -> Iterator[None]:
    """Let the first signal end the run after the calls under way, and the second at once."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def heard() -> None:
        if stop.asked and task is not None:
            task.cancel()
        stop.ask()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, heard)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _beginning(plan: Plan, changes: list[dict[str, str]], *, called_in: str) -> dict[str, Any]:
    """Return what the record says before anything was asked."""
    file, material = plan.file, plan.material
    return {
        "experiment": file.experiment.experiment.name,
        "experiment_sha256": file.sha256,
        "decision_sha256": file.experiment.decision_sha256(),
        "decision_changes": changes,
        "started": now_text(),
        "finished": None,
        "state": "running",
        "complete": False,
        "called_in": called_in,
        "versions": versions(),
        "labels": list(material.labels),
        "items": len(material.items),
        "items_left_out": material.rows - len(material.items),
        "items_repeated": material.repeated,
        "files": material.sha256,
        **_prices(plan),
        "contenders": [_contender(plan, number) for number in range(len(_contenders(plan)))],
    }


def _contenders(plan: Plan) -> list[Any]:
    return list(plan.experiment.contenders)


def _prices(plan: Plan) -> dict[str, Any]:
    """Return the prices that the run is reckoned with, as they stood in their file."""
    used = {}
    for contender in plan.asked:
        price = plan.prices.get(price_name(contender))
        if price is not None and billing_of(contender) == "tokens":
            used[price_name(contender)] = price
    dates = sorted({price.effective_date for price in used.values() if price.effective_date})
    sources = sorted({price.source for price in used.values() if price.source})
    return {
        "price_file": plan.price_file.name,
        "price_file_sha256": sha256_of_file(plan.price_file),
        "price_date": dates[0] if dates else None,
        "price_source": "; ".join(sources) or plan.price_file.name,
        "prices": {
            name: {key: value for key, value in _fields(price).items() if value is not None}
            for name, price in used.items()
        },
    }


def _fields(price: Any) -> dict[str, Any]:  # noqa: ANN401 - a dataclass with slots
    return {name: getattr(price, name) for name in price.__slots__}


def _contender(plan: Plan, number: int) -> dict[str, Any]:
    """Return what the record says of a contender: no address and no key."""
    contender = plan.experiment.contenders[number]
    said: dict[str, Any] = {
        "name": contender.name,
        "kind": contender.kind,
        "note": note_on(contender),
    }
    if isinstance(contender, ServedContender | PromptContender):
        billing = billing_of(contender)
        priced = price_name(contender) in plan.prices
        said |= {
            "api": contender.api,
            "model": contender.model,
            "billing": billing,
            "price": "by hosting" if billing == "hosting" else "known" if priced else "unknown",
            "repeats": plan.repeats(contender),
            "concurrency": contender.concurrency or plan.experiment.limits.concurrency,
        }
    return said


def _ending(
    ready: Ready, found: Found, sums: Sums, state: str, changes: list[dict[str, str]]
) -> dict[str, Any]:
    """Return what the record says when a run has ended."""
    plan, complete = ready.plan, state == "complete"
    return {
        "finished": now_text(),
        "state": state,
        "complete": complete,
        "contamination": contamination(plan.material, found.prompt_leaks),
        "prompt_contamination": found.prompt_leaks,
        "bundles": found.bundles,
        "prompts": found.examples,
        "spent_usd": sums.usd,
        "possibly_billed_usd": sums.unclear_usd,
        "calls": sums.calls,
        "unpriced_calls": sums.unpriced_calls,
        "notes": [*plan.file.warnings, *_changed(changes), *found.notes, *_notes(plan, sums)],
    }


def _changed(changes: list[dict[str, str]]) -> Iterator[str]:
    for change in changes:
        what = change.get("what", "")
        said = f"[decision] was changed on {change['at']}, after answers were known"
        yield f"{said}: {what}" if what else said


def _notes(plan: Plan, sums: Sums) -> Iterator[str]:
    material = plan.material
    if material.rows > len(material.items):
        left_out = material.rows - len(material.items)
        were = "was" if left_out == 1 else "were"
        yield (
            f"{left_out} of {counted(material.rows, 'test item')} {were} left out: "
            "experiment.most_items"
        )
    if material.repeated:
        what = "words" if material.kind == "text" else "bytes"
        yield f"{counted(material.repeated, 'item', 'repeat')} another one's {what}"
    if material.kind == "image" and plan.asked:
        yield f"a picture's tokens, where an answer does not tell them, are {PICTURE_TOKENS}"
    if not material.training:
        yield "no training examples were given: items that stand in them cannot be found"
    if sums.unclear_usd:
        yield (
            f"calls without a whole answer may have cost up to ${sums.unclear_usd:.6f} more; "
            "whether they did is not known here"
        )
    if sums.unpriced_calls:
        yield f"{counted(sums.unpriced_calls, 'call')} without a known price"
