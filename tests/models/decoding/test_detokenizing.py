"""Text comes out token by token as if it had been decoded at once."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from hone.models.decoding.detokenizing import CausalTokenizer, Detokenizer
from hone.models.errors import InvalidInput
from tests.bases import base_folder

BROKEN = "\N{REPLACEMENT CHARACTER}"
texts = st.text(st.sampled_from("ab \n€é漢🙂👨‍👩‍👧"), min_size=1, max_size=30)


def byte_level() -> CausalTokenizer:
    """Return GPT-2's way without merges: an id for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return CausalTokenizer(tokenizer)


def mark_blanks(tokenizer: Tokenizer) -> None:
    """Let a tokenizer put a blank before a text, and write blanks as sentencepiece does."""
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )


def byte_fallback() -> CausalTokenizer:
    """Return sentencepiece's way: a few pieces, and bytes for the rest."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "ab"]
    tokenizer = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)},
            [("▁", "a"), ("a", "b")],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    mark_blanks(tokenizer)
    return CausalTokenizer(tokenizer)


TOKENIZERS = {"byte level": byte_level(), "byte fallback": byte_fallback()}


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(prompt=texts, said=texts)
def test_pieces_add_up_to_the_text_and_hold_whole_characters(
    kind: str, prompt: str, said: str
) -> None:
    tokenizer = TOKENIZERS[kind]
    # Tokenized together: what a model says goes on from its prompt.
    ids, before = tokenizer.encode(prompt + said), tokenizer.encode(prompt)
    cut = len(before) if ids[: len(before)] == before else 0
    detokenizer = Detokenizer(tokenizer, ids[:cut])
    pieces = [detokenizer.push(token) for token in ids[cut:]]
    pieces.append(detokenizer.finish())
    assert "".join(pieces) == (said if cut else prompt + said)
    assert not any(BROKEN in piece for piece in pieces)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_piece_comes_as_soon_as_its_character_is_whole(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    prompt = tokenizer.encode("ab ")
    ids = tokenizer.encode("ab 🙂b")[len(prompt) :]
    assert len(ids) == 5
    detokenizer = Detokenizer(tokenizer, prompt)
    assert [detokenizer.push(token) for token in ids] == ["", "", "", "🙂", "b"]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_half_a_character_is_told_only_at_the_end(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode("b€")[:-1]
    detokenizer = Detokenizer(tokenizer)
    assert "".join(detokenizer.push(token) for token in ids) == "b"
    assert set(detokenizer.finish()) == {BROKEN}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_broken_run_of_bytes_does_not_hold_back_what_follows(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    first = tokenizer.encode("€")[-3]
    letter = tokenizer.encode("ab")[-1]
    detokenizer = Detokenizer(tokenizer)
    assert detokenizer.push(first) == ""
    assert detokenizer.push(letter).startswith(BROKEN)
    assert BROKEN not in detokenizer.push(letter)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(text=texts)
def test_the_bytes_of_tokens_are_those_of_the_text(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    found = b"".join(tokenizer.token_bytes(token) for token in tokenizer.encode(text))
    assert found.removeprefix(b" " if kind == "byte fallback" else b"") == text.encode()


def test_a_real_tokenizer_begins_sequences_and_keeps_the_space_after_a_prompt() -> None:
    tokenizer = CausalTokenizer.from_file(base_folder("stories260K") / "tokenizer.json")
    prompt = tokenizer.encode("Once upon a")
    assert prompt[0] == 1
    ids = tokenizer.encode("Once upon a time, there was")
    assert ids[: len(prompt)] == prompt
    detokenizer = Detokenizer(tokenizer, prompt)
    said = "".join(detokenizer.push(token) for token in ids[len(prompt) :])
    assert said + detokenizer.finish() == " time, there was"


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(InvalidInput, match="not a tokenizer"):
        CausalTokenizer.from_file(path)
    with pytest.raises(InvalidInput, match="Unicode"):
        byte_level().encode("\ud800")


TEXTS = st.text(
    st.one_of(
        st.sampled_from("ab <>|s/\n\t▁é漢字😀👩‍🚀"), st.characters(exclude_categories=["Cs"])
    ),
    max_size=24,
)


def marked_bytes() -> CausalTokenizer:
    """Return a tokenizer of bytes, with a token that begins each text."""
    vocabulary = {
        character: n for n, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))
    }
    tokenizer = Tokenizer(models.BPE(vocab={**vocabulary, "<s>": 256}, merges=[]))
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A", special_tokens=[("<s>", 256)]
    )
    return CausalTokenizer(tokenizer)


def marked_pieces() -> CausalTokenizer:
    """Return a tokenizer of the kind that puts a blank before a text: words, letters, bytes."""
    pieces = [
        "<s>",
        "<unk>",
        "▁",
        "a",
        "b",
        "▁a",
        "ab",
        "▁ab",
        *(f"<0x{n:02X}>" for n in range(256)),
    ]
    vocabulary = {piece: n for n, piece in enumerate(pieces)}
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b")]
    model = models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    mark_blanks(tokenizer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return CausalTokenizer(tokenizer)


@pytest.mark.parametrize("made", [marked_bytes(), marked_pieces()], ids=["level", "fallback"])
@example(text=" a")
@example(text="ab ab")
@given(text=TEXTS)
def test_each_token_of_a_text_has_its_place_in_it(made: CausalTokenizer, text: str) -> None:
    begins = made.places(text)
    ids = made.encode(text)
    assert len(begins) == len(ids)
    assert begins == sorted(begins)
    assert all(0 <= place <= len(text) for place in begins)
    if made.decode(ids) != text:
        return
    before = made.encode("b")[-1]  # nothing is taken from a token that others stand before
    for token, place in zip(ids, begins, strict=True):
        if token in made.special_ids:
            continue
        piece = made.decode([before, token]).removeprefix("b")
        told = (piece, piece.removeprefix(" ")) if place == 0 else (piece,)  # an added blank
        assert BROKEN in piece or text.startswith(told, place)


def test_a_first_token_and_an_added_blank_take_no_place() -> None:
    assert marked_pieces().places("ab ab") == [0, 0, 2]
    assert (
        marked_pieces().places(" a😀b")
        == [0, 0, 0, *[2] * 4, 3][: len(marked_pieces().encode(" a😀b"))]
    )
    assert marked_bytes().places("<s>ab") == [0, 0, 3, 4]
    assert marked_bytes().places("") == [0]
