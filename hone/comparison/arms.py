"""The judge's question, filled from an experiment: roles, costs and what is decided by."""

from collections.abc import Mapping

from hone.comparison.experiment import (
    BundleContender,
    Contender,
    Experiment,
    GeneratingContender,
    PromptContender,
    Prompted,
    RecordedContender,
    ServedContender,
    ServingCosts,
    billing_of,
)
from hone.comparison.plan import Plan, price_name
from hone.comparison.question import Arm, ArmCosts, Question, Role, Serving


def question_of(plan: Plan, static_tokens: Mapping[str, int]) -> Question:
    """Return the question that an experiment asks.

    `static_tokens` has, by contender, how many tokens of its prompt are the same in every call,
    where that is known.
    """
    experiment = plan.experiment
    group, decision, costs = experiment.experiment, experiment.decision, experiment.costs
    return Question(
        title=f"{group.name}: should {decision.candidate} replace {decision.baseline}?",
        baseline=decision.baseline,
        candidate=decision.candidate,
        arms={
            contender.name: Arm(
                role=_role(contender, experiment),
                note=note_on(contender),
                costs=_costs(plan, contender, static_tokens.get(contender.name)),
            )
            for contender in experiment.contenders
        },
        margin=decision.margin,
        alpha=decision.alpha,
        power=decision.power,
        seed=group.seed,
        labels_from=group.labels_from,
        max_error=decision.max_error,
        confidence=decision.confidence,
        least_kept=decision.least_kept,
        most_failed=decision.most_failed,
        must_save=decision.must_save,
        requests_per_month=costs.requests_per_month,
        months=costs.months,
        shadow_share=costs.shadow_share,
    )


def note_on(contender: Contender) -> str:
    """Return in a line what a contender is."""
    if isinstance(contender, BundleContender):
        return f"bundle {contender.model}, in-process"
    if isinstance(contender, ServedContender):
        return f"{contender.model}, served, {contender.api}"
    if isinstance(contender, PromptContender):
        shots = f", k = {contender.shots}" if contender.shots else ""
        return f"{contender.model}, {contender.prompt} prompt{shots}, {contender.api}"
    if isinstance(contender, GeneratingContender):
        shots = f", k = {contender.shots}" if contender.shots else ""
        return f"bundle {contender.model}, {contender.prompt} prompt{shots}, in-process"
    if isinstance(contender, RecordedContender):
        return "recorded answers"
    return str(getattr(contender, "kind", ""))


def _role(contender: Contender, experiment: Experiment) -> Role:
    if isinstance(contender, BundleContender) or contender.name == experiment.decision.candidate:
        return "fine-tuned"
    prompted = isinstance(contender, Prompted)
    return "prompt" if prompted or contender.name == experiment.decision.baseline else "reference"


def _costs(plan: Plan, contender: Contender, static_tokens: int | None) -> ArmCosts:
    own = contender.costs
    if own is None and contender.name == plan.experiment.decision.candidate:
        own = plan.experiment.costs
    own = own or ServingCosts()
    name = price_name(contender) or None
    by_tokens = isinstance(contender, RecordedContender) or (
        isinstance(contender, ServedContender | PromptContender)
        and billing_of(contender) == "tokens"
    )
    return ArmCosts(
        price_name=name if by_tokens else None,
        price=plan.prices.get(name or "") if by_tokens else None,
        serving=_serving(own),
        free=getattr(contender, "kind", "") == "majority",
        static_prompt_tokens=static_tokens,
        training_usd=own.training_usd,
        labelling_usd=own.labelling_usd,
    )


def _serving(costs: ServingCosts) -> Serving | None:
    if costs.serving_usd_per_hour is None:
        return None
    return Serving(
        usd_per_hour=costs.serving_usd_per_hour,
        requests_per_second=costs.requests_per_second,
        most_in_use=costs.most_in_use,
        billing=costs.serving_billing,
    )
