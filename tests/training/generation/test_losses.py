"""The losses, beside what a person computes by hand."""

from typing import Any

import numpy as np
import pytest
import torch

from hone.training.generation.causal_bases import CausalBase, load_causal_model
from hone.training.generation.conversations import Completion, Preference
from hone.training.generation.encoding import ConversationEncoder, TrainedText
from hone.training.generation.losses import (
    DirectPreference,
    Supervised,
    refer_to,
    token_losses,
)
from tests.training.generation.tiny import tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> CausalBase:
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def model(base: CausalBase) -> Any:
    return load_causal_model(base).eval()


def text_of(ids: list[int], weights: list[float]) -> TrainedText:
    return TrainedText(tuple(ids), tuple(weights), len(ids))


TEXTS = [text_of([0, 9, 8, 7, 1], [0, 0.5, 0, 1, 1]), text_of([0, 5, 1], [0, 0, 1])]


def log_probability(model: Any, ids: list[int], place: int) -> float:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, place - 1]
    return float(torch.log_softmax(logits, dim=-1)[ids[place]])


def test_each_token_is_lost_by_its_weight_and_padding_not_at_all(
    model: Any, base: CausalBase
) -> None:
    found = token_losses(model, TEXTS, pad_id=base.pad_id)
    first = [0.5, 3, 4]
    expected = [
        -0.5 * log_probability(model, [0, 9, 8, 7, 1], 1)
        - log_probability(model, [0, 9, 8, 7, 1], 3)
        - log_probability(model, [0, 9, 8, 7, 1], 4),
        -log_probability(model, [0, 5, 1], 2),
    ]
    assert (found.losses * found.weights).sum(dim=1).tolist() == pytest.approx(expected, rel=1e-5)
    assert found.weights.sum(dim=1).tolist() == [sum(first[:1]) + 2, 1]


def test_a_batch_gives_the_mean_over_its_tokens_weights(model: Any, base: CausalBase) -> None:
    objective = Supervised(TEXTS, TEXTS, base.pad_id, 2)
    assert objective.weights.tolist() == [2.5, 1]
    summed, _ = objective.loss(model, [0, 1])
    judged = objective.judge(model)
    assert judged.loss == pytest.approx(float(summed.detach()) / 3.5, rel=1e-5)
    assert judged.scores["perplexity"] == pytest.approx(np.exp(judged.loss), rel=1e-5)


def test_an_exact_match_is_what_greedy_decoding_writes(model: Any, base: CausalBase) -> None:
    prompt = [0, 9, 8]
    written = model.generate(
        input_ids=torch.tensor([prompt]),
        attention_mask=torch.ones(1, 3, dtype=torch.int64),
        max_new_tokens=4,
        do_sample=False,
        pad_token_id=base.pad_id,
        eos_token_id=None,
    )[0].tolist()
    other = [*written[:-1], (written[-1] + 1) % 200]
    weights = [0.0] * 3 + [1.0] * 4
    texts = [text_of(written, weights), text_of(other, weights)]
    assert Supervised(texts, texts, base.pad_id, 2).judge(model).scores["exact_match"] == 0.5


def pairs_of(base: CausalBase) -> tuple[list[TrainedText], list[TrainedText]]:
    encoder = ConversationEncoder(base.tokenizer, template="plain")
    rows = [Preference("1 red ->", " red", " blue"), Preference("2 ->", " green", " b")]
    chosen, rejected = zip(*(encoder.encode_pair(row) for row in rows), strict=True)
    return list(chosen), list(rejected)


def test_dpo_begins_at_log_two_and_prefers_nothing(model: Any, base: CausalBase) -> None:
    chosen, rejected = pairs_of(base)
    pairs = refer_to(model, chosen, rejected, pad_id=base.pad_id, batch_size=2)
    objective = DirectPreference(pairs, pairs, base.pad_id, 2, beta=0.1)
    assert objective.judge(model).loss == pytest.approx(np.log(2), rel=1e-5)


def test_a_step_of_dpo_makes_the_better_answers_likelier(base: CausalBase) -> None:
    model = load_causal_model(base)
    chosen, rejected = pairs_of(base)
    pairs = refer_to(model, chosen, rejected, pad_id=base.pad_id, batch_size=2)
    objective = DirectPreference(pairs, pairs, base.pad_id, 2, beta=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    torch.autograd.backward([objective.loss(model, [0, 1])[0]])
    optimizer.step()
    judged = objective.judge(model)
    assert judged.loss < np.log(2)
    assert judged.scores["reward_accuracy"] == 1
    assert judged.scores["reward_margin"] > 0


def test_a_completion_is_weighed_as_its_encoding_says(base: CausalBase, model: Any) -> None:
    encoder = ConversationEncoder(base.tokenizer, template="plain")
    text = encoder.encode(Completion("1 red ->", " red"))
    assert text.trained == len(text.ids) - len(encoder.prompt_ids("1 red ->"))
    found = token_losses(model, [text], pad_id=base.pad_id)
    assert int((found.weights > 0).sum()) == text.trained
