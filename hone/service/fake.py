"""Models without weights, so that the API can be tried before anything was trained."""

from functools import partial
from typing import Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.fake import FakeDecoder
from hone.models.decoding.templates import ChatTemplate
from hone.models.engines import FakeEngine
from hone.models.layout import SessionLayout
from hone.models.predictor import Predictor
from hone.models.savings import ESTIMATED, BaselinePrompt, default_instruction, estimate_tokens
from hone.models.tokenizer import TextTokenizer
from hone.service.decoders import Language
from hone.service.generating import GeneratingModel, decoder_over
from hone.service.savings import SavingsCounter
from hone.service.serving import Host, LoadedModel, ModelFacts

FAKE_MODEL = "fake"
FAKE_TEXT_MODEL = "fake-text"
LABELS = ("negative", "neutral", "positive")

_MAX_TOKENS = 256
_LAYOUT = SessionLayout(workers=1, intra_threads=1, batch_tokens=1024)


def fake_predictor() -> Predictor:
    """Return a predictor whose answers follow from the characters of the text."""
    characters = [chr(code) for code in range(32, 127)]
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    text_tokenizer = TextTokenizer(tokenizer, max_tokens=_MAX_TOKENS)
    return Predictor(text_tokenizer, FakeEngine(len(LABELS)), LABELS, 1.0)


def fake_model(host: Host) -> LoadedModel:
    """Return the model `fake@1`, loaded."""
    savings = _savings(default_instruction(LABELS), "labels")
    facts = ModelFacts(FAKE_MODEL, 1, 0, LABELS, "0" * 64)
    return LoadedModel(facts, fake_predictor(), _LAYOUT, host, variant="fake", savings=savings)


def _savings(instruction: str, form: Literal["labels", "chat"]) -> SavingsCounter:
    baseline = BaselinePrompt(
        instruction=instruction,
        static_tokens=estimate_tokens(instruction),
        output_tokens=1,
        method=ESTIMATED,
        form=form,
    )
    return SavingsCounter(baseline, estimate_tokens, ESTIMATED, None)


_END = "<end>"
_INSTRUCTION = "Go on with what you are given, in words of which nobody knows what they mean."
_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def fake_text_model(host: Host, *, engine: FakeDecoder | None = None) -> GeneratingModel:
    """Return the causal model `fake-text@1`, loaded. What it says follows from all before it.

    `engine` must have a logit for each of 97 tokens.
    """
    characters = ["\n", *(chr(code) for code in range(32, 127))]
    vocabulary = {character: number for number, character in enumerate(characters)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=" "))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(_END, special=True)])
    end = len(characters)
    engine = engine or FakeDecoder(end + 1, slots=host.settings.decoder_slots, longest=1024)
    decoder = host.decoders.borrow(None, partial(decoder_over, engine, host, FAKE_TEXT_MODEL))
    return GeneratingModel(
        ModelFacts(FAKE_TEXT_MODEL, 1, 0, (), "0" * 64),
        decoder,
        Language(CausalTokenizer(tokenizer, eos_ids=[end]), engine.vocabulary_size),
        host,
        variant="fake",
        template=ChatTemplate(_TEMPLATE),
        savings=_savings(_INSTRUCTION, "chat"),
    )
