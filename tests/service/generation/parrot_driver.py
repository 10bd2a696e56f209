"""Run the service with the built-in causal model, which says what it is told to, and knows tools.

    python -m tests.service.generation.parrot_driver hermes|llama|mistral

It says what stands between two `@@` in the last message that has them, letter by letter.
"""

import sys
from typing import Any

import numpy as np

from hone.models.decoding.fake import FakeDecoder
from hone.models.decoding.templates import ChatTemplate
from hone.models.decoding.tool_forms import find_tool_form
from hone.models.engines import FloatArray
from hone.service import fake
from hone.service.command import settings_from
from hone.service.server import run
from tests.models.decoding.chat_templates import HERMES, LLAMA, MISTRAL

TEMPLATES = {"hermes": HERMES, "llama": LLAMA, "mistral": MISTRAL}
ENDINGS = {
    "hermes": "<|im_start|>assistant\n",
    "llama": "assistant<|end_header_id|>\n\n",
    "mistral": "[/INST]",
}
CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
LONGEST = 6000


class Parrot(FakeDecoder):
    ending = ""

    def __init__(self, vocabulary_size: int, *, slots: int, longest: int) -> None:
        super().__init__(vocabulary_size, slots=slots, longest=max(longest, LONGEST))

    def _logits(self, slot: int, length: int) -> FloatArray:
        ids = self._cache[0, slot, 0, :length, 0].astype(int).tolist()
        text = "".join(CHARACTERS[token] for token in ids if token < len(CHARACTERS))
        asked, _, said = text.rpartition(self.ending)
        parts = asked.split("@@")
        script = parts[-2] if len(parts) > 2 else ""
        logits = np.zeros(self.vocabulary_size, dtype=np.float32)
        follows = script[len(said) : len(said) + 1] if script.startswith(said) else ""
        logits[CHARACTERS.index(follows) if follows else len(CHARACTERS)] = 50.0
        return logits


def main(form: str) -> None:
    Parrot.ending = ENDINGS[form]
    source, special = TEMPLATES[form], {"bos_token": "", "eos_token": ""}

    def template(_source: str) -> ChatTemplate:
        found = find_tool_form(ChatTemplate(source, special))
        assert found == form
        return ChatTemplate(source, special, tool_form=found)

    patched: Any = fake
    patched.ChatTemplate, patched.FakeDecoder = template, Parrot
    run(settings_from(fake=True))


if __name__ == "__main__":
    main(sys.argv[1])
