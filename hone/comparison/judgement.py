"""The whole of what a run comes to: what the report, the gate and other programs read."""

from dataclasses import dataclass

from hone.comparison.economics import Saving
from hone.comparison.fallback import Fallback
from hone.comparison.figures import ArmFigures, Flip, Versus
from hone.comparison.question import Question, RunRecord
from hone.comparison.statistics import Estimate
from hone.comparison.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Judgement:
    """Everything that the report says.

    `arms` are in the question's order, `pairs` the contenders beside the baseline, `absent` the
    arms without any outcome. `items` counts those that figures rest on, `set_aside` those that
    stand in the training data or in a prompt, by reason; `with_set_aside` is the difference of
    candidate and baseline if they counted too. `tokens` are those of a baseline request, and what
    the candidate alone saves of them.
    """

    question: Question
    record: RunRecord
    labels: list[str]
    items: int
    groups: int | None
    set_aside: dict[str, list[str]]
    with_set_aside: Estimate | None
    arms: list[ArmFigures]
    absent: list[str]
    pairs: list[Versus]
    mended: list[Flip]
    broken: list[Flip]
    fallback: Fallback | None
    savings: list[Saving]
    fallback_savings: list[Saving]
    tokens: tuple[float, float] | None
    verdict: Verdict

    def arm(self, name: str) -> ArmFigures:
        """Return one arm's figures."""
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def candidate(self) -> ArmFigures:
        """The arm that may replace the baseline."""
        return self.arm(self.question.candidate)

    @property
    def baseline(self) -> ArmFigures:
        """The arm that is in use."""
        return self.arm(self.question.baseline)

    @property
    def pair(self) -> Versus:
        """The candidate beside the baseline."""
        return next(pair for pair in self.pairs if pair.name == self.question.candidate)
