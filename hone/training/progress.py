"""How far a run is, and which of its weights are worth keeping."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Judged:
    """What a model does on validation rows: mean loss, accuracy, and the scores to show."""

    loss: float
    accuracy: float
    scores: dict[str, float]


@dataclass
class Progress:
    """The counters and the history of a run; a checkpoint holds them.

    `step` counts optimizer steps, `examples` and `tokens` what they have read, `seconds` the time
    spent training, `losses` pairs of step and training loss. `evaluations` has one entry an epoch
    with step, seconds, accuracy and loss; `kept_step` is the step of the one whose weights were
    kept. `penalty` is that of a probe's squared weights, where one was fitted. `peak_bytes` is the
    most memory that one of the run's processes held, those before a kill too.
    """

    step: int = 0
    examples: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_accuracy: float = 0.0
    best_loss: float = float("inf")
    kept_step: int = 0
    evaluations_without_gain: int = 0
    stopped_early: bool = False
    losses: list[tuple[int, float]] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    penalty: float | None = None
    peak_bytes: int = 0

    def record(self, *, seconds: float, accuracy: float, loss: float, rows: int) -> bool:
        """Note an evaluation on so many rows; return whether its weights are worth keeping."""
        gained = accuracy > self.best_accuracy or loss < self.best_loss
        self.evaluations_without_gain = 0 if gained else self.evaluations_without_gain + 1
        self.best_accuracy = max(accuracy, self.best_accuracy)
        self.best_loss = min(loss, self.best_loss)
        self.evaluations.append(
            {"step": self.step, "seconds": seconds, "accuracy": accuracy, "loss": loss}
        )
        worth_keeping = accuracy >= least_worth_keeping(self.best_accuracy, rows)
        if worth_keeping:
            self.kept_step = self.step
        return worth_keeping

    def kept_evaluation(self) -> dict[str, float] | None:
        """Return the evaluation whose weights were kept; None before the first."""
        return next((e for e in self.evaluations if e["step"] == self.kept_step), None)


def least_worth_keeping(best_accuracy: float, rows: int) -> float:
    """Return the accuracy from which later weights replace earlier ones.

    One standard error below the best so far (the rule of Breiman et al. 1984): on a few hundred
    validation rows the largest of several accuracies is mostly luck, and the last weights, at the
    end of the learning-rate schedule, are the better bet.
    """
    return best_accuracy - math.sqrt(best_accuracy * (1 - best_accuracy) / max(rows, 1))
