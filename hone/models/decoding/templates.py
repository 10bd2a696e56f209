"""Chat templates: messages in, the text that the model was trained to go on from.

Templates are programs in Jinja's language, as Hugging Face tokenizers carry them. They run in
Jinja's sandbox, with the few functions and the one block that such templates expect there.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hone.models.decoding.tool_calls import ToolForm
from hone.models.errors import InvalidInput


class ChatTemplate:
    """A compiled template. Thread-safe."""

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str] | None = None,
        *,
        tool_form: ToolForm | None = None,
    ) -> None:
        """Compile; InvalidInput when the source is no template. `tool_form` is known from before:
        `tool_forms.find_tool_form` finds it.
        """
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationBlock, loopcontrols],
            autoescape=False,
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _now
        self._tokens = dict(special_tokens or {})
        self.tool_form = tool_form
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise InvalidInput(f"the chat template cannot be read: {error}") from None

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        answer_follows: bool = True,
    ) -> str:
        """Return the text of a chat, after which the assistant speaks if `answer_follows`.

        InvalidInput when the template refuses the messages.
        """
        values = {
            **self._tokens,
            "messages": list(messages),
            "tools": list(tools) or None,
            "documents": None,
            "add_generation_prompt": answer_follows,
        }
        try:
            return self._template.render(values)
        except TemplateError as error:
            raise InvalidInput(f"the model's chat template refuses the messages: {error}") from None
        except Exception:  # noqa: BLE001 - a program of the bundle's; it may fail in any way
            raise InvalidInput("the model's chat template fails on the messages") from None


class _GenerationBlock(Extension):
    """Lets `{% generation %}` stand round what the assistant says; training marks it so."""

    tags = {"generation"}  # noqa: RUF012 - the library's own form

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,  # noqa: ANN401 - any JSON
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as transformers does in templates, whose text the model was trained on."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
