"""The next token of one sequence: from logits, and from what the client asked for.

Order, as in OpenAI's reference: bias and penalties are added to the logits, what a constraint
forbids is taken out, then temperature, `top_k`, `top_p`. Log-probabilities are those of the model
itself, before any of these.

A sequence draws one uniform number for each token from a generator of its own (Philox, whose
streams are independent), and finds its token by the inverse of the cumulative distribution. So a
seed gives the same tokens whatever else runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hone.models.engines import FloatArray

BoolArray = npt.NDArray[np.bool_]
Logits = npt.NDArray[np.floating]
IntIds = npt.NDArray[np.intp]

_COLDEST = 1e-6
"""Temperatures below it are taken for 0: two logits would have to be equal to the last bit."""

_CANDIDATES = 256
"""How many of the best tokens are sorted before the whole vocabulary is."""


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How tokens are chosen. A temperature of 0, or hardly more, is greedy; no `top_k` is 0.

    `logprobs` is how many of the best tokens to report beside the chosen one, None for nothing.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    logprobs: int | None = None

    @property
    def greedy(self) -> bool:
        """Whether the best token is taken, without drawing."""
        return self.temperature < _COLDEST or self.top_k == 1

    @property
    def changes_logits(self) -> bool:
        """Whether there are biases or penalties."""
        return bool(self.logit_bias or self.presence_penalty or self.frequency_penalty)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The natural logarithm of a token's probability, and the best tokens with theirs, falling."""

    logprob: float
    top: tuple[tuple[int, float], ...]


class Sampler:
    """Chooses the tokens of one sequence, one after another. `choice` tells siblings apart."""

    def __init__(self, parameters: SamplingParameters, *, choice: int = 0) -> None:
        self.parameters = parameters
        # SeedSequence takes no negative numbers; clients do.
        seed = None if parameters.seed is None else [parameters.seed % 2**64, choice]
        self._random = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
        self._counts: dict[int, int] = {}
        self._bias_ids = np.array(list(parameters.logit_bias), dtype=np.int64)
        self._biases = np.array(list(parameters.logit_bias.values()), dtype=np.float32)

    def choose(self, logits: FloatArray, *, allowed: BoolArray | None = None) -> int:
        """Return the next token for logits (vocabulary,), which are left as they are.

        `allowed` (vocabulary,) says what a constraint permits. ValueError for logits that are not
        finite or when nothing is permitted.
        """
        asked = self.parameters
        if asked.changes_logits or allowed is not None:
            logits = self._adjusted(logits, allowed)
        best = int(logits.argmax())
        if not np.isfinite(logits[best]):
            raise ValueError("there is no token to choose")
        chosen = best
        if not asked.greedy:
            chosen = draw(
                logits,
                self._random.random(),
                temperature=asked.temperature,
                top_k=asked.top_k,
                top_p=asked.top_p,
            )
        if asked.presence_penalty or asked.frequency_penalty:
            self._counts[chosen] = self._counts.get(chosen, 0) + 1
        return chosen

    def _adjusted(self, logits: FloatArray, allowed: BoolArray | None) -> FloatArray:
        asked = self.parameters
        changed = logits.copy()
        if len(self._bias_ids):
            changed[self._bias_ids] += self._biases
        if self._counts:
            ids = np.fromiter(self._counts, dtype=np.int64)
            counts = np.fromiter(self._counts.values(), dtype=np.float32)
            changed[ids] -= asked.presence_penalty + counts * asked.frequency_penalty
        if allowed is not None:
            changed[~allowed] = -np.inf
        return changed


def draw(logits: Logits, share: float, *, temperature: float, top_k: int, top_p: float) -> int:
    """Return the token at `share` (from 0 to 1) of the cumulative distribution.

    Of the `top_k` best tokens, the fewest whose probabilities reach `top_p` (Holtzman et al. 2020,
    "The curious case of neural text degeneration"); the best one always stays.
    """
    scaled = logits.astype(np.float64)
    scaled -= scaled.max()
    scaled /= temperature
    weights = np.exp(scaled)
    if not top_k and top_p >= 1:
        return _at_share(weights, share)
    ids = _nucleus(weights, top_k=top_k, top_p=top_p)
    return int(ids[_at_share(weights[ids], share)])


def _at_share(weights: npt.NDArray[np.float64], share: float) -> int:
    cumulated = np.cumsum(weights)
    place = int(np.searchsorted(cumulated, share * cumulated[-1], side="right"))
    return min(place, int(np.flatnonzero(weights)[-1]))


def _nucleus(weights: npt.NDArray[np.float64], *, top_k: int, top_p: float) -> IntIds:
    """Return the ids that `top_k` and `top_p` leave, the most probable first."""
    size = len(weights)
    candidates = min(top_k or _CANDIDATES, size)
    ids = _best(weights, candidates)
    total = weights.sum() if not top_k else weights[ids].sum()
    cumulated = np.cumsum(weights[ids])
    if not top_k and cumulated[-1] < top_p * total:  # a flat distribution: sort all of it
        ids = _best(weights, size)
        cumulated = np.cumsum(weights[ids])
    kept = int(np.searchsorted(cumulated, top_p * total, side="left")) + 1
    return ids[: min(kept, len(ids))]


def _best(values: Logits, count: int) -> IntIds:
    """Return the ids of the `count` greatest values, falling; of equals the lower id first."""
    if count >= len(values):
        return np.argsort(-values, kind="stable")
    found = np.argpartition(-values, count)[:count]
    found.sort()
    return found[np.argsort(-values[found], kind="stable")]


def logprob_of(logits: FloatArray, token: int, top: int) -> TokenLogprob:
    """Return a token's log-probability under logits (vocabulary,), and the `top` best ones'."""
    wide = logits.astype(np.float64)
    wide -= wide.max()
    wide -= np.log(np.exp(wide).sum())
    best = _best(wide, top).tolist() if top else []
    return TokenLogprob(float(wide[token]), tuple((i, float(wide[i])) for i in best))


def prompt_logprobs(logits: FloatArray, ids: Sequence[int], top: int) -> list[TokenLogprob]:
    """Return the log-probability of each id (n,), given logits (n, vocabulary) from before it."""
    return [logprob_of(row, token, top) for row, token in zip(logits, ids, strict=True)]
