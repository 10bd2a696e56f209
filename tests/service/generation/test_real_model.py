"""A real model served from a bundle says what transformers says, alone and among 16 streams."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from hone.models.decoding.detokenizing import CausalTokenizer
from tests.bases import base_folder
from tests.training.causal import reference

TOKENS = 48


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    """Return greedy completions of some prompts."""
    folder = base_folder("stories260K")
    tokenizer = CausalTokenizer.from_file(folder / "tokenizer.json", eos_ids=[2])
    model = reference.load(folder)
    words = reference.STORY.split()
    prompts = [" ".join(words[: 3 + 2 * number]) for number in range(16)]
    found = {}
    for prompt in prompts:
        ids = tokenizer.encode(prompt)
        said = reference.greedy(model, ids, TOKENS)
        found[prompt] = tokenizer.decode([*ids, *said])[len(tokenizer.decode(ids)) :]
    return found


def said(teller: OpenAI, prompt: str, **more: Any) -> str:
    answer: Any = teller.completions.create(
        model="stories", prompt=prompt, max_tokens=TOKENS, temperature=0, **more
    )
    if more.get("stream"):
        return "".join(event.choices[0].text for event in answer)
    return str(answer.choices[0].text)


def test_alone(teller: OpenAI, expected: dict[str, str]) -> None:
    for prompt, truth in expected.items():
        assert said(teller, prompt) == truth


def test_sixteen_streams_at_once(teller: OpenAI, expected: dict[str, str]) -> None:
    with ThreadPoolExecutor(16) as pool:
        asked = {p: pool.submit(said, teller, p, stream=True) for p in list(expected) * 2}
        assert {prompt: future.result(60) for prompt, future in asked.items()} == expected


def test_a_prompt_seen_before_is_not_read_again(teller: OpenAI) -> None:
    prompt = "Tim and Sam went to the zoo. They saw a bear, a lion and a big green snake that slept"
    first, again = (
        teller.completions.create(model="stories", prompt=prompt, max_tokens=4, temperature=0)
        for _ in range(2)
    )
    assert first.usage is not None
    assert again.usage is not None
    assert again.usage.prompt_tokens_details is not None
    assert first.usage.prompt_tokens_details is not None
    known_first = first.usage.prompt_tokens_details.cached_tokens or 0
    known_then = again.usage.prompt_tokens_details.cached_tokens or 0
    assert known_then > known_first
    assert again.choices[0].text == first.choices[0].text


def test_a_chat_goes_through_the_bundles_template(teller: OpenAI, expected: dict[str, str]) -> None:
    prompt, truth = next(iter(expected.items()))
    answer = teller.chat.completions.create(
        model="stories",
        messages=[{"role": "user", "content": prompt}],
        max_completion_tokens=TOKENS,
        temperature=0,
    )
    assert answer.choices[0].message.content == truth


def test_a_prompt_of_nothing_but_its_first_token_is_one(teller: OpenAI) -> None:
    for prompt in ("", "\n", " "):
        assert said(teller, prompt)


def test_the_context_is_bounded(teller: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        teller.completions.create(model="stories", prompt="a b " * 300, max_tokens=1)
    assert refused.value.code == "context_length_exceeded"
