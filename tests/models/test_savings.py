"""The prompt that the model stands in for, and the estimate of its tokens."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hone.models.examples import Example
from hone.models.savings import (
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
