"""Bases made from the user's data alone, for machines with no model hub: `scratch:llama-3m`.

A Llama with random weights and a byte-level BPE tokenizer that is trained on the training texts.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hone.models.errors import InvalidInput, NotFound
from hone.training.generation.conversations import Example, texts_of
from hone.training.generation.generation_recipe import SCRATCH_PREFIX

BEGIN, END, TURN, PADDING = "<s>", "</s>", "<|turn|>", "<pad>"

_CHAT_TEMPLATE = (
    f"{BEGIN}{{% if tools %}}{TURN}tools\n"
    f"{{% for tool in tools %}}{{{{ tool | tojson }}}}\n{{% endfor %}}{END}{{% endif %}}"
    f"{{% for message in messages %}}{TURN}{{{{ message['role'] }}}}\n"
    f"{{{{ message['content'] }}}}"
    "{% for call in message['tool_calls'] or [] %}"
    "{% if message['content'] or not loop.first %}{{ '\n' }}{% endif %}<tool_call>\n"
    """{"name": "{{ call['function']['name'] }}", "arguments": """
    "{{ call['function']['arguments'] | tojson }}}\n</tool_call>{% endfor %}"
    f"{END}{{% endfor %}}"
    f"{{% if add_generation_prompt %}}{TURN}assistant\n{{% endif %}}"
)
"""Turns, each with its role; tools and their calls as in Hermes' form."""

_WORDS = (
    r" ?[\p{L}\p{N}_]+(?:[.][\p{L}_][\p{L}\p{N}_]*)*"  # words, and names such as `table.column_1`
    r"| ?[^\s\p{L}\p{N}_]+"  # signs
    r"|\s+(?!\S)|\s+"
)
"""Where no token goes across. Names of programs stay whole, so that queries are short."""

DEFAULT_POSITIONS, SMALLEST_VOCABULARY = 1024, 1500
_ROWS_READ = 100_000


class Shape(NamedTuple):
    """The sizes of a Llama: its key and value heads are as many as its heads."""

    hidden: int
    layers: int
    heads: int
    between: int


SHAPES = {
    "llama-1m": Shape(128, 4, 2, 352),
    "llama-3m": Shape(256, 4, 4, 640),
    "llama-5m": Shape(256, 6, 4, 704),
    "llama-15m": Shape(384, 8, 6, 1024),
    "llama-30m": Shape(512, 10, 8, 1408),
    "llama-100m": Shape(768, 14, 12, 2048),
}


def shape_of(name: str) -> Shape:
    """Return the sizes of a `scratch:` base; NotFound for a name that there is not."""
    shape = SHAPES.get(name.removeprefix(SCRATCH_PREFIX))
    if shape is None:
        known = ", ".join(SCRATCH_PREFIX + known for known in SHAPES)
        raise NotFound(f"there is no base {name!r}: give one of {known}")
    return shape


def make_base(
    folder: Path,
    name: str,
    examples: Sequence[Example],
    *,
    vocabulary: int,
    positions: int,
    seed: int,
) -> None:
    """Write a new base into `folder`: config.json, model.safetensors and the tokenizer's files.

    The same arguments give the same bytes. InvalidInput where the texts hold too little for any
    tokenizer.
    """
    shape = shape_of(name)
    texts = (text for example in examples[:_ROWS_READ] for text in texts_of(example))
    tokenizer = train_tokenizer(texts, vocabulary=vocabulary, positions=positions)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.between,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train_tokenizer(
    texts: Iterable[str], *, vocabulary: int, positions: int
) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of at most `vocabulary` tokens, with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(name, special=True) for name in (BEGIN, END, PADDING, TURN)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocabulary < len(alphabet) + len(special):
        least = len(alphabet) + len(special)
        raise InvalidInput(f"model.vocabulary: {least} tokens are the least, one for each byte")
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    begin = tokenizer.token_to_id(BEGIN)
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, begin)]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PADDING,
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = _CHAT_TEMPLATE
    return wrapped
