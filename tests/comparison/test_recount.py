"""Tokens and dollars equal an independent recount from the answers as the server sent them."""

import math
from fractions import Fraction
from pathlib import Path

from hone.comparison.cache import open_cache
from hone.comparison.judging import judge
from tests.comparison.experiments import PRICES, experiment_text, prompt, run, write_data
from tests.comparison.upstream import Behaviour, upstream


def test_tokens_and_dollars_equal_a_recount_from_the_raw_answers(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data", test=60), tmp_path / "out"
    behaviour = Behaviour(wrong=0.1, refuses=0.1, explains=0.1, garbles=0.1, fails=0.15)
    with upstream(behaviour) as server:
        text = experiment_text(
            data,
            prompt(server.address, k=24),
            prompt(server.address, "completed", api="completions"),
            limits={"retries": 8},
        )
        finished = run(text, out)
    price = PRICES["big"]
    exact = {name: Fraction(repr(value)) for name, value in price.items() if type(value) is float}
    dollars = Fraction(0)
    prompt_tokens = cached_tokens = completion_tokens = 0
    for answer in server.answers:
        usage = answer["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        prompt_tokens += usage["prompt_tokens"]
        cached_tokens += cached
        completion_tokens += usage["completion_tokens"]
        dollars += (
            (usage["prompt_tokens"] - cached) * exact["input_cost_per_token"]
            + cached * exact["cache_read_input_token_cost"]
            + usage["completion_tokens"] * exact["output_cost_per_token"]
        )
    assert cached_tokens > 1000  # the server's prompt cache was at work
    spent = [outcome.spent for outcome in finished.outcomes]
    assert sum(usage.prompt_tokens for usage in spent) == prompt_tokens
    assert sum(usage.cached_tokens for usage in spent) == cached_tokens
    assert sum(usage.completion_tokens for usage in spent) == completion_tokens
    assert math.isclose(finished.sums.usd, float(dollars), abs_tol=1e-9, rel_tol=0)
    calls = [outcome.calls for outcome in finished.outcomes]
    assert sum(calls) == len(server.served) > 120  # some were made again
    with open_cache(out) as cache:
        assert finished.sums == cache.sums()


def test_equal_items_are_billed_once_and_the_report_says_both_sums(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data", test=30), tmp_path / "out"
    test = data / "test.jsonl"
    test.write_text(test.read_text() + "".join(test.read_text().splitlines(keepends=True)[:12]))
    with upstream(Behaviour(fails=0.1)) as server:
        text = experiment_text(data, prompt(server.address, k=8), limits={"retries": 8})
        finished = run(text, out)
    usages = [answer["usage"] for answer in server.answers]
    raw = sum(usage["prompt_tokens"] for usage in usages)
    judgement = judge(out, finished.question)
    cost = judgement.candidate.cost
    assert (cost.billed.outcomes, cost.tokens.outcomes) == (30, 42)
    assert cost.billed.prompt == raw < cost.tokens.prompt
    assert cost.billed.completion == sum(usage["completion_tokens"] for usage in usages)
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    assert cost.billed.cached == cached
    assert cost.run_usd is not None
    assert math.isclose(cost.run_usd, finished.sums.usd, abs_tol=1e-9, rel_tol=0)
    said = " ".join((out / "report.md").read_text().split())
    assert "was asked 30 requests for 42 answers" in said
    assert f"Billed were {raw:,} tokens in" in said
    for outcome in finished.outcomes[:42]:  # each names the request that answers.db knows
        with open_cache(out) as cache:
            assert outcome.request is not None
            assert cache.known(outcome.request).spent == outcome.spent
