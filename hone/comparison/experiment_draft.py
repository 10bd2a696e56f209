"""An experiment as far as its file is sound, so that one fault in it hides no other.

Keys with a wrong value are left out and remembered: what is checked later looks at all the rest,
and skips what rests on them, so that no problem is named that follows from another.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hone.comparison.experiment import CONTENDERS, Contender, Experiment, ServingCosts
from hone.models.toml_files import complaints, keys_of, suggestion

_GROUPS = ("experiment", "decision", "costs", "limits")

_PATTERNS = {
    "name": "should have 1 to 64 of A-Z, a-z, 0-9, space and . _ + -, and begin with a letter or a "
    "digit",
    "api_key_env": "should be the name of the environment variable that holds the key, not the key",
    "key_header": "should be the name of a header, of A-Z, a-z, 0-9 and -",
}
"""What the patterns of these keys mean."""
_BESIDE_KEYS = frozenset({"api_key_env", "key_header"})
"""Keys whose value is mistaken for the place of a secret."""

Unsound = dict[str, frozenset[str]]
"""By what messages call a group or contender: its keys whose value is wrong or missing.

Contenders of the same name are called by their number, too, so that each one's are its own."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What of an experiment is sound, and every problem of its keys and values.

    Where there are problems, only for looking further: a required key that is missing is no
    attribute of its group, a contender without a name or a kind is left out, and one whose name is
    refused has it all the same. `places` is what messages call each of its contenders.
    """

    experiment: Experiment
    places: tuple[str, ...]
    unsound: Unsound
    problems: tuple[str, ...]


def draft_of(table: Mapping[str, Any]) -> Draft:
    """Return what is sound of a file's table."""
    try:
        whole = Experiment.model_validate(table)
    except ValidationError as error:
        said = _describe(error, table)
        experiment, unsound, more = _rest(table, _faulty(error, table))
        said += more
    else:
        experiment, unsound, said = whole, {}, []
    said += _names(experiment, unsound, table)
    places = tuple(_place(("contenders", n), table) for n, _, _ in _readable(table))
    return Draft(experiment, places, unsound, tuple(dict.fromkeys(said)))


def _faulty(
    error: ValidationError, table: Mapping[str, Any]
) -> dict[tuple[str | int, ...], set[str]]:
    """Return the faulty keys of each group and contender.

    With a key that is unknown goes the one that may have been meant.
    """
    found: dict[tuple[str | int, ...], set[str]] = {}
    for fault in error.errors():
        location = _in_the_file(fault["loc"])
        length = 2 if location[:1] == ["contenders"] else 1
        group, below = tuple(location[:length]), location[length:]
        keys = found.setdefault(group, set())
        if below:
            key = str(below[0])
            near = difflib.get_close_matches(key, _known_keys(list(group), table), n=1)
            keys |= {key, *(near if fault["type"] == "extra_forbidden" else ())}
        else:
            keys |= keys_of(fault)
    return found


def _rest(
    table: Mapping[str, Any], faulty: Mapping[tuple[str | int, ...], set[str]]
) -> tuple[Experiment, Unsound, list[str]]:
    """Return an experiment without its faulty keys, and what is wrong with the rest by itself."""
    unsound: Unsound = {}
    problems: list[str] = []
    made: dict[str, Any] = {}

    def sound(model: type[BaseModel], given: object, place: str, keys: set[str]) -> BaseModel:
        group, unsound_keys, more = _sound(model, given, keys)
        unsound[place] = unsound.get(place, frozenset()) | unsound_keys
        problems.extend(f"{place}: {said}" for said in more)
        return group

    for name in _GROUPS:
        needed = Experiment.model_fields[name].is_required()
        given = table.get(name, None if needed else {})  # of what is not there nothing is sound
        made[name] = sound(_model_of(name), given, name, faulty.get((name,), set()))
    made["contenders"] = [
        _called(
            sound(
                kind, one, _place(("contenders", n), table), faulty.get(("contenders", n), set())
            ),
            one["name"],
        )
        for n, one, kind in _readable(table)
    ]
    return Experiment.model_construct(**made), unsound, problems


def _called(contender: BaseModel, name: str) -> BaseModel:
    """Return a contender with the name it was given, also where that is refused: it is asked for
    by all that looks further.
    """
    return contender.model_copy(update={"name": name})


def _sound(
    model: type[BaseModel], given: object, faulty: set[str]
) -> tuple[BaseModel, frozenset[str], list[str]]:
    """Return a group without its faulty keys, these keys, and what is wrong between the others."""
    if not isinstance(given, dict):
        return model.model_construct(), frozenset(model.model_fields), []
    rest = {key: value for key, value in given.items() if key not in faulty}
    try:
        return model.model_validate(rest), frozenset(faulty), []
    except ValidationError as error:
        between = [fault for fault in error.errors() if not fault["loc"]]
        missing = {str(fault["loc"][0]) for fault in error.errors() if fault["loc"]}
    said = [fault["msg"] for fault in between if not keys_of(fault) & faulty]
    mentioned = frozenset[str]().union(*map(keys_of, between))
    kept = {key: value for key, value in rest.items() if key in model.model_fields}
    return model.model_construct(**kept), frozenset(faulty | missing | mentioned), said


def _names(experiment: Experiment, unsound: Unsound, table: Mapping[str, Any]) -> list[str]:
    """Say what is wrong about the contenders' names, and who is named in the decision.

    Where a contender has none, it may be the one that is meant.
    """
    contenders = [one for _, one in _contenders(table)]
    names = [one["name"] for one in contenders if isinstance(one.get("name"), str)]
    found = [
        f"contenders: the name {name!r} is given twice"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    decision, wrong = experiment.decision, unsound.get("decision", frozenset())
    roles = [role for role in ("candidate", "baseline") if role not in wrong]
    if names and len(names) == len(contenders):
        found += [
            f"decision.{role}: there is no contender {name!r}"
            for role, name in ((role, getattr(decision, role)) for role in roles)
            if name not in names
        ]
    if len(roles) == 2 and decision.candidate == decision.baseline:
        found.append("decision.candidate: is the baseline itself")
    return found


def _contenders(table: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield every contender that is a table, with its place."""
    given = table.get("contenders")
    if isinstance(given, list):
        yield from ((n, one) for n, one in enumerate(given) if isinstance(one, dict))


def _readable(
    table: Mapping[str, Any],
) -> Iterator[tuple[int, Mapping[str, Any], type[Contender]]]:
    """Yield every contender that has a name and a kind, with its place and what that kind is."""
    for n, one in _contenders(table):
        kind = _kind(one)
        if isinstance(one.get("name"), str) and kind is not None:
            yield n, one, kind


# What pydantic says, in the file's own terms


def _describe(error: ValidationError, table: Mapping[str, Any]) -> list[str]:
    """Say each wrong place once."""
    return complaints(
        error,
        place=lambda found: _place(_in_the_file(found["loc"]), table),
        known_keys=lambda found: _known_keys(_in_the_file(found["loc"])[:-1], table),
        own_words=_own_words,
        hidden=_may_be_secret,
    )


def _own_words(found: ErrorDetails) -> str | None:
    """Return what a problem is called in an experiment; None where pydantic's words will do."""
    kinds = ", ".join(CONTENDERS)
    if found["type"] == "union_tag_not_found":
        return f"'kind' is missing: one of {kinds}"
    if found["type"] == "union_tag_invalid":
        given = str(found["ctx"]["tag"])
        return f"'kind' should be one of {kinds}{suggestion(given, CONTENDERS)}"
    if found["type"] == "string_pattern_mismatch":
        return _PATTERNS.get(str(found["loc"][-1]))
    return None


def _may_be_secret(found: ErrorDetails) -> bool:
    """Whether a value may hold a key, which someone wrote where none belongs."""
    key = str(found["loc"][-1]) if found["loc"] else ""
    in_address = key == "address" and any(sign in str(found["input"]) for sign in "@?#")
    return in_address or key in _BESIDE_KEYS


def _in_the_file(location: Sequence[str | int]) -> list[str | int]:
    """Leave out the kind that stands within a contender's location, and what follows a union."""
    parts = list(location)
    if parts[:1] == ["contenders"] and len(parts) > 2:
        return [*parts[:2], *parts[3 : 5 if parts[3:4] == ["costs"] else 4]]
    return parts[:2]


def _place(location: Sequence[str | int], table: Mapping[str, Any]) -> str:
    """Return where something stands: a contender by its name, its number where that is not it."""
    if location[0] == "contenders" and len(location) > 1:
        number = int(location[1])
        names = {n: one.get("name") for n, one in _contenders(table)}
        name = names.get(number)
        place = f"contender number {number + 1}"
        if isinstance(name, str):
            place = f"contender {name!r:.80}"
            if list(names.values()).count(name) > 1:
                place = f"{place} (number {number + 1})"
        return ": ".join([place, *map(str, location[2:])])
    return ".".join(map(str, location))


def _known_keys(above: Sequence[str | int], table: Mapping[str, Any]) -> list[str]:
    """Return the keys of what stands there; none where it is not known what that is."""
    if not above:
        return list(Experiment.model_fields)
    if above[0] in _GROUPS:
        return list(_model_of(str(above[0])).model_fields)
    if above[0] != "contenders" or len(above) < 2:
        return []
    if above[2:] == ["costs"]:
        return list(ServingCosts.model_fields)
    contender = table["contenders"][above[1]]
    kind = _kind(contender) if isinstance(contender, dict) else None
    return [] if kind is None else list(kind.model_fields)


def _kind(contender: Mapping[str, Any]) -> type[Contender] | None:
    """Return what a contender is by its `kind`, which may be anything."""
    kind = contender.get("kind")
    return CONTENDERS.get(kind) if isinstance(kind, str) else None


def _model_of(group: str) -> type[BaseModel]:
    found: Any = Experiment.model_fields[group].annotation
    model: type[BaseModel] = found
    return model
