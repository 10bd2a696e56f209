"""What one optimizer step takes: random or bucketed batches, word embeddings trained or not, bf16.

    python -m benchmarks.training_step --data build/banking77

Milliseconds, the median of a few steps of batch 32 after two to warm up, variants interleaved.
Prints one JSON line.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from hone.models.catalogue import find_base
from hone.training.classifier import TextClassifier, build_classifier, collate
from hone.training.dataset import EncodedSplit, bucketed_batches
from hone.training.loading import load_data
from hone.training.recipe import ClassifierRecipe
from hone.training.recipe_files import find_recipe, load_recipe_of

_BATCH = 32
_WARM_UP = 2
# Name: batches of similar length, word embeddings trained, bf16.
_VARIANTS = {
    "random batches": (False, True, False),
    "batches of similar length": (True, True, False),
    "and frozen word embeddings": (True, False, False),
    "and bf16": (True, False, True),
}


def main() -> None:
    """Time every variant and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="build/banking77", help="a folder of hone prepare")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    recipe = load_recipe_of(
        ClassifierRecipe,
        find_recipe("classifier"),
        [f"dataset.path={Path(options.data)}", "saving.name=step"],
    )
    base = find_base(recipe.model.base)
    data, _ = load_data(recipe, base)
    train = data.encoded["train"]
    generator = np.random.default_rng(0)
    random = np.array_split(generator.permutation(len(train)), len(train) // _BATCH)
    similar = bucketed_batches(train.lengths, _BATCH, seed=0, epoch=0)
    models = {}
    for name, (_, embeddings, _) in _VARIANTS.items():
        model = build_classifier(
            base, recipe.model, labels=len(data.labels), train_embeddings=embeddings
        )
        trained = [p for p in model.parameters() if p.requires_grad]
        models[name] = (model.train(), torch.optim.AdamW(trained, lr=1e-4, fused=True))
    times: dict[str, list[float]] = {name: [] for name in _VARIANTS}
    for step in range(options.steps + _WARM_UP):
        for name, (bucketed, _, half) in _VARIANTS.items():
            rows = (similar if bucketed else random)[step]
            seconds = _step(*models[name], train, rows.tolist(), half=half)
            if step >= _WARM_UP:
                times[name].append(1000 * seconds)
    print(json.dumps({name: round(statistics.median(found), 1) for name, found in times.items()}))


def _step(
    model: TextClassifier,
    optimizer: torch.optim.Optimizer,
    train: EncodedSplit,
    rows: list[int],
    *,
    half: bool,
) -> float:
    began = time.perf_counter()
    ids, mask = collate([train.texts[i] for i in rows], 0, torch.device("cpu"))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        logits = model(ids, mask)
    classes = torch.from_numpy(train.classes[rows])
    loss = torch.nn.functional.cross_entropy(logits.float(), classes)
    torch.autograd.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
