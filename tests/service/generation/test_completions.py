"""`/v1/completions` and `/v1/chat/completions` of a causal model, through the real client."""

import json
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from hone.service.openai.schemas import ChatResponse, CompletionResponse
from tests.service.generation.asking import MODEL, chat, complete
from tests.service.running import Service


def test_a_completion_says_what_it_cost(client: OpenAI) -> None:
    answer = complete(client)
    choice = answer.choices[0]
    assert answer.object == "text_completion"
    assert answer.model == "fake-text@1"
    assert choice.finish_reason == "length"
    assert len(choice.text) == 12
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 12)
    assert answer.usage.total_tokens == 15
    assert complete(client).choices[0].text == choice.text


@pytest.mark.parametrize("ask", [complete, chat])
def test_a_stream_says_the_same_in_pieces(client: OpenAI, ask: Any) -> None:
    whole = ask(client, n=2, seed=4, temperature=1)
    events = list(
        ask(client, n=2, seed=4, temperature=1, stream=True, stream_options={"include_usage": True})
    )
    said = {0: "", 1: ""}
    ends: dict[int, str] = {}
    for event in events[:-1]:
        assert event.usage is None
        for choice in event.choices:
            piece = choice.text if ask is complete else choice.delta.content
            said[choice.index] += piece or ""
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
    texts = [c.text if ask is complete else c.message.content for c in whole.choices]
    assert [said[0], said[1]] == texts
    assert texts[0] != texts[1]
    assert ends == {c.index: c.finish_reason for c in whole.choices}
    assert events[-1].choices == []
    assert events[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len({event.id for event in events}) == 1


def test_answers_are_as_the_document_says(fake: Service) -> None:
    plain = {"model": MODEL, "prompt": ["a", "b"], "n": 2, "logprobs": 2, "echo": True}
    answer = fake.post(plain, "/v1/completions")
    assert len(CompletionResponse.model_validate_json(answer.body, strict=True).choices) == 4
    turns = [{"role": "user", "content": "a"}]
    asked = {"model": MODEL, "messages": turns, "logprobs": True, "top_logprobs": 1}
    answer = fake.post(asked | {"max_tokens": 3}, "/v1/chat/completions")
    assert ChatResponse.model_validate_json(answer.body, strict=True).choices[0].logprobs


def test_a_chat_begins_with_its_role(client: OpenAI) -> None:
    events = list(chat(client, stream=True))
    assert events[0].object == "chat.completion.chunk"
    assert events[0].choices[0].delta.role == "assistant"
    assert all(event.choices[0].delta.role is None for event in events[1:])
    assert events[-1].choices[0].finish_reason == "length"
    assert not events[-1].choices[0].delta.content


def test_a_stop_string_ends_it_and_is_not_said(client: OpenAI) -> None:
    text = complete(client).choices[0].text
    stopped = complete(client, stop=[text[4:6], "never said"]).choices[0]
    assert stopped.text == text[: text.index(text[4:6])]
    assert stopped.finish_reason == "stop"
    pieces = complete(client, stop=text[4:6], stream=True)
    assert "".join(event.choices[0].text for event in pieces) == stopped.text


def test_several_prompts_texts_or_ids_each_get_their_choices(client: OpenAI) -> None:
    answer = complete(client, prompt=["one", "two"], n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    texts = [choice.text for choice in answer.choices]
    assert texts[0] == texts[1] != texts[2] == texts[3]
    ids = [ord(character) - 31 for character in "two"]
    assert complete(client, prompt=ids).choices[0].text == texts[2]
    assert complete(client, prompt=[ids, ids]).choices[1].text == texts[2]


def test_echo_scores_the_prompt(client: OpenAI) -> None:
    choice = complete(client, prompt="prompt", echo=True, logprobs=2, max_tokens=3).choices[0]
    assert choice.text.startswith("prompt")
    found = choice.logprobs
    assert "".join(found.tokens) == choice.text
    assert found.token_logprobs[0] is None
    assert found.top_logprobs[0] is None
    assert all(score < 0 for score in found.token_logprobs[1:])
    assert found.text_offset == list(range(9))
    assert all(2 <= len(best) <= 3 for best in found.top_logprobs[1:])
    # Greedy: what was said is what was most probable.
    for token, best in zip(found.tokens[6:], found.top_logprobs[6:], strict=True):
        assert max(best, key=best.get) == token
    alone = complete(client, prompt="prompt", echo=True, logprobs=0, max_tokens=0).choices[0]
    assert alone.text == "prompt"
    assert alone.logprobs.token_logprobs == found.token_logprobs[:6]


def test_offsets_are_places_in_the_text_streamed_or_not(client: OpenAI) -> None:
    text = complete(client, max_tokens=24).choices[0].text
    for stops in ([], [text[6:12]], [text[6:9] + "~~", text[10:14]], [text[:4]]):
        asked: dict[str, Any] = {"echo": True, "logprobs": 1, "max_tokens": 24, "stop": stops}
        whole = complete(client, **asked).choices[0]
        found = whole.logprobs
        assert found.text_offset == sorted(found.text_offset)
        for token, place in zip(found.tokens, found.text_offset, strict=True):
            assert place <= len(whole.text)
            assert whole.text.startswith(token, place) or place == len(whole.text)
        events = list(complete(client, **asked, stream=True))
        parts = [event.choices[0].logprobs for event in events if event.choices[0].logprobs]
        assert [one for part in parts for one in part.text_offset] == found.text_offset
        assert [one for part in parts for one in part.tokens] == found.tokens
        assert "".join(event.choices[0].text for event in events) == whole.text


def test_chat_logprobs_have_the_bytes_and_the_best(client: OpenAI) -> None:
    choice = chat(client, logprobs=True, top_logprobs=3).choices[0]
    assert "".join(one.token for one in choice.logprobs.content) == choice.message.content
    for one in choice.logprobs.content:
        assert bytes(one.bytes).decode() == one.token
        assert len(one.top_logprobs) == 3
        assert one.top_logprobs[0].logprob == one.logprob
    streamed = chat(client, logprobs=True, top_logprobs=3, stream=True)
    tokens = [
        one.token
        for event in streamed
        if event.choices[0].logprobs
        for one in event.choices[0].logprobs.content
    ]
    assert tokens == [one.token for one in choice.logprobs.content]


def test_what_steers_sampling_has_its_effect(client: OpenAI) -> None:
    plain = complete(client, max_tokens=1).choices[0].text
    forbidden = complete(client, max_tokens=1, logit_bias={str(ord(plain) - 31): -100})
    assert forbidden.choices[0].text != plain
    forced = complete(client, logit_bias={"5": 100}, temperature=1, seed=1).choices[0].text
    assert forced == chr(36) * 12
    varied = complete(client, logit_bias={"5": 9, "6": 8}, frequency_penalty=1).choices[0].text
    assert set(varied) >= {chr(36), chr(37)}
    random = {complete(client, temperature=2).choices[0].text for _ in range(4)}
    assert len(random) > 1
    assert len({complete(client, temperature=2, seed=9).choices[0].text for _ in range(4)}) == 1
    same = complete(client, temperature=2, extra_body={"top_k": 1}).choices[0].text
    assert same == complete(client).choices[0].text


def test_json_of_a_schema_and_of_none(client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "size": {"enum": [1, 22]}},
        "required": ["ok", "size"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    choice = chat(client, response_format=form, max_tokens=200).choices[0]
    found = json.loads(choice.message.content)
    assert found["ok"] in {True, False}
    assert found["size"] in {1, 22}
    assert choice.finish_reason == "stop"
    free = chat(client, response_format={"type": "json_object"}, max_tokens=2).choices[0]
    assert free.message.content.startswith("{")


@pytest.mark.parametrize(
    ("ask", "asked", "param"),
    [
        (complete, {"suffix": "x"}, "suffix"),
        (complete, {"best_of": 2}, "best_of"),
        (complete, {"extra_body": {"beam_width": 2}}, "beam_width"),
        (complete, {"temperature": 2.1}, "temperature"),
        (complete, {"logprobs": 6}, "logprobs"),
        (complete, {"logit_bias": {"x": 1}}, "logit_bias"),
        (complete, {"logit_bias": {"97": 1}}, "logit_bias"),
        (complete, {"max_tokens": 2000}, "prompt"),
        (complete, {"prompt": "x" * 1100}, "prompt"),
        (complete, {"prompt": [97]}, "prompt"),
        (complete, {"prompt": [[1], [-1]]}, "prompt[1]"),
        (complete, {"prompt": ["a"] * 9, "n": 2}, "n"),
        (complete, {"stop": ["a"] * 5}, "stop"),
        (chat, {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        (chat, {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        (chat, {"top_logprobs": 2}, "top_logprobs"),
        (chat, {"response_format": {"type": "grammar"}}, "response_format"),
        (
            chat,
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "nonsense"}},
                }
            },
            "response_format",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    client: OpenAI, ask: Any, asked: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequestError) as refused:
        ask(client, **asked)
    assert refused.value.param == param


@pytest.mark.parametrize("prompt", ["\n", " ", "  \n ", ["a", " "]])
def test_a_blank_is_a_prompt(client: OpenAI, prompt: Any) -> None:
    answer = complete(client, prompt=prompt)
    assert answer.usage.prompt_tokens == sum(map(len, prompt))
    assert all(len(choice.text) == 12 for choice in answer.choices)


def test_a_prompt_without_a_token_is_none(client: OpenAI) -> None:
    for prompt, place in (("", "prompt"), (["a", ""], "prompt[1]")):
        with pytest.raises(BadRequestError) as refused:
            complete(client, prompt=prompt)
        assert (refused.value.param, refused.value.code) == (place, "empty_text")


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "Be brief."}],
        [{"role": "assistant", "content": "Hello."}],
        [{"role": "user", "content": " "}],
        [{"role": "user", "content": ""}],
    ],
)
def test_a_chat_is_what_the_template_renders(client: OpenAI, messages: Any) -> None:
    assert len(chat(client, messages=messages).choices[0].message.content) == 12
    with pytest.raises(BadRequestError):
        chat(client, messages=messages, model="fake")


def test_a_causal_model_does_not_classify_and_a_classifier_still_does(fake: Service) -> None:
    error = fake.post({"model": MODEL, "input": "x"}).error()
    assert error["code"] == "not_a_classifier"
    assert fake.classify("fine", model="fake")["model"] == "fake@1"
    said = fake.post({"model": "fake", "prompt": "fine"}, "/v1/completions").json()
    assert said["choices"][0]["text"].strip() in {"negative", "neutral", "positive"}


def test_sequences_tokens_and_times_are_counted(fake: Service, client: OpenAI) -> None:
    labels = (("model", MODEL), ("version", "1"))
    before = fake.metrics()
    complete(client, prompt="counted once or twice, it is the same", n=3, max_tokens=5)
    after = fake.metrics()

    def grown(name: str, *more: tuple[str, str]) -> float:
        key = (name, tuple(sorted((*labels, *more))))
        return after.get(key, 0.0) - before.get(key, 0.0)

    assert grown("hone_completion_tokens_total") == 15
    assert grown("hone_reused_prompt_tokens_total") >= 2 * 32
    assert grown("hone_sequences_total", ("ended", "ended")) == 3
    assert grown("hone_requests_total", ("outcome", "answered")) == 1
    assert grown("hone_time_to_first_token_seconds_count") == 3
    assert grown("hone_time_per_output_token_seconds_count") == 3
    assert after["hone_running_sequences", labels] == after["hone_waiting_sequences", labels] == 0


def test_the_service_is_ready_and_lists_it(fake: Service, client: OpenAI) -> None:
    assert fake.get("/readyz").status == 200
    assert MODEL in {model.id.partition("@")[0] for model in client.models.list()}
