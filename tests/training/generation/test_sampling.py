"""Sample prompts: what the model answers at every evaluation, kept with the run."""

from pathlib import Path

import pytest

from hone.models.errors import InvalidInput
from hone.training.events import Event, Events
from hone.training.generation.causal_bases import load_causal_model
from hone.training.generation.conversations import Conversation, Example, Message
from hone.training.generation.sampling import SamplePrompts, read_samples
from hone.training.run import run_recipe
from tests.training.generation.running import (
    recipe_for,
    train,
    without_publishing,
    write_splits,
)
from tests.training.generation.tiny import tiny_base


class Killed(BaseException):
    """Nothing that follows runs, as after a SIGKILL."""


def test_a_kill_while_samples_are_written_leaves_the_earlier_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_base(tmp_path / "base")
    model = load_causal_model(base)
    run = tmp_path / "run"
    run.mkdir()
    sample = SamplePrompts(
        ["1 ->"],
        [base.tokenizer.encode("1 ->")],
        tokenizer=base.tokenizer,
        pad_id=base.pad_id,
        max_tokens=2,
        temperature=0.0,
        folder=run,
        events=Events(),
    )
    sample(6, model)
    whole = list(read_samples(run))
    assert [row["step"] for row in whole] == [6]

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as once:
        once.setattr("hone.models.durable.fsync_file", kill)
        with pytest.raises(Killed):
            sample(12, model)
    assert list(read_samples(run)) == whole
    sample(12, model)
    assert [row["step"] for row in read_samples(run)] == [6, 12]


def test_a_sample_prompt_that_the_base_cannot_read_is_refused_before_the_training(
    tmp_path: Path,
) -> None:
    prompts = {"prompts": ["1 red ->", "red " * 64]}
    recipe = recipe_for(tmp_path, write_splits(tmp_path / "data"), sample_prompts=prompts)
    told: list[Event] = []
    with pytest.raises(InvalidInput, match=r"^sample_prompts\.prompts: the longest has \d+ tokens"):
        run_recipe(recipe, events=Events(told.append), stop_requested=lambda: False)
    assert [event["event"] for event in told] == ["run_started"], "before a model is built"


def test_a_default_prompt_that_leaves_no_room_gives_its_place_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(count: int, first: int) -> list[Example]:
        asked, answered = Message("user", "a"), Message("assistant", "b")
        signs = "".join(chr(0x4E00 + 61 * n) for n in range(40))  # three tokens each
        long = Conversation((asked, answered, Message("user", signs), answered))
        return [long, *[Conversation((Message("user", "c"), answered))] * (count - 1)]

    without_publishing(monkeypatch)
    data = write_splits(tmp_path / "data", rows)
    recipe = recipe_for(
        tmp_path,
        data,
        dataset={"long_examples": "cut"},
        training={"epochs": 1.0},
        sample_prompts={"prompts": [], "count": 2},
    )
    finished = train(recipe)
    assert finished.named("conversations_loaded")[0]["truncated"] == 3
    assert [row["prompt"] for row in read_samples(finished.folder)] == ["user: c"] * 2
