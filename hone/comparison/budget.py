"""A budget in dollars that no call may pass: what a call may cost is reserved before it is made."""

import asyncio
import math
from typing import NamedTuple

from hone.comparison.prices import Price, cost_usd
from hone.models.errors import HoneError
from hone.models.prompting.usage import Usage

_TOKENS_OF_FORMAT = 64
"""More than a chat's format adds to all messages beyond the bytes of their JSON."""


class Spending(NamedTuple):
    """Dollars that calls have cost, or may have cost: of this run, and of its folder ever."""

    run: float
    folder: float

    def __str__(self) -> str:
        """Say both where they differ."""
        if f"{self.run:.4f}" == f"{self.folder:.4f}":
            return f"${self.run:.4f} so far"
        return f"${self.run:.4f} in this run, ${self.folder:.4f} in all"


class BudgetSpent(HoneError):
    """The next call could pass the limit in dollars."""

    code = "budget_spent"


class Budget:
    """Dollars spent and dollars that calls under way may cost, held under a limit.

    For one event loop. A call that finds no room waits while others are under way, since most
    cost less than was reserved for them.
    """

    def __init__(self, limit: float | None, *, spent: float = 0.0) -> None:
        self.limit = math.inf if limit is None else limit
        self.spent, self._before = spent, spent
        self.reserved = 0.0
        self._under_way = 0
        self._changed = asyncio.Condition()

    @property
    def spending(self) -> Spending:
        """What was spent by now; `spent` at the beginning was so by earlier runs."""
        return Spending(self.spent - self._before, self.spent)

    async def reserve(self, amount: float) -> None:
        """Set `amount` dollars aside; BudgetSpent if there is no room and nothing is under way."""
        async with self._changed:
            while self.spent + self.reserved + amount > self.limit:
                if not self._under_way:
                    raise BudgetSpent(
                        f"the next call may cost ${amount:.6f} and ${self.spent:.6f} of the "
                        f"${self.limit:.6f} in limits.dollars are spent: raise it and run again, "
                        "no answer is paid twice"
                    )
                await self._changed.wait()
            self.reserved += amount
            self._under_way += 1

    async def settle(self, reserved: float, actual: float) -> None:
        """Replace what was set aside by what the call cost."""
        async with self._changed:
            self._under_way -= 1
            # Sums of floats do not come back to zero by themselves.
            self.reserved = max(0.0, self.reserved - reserved) if self._under_way else 0.0
            self.spent += actual
            self._changed.notify_all()


def dollars(price: Price | None, usage: Usage) -> float | None:
    """Return what tokens cost; None without a price."""
    if price is None:
        return None
    return cost_usd(
        price,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )


def most_dollars(price: Price | None, body_bytes: int, most_answer_tokens: int) -> float:
    """Return what one call may cost at most; 0 without a price.

    A token of a byte-level tokenizer is a byte at least, so the bytes of the request bound the
    tokens of its prompt, with what a chat's format adds to the messages, whose JSON is longer;
    the answer is bound by what the request allows.
    """
    if price is None:
        return 0.0
    prompt = body_bytes + _TOKENS_OF_FORMAT
    dearest = max(price.input_cost_per_token, price.cache_creation_input_token_cost or 0.0)
    return prompt * dearest + most_answer_tokens * price.output_cost_per_token
