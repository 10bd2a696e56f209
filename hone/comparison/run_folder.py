"""Reads what the asking half left behind: items, outcomes, and the run's record.

Every line is checked; the first bad one is named. Items that stand in the training data or in a
prompt are set aside here, so that no figure downstream can rest on them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from hone.comparison.outcomes import Item, Outcome
from hone.comparison.question import ITEMS_FILE, OUTCOMES_FILE, RUN_FILE, Question, RunRecord
from hone.models.errors import InvalidInput, NotFound

Line = TypeVar("Line", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Run:
    """What is judged: the items that count, those set aside, and each arm's outcomes.

    `outcomes` has the arms in the question's order, and of each the outcomes of the items that
    count, by item and repeat.
    """

    items: list[Item]
    set_aside: dict[str, list[Item]]
    outcomes: dict[str, list[Outcome]]
    every_outcome: dict[str, list[Outcome]]
    record: RunRecord


def read_run(folder: Path, question: Question) -> Run:
    """Read a run folder.

    NotFound where a file is missing; InvalidInput where a line is none, an item is there twice,
    an outcome is of no item, or one of the two arms has no outcome at all.
    """
    items = list(_lines(folder / ITEMS_FILE, Item))
    names = _distinct(items)
    record = _record(folder / RUN_FILE)
    every: dict[str, dict[tuple[str, int], Outcome]] = {name: {} for name in question.arms}
    for outcome in _lines(folder / OUTCOMES_FILE, Outcome):
        if outcome.contender not in every:
            continue  # a contender that the question leaves out
        if outcome.item not in names:
            raise InvalidInput(f"an outcome is of the item {outcome.item!r}, which is not there")
        key = (outcome.item, outcome.repeat)
        if key in every[outcome.contender]:
            raise InvalidInput(
                f"{outcome.contender!r} answered {outcome.item!r} twice as repeat {key[1]}"
            )
        every[outcome.contender][key] = outcome
    for name in (question.baseline, question.candidate):
        if not every[name]:
            raise InvalidInput(f"the run has no outcome of {name!r}")
    return _without_leaks(items, {n: list(o.values()) for n, o in every.items() if o}, record)


def _without_leaks(items: list[Item], outcomes: dict[str, list[Outcome]], record: RunRecord) -> Run:
    leaked = {name for ids in record.contamination.values() for name in ids}
    kept = [item for item in items if item.id not in leaked]
    if not kept:
        raise InvalidInput("every item stands in the training data or in a prompt")
    aside = {
        reason: [item for item in items if item.id in set(ids)]
        for reason, ids in record.contamination.items()
    }
    place = {item.id: index for index, item in enumerate(kept)}
    counting = {
        name: sorted(
            (outcome for outcome in found if outcome.item in place),
            key=lambda outcome: (place[outcome.item], outcome.repeat),
        )
        for name, found in outcomes.items()
    }
    return Run(kept, {r: found for r, found in aside.items() if found}, counting, outcomes, record)


def _distinct(items: list[Item]) -> set[str]:
    if not items:
        raise InvalidInput("the run has no items")
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise InvalidInput(f"the item {item.id!r} is there twice")
        seen.add(item.id)
    return seen


def _lines(path: Path, kind: type[Line]) -> Iterator[Line]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise NotFound(f"there is no {path}") from None
    with file:
        for number, line in enumerate(file, start=1):
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                raise InvalidInput(f"{path}, line {number}: {_first(error)}") from None


def _record(path: Path) -> RunRecord:
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(f"there is no {path}") from None
    except ValidationError as error:
        raise InvalidInput(f"{path}: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, found["loc"]))
    return f"{where}: {found['msg']}" if where else found["msg"]
