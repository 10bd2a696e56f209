"""The loop: it learns, in every way it can be asked to, and does what the recipe says."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hone.models.errors import InvalidInput
from hone.training import finetune
from hone.training.checkpoint import BEST_FILE
from hone.training.classifier import TextClassifier, collate, merge_lora
from hone.training.dataset import bucketed_batches, class_weights
from hone.training.dropout import hide_tokens
from hone.training.feeding import TextFeed, run_over
from hone.training.optimization import learning_rate_at
from hone.training.progress import Progress, least_worth_keeping
from tests.training.runs import Loop, make_loop, named, same_weights
from tests.training.tiny import (
    EPOCHS,
    LABELS,
    STEPS,
    STEPS_PER_EPOCH,
    Task,
    make_task,
    with_rare_label,
)

CHANCE = 1 / len(LABELS)
ONE_STEP = f"training.epochs={0.9 / STEPS_PER_EPOCH}"


@pytest.fixture(scope="module")
def still_task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Return a task whose base has no dropout, so that a loss can be computed again."""
    return make_task(tmp_path_factory.mktemp("still"), dropout=0.0)


def accuracy(loop: Loop, split: str = "test") -> float:
    rows = loop.data.encoded[split]
    logits = run_over(loop.model, rows, loop.model, feed=loop.run.feed)
    return float((logits.argmax(dim=1).numpy() == rows.classes).mean())


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.method=full"],
        ["model.method=lora", "model.lora_rank=4", "optimizer.learning_rate=3e-3"],
        ["training.train_embeddings=true", "model.pooling=cls"],
        ["training.precision=bf16"],
        ["dataset.class_weights=balanced", "training.gradient_accumulation=3"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_it_learns(task: Task, tmp_path: Path, overrides: list[str]) -> None:
    loop = make_loop(task, tmp_path, *overrides)
    progress = loop.fine_tune()
    assert progress.step == STEPS
    assert len(progress.evaluations) == EPOCHS
    assert accuracy(loop) > CHANCE + 0.45
    assert progress.best_accuracy == max(e["accuracy"] for e in progress.evaluations)


def test_lora_trains_a_few_matrices_and_merged_it_answers_the_same(
    task: Task, tmp_path: Path
) -> None:
    loop = make_loop(task, tmp_path, "model.method=lora", "model.lora_rank=2")
    before = {name: p.detach().clone() for name, p in loop.model.named_parameters()}
    loop.fine_tune()
    (settled,) = named(loop.events, "settled")
    assert settled["trained_parameters"] < 0.12 * settled["all_parameters"]
    for name, parameter in loop.model.named_parameters():
        changed = not torch.equal(parameter, before[name])
        assert changed == ("lora_" in name or name.startswith("head."))
    rows = loop.data.encoded["test"]
    unmerged = run_over(loop.model, rows, loop.model, feed=TextFeed(0))
    merge_lora(loop.model)
    merged = run_over(loop.model, rows, loop.model, feed=TextFeed(0))
    assert not any("lora" in name for name in loop.model.state_dict())
    assert torch.allclose(unmerged, merged, atol=1e-5)


@pytest.mark.parametrize("trained", [False, True])
def test_word_embeddings_change_only_where_the_recipe_says_so(
    task: Task, tmp_path: Path, trained: bool
) -> None:
    loop = make_loop(
        task, tmp_path, f"training.train_embeddings={str(trained).lower()}", "training.epochs=1"
    )
    before = loop.weights()
    loop.fine_tune()
    same = {name for name, tensor in loop.weights().items() if torch.equal(tensor, before[name])}
    assert same == (set() if trained else {"encoder.embeddings.word_embeddings.weight"})


def test_two_runs_are_the_same_and_another_seed_is_not(task: Task, tmp_path: Path) -> None:
    runs = []
    for number, seed in enumerate((1, 1, 2)):
        loop = make_loop(task, tmp_path / str(number), f"training.seed={seed}", "training.epochs=2")
        progress = loop.fine_tune()
        runs.append((loop.weights(), progress.losses))
    assert same_weights(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    assert not same_weights(runs[0][0], runs[2][0])


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    """Collect the gradients of every optimizer step, and take none of the steps."""
    seen: list[list[Tensor]] = []

    def step(optimizer: torch.optim.AdamW, *_: Any, **__: Any) -> None:
        groups = optimizer.param_groups
        seen.append([p.grad.clone() for group in groups for p in group["params"]])

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    return seen


UNCLIPPED = "optimizer.max_gradient_norm=1e9"


@pytest.mark.parametrize("weights", ["none", "balanced"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_a_batch_in_parts_has_the_gradient_and_the_loss_of_the_formula(
    still_task: Task,
    tmp_path: Path,
    gradients: list[list[Tensor]],
    weights: str,
    smoothing: float,
) -> None:
    uneven = with_rare_label(still_task, tmp_path / "data")
    losses = []
    for parts in (1, 3, 8, 100):
        loop = make_loop(
            uneven,
            tmp_path / str(parts),
            ONE_STEP,
            UNCLIPPED,
            "model.dropout=0.0",
            "training.token_dropout=0.0",
            f"dataset.class_weights={weights}",
            f"training.label_smoothing={smoothing}",
            f"training.gradient_accumulation={parts}",
        )
        losses.append(loop.fine_tune().losses[0][1])
    assert losses == pytest.approx([_loss_of_first_batch(loop, weights, smoothing)] * 4, rel=1e-5)
    whole, *others = gradients
    for in_parts in others:
        for one, other in zip(whole, in_parts, strict=True):
            assert torch.allclose(one, other, atol=1e-6, rtol=1e-4)


def _loss_of_first_batch(loop: Loop, weights: str, smoothing: float) -> float:
    train = loop.data.encoded["train"]
    rows = bucketed_batches(train.lengths, 8, seed=0, epoch=0)[0]
    ids, mask = collate(
        [train.texts[i] for i in rows], loop.data.tokenizer.pad_id, torch.device("cpu")
    )
    weight = torch.from_numpy(class_weights(train.classes, len(LABELS)))
    loss = nn.functional.cross_entropy(
        loop.model(ids, mask),
        torch.from_numpy(train.classes[rows]),
        weight=weight if weights == "balanced" else None,
        label_smoothing=smoothing,
    )
    return loss.item()


def test_gradients_are_clipped_to_the_recipes_norm(
    still_task: Task, tmp_path: Path, gradients: list[list[Tensor]]
) -> None:
    norms = []
    for norm in (1e9, 0.01):
        override = f"optimizer.max_gradient_norm={norm}"
        make_loop(still_task, tmp_path / str(norm), ONE_STEP, override).fine_tune()
        norms.append(float(torch.cat([g.flatten() for g in gradients[-1]]).norm()))
    assert norms[0] > 0.02
    assert norms[1] == pytest.approx(0.01, rel=1e-3)


def test_the_head_learns_faster_and_only_matrices_decay(task: Task, tmp_path: Path) -> None:
    loop = make_loop(task, tmp_path, "optimizer.head_rate_factor=7", "optimizer.weight_decay=0.5")
    groups = loop.optimizer().param_groups
    names = {id(p): name for name, p in loop.model.named_parameters()}
    seen = {}
    for group in groups:
        for parameter in group["params"]:
            seen[names[id(parameter)]] = (group["rate_factor"], group["weight_decay"])
            assert (group["weight_decay"] == 0.5) == (parameter.ndim > 1)
    assert seen["head.weight"] == (7.0, 0.5)
    assert seen["head.bias"] == (7.0, 0.0)
    assert {factor for name, (factor, _) in seen.items() if "head" not in name} == {1.0}
    assert len(seen) == sum(p.requires_grad for p in loop.model.parameters())


def test_it_stops_when_nothing_is_gained(task: Task, tmp_path: Path) -> None:
    loop = make_loop(
        task, tmp_path, "optimizer.learning_rate=1e-30", "training.early_stopping_patience=2"
    )
    progress = loop.fine_tune()
    assert progress.stopped_early
    assert progress.step == 3 * STEPS_PER_EPOCH
    (event,) = named(loop.events, "early_stopped")
    assert event["patience"] == 2


def test_with_no_patience_set_it_never_stops_early(task: Task, tmp_path: Path) -> None:
    loop = make_loop(task, tmp_path, "optimizer.learning_rate=1e-30")
    assert loop.fine_tune().step == STEPS
    assert named(loop.events, "early_stopped") == []


class _WorseAfter:
    """Stands for `run_over`; from the third evaluation on, every answer is wrong."""

    def __init__(self, evaluations: int) -> None:
        self.left = evaluations
        self.weights: list[dict[str, Tensor]] = []

    def __call__(self, model: TextClassifier, *rest: Any, **options: Any) -> Tensor:
        self.weights.append({name: t.clone() for name, t in model.state_dict().items()})
        self.left -= 1
        logits = run_over(model, *rest, **options)
        return logits if self.left >= 0 else -logits


def test_weights_that_answer_worse_are_not_kept(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = _WorseAfter(3)
    monkeypatch.setattr(finetune, "run_over", spy)
    loop = make_loop(task, tmp_path)
    loop.fine_tune()
    assert [e["kept"] for e in named(loop.events, "evaluated")] == [True] * 3 + [False] * 3
    assert same_weights(loop.weights(), spy.weights[2])


def test_a_little_worse_on_few_rows_is_luck_and_later_weights_are_kept() -> None:
    assert least_worth_keeping(0.9, 100) == pytest.approx(0.87)
    assert least_worth_keeping(0.9, 100_000) > 0.899
    assert least_worth_keeping(1.0, 10) == 1.0
    assert least_worth_keeping(0.0, 0) == 0.0


@given(
    evaluations=st.lists(st.tuples(st.integers(0, 40), st.floats(0, 9)), min_size=1, max_size=20)
)
def test_the_step_whose_weights_were_kept_is_noted(
    evaluations: list[tuple[int, float]],
) -> None:
    progress, kept = Progress(), []
    for right, loss in evaluations:
        progress.step += 1
        if progress.record(seconds=0.0, accuracy=right / 40, loss=loss, rows=40):
            kept.append(progress.step)
    assert kept[0] == 1
    assert progress.kept_step == kept[-1]
    assert progress.best_loss == min(loss for _, loss in evaluations)
    found = progress.kept_evaluation()
    assert found is not None
    assert found["accuracy"] >= least_worth_keeping(progress.best_accuracy, 40)


@given(
    lengths=st.lists(st.integers(2, 30), min_size=1, max_size=20),
    share=st.floats(0, 0.99),
    seed=st.integers(0, 1000),
)
def test_only_words_are_hidden_and_never_what_frames_them(
    lengths: list[int], share: float, seed: int
) -> None:
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.arange(5, 5 + mask.numel()).reshape(mask.shape) * mask
    torch.manual_seed(seed)
    hidden = hide_tokens(ids, mask, share=share, mask_id=1)
    changed = hidden != ids
    assert (hidden[changed] == 1).all()
    assert not changed[:, 0].any()
    for row, length in enumerate(lengths):
        assert not changed[row, length - 1 :].any()


def test_as_many_tokens_are_hidden_as_the_recipe_says() -> None:
    ids, mask = torch.full((200, 52), 7), torch.ones((200, 52), dtype=torch.long)
    torch.manual_seed(0)
    hidden = hide_tokens(ids, mask, share=0.1, mask_id=1)
    assert (hidden == 1).sum().item() == pytest.approx(1000, rel=0.15)


def test_what_an_evaluation_takes_is_not_counted_as_training(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = 0.0
    monotonic = time.monotonic

    def slow(*arguments: Any, **options: Any) -> Tensor:
        nonlocal late
        late += 1000.0
        return run_over(*arguments, **options)

    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + late)
    monkeypatch.setattr(finetune, "run_over", slow)
    progress = make_loop(task, tmp_path, "training.epochs=2").fine_tune()
    assert 0 < progress.evaluations[0]["seconds"] < progress.evaluations[1]["seconds"] < 1000
    assert progress.evaluations[1]["seconds"] <= progress.seconds < 1000


def test_weights_that_run_away_are_said_to(task: Task, tmp_path: Path) -> None:
    loop = make_loop(task, tmp_path)
    with torch.no_grad():
        loop.model.head.bias[0] = float("nan")
    with pytest.raises(InvalidInput, match=r"ran away: after step 12 .*learning_rate"):
        loop.fine_tune()
    assert not list(loop.run.folder.glob(BEST_FILE))


def test_mixed_precision_leaves_nothing_behind_on_the_model(task: Task, tmp_path: Path) -> None:
    loop = make_loop(task, tmp_path, "training.precision=bf16", "training.epochs=1")
    loop.fine_tune()
    loop.model.eval()
    ids, mask = collate(loop.data.encoded["test"].texts[:4], 0, torch.device("cpu"))
    with torch.no_grad():
        expected = loop.model.head(loop.model.embed(ids, mask))
        assert torch.equal(loop.model(ids, mask), expected)
    assert {p.dtype for p in loop.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@given(total=st.integers(1, 5000), share=st.floats(0, 0.99), data=st.data())
def test_the_rate_rises_to_its_peak_and_then_never_rises_again(
    task: Task, schedule: str, total: int, share: float, data: st.DataObject
) -> None:
    overrides = f"optimizer.schedule={schedule}", f"optimizer.warmup_share={share}"
    group = task.recipe(Path(), *overrides).optimizer
    step = data.draw(st.integers(0, total - 1))
    rate, following = (learning_rate_at(s, total, 1e-3, group) for s in (step, step + 1))
    warmup = int(np.ceil(share * total))
    assert 0 < rate <= 1e-3 * (1 + 1e-9)
    if step + 1 < min(warmup, total):
        assert following > rate
    elif step >= warmup:
        assert following <= rate


def test_steps_are_told_in_order_and_the_last_one_always(task: Task, tmp_path: Path) -> None:
    loop = make_loop(task, tmp_path, "training.epochs=1.5")
    progress = loop.fine_tune()
    steps = named(loop.events, "step")
    assert steps[-1]["step"] == steps[-1]["total"] == progress.step == 18
    assert [e["step"] for e in steps] == sorted({e["step"] for e in steps})
    assert all(e["examples_per_s"] > 0 and e["seconds_left"] >= 0 for e in steps)
    assert [e["step"] for e in named(loop.events, "evaluated")] == [12, 18]
    assert [step for step, _ in progress.losses] == list(range(1, 19))


def test_the_events_have_every_step_with_its_accuracy_and_what_was_read(
    task: Task, tmp_path: Path
) -> None:
    loop = make_loop(task, tmp_path, "training.epochs=1.5")
    progress = loop.fine_tune()
    rows = [row for event in loop.events for row in event.get("series", ())]
    assert [step for step, *_ in rows] == list(range(1, 19))
    assert all(0 <= accuracy <= 1 for _, _, accuracy, _, _ in rows)
    assert rows[0][3] == 8
    assert rows[-1][3:] == (progress.examples, progress.tokens)
    assert progress.examples == 18 * 8
    # One and a half times through the data, in whichever order.
    once = int(loop.data.encoded["train"].lengths.sum())
    assert once < progress.tokens < 2 * once
