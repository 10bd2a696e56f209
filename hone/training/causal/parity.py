"""The parity gate of causal models: an exported decoder must say what the trained model says.

Both read the user's own validation prompts: the trained model as torch left it, and the exported
one from the file that would be published, through the engine that serves it. Compared are:

- greedy continuations, token by token. One that differs is looked at where it parts from the
  other: if there the trained model's two best logits lie nearer together than the bound on a
  logit's difference, it is a tie that arithmetic of any order may decide, and is counted as one;
- every logit of the prompts and of the trained model's continuations;
- the loss on the prompts, as a user would see it.

And the exported model is compared with itself, alone and beside others in one step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hone.models.decoding.adapters import BARE
from hone.models.decoding.engine import DecoderEngine, prefill_in_pieces
from hone.models.engines import FloatArray
from hone.models.errors import InvalidInput
from hone.models.manifest import GenerationParity, Variant

CONTINUATION_TOKENS = 32
_PIECE = 64
_NOT_A_NUMBER = float(np.finfo(np.float32).max)
"""Stands for a difference that is no finite number, which JSON could not hold."""

Ids = list[int]


class TrainedModel(Protocol):
    """What the gate needs of the trained model."""

    def logits(self, ids: Sequence[int]) -> FloatArray:
        """Return float32 logits (ids, vocabulary), those after each id."""

    def greedy(self, prompt: Sequence[int], count: int) -> Ids:
        """Return `count` ids that are each the most probable next one, whatever they are."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a variant may differ by.

    `least_equal_tokens` is of the most probable next tokens, given the same text before;
    `most_loss_added` is in nats a token; `largest_tie` is a distance of two logits.
    """

    least_equal_continuations: float
    least_equal_tokens: float
    most_logit_difference: float
    most_loss_added: float
    largest_tie: float


EXACT = Bounds(
    least_equal_continuations=1.0,
    least_equal_tokens=0.999,
    most_logit_difference=1e-3,
    most_loss_added=1e-4,
    largest_tie=2e-3,  # two logits may each be off by the bound above
)
EIGHT_BITS = Bounds(
    least_equal_continuations=0.0,  # one other token, and all after it are others
    least_equal_tokens=0.97,
    most_logit_difference=1e3,  # judged by its answers; what is no number is refused
    most_loss_added=0.01,
    largest_tie=0.0,
)
FOUR_BITS = Bounds(
    least_equal_continuations=0.0,
    least_equal_tokens=0.90,
    most_logit_difference=1e3,
    most_loss_added=0.05,  # 5 % more perplexity: beyond it a smaller model would do better
    largest_tie=0.0,
)
_BOUNDS: dict[Variant, Bounds] = {
    "fp32": EXACT, "fp16": EIGHT_BITS, "int8": EIGHT_BITS, "int4": FOUR_BITS,
}  # fmt: skip


def bounds_for(variant: Variant) -> Bounds:
    """Return what a variant may differ by."""
    return _BOUNDS[variant]


@dataclass(slots=True)
class _Tally:
    """Sums over the prompts."""

    equal: int = 0
    ties: int = 0
    company: int = 0
    tokens: int = 0
    equal_tokens: int = 0
    difference: float = 0.0
    scored: int = 0
    loss_trained: float = 0.0
    loss_exported: float = 0.0


def check_decoder(
    engine: DecoderEngine,
    trained: TrainedModel,
    prompts: Sequence[Ids],
    bounds: Bounds,
    *,
    adapter: int = BARE,
) -> GenerationParity:
    """Compare an exported decoder with the trained model; the record says whether it may go out.

    With `adapter`, it is that adapter on the engine's model which is compared.

    InvalidInput for no prompts, or one that does not fit a slot with its continuation.
    """
    room = engine.longest - CONTINUATION_TOKENS
    if not prompts or any(not 0 < len(prompt) <= room for prompt in prompts):
        raise InvalidInput(f"the gate needs prompts of 1 to {room} tokens")
    tally = _Tally()
    for start in range(0, len(prompts), engine.slots):
        some = [list(prompt) for prompt in prompts[start : start + engine.slots]]
        wanted = [trained.greedy(prompt, CONTINUATION_TOKENS) for prompt in some]
        together = _continue(engine, some, adapter)
        alone = [_continue(engine, [prompt], adapter)[0] for prompt in some]
        for prompt, truth, said, single in zip(some, wanted, together, alone, strict=True):
            tally.company += said == single
            after = engine.prefill(0, prompt + truth, 0, every=True, adapter=adapter)
            _compare(after, trained, (prompt, truth, single), tally, bounds)
    return _record(tally, len(prompts), bounds)


def _compare(
    after: FloatArray,
    trained: TrainedModel,
    texts: tuple[Ids, Ids, Ids],
    tally: _Tally,
    bounds: Bounds,
) -> None:
    """Add one prompt to the tally; `after` are the exported model's logits of it and `truth`."""
    prompt, truth, said = texts
    ids = prompt + truth
    before = trained.logits(ids)
    tally.tokens += len(ids)
    tally.equal_tokens += int((before.argmax(axis=1) == after.argmax(axis=1)).sum())
    tally.difference = max(tally.difference, _largest_difference(before, after))
    if said == truth:
        tally.equal += 1
    else:
        place = next(i for i, (a, b) in enumerate(zip(said, truth, strict=True)) if a != b)
        two_best = np.sort(before[len(prompt) + place - 1])[-2:]
        tally.ties += bool(two_best[1] - two_best[0] <= bounds.largest_tie)
    tally.scored += len(prompt) - 1
    tally.loss_trained += _loss(before, prompt)
    tally.loss_exported += _loss(after, prompt)


def _continue(engine: DecoderEngine, prompts: Sequence[Ids], adapter: int) -> list[Ids]:
    """Return greedy continuations, all prompts in the same steps."""
    said = []
    for slot, prompt in enumerate(prompts):
        logits = prefill_in_pieces(engine, slot, prompt, piece=_PIECE, adapter=adapter)
        said.append([int(logits[-1].argmax())])
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
    for _ in range(CONTINUATION_TOKENS - 1):
        ids = np.array([row[-1] for row in said], dtype=np.int64)
        logits = engine.step(0, ids, lengths, [adapter] * len(prompts))
        for row, token in zip(said, logits.argmax(axis=1), strict=True):
            row.append(int(token))
        lengths += 1
    return said


def _loss(logits: FloatArray, ids: Sequence[int]) -> float:
    """Return the sum over a prompt's tokens of their negative log-probabilities, in nats."""
    wide: npt.NDArray[np.float64] = logits[: len(ids) - 1].astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True, initial=-np.inf)
    norms = np.log(np.exp(wide).sum(axis=1))
    return float((norms - wide[np.arange(len(ids) - 1), ids[1:]]).sum())


def _largest_difference(some: FloatArray, others: FloatArray) -> float:
    if not (np.isfinite(some).all() and np.isfinite(others).all()):
        return _NOT_A_NUMBER
    return float(np.abs(some.astype(np.float64) - others).max())


def _record(tally: _Tally, prompts: int, bounds: Bounds) -> GenerationParity:
    scored = max(1, tally.scored)
    losses = tally.loss_trained / scored, tally.loss_exported / scored
    record = GenerationParity(
        passed=True,
        prompts=prompts,
        tokens=tally.tokens,
        equal_continuations=tally.equal / prompts,
        tied_continuations=tally.ties / prompts,
        equal_tokens=tally.equal_tokens / tally.tokens,
        largest_logit_difference=tally.difference,
        loss_trained=losses[0] if np.isfinite(losses[0]) else _NOT_A_NUMBER,
        loss_exported=losses[1] if np.isfinite(losses[1]) else _NOT_A_NUMBER,
        alone_and_in_company_equal=tally.company / prompts,
    )
    reasons = _reasons(record, bounds)
    return record.model_copy(update={"passed": not reasons, "reasons": reasons})


def _reasons(record: GenerationParity, bounds: Bounds) -> list[str]:
    found = []
    if record.largest_logit_difference == _NOT_A_NUMBER:
        return ["some of its answers are not numbers"]
    explained = record.equal_continuations + record.tied_continuations
    if explained < bounds.least_equal_continuations - 1e-9:
        found.append(
            f"{record.equal_continuations:.1%} of {record.prompts} greedy continuations are equal "
            f"and {record.tied_continuations:.1%} more part at a tie; "
            f"{bounds.least_equal_continuations:.0%} is the least"
        )
    if record.equal_tokens < bounds.least_equal_tokens:
        found.append(
            f"it has the same most probable token at {record.equal_tokens:.2%} of the places; "
            f"{bounds.least_equal_tokens:.1%} is the least"
        )
    if record.largest_logit_difference > bounds.most_logit_difference:
        found.append(
            f"a logit differs by {record.largest_logit_difference:.2g}; "
            f"{bounds.most_logit_difference:g} is the most"
        )
    added = record.loss_exported - record.loss_trained
    if added > bounds.most_loss_added:
        found.append(
            f"its loss is {added:.2g} nats a token higher; {bounds.most_loss_added:g} is the most"
        )
    if record.alone_and_in_company_equal < 1:
        found.append(
            f"only {record.alone_and_in_company_equal:.1%} of the continuations are the same "
            "alone and beside others"
        )
    return found
