"""Long texts: movie reviews of hundreds of words, 80/10/10, with the recipe `long_texts`.

    python -m benchmarks.movie_reviews ../shared/data/movie_reviews/movie_reviews.zip

The archive has a folder of texts for each label (Pang and Lee 2004). Reads it, prepares it as
`hone prepare` does by default, trains, and prints one JSON line: the splits' sizes, how many
texts were cut, seconds, and the scores with their intervals.
"""

import argparse
import json
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from hone.models.examples import Example, write_examples
from hone.training.events import Event, Events
from hone.training.preparation.prepare import PrepareOptions, prepare
from hone.training.recipe import ClassifierRecipe
from hone.training.recipe_files import find_recipe, load_recipe_of
from hone.training.run import run_recipe

_LABELS = {"neg", "pos"}


def main() -> None:
    """Prepare, train and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/bench/movie_reviews"))
    parser.add_argument("overrides", nargs="*", metavar="GROUP.KEY=VALUE")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    source, data = options.out / "reviews.jsonl", options.out / "data"
    write_examples(source, reviews(options.archive))
    prepare(PrepareOptions(file=source, out=data), ask=lambda _: True)
    places = [
        f"dataset.path={data}",
        "saving.name=reviews",
        f"saving.store={options.out / 'store'}",
        f"saving.runs={options.out / 'runs'}",
    ]
    recipe = load_recipe_of(
        ClassifierRecipe, find_recipe("long_texts"), [*places, *options.overrides]
    )
    heard: list[Event] = []
    started = time.monotonic()
    run_recipe(recipe, events=Events(heard.append, _tell), stop_requested=bool)
    print(json.dumps(_result(heard, time.monotonic() - started)))


def reviews(archive: Path) -> Iterator[Example]:
    """Yield the texts of an archive; the folder that a text lies in is its label."""
    with zipfile.ZipFile(archive) as files:
        for name in sorted(files.namelist()):
            label = PurePosixPath(name).parent.name
            if name.endswith(".txt") and label in _LABELS:
                yield Example(files.read(name).decode(), label)


def _tell(event: Event) -> None:
    if event["event"] in {"settled", "resumed", "evaluated", "scored"}:
        print(json.dumps(event), flush=True)


def _result(events: list[Event], seconds: float) -> dict[str, object]:
    named = {event["event"]: event for event in events}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "rows": named["data_loaded"]["rows"],
        "cut": named["data_loaded"]["truncated"],
        "max_tokens": named["data_loaded"]["max_tokens"],
        "seconds": round(seconds),
        "validation": [
            (round(e["seconds"]), e["accuracy"]) for e in events if e["event"] == "evaluated"
        ],
        "test": {
            e["variant"]: e["accuracy"]
            for e in events
            if e["event"] == "scored" and e["split"] == "test"
        },
    }


if __name__ == "__main__":
    main()
