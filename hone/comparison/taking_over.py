"""Files of other tools, taken over as items, recorded answers and a draft of an experiment.

`fine-tuning`: the hosted APIs' JSON lines, chats whose last turn is the label, or prompt and
completion. `promptfoo`: a configuration in YAML, whose tests become items, or the results in JSON
of a run, whose answers become recorded contenders. Prices in LiteLLM's form need no taking over:
`costs.prices` names that file as it is.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import yaml  # type: ignore[import-untyped]

from hone.comparison.outcomes import Item
from hone.comparison.wording import counted
from hone.models.durable import make_folder
from hone.models.errors import Conflict, InvalidExamples
from hone.models.prompt_form import INSTRUCTING_ROLES, Turn, joined

_MOST_SHOWN = 100
_LONGEST_NAME = 32
_ASSERTED = {"equals", "iequals", "contains", "icontains", "is-label", "starts-with"}
_TEXT_VARIABLES = ("text", "input", "message", "question", "query", "prompt", "body")
_LABEL_VARIABLES = ("label", "expected", "category", "intent", "class", "answer", "__expected")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
_EQUALS = re.compile(r"\A(?:equals|iequals|contains|icontains):\s*", re.IGNORECASE)


@dataclass
class Taken:
    """What a file gave: items, the system message they share, and answers by contender."""

    items: list[Item] = field(default_factory=list)
    system: str | None = None
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def take_over(path: Path, source: str, out: Path) -> list[str]:
    """Write a file's items, answers and a draft of an experiment into the folder `out`.

    Returns what was done, in sentences. Conflict if `out` already holds an experiment;
    InvalidExamples if nothing could be taken over.
    """
    if (out / "experiment.toml").exists():
        raise Conflict(f"{out / 'experiment.toml'} is there already: give another --out")
    taken = _read(path, source)
    if not taken.items:
        shown = "\n  ".join(taken.left_out[:_MOST_SHOWN])
        raise InvalidExamples(f"{path} holds nothing that can be taken over:\n  {shown}")
    make_folder(out.resolve())
    _write_lines(out / "items.jsonl", [item.model_dump(exclude_none=True) for item in taken.items])
    for number, rows in enumerate(taken.answers.values(), 1):
        _write_lines(out / f"answers-{number}.jsonl", rows)
    (out / "experiment.toml").write_text(_draft(taken, out), encoding="utf-8")
    said = [f"{counted(len(taken.items), 'item')} in {out / 'items.jsonl'}"]
    said += [f"answers of {name!r}: {len(rows)}" for name, rows in taken.answers.items()]
    said += [f"left out: {problem}" for problem in taken.left_out[:_MOST_SHOWN]]
    if len(taken.left_out) > _MOST_SHOWN:
        said.append(f"left out: {len(taken.left_out) - _MOST_SHOWN} more")
    return [*said, f"a draft to fill in: {out / 'experiment.toml'}"]


def _read(path: Path, source: str) -> Taken:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise InvalidExamples(f"there is no file {path}") from None
    if source == "fine-tuning":
        return read_fine_tuning(content)
    return read_promptfoo(content, path.name)


# The hosted APIs' fine-tuning lines


def read_fine_tuning(content: bytes) -> Taken:
    """Read chats or prompts with completions; a system message counts if all rows share it."""
    taken = Taken()
    systems: set[str] = set()
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            text, label, system = _pair(line)
        except ValueError as error:
            taken.left_out.append(f"line {number}: {error}")
            continue
        systems.add(system)
        taken.items.append(Item(id=f"line-{number}", text=text, label=label))
    if len(systems) == 1:
        taken.system = systems.pop() or None
    elif len(systems) > 1:
        taken.left_out.append("the system messages, which differ between rows")
    return taken


def _pair(line: bytes) -> tuple[str, str, str]:
    """Return text, label and system message of one line; ValueError says why it has none."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ValueError("is not JSON in UTF-8") from None
    if not isinstance(row, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - one kind of problem
    if "messages" in row:
        return _chat_pair(row["messages"])
    text, label = row.get("prompt"), row.get("completion")
    if not isinstance(text, str) or not isinstance(label, str):
        raise ValueError("has neither messages nor prompt and completion")  # noqa: TRY004 - as above
    return _filled(text.strip(), label.strip(), "")


def _chat_pair(messages: object) -> tuple[str, str, str]:
    try:
        turns = [Turn(m["role"], m["content"]) for m in messages]  # type: ignore[attr-defined]
    except (TypeError, KeyError):
        raise ValueError("has messages that are none") from None
    if any(not isinstance(part, str) for turn in turns for part in turn):
        raise ValueError("has a message whose content is not text")
    if not turns or turns[-1].role != "assistant":
        raise ValueError("does not end with the assistant's answer")
    system = "\n".join(t.content.strip() for t in turns if t.role in INSTRUCTING_ROLES)
    asked = [t for t in turns[:-1] if t.role not in INSTRUCTING_ROLES]
    text = asked[0].content.strip() if len(asked) == 1 else joined(asked)
    return _filled(text, turns[-1].content.strip(), system)


def _filled(text: str, label: str, system: str) -> tuple[str, str, str]:
    if not text or not label:
        raise ValueError("has an empty text or an empty answer")
    return text, label, system


# promptfoo


def read_promptfoo(content: bytes, name: str) -> Taken:
    """Read a configuration (YAML or JSON) or the results (JSON) of a run."""
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        found = _yaml(content, name)
    if not isinstance(found, dict | list):
        raise InvalidExamples(f"{name} is no configuration and no results of promptfoo")
    if isinstance(found, dict) and "results" in found:
        return _results(found["results"], name)
    return _tests(found, name)


def _yaml(content: bytes, name: str) -> Any:  # noqa: ANN401 - any YAML
    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise InvalidExamples(f"{name} is neither JSON nor YAML") from None


def _tests(found: Mapping[str, Any] | Sequence[Any], name: str) -> Taken:
    tests = found.get("tests") if isinstance(found, Mapping) else found
    if not isinstance(tests, list):
        raise InvalidExamples(f"{name} has no list of tests: files that it names are not followed")
    default = found.get("defaultTest") if isinstance(found, Mapping) else None
    shared = default if isinstance(default, dict) else {}
    taken = Taken()
    for number, test in enumerate(tests, 1):
        if not isinstance(test, dict):
            taken.left_out.append(f"test {number}: is no test of its own (a file is not followed)")
            continue
        merged = {**shared, **test, "vars": {**_table(shared, "vars"), **_table(test, "vars")}}
        try:
            text, label = _case(merged)
        except ValueError as error:
            taken.left_out.append(f"test {number}: {error}")
            continue
        taken.items.append(Item(id=f"test-{number}", text=text, label=label))
    if isinstance(found, Mapping):
        taken.left_out += _not_asked_here(found)
    return taken


def _not_asked_here(found: Mapping[str, Any]) -> Iterator[str]:
    """Name a configuration's prompts and providers, which have another form in an experiment."""
    where = {"prompts": "template or system", "providers": "model and address"}
    for key, goes in where.items():
        given = found.get(key)
        if given:
            number = len(given) if isinstance(given, list) else 1
            said = counted(number, key.removesuffix("s"))
            yield f"{said} of the configuration: write what is in use as a contender's {goes}"


def _results(found: object, name: str) -> Taken:
    """Read a run's answers: one item for each test, one contender for each provider and prompt."""
    rows = found.get("results") if isinstance(found, dict) else found
    if not isinstance(rows, list):
        raise InvalidExamples(f"{name} has no list of results")
    taken = Taken()
    known: dict[tuple[str, str], str] = {}
    for number, row in enumerate(rows, 1):
        try:
            text, label, contender, answer = _result(row)
        except ValueError as error:
            taken.left_out.append(f"result {number}: {error}")
            continue
        if (text, label) not in known:
            known[text, label] = f"test-{len(known) + 1}"
            taken.items.append(Item(id=known[text, label], text=text, label=label))
        answers = taken.answers.setdefault(contender, [])
        identity = known[text, label]
        repeat = sum(1 for one in answers if one["id"] == identity)
        answers.append({"id": identity, "repeat": repeat, **answer})
    return taken


def _result(row: object) -> tuple[str, str, str, dict[str, Any]]:
    if not isinstance(row, dict):
        raise ValueError("is no result")  # noqa: TRY004 - one kind of problem
    case = _table(row, "testCase")
    text, label = _case({**case, "vars": {**_table(case, "vars"), **_table(row, "vars")}})
    provider = row.get("provider")
    named = provider.get("label") or provider.get("id") if isinstance(provider, dict) else provider
    contender = " ".join(part for part in (named, _prompt_name(row)) if isinstance(part, str))
    response = _table(row, "response")
    output = response.get("output")
    answer: dict[str, Any] = {}
    if isinstance(output, str):
        answer["answer"] = output
    elif isinstance(output, dict | list):
        answer["answer"] = orjson.dumps(output).decode()
    else:
        error = response.get("error") or row.get("error") or "no output"
        answer["error"] = str(error).splitlines()[0][:200]
    latency = _count(row.get("latencyMs"))
    if latency and not response.get("cached"):
        answer["seconds"] = latency / 1000
    return text, label, contender or "recorded", answer | _tokens(_table(response, "tokenUsage"))


def _prompt_name(row: Mapping[str, Any]) -> str | None:
    """Return what a prompt is called; promptfoo calls one without a name by its whole text."""
    label, number = _table(row, "prompt").get("label"), row.get("promptIdx")
    if isinstance(label, str) and 0 < len(label) <= _LONGEST_NAME and "\n" not in label:
        return label
    return f"prompt {number + 1}" if isinstance(number, int) else None


def _tokens(usage: Mapping[str, Any]) -> dict[str, int]:
    """Return promptfoo's count of tokens; nothing where it answered from its own cache."""
    prompt, completion = _count(usage.get("prompt")), _count(usage.get("completion"))
    if prompt is None or completion is None:
        return {}
    return {"prompt_tokens": int(prompt), "completion_tokens": int(completion)}


def _count(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        return None
    return value


def _case(test: Mapping[str, Any]) -> tuple[str, str]:
    """Return a test's text and label; ValueError if it has not exactly one of each."""
    variables = _table(test, "vars")
    label = _expected(test, variables)
    texts = {
        name: value
        for name, value in variables.items()
        if isinstance(value, str) and value.strip() and name not in _LABEL_VARIABLES
    }
    name = next((one for one in _TEXT_VARIABLES if one in texts), None)
    if name is None and len(texts) == 1:
        name = next(iter(texts))
    if name is None:
        raise ValueError("its variables do not say which of them is the text")
    if texts[name].startswith("file://"):
        raise ValueError("its text is in another file, which is not followed")
    return texts[name], label


def _expected(test: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
    asserted = test.get("assert")
    wanted = [
        str(one["value"]).strip()
        for one in (asserted if isinstance(asserted, list) else [])
        if isinstance(one, dict) and one.get("type") in _ASSERTED and _is_label(one.get("value"))
    ]
    if len(set(wanted)) > 1:
        raise ValueError("it asserts more than one label")
    if wanted:
        return wanted[0]
    for name in _LABEL_VARIABLES:
        if _is_label(variables.get(name)):
            return _EQUALS.sub("", str(variables[name]).strip())
    raise ValueError("it asserts no label (equals, contains)")


def _is_label(value: object) -> bool:
    return isinstance(value, str | int) and bool(str(value).strip())


def _table(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = row.get(key)
    return found if isinstance(found, dict) else {}


# What is written


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def _draft(taken: Taken, out: Path) -> str:
    """Return an experiment that runs as it is where answers were recorded, and says what lacks."""
    names = _names(list(taken.answers))
    recorded = "".join(
        f'\n[[contenders]]\nname = {_quoted(name)}\nkind = "recorded"\n'
        f"path = {_quoted(str(out / f'answers-{number}.jsonl'))}\n"
        for number, name in enumerate(names, 1)
    )
    baseline = names[0] if names else "prompt"
    system = ""
    if taken.system is not None:
        escaped = _PLACEHOLDER.sub(r"{{\1}}", taken.system)
        system = f"system = {_quoted(escaped)}\n"
    prompt = (
        '\n[[contenders]]\nname = "prompt"\nkind = "prompt"\nprompt = "zero-shot"\n'
        'model = "gpt-4o-mini"  # the model in use\naddress = "https://api.openai.com/v1"\n'
        f'api_key_env = "OPENAI_API_KEY"\n{system}'
    )
    return (
        f"[experiment]\nname = {_quoted(re.sub(r'[^A-Za-z0-9._-]', '-', out.name) or 'taken')}\n"
        f"test = {_quoted(str(out / 'items.jsonl'))}\n"
        '# train = "train.jsonl"  # for few-shot prompts and for finding contamination\n'
        'labels_from = "people"  # or "model"\n\n'
        f'[decision]\ncandidate = "fine-tuned"\nbaseline = {_quoted(baseline)}\n'
        "margin = 0.02\n\n[limits]\ndollars = 5.0\n\n"
        '[[contenders]]\nname = "fine-tuned"\nkind = "bundle"\nmodel = "my-model"\n'
        f"{recorded}{'' if names else prompt}"
    )


def _names(found: Sequence[str]) -> list[str]:
    """Return names that an experiment allows, no two alike."""
    names: list[str] = []
    for one in found:
        plain = re.sub(r"[^A-Za-z0-9 ._+-]+", "-", one).strip(" ._+-")[:56] or "recorded"
        taken = sum(1 for name in names if name == plain or name.startswith(f"{plain} #"))
        names.append(plain if not taken else f"{plain} {taken + 1}")
    return names


def _quoted(text: str) -> str:
    """Return a TOML string: JSON's, whose escapes TOML shares, but for DEL."""
    return orjson.dumps(text).decode().replace("\x7f", "\\u007f")
