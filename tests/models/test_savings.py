"""The prompt that the model stands in for, and the estimate of its tokens."""

import random
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hone.models.examples import Example
from hone.models.prompt_form import Turn
from hone.models.savings import (
    ESTIMATED,
    BaselineExample,
    BaselinePrompt,
    default_examples,
    default_instruction,
    estimate_tokens,
    render_prompt,
)


def test_a_prompt_is_instruction_examples_and_input() -> None:
    prompt = BaselinePrompt(
        instruction="Say which.",
        examples=[BaselineExample(text="It broke", label="bug")],
        static_tokens=9,
        output_tokens=1,
        method="estimated:characters",
    )
    assert prompt.render("Lovely") == (
        "Say which.\n\nText: It broke\nLabel: bug\n\nText: Lovely\nLabel:"
    )
    assert render_prompt("Say which.", [], "Lovely") == "Say which.\n\nText: Lovely\nLabel:"


@given(text=st.text(), instruction=st.text())
def test_the_input_stands_unchanged_at_the_end(text: str, instruction: str) -> None:
    prompt = render_prompt(instruction, [], text)
    assert prompt.startswith(instruction)
    assert prompt.endswith(f"Text: {text}\nLabel:")


def test_the_instruction_names_every_label() -> None:
    instruction = default_instruction(["bug", "praise", "问题"])
    assert "3 labels: bug, praise, 问题." in instruction


@pytest.mark.parametrize(
    "changes", [{"static_tokens": -1}, {"output_tokens": -0.5}, {"output_tokens": float("inf")}]
)
def test_a_baseline_of_impossible_counts_is_refused(changes: dict[str, float]) -> None:
    fields = {"instruction": "", "static_tokens": 1, "output_tokens": 1.0, "method": "m"}
    with pytest.raises(ValidationError):
        BaselinePrompt.model_validate(fields | changes)


examples = st.lists(st.builds(Example, st.text("abc", max_size=9), st.sampled_from("xyz")))


@given(rows=examples, count=st.integers(0, 12), seed=st.integers())
def test_examples_go_round_the_labels_and_do_not_depend_on_the_order_of_rows(
    rows: list[Example], count: int, seed: int
) -> None:
    chosen = default_examples(rows, ["x", "y", "z"], count)
    assert len(chosen) == min(count, len(rows))
    shuffled = random.Random(seed).sample(rows, len(rows))
    assert default_examples(shuffled, ["x", "y", "z"], count) == chosen
    present = {row.label for row in rows}
    first_turn = [shot.label for shot in chosen[: len(present)]]
    assert first_turn == [label for label in "xyz" if label in present][: len(chosen)]
    counts = [sum(shot.label == label for shot in chosen) for label in present]
    full = [sum(row.label == label for row in rows) for label in present]
    fair = [c for c, all_of_it in zip(counts, full, strict=True) if c < all_of_it]
    assert not fair or max(counts) - min(fair) <= 1


def test_the_example_of_median_length_comes_first() -> None:
    rows = [Example("a" * length, "x") for length in (1, 50, 9, 10, 2)]
    assert [len(shot.text) for shot in default_examples(rows, ["x"], 2)] == [9, 10]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("", 0, 0),
        ("a", 1, 1),
        ("é", 1, 1),
        ("我", 1, 1),
        ("My parcel has not arrived yet and I would like my money back, please.", 13, 19),
        ("我的包裹还没有到，请把钱退给我。", 10, 18),
        ("La commande n'est toujours pas arrivée à la maison", 9, 16),
    ],
)
def test_estimates_are_near_what_tokenizers_of_today_count(text: str, low: int, high: int) -> None:
    assert low <= estimate_tokens(text) <= high


mixed = st.text() | st.text("ab c", max_size=50) | st.text("aé中", max_size=50)


@given(left=mixed, right=mixed)
def test_estimates_add_up_and_never_fall_when_text_is_added(left: str, right: str) -> None:
    apart = estimate_tokens(left) + estimate_tokens(right)
    together = estimate_tokens(left + right)
    assert apart - 1 <= together <= apart
    assert together >= max(estimate_tokens(left), estimate_tokens(right))
    assert estimate_tokens(right + left) == together


def shown(form: Literal["plain", "chat"], shots: int = 2) -> BaselinePrompt:
    pairs = [("Where is it?", " Here."), ("And now?", " There."), ("Why?", " So.")]
    return BaselinePrompt(
        instruction="Be brief.",
        examples=[BaselineExample(text=text, label=label) for text, label in pairs[:shots]],
        static_tokens=0,
        output_tokens=1,
        method=ESTIMATED,
        form=form,
    )


def test_a_causal_models_prompt_has_examples_as_the_data_has_them() -> None:
    expected = "Be brief.\n\nWhere is it? Here.\n\nAnd now? There.\n\nWho?"
    assert shown("plain").render("Who?") == expected
    assert shown("plain").model_copy(update={"instruction": ""}).render("x").startswith("Where")
    assert shown("chat", 1).render("Who?").splitlines() == [
        "system: Be brief.",
        "user: Where is it?",
        "assistant: Here.",
        "user: Who?",
    ]


@given(text=st.text(min_size=1), sent=st.integers(0, 3))
def test_however_much_of_the_prompt_is_sent_the_input_is_the_same(text: str, sent: int) -> None:
    input_ = f"Q {text}".strip()
    plain, chat = shown("plain", 3), shown("chat", 3)
    part = shown("plain", sent)
    assert plain.unsaid(part.render(input_)) == [input_]
    assert plain.unsaid(input_) == [input_]
    pairs = [(e.text, e.label) for e in chat.examples[:sent]]
    turns = [t for q, a in pairs for t in (Turn("user", q), Turn("assistant", a.strip()))]
    asked = Turn("user", input_)
    assert chat.unsaid([Turn("system", " Be brief.\n"), *turns, asked]) == ["", input_]
    assert chat.unsaid([asked]) == [input_]
    other = [Turn("system", "Be long."), *turns, asked]
    assert chat.unsaid(other) == ["Be long.", input_]
