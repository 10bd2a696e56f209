"""The recipe of a causal language model: what each key means, and what it may be."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hone.models.names import checkpoints_of, is_model_name
from hone.models.toml_files import Group
from hone.training.generation.encoding import LongExamples
from hone.training.recipe_groups import Auto, BaselineGroup, LoopGroup, Recipe, SavingGroup

SCRATCH_PREFIX = "scratch:"
"""What the name of a base begins with that is made from the data."""

OptimizerName = Literal["adamw", "adamw_8bit", "paged_adamw", "lion", "adafactor", "sgd", "prodigy"]

OPTIMIZER_ARGUMENTS: dict[OptimizerName, dict[str, float]] = {
    "adamw": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    "adamw_8bit": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    "paged_adamw": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    "lion": {"beta1": 0.9, "beta2": 0.99},
    "adafactor": {"decay_rate": -0.8, "clip_threshold": 1.0},
    "sgd": {"momentum": 0.9},
    "prodigy": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "d_coefficient": 1.0},
}
"""Each optimizer's own arguments, with their defaults."""

GPU_OPTIMIZERS: frozenset[OptimizerName] = frozenset({"adamw_8bit", "paged_adamw"})
"""Those of bitsandbytes, which runs on a GPU alone."""

_ALL_ARGUMENTS = sorted({name for own in OPTIMIZER_ARGUMENTS.values() for name in own})


class CausalModelGroup(Group):
    """Which base, and how it is changed."""

    task: Literal["text-generation"]
    """What the model does, which decides what the other keys are."""
    base: str
    """A local Hugging Face folder, `hub:owner/name[@revision]`, or `scratch:llama-3m` (1m to 100m):
    a new model with a tokenizer of its own, both from your data alone."""
    method: Literal["full", "lora", "qlora"] = "full"
    """All weights; low-rank matrices on every linear layer (merged at the end); or those on a base
    in four bits, which needs a GPU."""
    lora_rank: int = Field(16, ge=1, le=512)
    """Rank of the LoRA matrices."""
    lora_alpha: float = Field(32.0, gt=0)
    """Scale of the LoRA matrices, divided by the rank."""
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout inside LoRA."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of token embeddings and of what each attention and each MLP adds. Small models on
    small data need some; a pretrained base, trained for few epochs, needs none."""
    vocabulary: Auto | Annotated[int, Field(ge=260, le=100_000)] = "auto"
    """Of a `scratch:` base: most tokens of its tokenizer; `auto` is 1,500 to 16,000 by the data."""
    positions: int = Field(1024, ge=16, le=131_072)
    """Of a `scratch:` base: longest text in tokens."""


class CausalOptimizerGroup(Group):
    """The optimizer and its schedule. Arguments of another optimizer than the named are refused."""

    name: OptimizerName = "adamw"
    """AdamW (Loshchilov and Hutter 2019); the same with 8-bit moments, or paged to the CPU's memory
    (bitsandbytes, on a GPU); Lion (Chen et al. 2023); Adafactor (Shazeer and Stern 2018); SGD with
    momentum; Prodigy (Mishchenko and Defazio 2023), which finds its rate itself."""
    learning_rate: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"
    """Peak rate; `auto` goes by the optimizer, the method and whether the base was pretrained."""
    learning_rate_multiplier: float = Field(1.0, gt=0, le=1000)
    """What the rate is multiplied by, also one that `auto` has settled."""
    beta1: float | None = Field(None, ge=0, lt=1)
    """adamw, adamw_8bit, paged_adamw, lion, prodigy: decay of the mean gradient; 0.9."""
    beta2: float | None = Field(None, ge=0, lt=1)
    """The same ones: decay of the mean square (0.999), with Lion of its momentum (0.99)."""
    epsilon: float | None = Field(None, gt=0, lt=1)
    """adamw, adamw_8bit, paged_adamw, prodigy: added to the root of the mean square; 1e-8."""
    momentum: float | None = Field(None, gt=0, lt=1)
    """sgd: decay of the summed gradients; 0.9."""
    decay_rate: float | None = Field(None, lt=0, ge=-1)
    """adafactor: how the decay of the mean square approaches 1 with the steps; -0.8."""
    clip_threshold: float | None = Field(None, gt=0)
    """adafactor: most root mean square of an update; 1."""
    d_coefficient: float | None = Field(None, gt=0)
    """prodigy: what its estimate of the rate is multiplied by; 1."""
    weight_decay: float = Field(0.01, ge=0, le=1)
    """Decay of matrices; norms and biases have none."""
    warmup_share: float = Field(0.05, ge=0, lt=1)
    """Share of the steps in which the rate rises from zero."""
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    """How the rate falls afterwards."""
    max_gradient_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""

    @field_validator(*_ALL_ARGUMENTS)
    @classmethod
    def _only_its_own_arguments(cls, value: float | None, given: ValidationInfo) -> float | None:
        # Not there where it is wrong itself, which is told.
        name: OptimizerName | None = given.data.get("name")
        own = {} if name is None else OPTIMIZER_ARGUMENTS[name]
        if value is not None and name is not None and given.field_name not in own:
            raise ValueError(f"is not of {name}, whose arguments are {', '.join(own)}")
        return value

    def arguments(self) -> dict[str, float]:
        """Return the optimizer's own arguments, defaults filled in."""
        own = OPTIMIZER_ARGUMENTS[self.name]
        return {
            name: default if getattr(self, name) is None else getattr(self, name)
            for name, default in own.items()
        }


class CausalDatasetGroup(Group):
    """Where the prepared examples lie, and how they are written for the model."""

    path: str | None = None
    """A folder that `hone prepare --task text-generation` made. Instead of it: the files below."""
    train: str | None = None
    """Training examples, JSON lines: prompt and completion, chats, or preferences."""
    validation: str | None = None
    """Validation examples, which choose the weights."""
    test: str | None = None
    """Test examples: only scored, at the end."""
    template: Literal["auto", "plain", "chat"] = "auto"
    """`plain`: prompt and completion follow each other as they are; `chat`: as the base's chat
    template writes a user's and an assistant's turn. `auto` is plain for prompts, else chat."""
    max_tokens: Auto | Annotated[int, Field(ge=8, le=131_072)] = "auto"
    """Longest example in tokens; `auto` takes the longest there is, within the base's positions."""
    long_examples: LongExamples = "leave_out"
    """What is done with a longer one: leave it out, or cut its end off. Both are counted."""
    prompt_loss_weight: float = Field(0.0, ge=0, le=1)
    """What a prompt's tokens weigh in the training loss; completions weigh 1, a message what it
    says. Scores are of completions alone."""

    @model_validator(mode="after")
    def _either_folder_or_files(self) -> Self:
        if self.path is None and (self.train is None or self.validation is None):
            raise ValueError(
                "give 'path', a folder that hone prepare made, or the files 'train' and "
                "'validation' (and 'test')"
            )
        if self.path is not None and (self.train or self.validation or self.test):
            raise ValueError("give either 'path' or the files, not both")
        return self

    def file(self, split: str) -> Path | None:
        """Return the JSONL file of a split, or None when there is no such split."""
        if self.path is None:
            named: str | None = getattr(self, split)
            return None if named is None else Path(named)
        inside = Path(self.path) / f"{split}.jsonl"
        return inside if split != "test" or inside.exists() else None


class CausalTrainingGroup(LoopGroup):
    """The loop."""

    objective: Literal["auto", "supervised", "dpo"] = "auto"
    """`supervised` learns completions; `dpo` learns from preferences (Rafailov et al. 2023);
    `auto` is what the data is for."""
    dpo_beta: float = Field(0.1, gt=0, le=2)
    """dpo: how dear it is to move away from the base."""
    epochs: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"
    """Passes over the data; `auto` takes 3 for a pretrained base, 20 for a `scratch:` one, for
    small data more (300 steps, 60 epochs at most); for dpo 1."""
    batch_size: Auto | Annotated[int, Field(ge=1, le=4096)] = "auto"
    """Examples in one step on all devices; `auto` is 8 below 300 rows, 16 below 2,000, else 32."""
    gradient_checkpointing: bool = False
    """Whether activations are computed twice instead of kept: less memory, a third more time."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target spread over all tokens."""
    evaluate_every_epochs: Auto | Annotated[int, Field(ge=1, le=1000)] = "auto"
    """Epochs between evaluations; `auto` makes at most ten of them, and one at the end."""
    early_stopping_patience: int = Field(3, ge=0)
    """Evaluations without gain after which the run stops; 0 never stops."""


class SamplePromptsGroup(Group):
    """Prompts that are completed at every evaluation, for a person to watch the model learn."""

    prompts: list[str] = Field([], max_length=100)
    """The prompts, written as the data's prompts are; by default the first three of validation."""
    count: int = Field(3, ge=0, le=100)
    """How many prompts of the validation examples are taken where none are named."""
    max_tokens: int = Field(64, ge=1, le=4096)
    """Most tokens of a completion."""
    temperature: float = Field(0.0, ge=0, le=2)
    """0 takes the likeliest token each time."""


class CausalBaselineGroup(BaselineGroup):
    """The prompt whose work the model takes over, for counting what is saved. Without an
    instruction and without examples nothing is counted.
    """

    instruction: str | None = None
    """What the prompt says before its examples and the input; of a chat its system message."""
    examples: int = Field(0, ge=0, le=1000)
    """How many training examples it holds, those with prompts of middle length."""


class CausalSavingGroup(SavingGroup):
    """Where the bundle goes, and what is in it."""

    adapter: bool = False
    """lora, qlora: whether the matrices are kept as an adapter beside the base, which all adapters
    on it share in memory, instead of being merged into weights of its own."""
    checkpoints: int = Field(0, ge=0, le=100)
    """How many checkpoints may be asked while the run goes on: each evaluation's weights, in fp32
    and through the same gate, are published as `<name>-ckpt@<step>`, and the oldest ones go."""

    @model_validator(mode="after")
    def _checkpoints_have_a_name(self) -> Self:
        if self.checkpoints and not is_model_name(checkpoints_of(self.name)):
            raise ValueError("name is too long for its checkpoints to have one")
        return self


class GenerationRecipe(Recipe):
    """A whole recipe, with defaults filled in."""

    model: CausalModelGroup
    optimizer: CausalOptimizerGroup = CausalOptimizerGroup()
    dataset: CausalDatasetGroup
    training: CausalTrainingGroup = CausalTrainingGroup()
    sample_prompts: SamplePromptsGroup = SamplePromptsGroup()
    saving: CausalSavingGroup
    baseline: CausalBaselineGroup = CausalBaselineGroup()

    def what_needs_a_gpu(self) -> list[str]:
        """Return what of the recipe runs on a GPU alone, each with what to take elsewhere."""
        found = []
        if self.model.method == "qlora":
            found.append(
                "model.method: qlora holds the base in four bits, which needs a GPU; take lora"
            )
        if self.optimizer.name in GPU_OPTIMIZERS:
            found.append(f"optimizer.name: {self.optimizer.name} needs a GPU; take adamw")
        return found

    @model_validator(mode="after")
    def _a_cpu_runs_all_of_it(self) -> Self:
        if self.training.device == "cpu" and (wrong := self.what_needs_a_gpu()):
            raise ValueError("; ".join(wrong) + " (training.device is cpu)")
        return self

    @model_validator(mode="after")
    def _adapters_have_a_base_to_share(self) -> Self:
        if self.saving.adapter and self.model.method == "full":
            raise ValueError("saving.adapter is for model.method lora and qlora")
        if self.saving.adapter and self.model.base.startswith(SCRATCH_PREFIX):
            raise ValueError(
                "saving.adapter is for a base that others have too, not a scratch: one"
            )
        return self
