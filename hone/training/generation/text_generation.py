"""A causal language model: conversations -> fine-tuned -> scored -> exported -> published."""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed
from torch import nn

from hone.models.catalogue import Base
from hone.models.errors import InvalidInput
from hone.models.manifest import Manifest
from hone.training.causal.adapter_file import LoraMatrices, check_layers
from hone.training.checkpoint import load_best, remove_remains
from hone.training.classifier import trained_parameters
from hone.training.generation.causal_baseline import build_causal_baseline
from hone.training.generation.causal_bases import (
    CausalBase,
    obtain_causal_base,
    open_causal_base,
)
from hone.training.generation.causal_card import CausalSummary, write_card
from hone.training.generation.causal_data import (
    CausalData,
    Conversations,
    encode_splits,
    read_splits,
)
from hone.training.generation.causal_model import (
    build_causal_model,
    lora_matrices,
    merged,
    save_trained,
)
from hone.training.generation.causal_publishing import (
    TrainedFolder,
    gate_room,
    prompt_of,
    publish_causal,
)
from hone.training.generation.causal_scores import score_splits
from hone.training.generation.checkpoint_publishing import CheckpointPublisher
from hone.training.generation.conversations import Conversation
from hone.training.generation.encoding import Prompt
from hone.training.generation.generation_recipe import SCRATCH_PREFIX, GenerationRecipe
from hone.training.generation.loop import CausalRun, train_causal
from hone.training.generation.losses import DirectPreference, Objective, Supervised, refer_to
from hone.training.generation.memory import estimate_memory, padded_to, rows_together
from hone.training.generation.sampling import SamplePrompts
from hone.training.generation.scratch import (
    SMALLEST_VOCABULARY,
    make_base,
    shape_of,
)
from hone.training.generation.settling import CausalHyperparameters, refuse_what_needs_a_gpu
from hone.training.hyperparameters import choose_device
from hone.training.loop import make_accelerator
from hone.training.memory import held_bytes
from hone.training.run_context import RunContext, refuse_early, run_folder

MODEL_FOLDER, BASE_FOLDER = "model", "base"
"""In a run's folder: the trained model in the Hugging Face form, and a base that the run made."""

_LARGEST_VOCABULARY = 16_000
_CHARACTERS_PER_TOKEN = 400
_MOST_EVALUATED_TOGETHER = 32

_SamplePrompt = tuple[Prompt, list[int]]
"""A prompt, and its tokens."""


def train_generator(recipe: GenerationRecipe, context: RunContext) -> Manifest | None:
    """Train, score and publish a causal language model, as `run_recipe` says.

    The trained model lies in the run's folder, in the Hugging Face form, before it is published.
    """
    refuse_what_needs_a_gpu(recipe, choose_device(recipe.training.device))
    found = read_splits(recipe)
    made = recipe.model.base.startswith(SCRATCH_PREFIX)
    base = None if made else obtain_causal_base(recipe.model.base)
    if made:
        shape_of(recipe.model.base)
    refuse_early(recipe)
    folder = run_folder(recipe, found.records)
    with context.claimed(folder):
        context.events.emit("run_started", folder=str(folder), model=recipe.saving.name)
        base = base or _scratch_base(recipe, found, folder / BASE_FOLDER, context)
        gate_room(base)
        data, settled = encode_splits(found, recipe, base)
        _sample_prompts(recipe, base, data)  # better refused now than beside a built model
        _tell_data(found, data, settled, context)
        trained = _train(recipe, context, base, data, settled, found, folder)
        if trained is None:
            return None
        manifest = publish_causal(trained, context)
        remove_remains(folder)
    return manifest


def _scratch_base(
    recipe: GenerationRecipe, found: Conversations, folder: Path, context: RunContext
) -> CausalBase:
    """Make the base that the recipe names, or open the one that this run has made before."""
    if context.processes.is_main_process and not (folder / "model.safetensors").is_file():
        make_base(
            folder,
            recipe.model.base,
            found.examples["train"],
            vocabulary=_vocabulary(recipe, found),
            positions=recipe.model.positions,
            seed=recipe.training.seed,
        )
    context.processes.wait_for_everyone()
    positions = recipe.model.positions
    return open_causal_base(
        Base(recipe.model.base, folder, "none: made from the data", "text-generation", positions)
    )


def _vocabulary(recipe: GenerationRecipe, found: Conversations) -> int:
    if recipe.model.vocabulary != "auto":
        return recipe.model.vocabulary
    file = recipe.dataset.file("train")
    characters = file.stat().st_size if file else 0
    wanted = characters // _CHARACTERS_PER_TOKEN
    return min(_LARGEST_VOCABULARY, max(SMALLEST_VOCABULARY, wanted))


def _train(
    recipe: GenerationRecipe,
    context: RunContext,
    base: CausalBase,
    data: CausalData,
    settled: CausalHyperparameters,
    found: Conversations,
    folder: Path,
) -> TrainedFolder | None:
    """Train and score; leave the trained folder. None in all processes but the main one."""
    set_seed(recipe.training.seed)
    before = held_bytes(settled.device)
    checkpointing = recipe.training.gradient_checkpointing
    model = build_causal_model(base, recipe.model, gradient_checkpointing=checkpointing)
    if recipe.saving.adapter:  # better now than when it is trained
        check_layers(lora_matrices(model))
    processes = context.processes.num_processes
    estimate = estimate_memory(model, recipe, settled, before=before, processes=processes)
    context.events.emit(
        "memory_estimated", **asdict(estimate), total=estimate.total, device=settled.device
    )
    accelerator = make_accelerator(settled)
    model.to(accelerator.device)
    parameters = trained_parameters(model)
    together = min(_MOST_EVALUATED_TOGETHER, rows_together(recipe, settled, processes=processes))
    objective = _objective(model, data, recipe, settled, base, together=together)
    if _made_from_prompts(recipe, data):
        base.tokenizer.chat_template = None  # it never sees a chat
    publish = CheckpointPublisher(recipe, base, data, found.records, folder, context)
    run = _run(recipe, context, settled, publish)
    progress = train_causal(model, objective, run, accelerator)
    if not context.processes.is_main_process:
        return None
    context.events.emit("memory_measured", peak=progress.peak_bytes, estimate=estimate.total)
    whole, lora, judging = _whole_model(model, base, recipe, objective, folder)
    scores = score_splits(whole, data, base, judging, batch_size=together)
    for split, values in scores.items():
        told = {name: score.model_dump() for name, score in values.items()}
        context.events.emit("text_scored", split=split, **told)
    save_trained(whole, base, folder / MODEL_FOLDER)
    summary = CausalSummary(
        recipe=recipe,
        settled=settled,
        progress=progress,
        scores=scores,
        base=base.base,
        records=found.records,
        memory=estimate,
        left_out=data.left_out,
        truncated=data.truncated,
        trained_parameters=parameters[0],
        all_parameters=parameters[1],
        baseline=build_causal_baseline(
            recipe.baseline, found.examples["train"], data.encoder.template
        ),
    )
    write_card(summary, folder)
    context.events.emit("model_saved", folder=str(folder / MODEL_FOLDER))
    return TrainedFolder(folder, folder / MODEL_FOLDER, base, data, summary, _weights(whole), lora)


def _made_from_prompts(recipe: GenerationRecipe, data: CausalData) -> bool:
    """Whether the base is a new one, and all its examples are plain prompts."""
    return recipe.model.base.startswith(SCRATCH_PREFIX) and data.encoder.template == "plain"


def _weights(model: Any) -> dict[str, Any]:  # noqa: ANN401 - transformers has no types
    """Return every weight once: tied ones share their memory, which safetensors refuses."""
    return {name: p.detach().contiguous().clone() for name, p in model.named_parameters()}


def _whole_model(
    model: Any,  # noqa: ANN401
    base: CausalBase,
    recipe: GenerationRecipe,
    objective: Objective,
    folder: Path,
) -> tuple[Any, Mapping[str, LoraMatrices], Objective]:
    """Return the trained model in fp32, the matrices in it that are to be kept by themselves, and
    the objective that judges it.

    LoRA of a base in four bits goes into the whole one. What it gained is then counted from the
    whole one too: counted from the base in four bits, what rounding lost would be a gain.
    """
    whole, judging = model, objective
    if recipe.model.method == "qlora":
        group = recipe.model.model_copy(update={"method": "lora"})
        whole = build_causal_model(base, group)
        if isinstance(objective, DirectPreference):
            judging = objective.referring_to(whole)  # new matrices change nothing in it
        load_best(folder, whole)
    lora = lora_matrices(whole) if recipe.saving.adapter else {}
    return merged(whole), lora, judging


def _objective(
    model: nn.Module,
    data: CausalData,
    recipe: GenerationRecipe,
    settled: CausalHyperparameters,
    base: CausalBase,
    *,
    together: int,
) -> Objective:
    """Return what is learned; so many validation examples are evaluated together."""
    if settled.objective == "supervised":
        return Supervised(
            data.encoded["train"].texts,
            data.encoded["validation"].texts,
            pad_id=base.pad_id,
            batch_size=together,
            label_smoothing=recipe.training.label_smoothing,
            multiple=padded_to(settled),
        )
    pairs = {
        split: refer_to(
            model,
            data.encoded[split].texts,
            data.rejected[split].texts,
            pad_id=base.pad_id,
            batch_size=together,
        )
        for split in data.encoded
        if len(data.encoded[split])
    }
    return DirectPreference(
        pairs["train"],
        pairs["validation"],
        base.pad_id,
        together,
        recipe.training.dpo_beta,
        padded_to(settled),
        pairs.get("test"),
    )


def _run(
    recipe: GenerationRecipe,
    context: RunContext,
    settled: CausalHyperparameters,
    publish: CheckpointPublisher,
) -> CausalRun:
    base, data, folder = publish.base, publish.data, publish.folder
    group, sampled = recipe.sample_prompts, _sample_prompts(recipe, base, data)
    longest = max((len(ids) for _, ids in sampled), default=0)
    sample = SamplePrompts(
        [_spoken(prompt) for prompt, _ in sampled],
        [ids for _, ids in sampled],
        tokenizer=base.tokenizer,
        pad_id=base.pad_id,
        max_tokens=min(group.max_tokens, base.max_tokens - longest),
        temperature=group.temperature,
        folder=folder,
        events=context.events,
    )

    def watch(step: int, model: nn.Module) -> None:
        sample(step, model)
        publish(step, model)

    return CausalRun(
        folder,
        recipe,
        settled,
        context.events,
        context.stop_requested,
        base.revision,
        watch=watch,
        validation_rows=len(data.encoded["validation"]),
    )


def _sample_prompts(
    recipe: GenerationRecipe, base: CausalBase, data: CausalData
) -> list[_SamplePrompt]:
    """Return the prompts to complete at every evaluation: those that the recipe names, or the
    first of validation that leave the base room for an answer.

    InvalidInput where one that is named leaves none.
    """
    group, encode = recipe.sample_prompts, data.encoder.prompt_ids
    if not group.prompts:
        used = data.encoded["validation"].rows
        prompts = (prompt_of(data.examples["validation"][row]) for row in used)
        # A cut example may keep an early answer of a chat whose last one lies beyond the base.
        fitting = ((p, ids) for p in prompts if len(ids := encode(p)) < base.max_tokens)
        return list(islice(fitting, group.count))
    named: list[_SamplePrompt] = [(prompt, encode(prompt)) for prompt in group.prompts]
    longest = max(len(ids) for _, ids in named)
    if longest >= base.max_tokens:
        raise InvalidInput(
            f"sample_prompts.prompts: the longest has {longest} tokens, and the base reads "
            f"{base.max_tokens} with the answer"
        )
    return named


def _spoken(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    messages = prompt.messages if isinstance(prompt, Conversation) else prompt
    called = {id(m): "".join(f" {call.name}(…)" for call in m.calls) for m in messages}
    return "\n".join(f"{m.role}: {m.content}{called[id(m)]}" for m in messages)


def _tell_data(
    found: Conversations, data: CausalData, settled: CausalHyperparameters, context: RunContext
) -> None:
    trained = sum(text.trained for text in data.encoded["train"].texts)
    context.events.emit(
        "conversations_loaded",
        rows={split: record.rows for split, record in found.records.items()},
        left_out=data.left_out,
        truncated=data.truncated,
        max_tokens=settled.max_tokens,
        tokens=int(data.encoded["train"].lengths.sum()),
        trained_tokens=trained,
    )
