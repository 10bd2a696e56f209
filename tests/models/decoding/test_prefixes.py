"""What was read before is found again, exactly, within a bounded memory."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hone.models.decoding.fake import FakeDecoder
from hone.models.decoding.prefixes import BLOCK_TOKENS, PrefixStore

prompts = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=70), min_size=1, max_size=12)


@given(prompts, st.integers(0, 12))
def test_only_a_true_prefix_is_restored_and_never_the_last_token(
    asked: list[list[int]], blocks: int
) -> None:
    engine = FakeDecoder(5, slots=2, longest=80)
    store = PrefixStore(blocks * BLOCK_TOKENS * engine.bytes_per_token)
    kept: list[list[int]] = []
    for prompt in asked:
        filled = store.restore(engine, 1, prompt)
        assert filled < len(prompt)
        assert filled % BLOCK_TOKENS == 0
        assert not filled or any(known[:filled] == prompt[:filled] for known in kept)
        held = engine.read(1, 0, filled)[0, 0, :, 0]
        assert held.tolist() == prompt[:filled]
        engine.prefill(0, prompt, 0, every=False)
        store.keep(engine, 0, prompt)
        kept.append(prompt)
        assert store.bytes <= blocks * BLOCK_TOKENS * engine.bytes_per_token


def test_what_was_used_last_stays_and_is_counted() -> None:
    engine = FakeDecoder(5, slots=1, longest=80)
    store = PrefixStore(3 * BLOCK_TOKENS * engine.bytes_per_token)
    old, newer, newest = ([number] * (BLOCK_TOKENS + 1) for number in (1, 2, 3))
    for prompt in (old, newer, newest):
        engine.prefill(0, prompt, 0, every=False)
        store.keep(engine, 0, prompt)
    assert store.restore(engine, 0, old) == BLOCK_TOKENS
    engine.prefill(0, [4] * BLOCK_TOKENS, 0, every=False)
    store.keep(engine, 0, [4] * BLOCK_TOKENS)
    assert store.restore(engine, 0, old) == BLOCK_TOKENS
    assert store.restore(engine, 0, newer) == 0
    assert (store.hits, store.misses, store.reused_tokens) == (2, 1, 2 * BLOCK_TOKENS)


def test_the_beginning_of_a_long_prompt_outlives_its_end() -> None:
    engine = FakeDecoder(5, slots=1, longest=80)
    store = PrefixStore(4 * BLOCK_TOKENS * engine.bytes_per_token)
    long = np.arange(4 * BLOCK_TOKENS + 1).tolist()
    engine.prefill(0, long, 0, every=False)
    store.keep(engine, 0, long)
    assert store.restore(engine, 0, long) == 4 * BLOCK_TOKENS
    engine.prefill(0, [4] * BLOCK_TOKENS, 0, every=False)
    store.keep(engine, 0, [4] * BLOCK_TOKENS)
    assert store.restore(engine, 0, long) == 3 * BLOCK_TOKENS
