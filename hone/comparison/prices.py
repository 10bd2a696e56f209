"""Prices of hosted models, in LiteLLM's keys: US dollars per single token.

A dated snapshot ships with the package; a file in LiteLLM's form
(`model_prices_and_context_window.json`) loads unchanged in its place. Nothing is fetched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from hone.models.errors import InvalidInput
from hone.models.toml_files import suggestion

SNAPSHOT = Path(__file__).with_name("prices.json")
MOST_USD_A_TOKEN = 0.01
"""Above this it is a price for many tokens: hosted models take less than a thousandth for one."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a model's tokens cost, in US dollars for one token.

    The cache prices are None where the table has none; those tokens then cost as other input.
    """

    input_cost_per_token: float
    output_cost_per_token: float
    cache_read_input_token_cost: float | None = None
    cache_creation_input_token_cost: float | None = None
    effective_date: str | None = None
    source: str | None = None


def load_prices(path: Path | None = None) -> dict[str, Price]:
    """Return prices by model name, from a file in LiteLLM's form or from the snapshot.

    Entries without both an input and an output price (images, audio, LiteLLM's `sample_spec`)
    are left out: a model that is not priced by the token has no price here, and not a zero one.
    """
    table = _table(path)
    priced = ((name, _price(entry)) for name, entry in table.items() if name != "sample_spec")
    return {name: price for name, price in priced if price is not None}


def why_unpriced(name: str, path: Path | None = None) -> str:
    """Say why a model has no price: it is not in the file, or its entry is none that can be used.

    Errors as in `load_prices`.
    """
    table = _table(path)
    if name in table:
        return (
            f"the price file {path or SNAPSHOT.name} has {name}, but not input_cost_per_token and "
            "output_cost_per_token as numbers, of which one at least is above zero"
        )
    near = suggestion(name, load_prices(path)).removeprefix("; ")
    return f"there is no price for {name}" + (f" ({near})" if near else "")


def _table(path: Path | None) -> dict[str, Any]:
    """Return a price file's entries, or the snapshot's."""
    try:
        table = orjson.loads((path or SNAPSHOT).read_bytes())
    except FileNotFoundError:
        raise InvalidInput(f"there is no price file {(path or SNAPSHOT).absolute()}") from None
    except (OSError, orjson.JSONDecodeError):
        raise InvalidInput(f"the price file {path} cannot be read as JSON") from None
    if not isinstance(table, dict):
        raise InvalidInput(f"the price file {path} is not a JSON object")
    return table


def cost_usd(
    price: Price,
    *,
    prompt_tokens: float,
    completion_tokens: float,
    cached_tokens: float = 0,
    cache_write_tokens: float = 0,
) -> float:
    """Return what one call costs, in US dollars.

    `cached_tokens` and `cache_write_tokens` are parts of `prompt_tokens`, as in OpenAI's usage
    object; `completion_tokens` includes reasoning.
    """
    read, write = price.cache_read_input_token_cost, price.cache_creation_input_token_cost
    fresh = prompt_tokens - cached_tokens - cache_write_tokens
    return (
        fresh * price.input_cost_per_token
        + cached_tokens * (price.input_cost_per_token if read is None else read)
        + cache_write_tokens * (price.input_cost_per_token if write is None else write)
        + completion_tokens * price.output_cost_per_token
    )


def _price(entry: Any) -> Price | None:  # noqa: ANN401 - any JSON
    if not isinstance(entry, Mapping):
        return None
    given, answered = _cost(entry, "input_cost_per_token"), _cost(entry, "output_cost_per_token")
    if given is None or answered is None or (given == 0 and answered == 0):
        return None
    return Price(
        given,
        answered,
        _cost(entry, "cache_read_input_token_cost"),
        _cost(entry, "cache_creation_input_token_cost"),
        _text(entry, "effective_date"),
        _text(entry, "source"),
    )


def _cost(entry: Mapping[str, Any], key: str) -> float | None:
    value = entry.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        return None
    return float(value)


def _text(entry: Mapping[str, Any], key: str) -> str | None:
    value = entry.get(key)
    return value if isinstance(value, str) else None
