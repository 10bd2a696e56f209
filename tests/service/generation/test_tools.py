"""Chat tools through the real client: what a model writes comes back as calls, or as text."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from hone.models.names import ModelReference
from hone.models.registry import Registry
from hone.service.openai.schemas import ChatRequest, ChatResponse
from tests.service.generation.conftest import client_of
from tests.service.generation.tiny_causal import make_folder, publish_causal
from tests.service.running import Service, serving

MODEL = "fake-text"
FORMS = ("hermes", "llama", "mistral")


@pytest.fixture(scope="module", params=FORMS)
def parrot(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Service]]:
    folder = tmp_path_factory.mktemp(f"parrot-{request.param}")
    with serving(
        folder / "store",
        request.param,
        program=("-m", "tests.service.generation.parrot_driver"),
        log_folder=folder,
        run_jobs=False,
    ) as service:
        yield request.param, service


@pytest.fixture(scope="module")
def form(parrot: tuple[str, Service]) -> str:
    return parrot[0]


@pytest.fixture(scope="module")
def service(parrot: tuple[str, Service]) -> Service:
    return parrot[1]


@pytest.fixture(scope="module")
def ask(service: Service) -> Iterator[Any]:
    with client_of(service) as client:

        def create(says: str, **more: Any) -> Any:
            asked = [{"role": "user", "content": f"@@{says}@@"}]
            given: dict[str, Any] = {
                "model": MODEL, "messages": asked, "tools": TOOLS, "temperature": 0,
            }  # fmt: skip
            return client.chat.completions.create(**(given | more))

        yield create


def tool(name: str, *, strict: bool = False, **properties: Any) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    function = {"name": name, "description": f"Does {name}.", "parameters": parameters}
    return {"type": "function", "function": function | ({"strict": True} if strict else {})}


CITY = {"enum": ["Oslo", "Rome"]}
TOOLS = [tool("weather", city=CITY), tool("time", zone={"type": "string", "maxLength": 4})]


def written(form: str, *calls: tuple[str, Any]) -> str:
    """Return calls as the family's templates write them."""
    key = "parameters" if form == "llama" else "arguments"
    objects = [
        f'{{"name": "{name}", "{key}": {a if isinstance(a, str) else json.dumps(a)}}}'
        for name, a in calls
    ]
    if form == "hermes":
        return "\n".join(f"<tool_call>\n{one}\n</tool_call>" for one in objects)
    return "; ".join(objects) if form == "llama" else f"[TOOL_CALLS] [{', '.join(objects)}]"


def calls_of(message: Any) -> list[tuple[str, Any]]:
    found = message.tool_calls or []
    return [(call.function.name, json.loads(call.function.arguments)) for call in found]


def put_together(events: Any) -> tuple[str, list[dict[str, str]], str | None]:
    """Return content, calls and the reason of the end, as a client puts a stream together."""
    content, calls, finish = "", list[dict[str, str]](), None
    for event in events:
        (choice,) = event.choices
        content += choice.delta.content or ""
        for piece in choice.delta.tool_calls or []:
            if piece.id is not None:
                assert piece.index == len(calls)
                assert piece.type == "function"
                calls.append({"id": piece.id, "name": piece.function.name, "arguments": ""})
            calls[piece.index]["arguments"] += piece.function.arguments
        finish = choice.finish_reason or finish
    return content, calls, finish


ROME: tuple[str, Any] = ("weather", {"city": "Rome"})
ZONE: tuple[str, Any] = ("time", {"zone": "CET"})


def test_calls_come_back_as_calls(ask: Any, form: str) -> None:
    choice = ask(written(form, ROME, ZONE)).choices[0]
    assert calls_of(choice.message) == [ROME, ZONE]
    assert choice.message.content is None
    assert choice.finish_reason == "tool_calls"
    ids = [call.id for call in choice.message.tool_calls]
    assert len(set(ids)) == 2
    assert all(len(number) == 9 and number.isalnum() for number in ids) or form != "mistral"


def test_a_stream_gives_the_name_and_then_the_arguments(ask: Any, form: str) -> None:
    events = list(ask(written(form, ROME, ZONE), stream=True))
    content, calls, finish = put_together(events)
    assert (content, finish) == ("", "tool_calls")
    assert [(c["name"], json.loads(c["arguments"])) for c in calls] == [ROME, ZONE]
    assert events[0].choices[0].delta.role == "assistant"
    assert events[0].choices[0].delta.content is None
    assert events[-1].choices[0].delta.tool_calls is None


def test_words_are_words(ask: Any, form: str) -> None:
    for says in ("It is warm.", "a < b { } [x]", " \n", "see <tool_calls> [TOOL"):
        choice = ask(says).choices[0]
        assert (choice.message.content, choice.finish_reason) == (says, "stop")
        assert choice.message.tool_calls is None
        content, calls, finish = put_together(ask(says, stream=True))
        assert (content, calls, finish) == (says, [], "stop"), form


def test_words_may_stand_before_calls(ask: Any, form: str) -> None:
    says = f"Let me see.\n\n{written(form, ROME)}"
    message = ask(says).choices[0].message
    if form == "llama":  # a call stands alone
        assert (message.content, message.tool_calls) == (says, None)
    else:
        assert message.content == "Let me see."
        assert calls_of(message) == [ROME]


@pytest.mark.parametrize(
    "broken",
    [
        ("weather", "{oh"),
        ("weather", "[1]"),
        ("weather", '"not json"'),
        ("weather", '{"city": "Rome"'),
        ("rm_rf", "{}"),
        ('weather", "x": ', "{}"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_no_call_is_content_to_the_letter(
    ask: Any, form: str, broken: tuple[str, str], *, stream: bool
) -> None:
    says = written(form, broken)
    answer = ask(says, stream=stream)
    if stream:
        assert put_together(answer) == (says, [], "stop")
    else:
        assert answer.choices[0].message.content == says
        assert answer.choices[0].message.tool_calls is None
        assert answer.choices[0].finish_reason == "stop"


def test_a_call_that_is_cut_off_is_content_and_says_so(ask: Any, form: str) -> None:
    says = written(form, ROME)
    choice = ask(says, max_tokens=len(says) - 25).choices[0]
    assert choice.message.content == says[:-25]
    assert choice.finish_reason == "length"


def test_none_shows_the_model_no_tools(ask: Any, form: str) -> None:
    says = written(form, ROME)
    some, none = ask("x"), ask(says, tool_choice="none")
    assert none.choices[0].message.content == says
    assert none.choices[0].message.tool_calls is None
    assert none.usage.prompt_tokens < some.usage.prompt_tokens


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "time"}}])
@pytest.mark.parametrize("stream", [True, False])
def test_a_call_that_is_asked_for_is_made(ask: Any, choice: Any, *, stream: bool) -> None:
    """The model would rather say something else, which it may not."""
    answer = ask("No.", tool_choice=choice, stream=stream, parallel_tool_calls=False)
    if stream:
        content, calls, finish = put_together(answer)
        made = [(call["name"], json.loads(call["arguments"])) for call in calls]
    else:
        message = answer.choices[0].message
        content, made, finish = message.content or "", calls_of(message), None
        finish = answer.choices[0].finish_reason
    assert (content, finish) == ("", "tool_calls")
    assert made
    allowed = {"weather", "time"} if choice == "required" else {"time"}
    assert {name for name, _ in made} <= allowed
    for name, arguments in made:
        assert list(arguments) == (["city"] if name == "weather" else ["zone"])


def test_a_needed_calls_arguments_come_as_they_are_written(ask: Any, form: str) -> None:
    says = written(form, ROME)
    events = list(ask(says, tool_choice="required", stream=True))
    pieces = [piece for event in events for piece in event.choices[0].delta.tool_calls or []]
    assert len(pieces) > 10
    assert put_together(events)[1][0]["arguments"] == json.dumps(ROME[1])
    most = says.index('{"city') + 5
    cut = list(ask(says, tool_choice="required", stream=True, max_tokens=most))
    content, calls, finish = put_together(cut)
    assert (content, finish) == ("", "length")
    assert calls[0]["arguments"] == '{"cit'


NAMED = {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_needed_call_that_is_cut_off_is_a_call_as_far_as_it_came(
    ask: Any, form: str, choice: Any
) -> None:
    says = written(form, ROME)
    begin = says.index('{"city')
    for most in (1, 4, begin - 9, begin, begin + 6, len(says) - 3):
        cut = ask(says, tool_choice=choice, max_tokens=most).choices[0]
        content, calls, finish = put_together(
            ask(says, tool_choice=choice, max_tokens=most, stream=True)
        )
        assert (content, cut.message.content) == ("", None if calls else "")
        assert finish == cut.finish_reason == "length"
        made = [(c.function.name, c.function.arguments) for c in cut.message.tool_calls or []]
        assert made == [(call["name"], call["arguments"]) for call in calls]
        known = choice == NAMED or most >= begin
        assert [name for name, _ in made] == ["weather"] * known
        assert all(says[begin:].startswith(arguments) for _, arguments in made)
    stopped = ask(says, tool_choice=choice, stop=["Ro"]).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.message.tool_calls[0].function.arguments == '{"city": "'


def test_one_call_at_most_where_only_one_may_be_made(ask: Any, form: str) -> None:
    says = written(form, ROME, ZONE)
    for more in ({}, {"tool_choice": "required"}):
        choice = ask(says, parallel_tool_calls=False, **more).choices[0]
        assert calls_of(choice.message) == [ROME]
        assert choice.finish_reason == "tool_calls"


def test_a_strict_tool_is_called_by_its_schema_and_words_stay_free(ask: Any, form: str) -> None:
    tools = [tool("weather", strict=True, city=CITY), TOOLS[1]]
    choice = ask(written(form, ("weather", {"city": "Nowhere"})), tools=tools).choices[0]
    ((name, arguments),) = calls_of(choice.message)
    assert name == "weather"
    assert arguments["city"] in CITY["enum"]
    free = ask(written(form, ("time", {"any": ["thing"]})), tools=tools).choices[0]
    assert calls_of(free.message) == [("time", {"any": ["thing"]})]
    assert ask("It is < 9.", tools=tools).choices[0].message.content == "It is < 9."


def test_what_was_called_and_answered_is_read_again(ask: Any, form: str, service: Service) -> None:
    first = ask(written(form, ROME)).choices[0].message
    history = [
        {"role": "user", "content": "@@Warm.@@"},
        first.model_dump(),
        {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": '{"degrees": 21}'},
    ]
    if form == "mistral":  # whose template says no more behind a tool's answer
        history.append({"role": "user", "content": "@@Warm.@@"})
    answer = ask("", messages=history)
    assert answer.choices[0].message.content == "Warm."
    ChatRequest.model_validate({"model": MODEL, "messages": history, "tools": TOOLS})
    asked = {"model": MODEL, "messages": history[:1], "tools": TOOLS, "tool_choice": "required"}
    raw = service.post(asked, "/v1/chat/completions")
    assert ChatResponse.model_validate_json(raw.body, strict=True).choices[0].message.tool_calls


def test_each_of_several_choices_has_its_own_calls(ask: Any, form: str) -> None:
    answer = ask(written(form, ROME), n=2)
    assert [calls_of(choice.message) for choice in answer.choices] == [[ROME], [ROME]]
    ids = {choice.message.tool_calls[0].id for choice in answer.choices}
    assert len(ids) == 2


def test_logprobs_are_told_of_calls_too(ask: Any, form: str) -> None:
    says = written(form, ROME)
    whole = ask(says, logprobs=True).choices[0]
    assert "".join(one.token for one in whole.logprobs.content) == says
    events = ask(says, logprobs=True, stream=True)
    told = [e.choices[0].logprobs.content for e in events if e.choices[0].logprobs]
    assert "".join(one.token for part in told for one in part) == says


def test_tools_count_as_input_of_the_baseline(ask: Any) -> None:
    with_tools, without = ask("x"), ask("x", tools=[])
    saved = [
        answer.model_extra["savings"]["baseline_prompt_tokens"] for answer in (with_tools, without)
    ]
    assert saved[0] > saved[1] + 30


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def function(**more: Any) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "f", **more}}]


def answered(number: Any) -> list[dict[str, Any]]:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "x", "tool_call_id": number},
    ]


def called(**more: Any) -> list[dict[str, Any]]:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}} | more
    return [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": "f"}, "tools"),
        ({"tools": [1]}, "tools[0]"),
        ({"tools": TOOLS * 65}, "tools"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{**TOOLS[0], "x": 1}]}, "tools[0].x"),
        ({"tools": function(name="a b")}, "tools[0].function.name"),
        ({"tools": function(name="x" * 65)}, "tools[0].function.name"),
        ({"tools": function(x=1)}, "tools[0].function.x"),
        ({"tools": function(strict=1)}, "tools[0].function.strict"),
        ({"tools": function(description=1)}, "tools[0].function.description"),
        ({"tools": function(parameters=[])}, "tools[0].function.parameters"),
        ({"tools": function(parameters={"type": "string"})}, "tools[0].function.parameters"),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools[2].function.name"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": 1}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"tools": None, "tool_choice": "required"}, "tool_choice"),
        ({"tools": None, "tool_choice": "auto"}, "tool_choice"),
        ({"tools": [], "tool_choice": "auto"}, "tool_choice"),
        ({"tools": None, "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": None, "parallel_tool_calls": True}, "parallel_tool_calls"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"extra_body": {"functions": [{"name": "f"}]}}, "functions"),
        ({"extra_body": {"function_call": "auto"}}, "function_call"),
        ({"messages": answered("b")}, "messages[2].tool_call_id"),
        ({"messages": answered(None)}, "messages[2].tool_call_id"),
        ({"messages": answered(["a"])}, "messages[2].tool_call_id"),
        ({"messages": called(type="custom")}, "messages[1].tool_calls[0].type"),
        ({"messages": called(id=1)}, "messages[1].tool_calls[0].id"),
        ({"messages": called(function=1)}, "messages[1].tool_calls[0].function"),
        (
            {"messages": called(function={"name": "f", "arguments": "[1]"})},
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            {"messages": called(function={"name": "f", "arguments": {}})},
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]},
            "messages[0].tool_calls",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_its_place(
    client: OpenAI, asked: dict[str, Any], param: str
) -> None:
    turns = [{"role": "user", "content": "x"}]
    given: dict[str, Any] = {"model": MODEL, "messages": turns, "tools": TOOLS}
    with pytest.raises(BadRequestError) as refused:
        client.chat.completions.create(**(given | asked))
    assert refused.value.param == param


def test_a_strict_schema_that_cannot_be_followed_is_refused(ask: Any) -> None:
    parameters = {**SCHEMA, "$ref": "http://x/y"}
    assert ask("x", tools=function(parameters=parameters)).choices
    with pytest.raises(BadRequestError) as refused:
        ask("x", tools=[TOOLS[0], *function(strict=True, parameters=parameters)])
    assert refused.value.param == "tools[1].function.parameters"


def nested(levels: int) -> dict[str, Any]:
    parameters: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        parameters = {"type": "object", "properties": {"a": parameters}}
    return parameters


@pytest.mark.parametrize("choice", ["required", "auto"])
@pytest.mark.parametrize("levels", [40, 127, 400])
def test_a_tool_that_is_nested_too_deep_is_refused(ask: Any, choice: str, levels: int) -> None:
    with pytest.raises(BadRequestError) as refused:
        ask("x", tools=function(parameters=nested(levels)), tool_choice=choice)
    assert refused.value.param == "tools[0].function.parameters"
    assert refused.value.code == "unsupported_schema"
    assert ask("x", tools=function(parameters=nested(3)), max_tokens=3).choices


def test_arguments_that_are_nested_too_deep_are_refused(ask: Any) -> None:
    arguments = f'{{"a": {"[" * 300}{"]" * 300}}}'
    with pytest.raises(BadRequestError) as refused:
        ask("", messages=called(function={"name": "f", "arguments": arguments}))
    assert refused.value.param == "messages[1].tool_calls[0].function.arguments"


@pytest.mark.parametrize(
    "impossible",
    [
        {"type": "object", "enum": []},
        {"type": "object", "properties": {"a": {"enum": []}}, "required": ["a"]},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
    ],
)
def test_a_call_that_must_come_and_cannot_is_refused(ask: Any, impossible: dict[str, Any]) -> None:
    tools = [*TOOLS, *function(parameters=impossible)]
    assert ask("x", tools=tools).choices
    with pytest.raises(BadRequestError) as refused:
        ask("x", tools=tools, tool_choice="required")
    assert refused.value.param == "tools[2].function.parameters"
    assert refused.value.code == "unsupported_schema"


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": TOOLS}, "tools"),
        ({"messages": answered("a")}, "messages[1].tool_calls"),
        ({"model": "fake", "tools": TOOLS}, "tools"),
        ({"model": "fake", "messages": answered("a")}, "messages[1].tool_calls"),
    ],
)
def test_a_model_that_knows_no_tools_refuses_them_by_name(
    client: OpenAI, asked: dict[str, Any], param: str
) -> None:
    given: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
    with pytest.raises(BadRequestError) as refused:
        client.chat.completions.create(**(given | asked))
    assert refused.value.param == param
    assert refused.value.code == "unsupported_parameter"


def test_a_real_model_with_weights_of_nothing_calls_what_it_must(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "store")
    publish_causal(registry, "tiny", make_folder(tmp_path / "base"))
    generation = registry.open(ModelReference("tiny")).manifest.generation
    assert generation is not None
    assert generation.tool_form == "hermes"
    with (
        serving(tmp_path / "store", log_folder=tmp_path, threads=1, run_jobs=False) as service,
        client_of(service) as client,
    ):
        asked: dict[str, Any] = {
            "model": "tiny",
            "messages": [{"role": "user", "content": "What is it like in Rome?"}],
            "tools": TOOLS,
            "tool_choice": "required",
            "parallel_tool_calls": False,
            "max_tokens": 200,
        }
        for seed in range(4):
            choice = client.chat.completions.create(**asked, seed=seed).choices[0]
            assert choice.finish_reason == "tool_calls"
            ((name, arguments),) = calls_of(choice.message)
            assert name in {"weather", "time"}
            assert name == "time" or arguments["city"] in CITY["enum"]
            events = client.chat.completions.create(**asked, seed=seed, stream=True)
            _, (streamed,), finish = put_together(events)
            assert finish == "tool_calls"
            assert (streamed["name"], json.loads(streamed["arguments"])) == (name, arguments)
