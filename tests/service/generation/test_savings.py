"""What a causal model's answers save against the baseline prompt, recounted from the answers."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from hone.comparison.prices import load_prices
from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.registry import Registry
from hone.models.savings import BaselineExample, BaselinePrompt, estimate_tokens
from hone.service.openai.schemas import ChatResponse, CompletionResponse
from tests.service.generation.conftest import client_of
from tests.service.generation.tiny_causal import make_folder, publish_causal
from tests.service.running import Service, serving

INSTRUCTION = "Answer like a bank's clerk, kindly, and in one sentence of at most nine words."
SHOTS = [
    BaselineExample(text="Where is my card?", label=" On its way."),
    BaselineExample(text="Is it here?", label=" No."),
]
PRICED = "gpt-4o-mini"
ESTIMATED = ("method", "estimated:characters")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CausalTokenizer:
    folder = make_folder(tmp_path_factory.mktemp("base"))
    return CausalTokenizer.from_file(folder / "tokenizer.json", eos_ids=[1])


@pytest.fixture(scope="module")
def counted(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: CausalTokenizer
) -> Iterator[Service]:
    """Serve `exact`, whose baseline counts with a tokenizer, and `none`, which has no baseline."""
    folder = tmp_path_factory.mktemp("counted")
    base = make_folder(folder / "base")
    baseline = BaselinePrompt(
        instruction=INSTRUCTION,
        examples=SHOTS,
        static_tokens=0,
        output_tokens=3,
        method="exact:tiny",
        tokenizer_file="baseline_tokenizer.json",
        price_model=PRICED,
        form="plain",
    )
    static = count(tokenizer, baseline.render(""))
    baseline = baseline.model_copy(update={"static_tokens": static})
    registry = Registry(folder / "store")
    publish_causal(registry, "exact", base, tokenizer_too=True, baseline=baseline.model_dump())
    publish_causal(registry, "none", base)
    with serving(folder / "store", log_folder=folder, threads=1, run_jobs=False) as service:
        yield service


def count(tokenizer: CausalTokenizer, text: str) -> int:
    return len(tokenizer.encode(text, special=False))


def static_text() -> str:
    return f"{INSTRUCTION}\n\nWhere is my card? On its way.\n\nIs it here? No.\n\n"


def complete(service: Service, prompt: Any, **more: Any) -> dict[str, Any]:
    asked = {"model": "exact", "prompt": prompt, "max_tokens": 9, "temperature": 1, "seed": 5}
    answer = service.post(asked | more, "/v1/completions")
    assert answer.status == 200, answer.body
    CompletionResponse.model_validate_json(answer.body, strict=True)
    found: dict[str, Any] = answer.json()
    return found


def test_savings_are_those_of_a_recount(counted: Service, tokenizer: CausalTokenizer) -> None:
    prompts = ["When does it come?", "And the other?"]
    answer = complete(counted, prompts, n=2)
    savings = answer["savings"]
    static = count(tokenizer, static_text())
    expected = 2 * static + sum(count(tokenizer, prompt) for prompt in prompts)
    assert savings["baseline_prompt_tokens"] == expected
    assert savings["tokens_saved"] == expected - answer["usage"]["prompt_tokens"]
    said = sum(count(tokenizer, choice["text"]) for choice in answer["choices"])
    assert savings["baseline_completion_tokens"] == said
    assert savings["method"] == "exact:tiny"
    ids = [tokenizer.encode(prompt, special=False) for prompt in prompts]
    assert complete(counted, ids)["savings"]["baseline_prompt_tokens"] == expected


@pytest.mark.parametrize("sent", [INSTRUCTION + "\n\n", static_text(), f"{INSTRUCTION}   \n"])
def test_what_is_sent_all_the_same_is_not_saved(
    counted: Service, tokenizer: CausalTokenizer, sent: str
) -> None:
    question = "When does it come?"
    answer = complete(counted, sent + question)
    expected = count(tokenizer, static_text()) + count(tokenizer, question)
    assert answer["savings"]["baseline_prompt_tokens"] == expected
    saved = expected - answer["usage"]["prompt_tokens"]
    assert answer["savings"]["tokens_saved"] == saved
    assert saved <= count(tokenizer, static_text()) - count(tokenizer, INSTRUCTION)


def test_a_stream_with_usage_says_the_same_and_without_it_nothing(counted: Service) -> None:
    whole = complete(counted, "When?")
    asked = {"model": "exact", "prompt": "When?", "max_tokens": 9, "temperature": 1, "seed": 5}
    asked["stream"] = True
    told = counted.post(asked | {"stream_options": {"include_usage": True}}, "/v1/completions")
    lines = [line for line in told.body.decode().splitlines() if line.startswith("data: {")]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert events[-1]["savings"] == whole["savings"]
    assert all("savings" not in event for event in events[:-1])
    assert b"savings" not in counted.post(asked, "/v1/completions").body


def test_counters_move_by_what_the_answer_says(counted: Service) -> None:
    labels = (("method", "exact:tiny"), ("model", "exact"), ("version", "1"))
    before = counted.metrics()
    savings = complete(counted, "Where?", n=3)["savings"]
    after = counted.metrics()

    def grown(name: str, *more: tuple[str, str]) -> float:
        key = (name, tuple(sorted((*labels, *more))))
        return after[key] - before.get(key, 0.0)

    assert grown("hone_baseline_tokens_total") == savings["baseline_prompt_tokens"]
    assert grown("hone_tokens_saved_total") == savings["tokens_saved"]
    completion = savings["baseline_completion_tokens"]
    assert grown("hone_baseline_completion_tokens_total") == completion
    price = load_prices()[PRICED]
    dollars = (
        savings["baseline_prompt_tokens"] * price.input_cost_per_token
        + completion * price.output_cost_per_token
    )
    assert grown("hone_dollars_saved_total", ("price_model", PRICED)) == pytest.approx(dollars)


def test_without_a_baseline_there_are_none(counted: Service) -> None:
    assert complete(counted, "Where?", model="none")["savings"] is None


def test_a_long_prompt_of_ones_own_shows_a_loss(fake: Service, client: OpenAI) -> None:
    """The fake reads a token a character, of which a large model's have four."""
    text = "A text that is much longer than what the prompt says. " * 4
    turns = [{"role": "user", "content": text}]
    asked = {"model": "fake-text", "messages": turns, "max_tokens": 4}
    before = fake.metrics()
    answer = fake.post(asked, "/v1/chat/completions")
    found = ChatResponse.model_validate_json(answer.body, strict=True)
    assert found.savings is not None
    assert found.savings.tokens_saved < 0
    labels = (ESTIMATED, ("model", "fake-text"), ("version", "1"))
    lost = fake.metrics()["hone_tokens_lost_total", labels]
    assert lost - before.get(("hone_tokens_lost_total", labels), 0) == -found.savings.tokens_saved
    said = found.choices[0].message.content or ""
    assert found.savings.baseline_completion_tokens == estimate_tokens(said)


def test_a_system_message_that_is_the_instruction_does_not_count_twice(fake: Service) -> None:
    def savings(*turns: tuple[str, str]) -> Any:
        messages = [{"role": role, "content": content} for role, content in turns]
        asked = {"model": "fake-text", "messages": messages, "max_tokens": 1}
        return fake.post(asked, "/v1/chat/completions").json()["savings"]

    instruction = "Go on with what you are given, in words of which nobody knows what they mean."
    bare = savings(("user", "Say"))["baseline_prompt_tokens"]
    sent = savings(("system", f" {instruction}\n"), ("user", "Say"))
    assert sent["baseline_prompt_tokens"] == bare
    other = savings(("system", "Be kind."), ("user", "Say"))
    assert other["baseline_prompt_tokens"] == bare + estimate_tokens("Be kind.")


def test_the_real_client_reads_answers_with_savings(counted: Service) -> None:
    with client_of(counted) as client:
        answer = client.completions.create(model="exact", prompt="Where?", max_tokens=3)
    assert answer.model_extra is not None
    assert answer.model_extra["savings"]["method"] == "exact:tiny"
