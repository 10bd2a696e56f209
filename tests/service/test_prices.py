"""Prices and the cost of one call."""

import json
from pathlib import Path

import pytest

from hone.comparison.prices import cost_usd, load_prices
from hone.models.errors import InvalidInput

# 1,500 prompt tokens of which 1,400 can be cached, 10 answered: dollars for 1,000 calls
TABLE = {
    "gpt-6-luna": (0.155, 0.029),
    "gemini-2.5-flash-lite": (0.154, 0.028),
    "gpt-4o-mini": (0.231, 0.126),
    "claude-haiku-4-5": (1.55, 0.29),
    "gpt-6.1-terra": (1.55, 0.22),
    "gpt-6.1-sol": (3.10, 0.44),
}


@pytest.mark.parametrize("model", TABLE)
def test_the_snapshot_gives_the_published_costs(model: str) -> None:
    price = load_prices()[model]
    plain = 1000 * cost_usd(price, prompt_tokens=1500, completion_tokens=10)
    cached = 1000 * cost_usd(price, prompt_tokens=1500, completion_tokens=10, cached_tokens=1400)
    assert plain == pytest.approx(TABLE[model][0], abs=0.0006)
    assert cached == pytest.approx(TABLE[model][1], abs=0.0006)
    assert price.effective_date == "2026-11"
    assert price.source


def test_cached_tokens_without_a_price_cost_as_others() -> None:
    price = load_prices()["gpt-4o-mini"]
    written = cost_usd(price, prompt_tokens=100, completion_tokens=0, cache_write_tokens=50)
    assert written == cost_usd(price, prompt_tokens=100, completion_tokens=0)


def test_a_litellm_file_loads_unchanged(tmp_path: Path) -> None:
    table = {
        "sample_spec": {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "mode": "chat"},
        "big": {
            "input_cost_per_token": 1e-05,
            "output_cost_per_token": 3e-05,
            "litellm_provider": "x",
            "max_input_tokens": 128000,
            "supports_vision": True,
        },
        "images-only": {"input_cost_per_image": 0.04, "mode": "image_generation"},
        "free-or-unknown": {"input_cost_per_token": 0, "output_cost_per_token": 0},
        "odd": {"input_cost_per_token": "1e-5", "output_cost_per_token": 1e-5},
    }
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(table))
    prices = load_prices(path)
    assert list(prices) == ["big"]
    assert prices["big"].input_cost_per_token == 1e-05


@pytest.mark.parametrize("content", [None, "", "[]", "{"])
def test_a_file_that_is_no_price_table_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "prices.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidInput, match="price file"):
        load_prices(path)
