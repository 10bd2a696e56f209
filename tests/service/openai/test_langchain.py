"""LangChain's two classes for OpenAI models, unchanged, in an environment of their own."""

import json
from pathlib import Path
from typing import Any

import pytest

from hone.models.predictor import Predictor
from tests.service.client_environments import LANGCHAIN, programs_of, run_client
from tests.service.running import Service
from tests.tiny_bundle import LABELS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TEXT = "where is my card"


@pytest.fixture(scope="session")
def langchain() -> Path:
    return programs_of(LANGCHAIN)


def python(langchain: Path, service: Service, *lines: str) -> Any:
    """Return `found`, which these lines set, as JSON."""
    script = [
        "import asyncio, json",
        "from langchain_core.messages import HumanMessage, SystemMessage",
        "from langchain_core.output_parsers import StrOutputParser",
        "from langchain_core.prompts import ChatPromptTemplate",
        "from langchain_openai import ChatOpenAI, OpenAI",
        *lines,
        "print(json.dumps(found))",
    ]
    return json.loads(run_client(langchain, service, "python", "-c", "\n".join(script)))


@pytest.fixture(scope="session")
def label(predictor: Predictor) -> str:
    return LABELS[predictor.probabilities(predictor.encode([TEXT]))[0].argmax()]


def test_chat_models_answer_stream_batch_and_count(
    langchain: Path, speaking: Service, label: str
) -> None:
    found = python(
        langchain,
        speaking,
        "model = ChatOpenAI(model='chats', temperature=0)",
        f"asked = [SystemMessage('Sort it.'), HumanMessage({TEXT!r})]",
        "answer = model.invoke(asked)",
        "found = [answer.content, answer.usage_metadata]",
        "found += [''.join(part.content for part in model.stream(asked))]",
        "found += [[a.content for a in model.batch([asked, asked, asked])]]",
        "found += [asyncio.run(model.ainvoke(asked)).content]",
    )
    assert found[0] == found[2] == found[4] == label
    assert found[3] == [label] * 3
    usage = found[1]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 1


def test_a_chain_of_template_model_and_parser_gives_the_label(
    langchain: Path, speaking: Service, label: str
) -> None:
    found = python(
        langchain,
        speaking,
        "template = ChatPromptTemplate.from_messages([('system', 'Sort.'), ('human', '{text}')])",
        "model = ChatOpenAI(model='chats', logprobs=True, top_logprobs=2, max_tokens=5)",
        "chain = template | model | StrOutputParser()",
        f"answer = (template | model).invoke({{'text': {TEXT!r}}})",
        "scores = answer.response_metadata['logprobs']['content'][0]['top_logprobs']",
        f"found = [chain.invoke({{'text': {TEXT!r}}}), len(scores), scores[0]['token']]",
    )
    assert found == [label, 2, label]


def test_completion_models_answer_stream_and_batch(
    langchain: Path, speaking: Service, label: str
) -> None:
    prompt = f"{TEXT}\n\n###"
    found = python(
        langchain,
        speaking,
        "model = OpenAI(model='prompts', temperature=0, max_tokens=5, stop=[' END'])",
        f"found = [model.invoke({prompt!r}), ''.join(model.stream({prompt!r}))]",
        f"found += model.batch([{prompt!r}] * 2) + [asyncio.run(model.ainvoke({prompt!r}))]",
        f"found += [g[0].text for g in model.generate([{prompt!r}] * 3).generations]",
    )
    assert found == [f" {label}"] * 8


def test_a_model_that_is_not_there_raises_the_class_of_its_status(
    langchain: Path, speaking: Service
) -> None:
    found = python(
        langchain,
        speaking,
        "import openai",
        "try:",
        "    ChatOpenAI(model='none').invoke('hello')",
        "except openai.NotFoundError as error:",
        "    found = [type(error).__name__.endswith('NotFoundError'), error.code]",
    )
    assert found == [True, "model_not_found"]
