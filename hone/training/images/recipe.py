"""The recipe of a classifier of pictures: what each key means, and what it may be."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hone.models.toml_files import Group
from hone.training.recipe import LabelledGroup, LabellingRecipe, SupervisedGroup
from hone.training.recipe_groups import Auto

SCRATCH = "scratch:convnet"


class PictureModelGroup(Group):
    """Which base, and how it is changed."""

    task: Literal["image-classification"]
    """What the model does, which decides what the other keys are."""
    base: str = SCRATCH
    """A local Hugging Face folder of an image classifier, `hub:owner/name[@revision]`, or
    `scratch:convnet`, a small network that begins with random weights."""
    method: Literal["auto", "probe", "full", "lora"] = "auto"
    """A linear head on frozen features, which are computed once; all weights; or low-rank matrices
    on every linear layer. `auto` is `probe`, for a `scratch:` base `full`."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout before the head."""
    picture_size: Auto | Annotated[int, Field(ge=16, le=1024)] = "auto"
    """Pixels of a side for a `scratch:` base; `auto` is 64. Other bases have their own."""
    lora_rank: int = Field(16, ge=1, le=512)
    """Rank of the LoRA matrices."""
    lora_alpha: float = Field(32.0, gt=0)
    """Scale of the LoRA matrices, divided by the rank."""
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout inside LoRA."""

    @model_validator(mode="after")
    def _scratch_is_trained_whole(self) -> Self:
        if self.scratch and self.method in {"probe", "lora"}:
            raise ValueError("a base of random weights is trained whole: method = 'full'")
        return self

    @property
    def scratch(self) -> bool:
        """Whether the base begins with random weights."""
        return self.base.startswith("scratch:")

    @property
    def settled_method(self) -> Literal["probe", "full", "lora"]:
        """The method that `auto` stands for."""
        if self.method == "auto":
            return "full" if self.scratch else "probe"
        return self.method


class AugmentationGroup(Group):
    """How training pictures are varied, anew in each step. A probe only mirrors them."""

    mirror: bool = True
    """Whether half of them are mirrored; not for letters, arrows or anything with a left side."""
    smallest_crop: float = Field(0.5, gt=0, le=1)
    """Least share of a picture's area that is cut out; 1 cuts nothing."""
    colour: float = Field(0.2, ge=0, lt=1)
    """How much brightness and contrast vary, up and down."""


class PictureTrainingGroup(SupervisedGroup):
    """The loop; a probe takes only `seed` and `device`."""


class ImageRecipe(LabellingRecipe):
    """A whole recipe for pictures, with defaults filled in."""

    model: PictureModelGroup
    dataset: LabelledGroup
    augmentation: AugmentationGroup = AugmentationGroup()
    training: PictureTrainingGroup = PictureTrainingGroup()
