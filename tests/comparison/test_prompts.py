"""Templates are checked before a run, and filled without reading the values as templates."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.comparison.experiment import PromptContender, ServedContender
from hone.comparison.prompts import check_prompt, check_served, choose_examples, templates_of
from hone.models.prompting.inputs import Shot
from hone.models.prompting.prompts import fill, labels_list

LABELS = ("refund", "card")
SHOTS = [Shot("money back", "refund"), Shot("my {text} card", "card")]


def contender(**changes: Any) -> PromptContender:
    given = {
        "name": "p",
        "kind": "prompt",
        "prompt": "few-shot",
        "model": "m",
        "address": "http://localhost/v1",
    }
    return PromptContender.model_validate(given | changes)


def rendered(text: str, one: PromptContender) -> str:
    prompt = templates_of(one, "text").render(
        text, labels=labels_list(LABELS, {}), examples=SHOTS if one.shots else []
    )
    return "\n---\n".join(f"{turn.role}: {turn.content}" for turn in prompt.messages)


def test_the_default_prompts_hold_labels_examples_and_input_once() -> None:
    for kind in ("zero-shot", "few-shot", "retrieved"):
        for api in ("chat", "completions"):
            one = contender(prompt=kind, api=api)
            assert check_prompt(one, "text").errors == ()
            shown = rendered("where is it?", one)
            assert shown.count("where is it?") == 1
            assert shown.count("- refund\n- card") == 1
            assert shown.count("Text: money back\nLabel: refund") == (kind != "zero-shot")


def test_examples_that_all_items_share_stand_before_what_differs() -> None:
    shown = rendered("where is it?", contender())
    assert shown.startswith("system: ")
    assert shown.index("money back") < shown.index("user: where is it?")


def test_examples_may_be_turns_of_the_chat() -> None:
    one = contender(examples_as="turns")
    assert check_prompt(one, "text").errors == ()
    prompt = templates_of(one, "text").render("where?", labels="- a", examples=SHOTS)
    assert [turn.role for turn in prompt.turns] == ["user", "assistant"] * 2 + ["user"]
    assert [turn.content for turn in prompt.turns][::2] == [
        "money back",
        "my {text} card",
        "where?",
    ]
    assert prompt.turns[1].content == "refund"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"template": "{txt}", "system": "{labels} {examples}"}, "did you mean {text}?"),
        ({"template": "{{text}}"}, "({{text}} is shown as {text})"),
        ({"system": "Labels: {labels}", "template": "{text}"}, "needs the placeholder {examples}"),
        ({"system": "{labels} {exmples}"}, "did you mean {examples}?"),
        ({"prompt": "zero-shot", "system": "{labels} {examples}"}, "examples are none"),
        ({"examples_as": "turns", "system": "{examples}"}, "examples are turns"),
        ({"example": "{text}"}, "example: the placeholder {label} is missing"),
        ({"example": "{text} {label} {labels}"}, "example: unknown placeholder {labels}"),
        ({"examples_as": "turns", "system": "{text}", "template": "go"}, "need {text} in the user"),
    ],
)
def test_a_template_that_cannot_work_is_an_error(changes: dict[str, Any], problem: str) -> None:
    errors = check_prompt(contender(**changes), "text").errors
    assert any(problem in error for error in errors), errors


def test_a_prompt_without_the_labels_is_a_warning_only() -> None:
    found = check_prompt(contender(prompt="zero-shot", system="", template="{text}"), "text")
    assert found.errors == ()
    assert found.warnings == ("the prompt does not list the labels ({labels})",)
    decisions = contender(prompt="zero-shot", api="decisions")
    assert check_prompt(decisions, "text") == check_prompt(
        contender(), "text"
    )  # its choices are the labels


def test_a_served_model_needs_its_text() -> None:
    given = {"name": "s", "kind": "served", "model": "m", "address": "http://localhost/v1"}
    good = ServedContender.model_validate(given | {"template": "{text}\n\n###\n\n"})
    assert check_served(good, "text").errors == ()
    bad = ServedContender.model_validate(given | {"template": "{label}"})
    assert len(check_served(bad, "text").errors) == 2


def test_braces_that_are_no_placeholders_stay() -> None:
    template = 'Answer {"label": "x", "n": {"a": 1}} and {{text}} for {text} {} {1}'
    assert (
        fill(template, {"text": "T"})
        == 'Answer {"label": "x", "n": {"a": 1}} and {text} for T {} {1}'
    )


@given(st.text(max_size=80), st.text(max_size=80))
def test_values_are_never_read_as_templates(text: str, labels: str) -> None:
    assert fill("{text}|{labels}", {"text": text, "labels": labels}) == f"{text}|{labels}"


def test_descriptions_stand_beside_the_labels() -> None:
    assert labels_list(LABELS, {"card": "about cards"}) == "- refund\n- card: about cards"


EXAMPLES = [Shot(f"text {n}", "abc"[n % 3] if n < 30 else "a") for n in range(60)]


@given(st.integers(0, 60), st.integers(0, 2**31 - 1))
def test_drawn_examples_are_distinct_and_go_round_the_labels(count: int, seed: int) -> None:
    chosen = choose_examples(EXAMPLES, count, seed=seed)
    assert len(chosen) == count == len({example.input for example in chosen})
    assert chosen == choose_examples(EXAMPLES, count, seed=seed)
    first = [example.label for example in chosen[:3]]
    assert len(set(first)) == len(first)
    assert chosen[: count // 2] == choose_examples(EXAMPLES, count // 2, seed=seed)


def test_another_seed_draws_other_examples() -> None:
    drawn = {tuple(choose_examples(EXAMPLES, 6, seed=seed)) for seed in range(20)}
    assert len(drawn) == 20
