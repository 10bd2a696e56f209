"""Makes up a run folder by a seed, to look at the report and to test it: no model is asked.

    python -m benchmarks.comparison.made_up_run build/made-up [--items 3000]

Six contenders answer items of 24 labels. How often each is right, errs on which items, refuses or
fails is drawn from stated probabilities, so nothing in such a run says anything about a model.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
import orjson

from hone.comparison.judging import judge
from hone.comparison.outcomes import Item, Outcome
from hone.comparison.prices import Price
from hone.comparison.question import (
    ITEMS_FILE,
    OUTCOMES_FILE,
    RUN_FILE,
    Arm,
    ArmCosts,
    Question,
    Serving,
)
from hone.models.prompting.usage import Usage

_TOPICS = ("card", "transfer", "fee", "top-up", "refund", "limit", "pin", "exchange")
_STATES = ("missing", "declined", "pending")
LABELS = [f"{topic}_{state}" for topic in _TOPICS for state in _STATES]
_SMALL = Price(1.5e-7, 6e-7, 7.5e-8)
_LARGE = Price(1e-6, 5e-6, 1e-7)


@dataclass(frozen=True, slots=True)
class Act:
    """How one made-up contender behaves: shares, and seconds of a median call."""

    name: str
    accuracy: float
    seconds: float
    prompt_tokens: int = 0
    refused: float = 0.0
    unparsable: float = 0.0
    failed: float = 0.0
    confident: bool = False
    repeats: int = 1


ACTS = (
    Act("small prompt", 0.905, 0.6, 640, refused=0.004, unparsable=0.01, failed=0.003, repeats=2),
    Act("fine-tuned", 0.935, 0.008, confident=True),
    Act("large prompt", 0.945, 1.1, 640, refused=0.002, failed=0.001),
    Act("retrieved examples", 0.93, 0.9, 1450, unparsable=0.004, failed=0.002),
    Act("embedded base", 0.62, 0.012, confident=True),
    Act("majority class", 0.07, 0.0001),
)


def question(**changed: object) -> Question:
    """Return the question that belongs to the made-up run."""
    box = Serving(usd_per_hour=0.04, requests_per_second=60)
    arms = {
        "small prompt": Arm(
            role="prompt",
            note="the prompt in use, few-shot, small hosted model",
            costs=ArmCosts(price_name="small-hosted", price=_SMALL, static_prompt_tokens=600),
        ),
        "fine-tuned": Arm(
            role="fine-tuned",
            note="a fine-tuned encoder on a machine of one's own",
            costs=ArmCosts(serving=box, training_usd=4, labelling_usd=250),
        ),
        "large prompt": Arm(
            role="prompt",
            note="the same prompt, a larger hosted model",
            costs=ArmCosts(price_name="large-hosted", price=_LARGE, static_prompt_tokens=600),
        ),
        "retrieved examples": Arm(
            role="prompt",
            note="the 20 nearest training examples in the prompt",
            costs=ArmCosts(price_name="not-in-the-table"),
        ),
        "embedded base": Arm(
            note="label names by similarity, untrained", costs=ArmCosts(serving=box)
        ),
        "majority class": Arm(note="always the most frequent label", costs=ArmCosts(free=True)),
    }
    fields: dict[str, object] = {
        "title": "Intents of bank customers (made up)",
        "baseline": "small prompt",
        "candidate": "fine-tuned",
        "arms": arms,
        "margin": 0.02,
        "max_error": 0.03,
        "requests_per_month": 400_000,
        "shadow_share": 0.01,
    }
    return Question.model_validate(fields | changed)


def make_items(count: int, *, seed: int = 0, group_size: int = 1) -> list[Item]:
    """Make up items; with a group size above 1, so many belong to one customer."""
    generator = np.random.default_rng(seed)
    weights = 1 / np.arange(3, len(LABELS) + 3)
    drawn = generator.choice(len(LABELS), size=count, p=weights / weights.sum())
    return [
        Item(
            id=f"item-{number}",
            text=f"Customer {number} asks: what about my {LABELS[label].replace('_', ' ')}?",
            label=LABELS[label],
            group=f"customer-{number // group_size}" if group_size > 1 else None,
        )
        for number, label in enumerate(drawn)
    ]


def make_outcomes(act: Act, items: list[Item], *, seed: int = 0) -> Iterator[Outcome]:
    """Make up one contender's outcomes. Items that are hard are hard for all contenders."""
    hard = np.random.default_rng(seed + 1).normal(size=len(items))
    generator = np.random.default_rng([seed + 2, *act.name.encode()])
    for item, hardness in zip(items, hard, strict=True):
        own = generator.normal()
        for repeat in range(act.repeats):
            noise = 0.85 * hardness + 0.45 * own + 0.28 * generator.normal()
            yield _outcome(act, item, repeat=repeat, ease=-noise, generator=generator)


def _outcome(
    act: Act, item: Item, *, repeat: int, ease: float, generator: np.random.Generator
) -> Outcome:
    threshold = NormalDist().inv_cdf(1 - act.accuracy)
    seconds = act.seconds * float(generator.lognormal(0, 0.35))
    usage = Usage()
    if act.prompt_tokens:
        prompt = act.prompt_tokens + len(item.text or "") // 4
        usage = Usage(prompt_tokens=prompt, completion_tokens=6, counting="measured")
    common = {"contender": act.name, "item": item.id, "repeat": repeat, "usage": usage}
    fate, sides = generator.random(), np.cumsum([act.failed, act.refused, act.unparsable])
    if fate < sides[0]:
        error = "the upstream answered 503"
        return Outcome(kind="failed", error=error, calls=4, **{**common, "usage": Usage()})
    if fate < sides[1]:
        return Outcome(
            kind="refused", raw="I cannot help with that.", seconds=seconds, spent=usage, **common
        )
    if fate < sides[2]:
        return Outcome(kind="unparsable", raw="It depends.", seconds=seconds, spent=usage, **common)
    confidence = float(1 / (1 + np.exp(-3.2 * (ease - threshold) + generator.normal(0, 0.4))))
    right = ease > threshold
    place = LABELS.index(item.label)
    wrong = LABELS[(place + 1 + int(3 * generator.random() ** 2)) % len(LABELS)]
    label = item.label if right else wrong
    return Outcome(
        kind="answered",
        label=label,
        raw=label,
        seconds=seconds,
        spent=usage,
        confidence=round(max(confidence, 1 - confidence), 4) if act.confident else None,
        **common,
    )


def write_run(
    folder: Path, items: list[Item], outcomes: list[Outcome], *, record: dict[str, object]
) -> None:
    """Write a run folder as the asking half does."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in ((ITEMS_FILE, items), (OUTCOMES_FILE, outcomes)):
        (folder / name).write_text("".join(f"{line.model_dump_json()}\n" for line in lines))
    (folder / RUN_FILE).write_bytes(orjson.dumps(record))


def make_run(folder: Path, count: int, *, seed: int = 0, group_size: int = 1) -> None:
    """Make up a whole run folder."""
    items = make_items(count, seed=seed, group_size=group_size)
    outcomes = [o for act in ACTS for o in make_outcomes(act, items, seed=seed)]
    record: dict[str, object] = {
        "started": "2026-11-27T20:00:00Z",
        "finished": "2026-11-27T20:31:00Z",
        "versions": {"hone": "made up"},
        "price_date": "2026-11-01",
        "price_source": "made up",
        "contamination": {"training data": ["item-3", "item-17"], "prompt": ["item-5"]},
    }
    write_run(folder, items, outcomes, record=record)


def main() -> None:
    """Make up a run and judge it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    make_run(options.folder, options.items, seed=options.seed)
    judgement = judge(options.folder, question())
    print(judgement.verdict.word, "-", judgement.verdict.sentence)


if __name__ == "__main__":
    main()
