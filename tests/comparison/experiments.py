"""Small experiments for tests: data in files, an experiment's text, and a run of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hone.comparison.budget import Spending
from hone.comparison.experiment_file import look_at, read_experiment
from hone.comparison.listener import Listener
from hone.comparison.plan import Plan, make_plan, survey
from hone.comparison.readiness import make_ready
from hone.comparison.run import Finished, compare

TOPICS = {
    "card_lost": "i lost my {} card yesterday somewhere near the {}",
    "refund": "please give me the {} money back for my {}",
    "greeting": "good {} to you and hello from {}",
    "password": "cannot log in, the {} password of my {} account is wrong",
}
WORDS = ("blue", "station", "morning", "paris", "second", "bank", "summer", "office", "green")
PRICES = {
    "big": {
        "input_cost_per_token": 1e-5,
        "output_cost_per_token": 5e-5,
        "cache_read_input_token_cost": 1e-6,
        "effective_date": "2026-11",
        "source": "a test",
    }
}


def rows(count: int, *, start: int = 0) -> list[dict[str, str]]:
    """Return so many texts with labels, all different."""
    names = list(TOPICS)
    found = []
    for number in range(start, start + count):
        label = names[number % len(names)]
        place = number // len(names)
        words = (WORDS[place % len(WORDS)], WORDS[(place // len(WORDS) + place + 1) % len(WORDS)])
        found.append({"text": f"{TOPICS[label].format(*words)} {number}", "label": label})
    return found


def write_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_data(folder: Path, *, train: int = 24, test: int = 12) -> Path:
    """Write a prepared folder's files and a price file, and return the folder."""
    write_lines(folder / "train.jsonl", rows(train))
    write_lines(folder / "test.jsonl", rows(test, start=1000))
    (folder / "prices.json").write_text(json.dumps(PRICES))
    return folder


def toml_value(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value)


def experiment_text(data: Path, *contenders: Mapping[str, Any], **groups: Any) -> str:
    """Return an experiment of these contenders and a majority; `groups` add keys to groups."""
    found: dict[str, dict[str, Any]] = {
        "experiment": {"name": "trial", "path": str(data)},
        "decision": {"candidate": contenders[0]["name"], "baseline": "majority", "margin": 0.05},
        "costs": {"prices": str(data / "prices.json")},
        "limits": {"retries": 3, "timeout_s": 10, "first_wait_s": 0.01, "longest_wait_s": 1.0},
    }
    for name, keys in groups.items():
        found[name] = {k: v for k, v in (found[name] | keys).items() if v is not None}
    lines = []
    for name, keys in found.items():
        lines += [f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in keys.items())]
    for contender in (*contenders, {"name": "majority", "kind": "majority"}):
        given = {key: value for key, value in contender.items() if value is not None}
        lines += ["[[contenders]]", *(f"{k} = {toml_value(v)}" for k, v in given.items())]
    return "\n".join(lines) + "\n"


def prompt(address: str, name: str = "few", **changes: Any) -> dict[str, Any]:
    """Return a few-shot contender at an address."""
    return {
        "name": name,
        "kind": "prompt",
        "prompt": "few-shot",
        "k": 8,
        "model": "big",
        "address": address,
        **changes,
    }


class Silent:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int]] = []
        self.spent: list[Spending] = []

    def begun(self, contender: str, steps: int, what: str) -> None:
        del what
        self.steps.append((contender, steps))

    def advanced(self, contender: str, steps: int, spent: Spending | None = None) -> None:
        del contender, steps
        self.spent += [] if spent is None else [spent]


def plan_of(text: str) -> Plan:
    """Return the plan of an experiment's text."""
    return make_plan(read_experiment(text.encode(), "experiment.toml"))


def survey_of(text: str) -> Plan:
    """Return the plan of an experiment's text with all its problems."""
    return survey(look_at(text.encode(), "experiment.toml"))


def run(
    text: str, out: Path, *, decision_changed: bool = False, listener: Listener | None = None
) -> Finished:
    """Run an experiment in a folder."""
    ready = make_ready(survey_of(text))
    return compare(ready, out, listener or Silent(), decision_changed=decision_changed)
