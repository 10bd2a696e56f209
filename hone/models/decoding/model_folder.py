"""What the folder of a causal model says of it, in the form in which transformers saves one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hone.models.decoding.templates import ChatTemplate
from hone.models.decoding.tool_calls import ToolForm
from hone.models.decoding.tool_forms import find_tool_form
from hone.models.errors import InvalidInput

_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True, slots=True)
class FolderTemplate:
    """A folder's chat template, None without one, and the special tokens it may write by name.

    `tool_form` is how it writes calls of tools; None unless it knows tools, and they can be read
    back.
    """

    source: str | None
    special_tokens: Mapping[str, str]
    tool_form: ToolForm | None


def read_template(folder: Path) -> FolderTemplate:
    """Return the chat template of a folder; InvalidInput for one that cannot be compiled."""
    tokenizer = read_object(folder / "tokenizer_config.json", needed=False)
    special = {name: _text(tokenizer.get(name)) for name in _SPECIAL}
    named = {name: text for name, text in special.items() if text is not None}
    source = _source(folder, tokenizer)
    form = None if source is None else find_tool_form(ChatTemplate(source, named))
    return FolderTemplate(source, named, form)


def read_object(path: Path, *, needed: bool = True) -> dict[str, Any]:
    """Return a JSON object; InvalidInput for what is none, or for no file where one is needed."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        if needed or path.exists():
            raise InvalidInput(f"{path} cannot be read") from None
        return {}
    if not isinstance(found, dict):
        raise InvalidInput(f"{path} is not a JSON object")
    return found


def _source(folder: Path, tokenizer: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise InvalidInput(f"{file} cannot be read") from None
    found = tokenizer.get("chat_template")
    if isinstance(found, list):  # several by name, as some bases carry them
        named = [one for one in found if isinstance(one, dict) and one.get("name") == "default"]
        found = named[0].get("template") if named else None
    return found if isinstance(found, str) else None


def _text(token: object) -> str | None:
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None
