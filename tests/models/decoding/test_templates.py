"""Chat templates render as transformers renders them, and reach nothing outside."""

import pytest
from transformers import PreTrainedTokenizerFast

from hone.models.decoding.templates import ChatTemplate
from hone.models.errors import InvalidInput
from tests.models.decoding.running import character_tokenizer

CHATML = (
    "{% for message in messages %}\n"
    "    {%- if message.role == 'system' and not loop.first %}{% continue %}{% endif %}\n"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|im_end|>\n"
    "{% if message.role == 'assistant' %}{% generation %}!{% endgeneration %}{% endif %}\n"
    "{% endfor %}\n"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}{{ bos_token }}"
    "{{ {'b': 1, 'a': ['ü']} | tojson }}"
)
CHAT = [
    {"role": "system", "content": "Be <brief>."},
    {"role": "user", "content": " Hello & 你好 "},
    {"role": "assistant", "content": "Hi."},
    {"role": "system", "content": "dropped"},
    {"role": "user", "content": "Why?"},
]


def test_a_template_renders_as_transformers_renders_it() -> None:
    theirs = PreTrainedTokenizerFast(tokenizer_object=character_tokenizer()._tokenizer)
    theirs.bos_token = "<s>"
    expected = theirs.apply_chat_template(
        CHAT, chat_template=CHATML, tokenize=False, add_generation_prompt=True
    )
    found = ChatTemplate(CHATML, {"bos_token": "<s>"}).render(CHAT)
    assert found == expected


def test_what_a_template_refuses_is_the_clients_error() -> None:
    template = ChatTemplate("{{ raise_exception('no system message, please') }}")
    with pytest.raises(InvalidInput, match="no system message, please"):
        template.render(CHAT)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{% include '/etc/passwd' %}",
        "{{ range(10000000000) | list }}",
        "{{ undefined_thing.attribute }}",
        "{{ 1 / 0 }}",
    ],
)
def test_a_template_reaches_nothing_and_breaks_nothing(source: str) -> None:
    with pytest.raises(InvalidInput):
        ChatTemplate(source).render(CHAT)


def test_a_source_that_is_no_template_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        ChatTemplate("{% for %}")
