"""The question that a comparison answers, fixed before its run, and the run's own record.

The experiment file fills a `Question`; the judging half reads it beside the run folder's items and
outcomes, and nothing else. The names of the folder's files stand here too.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hone.comparison.prices import Price

ITEMS_FILE = "items.jsonl"
OUTCOMES_FILE = "outcomes.jsonl"
RUN_FILE = "run.json"

Share = Annotated[float, Field(ge=0, le=1)]
Dollars = Annotated[float, Field(ge=0)]
Role = Literal["fine-tuned", "prompt", "reference"]
Reason = Literal["training data", "prompt"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Serving(_Record):
    """What it costs to keep a model running on a machine of one's own.

    `requests_per_second` is what one machine was measured to sustain; without it the run's own
    mean time of a call stands in, one call at a time, which is too low. `most_in_use` is the
    largest share of that which is planned for. `billing` says whether the machine runs all
    month, or is paid only for the time that requests take.
    """

    usd_per_hour: Dollars
    requests_per_second: Annotated[float, Field(gt=0)] | None = None
    most_in_use: Annotated[float, Field(gt=0, le=1)] = 0.5
    billing: Literal["always_on", "per_use"] = "always_on"


class ArmCosts(_Record):
    """What one contender costs. What is not given is unknown, never zero.

    A contender is paid by tokens (`price`), by machine time (`serving`), by both, or by neither
    because it is `free`, which has to be said. `price_name` says where in the table the price was
    found. `static_prompt_tokens` is the part of its prompt that is the same in every call, which a
    provider's cache could hold; without it the shortest prompt of the run bounds it from above.
    """

    price_name: str | None = None
    price: Price | None = None
    serving: Serving | None = None
    free: bool = False
    static_prompt_tokens: Annotated[int, Field(ge=0)] | None = None
    training_usd: Dollars = 0
    labelling_usd: Dollars = 0


class Arm(_Record):
    """One contender as the report names it. `note` says in a line what it is."""

    role: Role = "reference"
    note: str = ""
    costs: ArmCosts = ArmCosts()


class Question(_Record):
    """What is asked of a run, written down before it.

    `candidate` may replace `baseline` if its accuracy is less than `margin` worse, shown by a
    one-sided test at level `alpha`; `power` is what the advice on more items aims at.
    `labels_from` says who gave the gold labels: measured against a model's, a share of equal
    labels is agreement, not accuracy. `max_error` is the largest error allowed among the answers
    that a fallback keeps, held with probability `confidence`; without it no fallback is sought,
    and one that keeps less than `least_kept` is not worth having. Above `most_failed` of an arm's
    calls without any answer, nothing is judged. With `must_save`, a replacement that costs more
    than the prompt at `requests_per_month` is none. One-off costs are spread over
    `months`. `shadow_share` of the requests still go to the baseline as well, to watch the two.
    """

    title: str = "Should this prompt be replaced?"
    baseline: str
    candidate: str
    arms: dict[str, Arm]
    margin: Annotated[float, Field(gt=0, lt=1)]
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    power: Annotated[float, Field(ge=0.5, lt=1)] = 0.8
    seed: Annotated[int, Field(ge=0)] = 0
    labels_from: Literal["people", "model"] = "people"
    max_error: Annotated[float, Field(gt=0, lt=1)] | None = None
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    least_kept: Share = 0.1
    most_failed: Share = 0.1
    must_save: bool = True
    requests_per_month: Annotated[float, Field(gt=0)] | None = None
    months: Annotated[float, Field(gt=0)] = 12
    shadow_share: Share = 0

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for role, name in (("baseline", self.baseline), ("candidate", self.candidate)):
            if name not in self.arms:
                raise ValueError(f"the {role} {name!r} is not among the arms")
        if self.baseline == self.candidate:
            raise ValueError("the candidate is the baseline")
        return self


class RunRecord(BaseModel):
    """What run.json says: when, with which versions, with which prices, and what was leaked.

    `contamination` has the ids of the items that stand in the training data or in a prompt. The
    runner may write more; only these are read here.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)
    started: str | None = None
    finished: str | None = None
    versions: dict[str, str] = {}
    price_date: str | None = None
    price_source: str | None = None
    contamination: dict[Reason, list[str]] = {}
    complete: bool = True
    notes: list[str] = []
