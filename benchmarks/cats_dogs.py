"""Cats and dogs: photos, 80/10/10, a probe and a full fine-tuning of MobileNetV2.

    python -m benchmarks.cats_dogs ../shared/data/cats_dogs/Data --base BASE [--method full]

The folder has a sub-folder of photos for each label. Prepares it as `hone prepare` does by
default, trains, and prints one JSON line: the splits' sizes, seconds of each part, and the scores
of each variant with their intervals.
"""

import argparse
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from hone.training.events import Event, Events
from hone.training.images.recipe import ImageRecipe
from hone.training.preparation.pictures.prepare import prepare_pictures
from hone.training.preparation.prepare import PrepareOptions
from hone.training.recipe_files import find_recipe, load_recipe_of
from hone.training.run import run_recipe

_TOLD = {"settled", "resumed", "evaluated", "probed", "quantized", "parity", "scored"}


def main() -> None:
    """Prepare, train and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", required=True)
    parser.add_argument("--method", choices=("probe", "full"), default="probe")
    parser.add_argument("--out", type=Path, default=Path("build/bench/cats_dogs"))
    parser.add_argument("overrides", nargs="*", metavar="GROUP.KEY=VALUE")
    options = parser.parse_args()
    data = options.out / "data"
    started = time.monotonic()
    prepare_pictures(PrepareOptions(file=options.folder, out=data), lambda _: True)
    prepared = time.monotonic()
    places = [
        f"model.base={options.base}",
        f"model.method={options.method}",
        f"dataset.path={data}",
        f"saving.name=cats-dogs-{options.method}",
        f"saving.store={options.out / 'store'}",
        f"saving.runs={options.out / 'runs'}",
    ]
    recipe = load_recipe_of(ImageRecipe, find_recipe("images"), [*places, *options.overrides])
    heard: list[Event] = []
    run_recipe(recipe, events=Events(heard.append, _tell), stop_requested=bool)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "method": options.method,
        "prepare_s": round(prepared - started, 1),
        "train_s": round(time.monotonic() - prepared, 1),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        **_found(heard),
    }
    print(json.dumps(result))


def _tell(event: Event) -> None:
    if event["event"] in _TOLD:
        shown = {name: value for name, value in event.items() if name != "series"}
        print(json.dumps(shown), flush=True)


def _found(events: list[Event]) -> dict[str, object]:
    named = {event["event"]: event for event in events}
    scored = [event for event in events if event["event"] == "scored"]
    return {
        "rows": named["data_loaded"]["rows"],
        "left_in_fp32": named.get("quantized", {}).get("left_out"),
        "accuracy": {f"{e['split']}:{e['variant']}": e["accuracy"] for e in scored},
        "left_out": {e["variant"]: e["reason"] for e in events if e["event"] == "variant_left_out"},
    }


if __name__ == "__main__":
    main()
