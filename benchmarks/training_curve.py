"""Accuracy against training time: the default recipe beside a plain loop, on the same rows.

    python -m benchmarks.training_curve --data build/banking77 --plain-minutes 22

The plain loop is what a tutorial would write: `AutoModelForSequenceClassification`, AdamW at
1e-4, random batches of 32 padded to their longest text, fp32, no schedule. Both are evaluated on
the same validation and test rows; time spent evaluating does not count. Prints one JSON line and
draws the curve.
"""

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from matplotlib.figure import Figure
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from hone.models.catalogue import find_base
from hone.models.names import ModelReference
from hone.models.predictor import load_predictor
from hone.models.registry import Registry
from hone.training.bases import obtain_base
from hone.training.classifier import collate
from hone.training.dataset import EncodedSplit, length_sorted_batches
from hone.training.events import Event, Events
from hone.training.loading import load_data
from hone.training.recipe import ClassifierRecipe
from hone.training.recipe_files import find_recipe, load_recipe_of
from hone.training.run import run_recipe

PLAIN_LEARNING_RATE = 1e-4
PLAIN_BATCH = 32


def main() -> None:
    """Run both and report."""
    options = _options()
    recipe = load_recipe_of(
        ClassifierRecipe,
        find_recipe("classifier"),
        [
            f"dataset.path={options.data}",
            "saving.name=banking77",
            f"saving.store={options.out / 'store'}",
            f"saving.runs={options.out / 'runs'}",
        ],
    )
    options.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat(), "data": options.data}
    result["hone"] = hone_curve(recipe)
    if options.plain_minutes:
        result["plain"] = plain_curve(recipe, seconds=60 * options.plain_minutes)
    print(json.dumps(result))
    (options.out / "training_curve.json").write_text(json.dumps(result) + "\n")
    draw(result, options.out / "training_curve.svg")


def hone_curve(recipe: ClassifierRecipe) -> dict[str, Any]:
    """Train with the recipe; return points, scores and the wall time from start to published."""
    heard: list[Event] = []
    started = time.monotonic()
    manifest = run_recipe(recipe, events=Events(heard.append), stop_requested=bool, fresh=True)
    seconds = time.monotonic() - started
    if manifest is None:
        raise RuntimeError("nothing was published")
    test = {
        event["variant"]: event["accuracy"]
        for event in heard
        if event["event"] == "scored" and event["split"] == "test"
    }
    return {
        "seconds_to_published": round(seconds, 1),
        "settled": next(e for e in heard if e["event"] == "settled"),
        "validation": [
            (round(e["seconds"], 1), round(e["accuracy"], 4))
            for e in heard
            if e["event"] == "evaluated"
        ],
        "test": test,
        "parity": {name: r.model_dump() for name, r in manifest.parity.items()},
        "test_int8_equal_to_fp32": equal_on_test(recipe),
    }


def equal_on_test(recipe: ClassifierRecipe) -> float:
    """Return the share of test rows on which int8 and fp32 give the same label."""
    bundle = Registry(Path(recipe.saving.store)).open(ModelReference(recipe.saving.name))
    data, _ = load_data(recipe, obtain_base(recipe.model.base))
    split = data.encoded["test"]
    answers = []
    for variant in ("fp32", "int8"):
        predictor = load_predictor(bundle, variant=variant, intra_threads=2)
        answer = np.empty(len(split), dtype=np.int64)
        for rows in length_sorted_batches(split.lengths, 8):
            answer[rows] = predictor.logits([split.texts[i] for i in rows]).argmax(axis=1)
        answers.append(answer)
    return float((answers[0] == answers[1]).mean())


def plain_curve(recipe: ClassifierRecipe, *, seconds: float) -> dict[str, Any]:
    """Train the tutorial's loop for about `seconds` and return its points, one an epoch."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    base = find_base(recipe.model.base)
    data, _ = load_data(recipe, base)
    train = data.encoded["train"]
    model = AutoModelForSequenceClassification.from_pretrained(
        base.folder, num_labels=len(data.labels)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=PLAIN_LEARNING_RATE)
    generator = np.random.default_rng(0)
    spent, points = 0.0, []
    while spent < seconds:
        order = generator.permutation(len(train))
        model.train()
        began = time.monotonic()
        for start in range(0, len(order), PLAIN_BATCH):
            rows = order[start : start + PLAIN_BATCH]
            ids, mask = collate([train.texts[i] for i in rows], 0, torch.device("cpu"))
            logits = model(input_ids=ids, attention_mask=mask).logits
            loss = functional.cross_entropy(logits, torch.from_numpy(train.classes[rows]))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        spent += time.monotonic() - began
        scores = [_accuracy(model, data.encoded[split]) for split in ("validation", "test")]
        points.append((round(spent, 1), *(round(score, 4) for score in scores)))
        print(f"plain loop: {points[-1]}", flush=True)
    return {"seconds_validation_test": points}


def _accuracy(model: torch.nn.Module, split: EncodedSplit) -> float:
    model.eval()
    right = 0
    with torch.inference_mode():
        for rows in length_sorted_batches(split.lengths, 64):
            ids, mask = collate([split.texts[i] for i in rows], 0, torch.device("cpu"))
            answers = model(input_ids=ids, attention_mask=mask).logits.argmax(dim=1).numpy()
            right += int((answers == split.classes[rows]).sum())
    return right / len(split)


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw validation accuracy against seconds of training."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    hone = result["hone"]["validation"]
    axes.plot([x for x, _ in hone], [y for _, y in hone], marker="o", label="hone, default recipe")
    if "plain" in result:
        plain = result["plain"]["seconds_validation_test"]
        axes.plot([p[0] for p in plain], [p[1] for p in plain], marker="s", label="plain loop")
    axes.set(xlabel="seconds of training", ylabel="validation accuracy", ylim=(0.8, 0.96))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="build/banking77", help="a folder of hone prepare")
    parser.add_argument("--out", type=Path, default=Path("build/bench/training"))
    parser.add_argument("--plain-minutes", type=float, default=22.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
