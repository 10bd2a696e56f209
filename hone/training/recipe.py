"""The recipe of a text classifier: what each key means, and what it may be."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hone.models.tokenizer import LongTexts
from hone.models.toml_files import Group
from hone.training.recipe_groups import Auto, LoopGroup, Recipe, SavingGroup


class ModelGroup(Group):
    """Which base, and how it is changed."""

    task: Literal["text-classification"] = "text-classification"
    """What the model does, which decides what the other keys are."""
    base: str = "minilm"
    """A name of the catalogue, a local Hugging Face folder, or `hub:owner/name[@revision]`."""
    continue_from: str | None = None
    """A version in the store (`support@3`) of this base, with whose weights to begin."""
    method: Literal["full", "lora"] = "full"
    """All weights, or low-rank matrices on every linear layer (merged before the export)."""
    pooling: Literal["auto", "mean", "cls"] = "auto"
    """How token vectors become one; `auto` takes what the base's own files say, else the mean."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout before the head."""
    attention_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of attention weights. At 0 a CPU has a fused attention, several times faster on
    long texts; the base's other dropout is as its config.json says."""
    lora_rank: int = Field(16, ge=1, le=512)
    """Rank of the LoRA matrices."""
    lora_alpha: float = Field(32.0, gt=0)
    """Scale of the LoRA matrices, divided by the rank."""
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout inside LoRA."""


class OptimizerGroup(Group):
    """AdamW (Loshchilov and Hutter 2019) and its schedule."""

    name: Literal["adamw"] = "adamw"
    """The optimizer."""
    learning_rate: Auto | Annotated[float, Field(gt=0, lt=1)] = "auto"
    """Peak rate; `auto` is 2e-4 (LoRA 1e-3) for a batch of 32, growing with its square root."""
    learning_rate_multiplier: float = Field(1.0, gt=0, le=1000)
    """What the rate is multiplied by, also one that `auto` has settled."""
    head_rate_factor: float = Field(5.0, gt=0, le=1000)
    """How much faster the head learns, which begins with no pretraining behind it."""
    weight_decay: float = Field(0.01, ge=0, le=1)
    """Decay of matrices; biases and norms have none."""
    warmup_share: float = Field(0.06, ge=0, lt=1)
    """Share of the steps in which the rate rises from zero."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the rate falls afterwards."""
    max_gradient_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""


class LabelledGroup(Group):
    """Where the prepared examples lie, and how they count."""

    path: str | None = None
    """A folder that `hone prepare` made. Instead of it: the files below."""
    train: str | None = None
    """Training examples, JSON lines."""
    validation: str | None = None
    """Validation examples: they choose weights, calibrate, and are the gate's."""
    test: str | None = None
    """Test examples: only scored, at the end."""
    class_weights: Literal["none", "balanced"] = "none"
    """Whether rare classes weigh more in the loss."""
    positive_label: str | None = None
    """With two labels: the one that precision, recall and F-beta are about; else the rarer."""
    betas: list[Annotated[float, Field(gt=0, le=100)]] = Field([0.5, 2.0], max_length=20)
    """Which F-betas are scored with two labels."""

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


class DatasetGroup(LabelledGroup):
    """Where the prepared examples lie, and how texts are cut."""

    max_tokens: Auto | Annotated[int, Field(ge=4, le=8192)] = "auto"
    """Longest text in tokens; `auto` takes the longest there is, within the base's positions."""
    long_texts: LongTexts = "head_tail"
    """What is done with a longer one: keep its `head`; its first quarter and its end; or `reject`
    it."""


class SupervisedGroup(LoopGroup):
    """The loop."""

    epochs: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"
    """Passes over the data; `auto` takes 8, for small data more (600 steps, 30 epochs at most)."""
    batch_size: Auto | Annotated[int, Field(ge=1, le=4096)] = "auto"
    """Examples in one step on all devices; `auto` is 8 below 300 rows, 16 below 2,000, else 32."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    """Share of the target spread over all labels (Szegedy et al. 2016)."""
    easy_share: Auto | Annotated[float, Field(ge=0, le=1)] = "auto"
    """Share of the rows, those with the lowest loss, of which half sit out an epoch and half weigh
    twice (InfoBatch, Qin et al. 2024); `auto` is 0.6 from 4,000 rows on, else 0: every row."""


class TrainingGroup(SupervisedGroup):
    """The loop."""

    token_dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the tokens that a training step hides from the model, drawn anew each time."""
    train_embeddings: bool = False
    """Whether word embeddings are trained; half of a small base, and of little use."""


class ClassifierSavingGroup(SavingGroup):
    """Where the bundle goes, and what is in it."""

    @model_validator(mode="after")
    def _int4_is_for_causal_models(self) -> Self:
        if "int4" in self.variants:
            raise ValueError("'int4' is for causal models: a classifier is not faster with it")
        return self


class LabellingRecipe(Recipe):
    """A recipe whose model gives each input one of some labels."""

    optimizer: OptimizerGroup = OptimizerGroup()
    dataset: LabelledGroup
    training: SupervisedGroup = SupervisedGroup()
    saving: ClassifierSavingGroup


class ClassifierRecipe(LabellingRecipe):
    """A whole recipe, with defaults filled in."""

    model: ModelGroup = ModelGroup()
    dataset: DatasetGroup
    training: TrainingGroup = TrainingGroup()
