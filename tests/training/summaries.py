"""Made-up runs for the tests of the card; the numbers are drawn, the scoring of them is real."""

import functools
import math
from typing import Any

import numpy as np

from hone.models.manifest import ManifestBody, ParityRecord
from hone.models.savings import BaselineExample, BaselinePrompt
from hone.models.scoring import Evaluation, evaluate
from hone.training.card import RunSummary
from hone.training.progress import Progress
from tests.models.bodies import make_body


def make_summary(
    labels: list[str],
    *,
    rows: int = 200,
    skill: float = 4.0,
    test_split: bool = True,
    instruction: str = "Classify the text.",
    **changes: Any,
) -> RunSummary:
    """Return a run with int8 and fp32 variants; `changes` replace fields of the manifest body."""
    splits = ["validation", "test"] if test_split else ["validation"]
    evaluations = {
        f"{split}:{variant}": make_evaluation(
            labels, rows=rows, skill=skill, seed=splits.index(split) + 2 * (variant == "int8")
        )
        for variant in ("fp32", "int8")
        for split in splits
    }
    return RunSummary(
        name="support-triage",
        body=_body(labels, evaluations, instruction=instruction, changes=changes),
        settled={
            "epochs": 12.0,
            "batch_size": 16,
            "learning_rate": 0.00014142,
            "precision": "bf16",
            "device": "cpu",
            "max_tokens": 64,
        },
        progress=make_progress(),
        evaluations=evaluations,
    )


def make_evaluation(
    labels: list[str], *, rows: int = 200, skill: float = 4.0, seed: int = 0
) -> Evaluation:
    """Score noise around the truth; a higher `skill` makes fewer mistakes."""
    return _make_evaluation(tuple(labels), rows, skill, seed)


@functools.cache
def _make_evaluation(labels: tuple[str, ...], rows: int, skill: float, seed: int) -> Evaluation:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, len(labels), rows)
    logits = generator.normal(size=(rows, len(labels)))
    logits[np.arange(rows), truth] += skill
    neighbour = (truth + 1) % len(labels)  # the label that each one is mistaken for most
    logits[np.arange(rows), neighbour] += skill / 3
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return evaluate(truth, (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32), labels)


def make_progress(*, steps: int = 900, per_epoch: int = 75) -> Progress:
    """Return a run of 1,200 rows in batches of 16 that was best at two thirds of its steps."""
    generator = np.random.default_rng(0)
    losses = [
        (step, 2.5 * math.exp(-step / 200) + 0.55 + float(generator.normal(0, 0.08)))
        for step in range(1, steps + 1, 4)
    ]
    evaluations = [
        {
            "step": float(step),
            "seconds": 0.21 * step,
            "accuracy": 0.93 - 0.4 * math.exp(-step / 150) - 2e-5 * max(0, step - 600),
            "loss": 1.8 * math.exp(-step / 180) + 0.28 + 3e-4 * max(0, step - 600),
        }
        for step in range(per_epoch, steps + 1, per_epoch)
    ]
    return Progress(
        step=steps,
        seconds=0.21 * steps,
        best_loss=min(e["loss"] for e in evaluations),
        kept_step=int(min(evaluations, key=lambda e: e["loss"])["step"]),
        stopped_early=True,
        losses=losses,
        evaluations=evaluations,
    )


def _body(
    labels: list[str],
    evaluations: dict[str, Evaluation],
    *,
    instruction: str,
    changes: dict[str, Any],
) -> ManifestBody:
    record = ParityRecord(
        passed=True,
        rows=200,
        equal_predictions=0.995,
        largest_logit_difference=0.31,
        accuracy_trained=0.925,
        accuracy_exported=0.92,
        accuracy_change_low=-0.015,
        accuracy_change_high=0.005,
        alone_and_in_batch_difference=0.012,
        alone_and_in_batch_equal=1.0,
    )
    content = {
        "model": {"base": "minilm", "method": "full", "pooling": "auto", "lora_rank": 16},
        "optimizer": {"name": "adamw", "learning_rate": "auto", "weight_decay": 0.01},
        "dataset": {"path": "prepared", "class_weights": "none", "positive_label": None},
        "training": {"epochs": "auto", "label_smoothing": 0.1, "seed": 0},
    }
    fields: dict[str, Any] = {
        "labels": labels,
        "limits": {"max_tokens": 64, "long_texts": "head_tail"},
        "recipe": {"sha256": "1" * 64, "content": content},
        "data": {
            "train": {"rows": 1200, "sha256": "2" * 64},
            "validation": {"rows": 200, "sha256": "3" * 64},
            "test": {"rows": 200, "sha256": "4" * 64},
        },
        "scores": {name: each.scores for name, each in evaluations.items()},
        "variants": {"fp32": "model.fp32.onnx", "int8": "model.int8.onnx"},
        "parity": {"fp32": record, "int8": record},
        "left_out": {"fp16": "its accuracy is 1.20 points lower; 0.5 is the most"},
        "baseline": BaselinePrompt(
            instruction=instruction,
            examples=[BaselineExample(text=f"Text about {x}.", label=x) for x in labels[:16]],
            static_tokens=412,
            output_tokens=2.4,
            method="estimated:characters",
        ),
        "libraries": {"torch": "2.10.0", "onnxruntime": "1.31.0"},
    }
    return make_body(**(fields | changes))
