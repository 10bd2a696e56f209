"""Who speaks through a scheduler: the engine's own model, or an adapter on it."""

from dataclasses import dataclass

from hone.models.decoding.adapters import BARE
from hone.models.decoding.constraints import ConstraintFactory
from hone.models.decoding.detokenizing import CausalTokenizer


@dataclass(eq=False, slots=True)
class Voice:
    """One model among those that share a scheduler. All but the first three are the scheduler's.

    `open` counts its generations that are not over, `leaving` says that it takes no more.
    """

    tokenizer: CausalTokenizer
    constraints: ConstraintFactory | None = None
    adapter: int = BARE
    open: int = 0
    leaving: bool = False
