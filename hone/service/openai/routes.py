"""The routes of OpenAI's completion APIs, for both kinds of model, and of its decision API."""

from typing import Protocol

from starlette.types import ASGIApp

from hone.service.endpoint import ReadQuestion
from hone.service.openai.chat import read_chat_completion
from hone.service.openai.completions import read_completion
from hone.service.openai.decision_schemas import DecisionRequest, DecisionResponse
from hone.service.openai.decisions import read_decision
from hone.service.openai.generation import Readers
from hone.service.openai.generation_requests import (
    read_chat_question,
    read_completion_question,
)
from hone.service.openai.schemas import (
    ChatRequest,
    ChatResponse,
    CompletionRequest,
    CompletionResponse,
)
from hone.service.plain_route import PlainRoute


class MakeEndpoint(Protocol):
    """Makes the application that reads questions so, and begins their ids with that prefix."""

    def __call__(self, read: ReadQuestion | Readers, prefix: str) -> ASGIApp:
        """Return it."""


def completion_routes(make: MakeEndpoint) -> list[PlainRoute]:
    """Return the routes, the busiest first."""
    completions = make(Readers(read_completion, read_completion_question), "cmpl")
    return [
        PlainRoute(
            "/v1/chat/completions",
            create_chat_completion,
            make(Readers(read_chat_completion, read_chat_question), "chatcmpl"),
            tag="chat",
        ),
        PlainRoute("/v1/completions", create_completion, completions, tag="completions"),
        PlainRoute(
            "/v1/engines/{engine:path}/completions",
            create_engine_completion,
            completions,
            tag="completions",
        ),
        PlainRoute("/v1/decisions", create_decision, make(read_decision, "dec"), tag="decisions"),
    ]


def create_chat_completion(request: ChatRequest) -> ChatResponse:
    """Go on with a chat, or say its most probable label; `stream` for a stream of events."""
    raise NotImplementedError  # the ASGI endpoint answers


def create_completion(request: CompletionRequest) -> CompletionResponse:
    """Complete prompts, with text or the most probable label; `stream` for a stream of events."""
    raise NotImplementedError


def create_engine_completion(engine: str, request: CompletionRequest) -> CompletionResponse:
    """Complete prompts by the model in the address, as clients before 2023 do."""
    raise NotImplementedError


def create_decision(request: DecisionRequest) -> DecisionResponse:
    """Answer questions about one input from the calibrated probabilities of a model's labels."""
    raise NotImplementedError
