"""A trained classifier of pictures, as publishing wants it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hone.models.catalogue import Task
from hone.models.document import Block, Heading, Text
from hone.models.engines import Device, FloatArray, OnnxPictureEngine
from hone.models.gallery import Gallery
from hone.models.imaging.predictor import PicturePredictor
from hone.models.imaging.preprocessing import Preprocessing, normalize
from hone.models.imaging.tokens import PICTURE_TOKENS
from hone.models.manifest import SplitRecord, Variant
from hone.models.savings import BaselinePrompt, estimate_tokens
from hone.training.card_scores import Served
from hone.training.export import convert_fp16
from hone.training.feeding import LabelledSplit, run_over
from hone.training.images.backbones import ImageClassifier
from hone.training.images.export import export_picture_fp32, quantize_picture_int8
from hone.training.images.feeding import PictureFeed
from hone.training.images.loading import PictureExamples, PictureSplit
from hone.training.images.mistakes import (
    MOST_SHOWN,
    confident_mistakes,
    contact_sheet,
)
from hone.training.images.recipe import ImageRecipe

CALIBRATING_PICTURES = 64
"""How many training pictures the ranges of int8 are taken from."""


@dataclass(frozen=True, slots=True)
class PictureDelivery:
    """A classifier of pictures; `model` has LoRA merged. `calibrating` are training pictures.

    `evaluated` are the splits that are scored, cropped as the service crops; `tell` hears what
    the quantization left in fp32.
    """

    model: ImageClassifier
    rule: Preprocessing
    data: PictureExamples
    evaluated: dict[str, PictureSplit]
    calibrating: FloatArray
    recipe: ImageRecipe
    tell: Callable[[str], None]

    @property
    def labels(self) -> Sequence[str]:
        """The labels in the model's order."""
        return self.data.labels

    @property
    def records(self) -> dict[str, SplitRecord]:
        """What is noted of each split."""
        return self.data.records

    @property
    def splits(self) -> Mapping[str, LabelledSplit]:
        """The rows of validation and test."""
        return self.evaluated

    def trained_logits(self) -> FloatArray:
        """Return the trained model's logits of the validation rows, float32 (rows, labels)."""
        feed = PictureFeed(self.rule, self.recipe.augmentation)
        logits: FloatArray = run_over(
            self.model, self.evaluated["validation"], self.model, feed=feed
        ).numpy()
        return logits

    def inputs(self, split: str) -> Sequence[bytes]:
        """Return a split's files, read on demand."""
        return self.data.files[split]

    def stage(self, staged: Path) -> None:
        """Write nothing: how pictures are made alike stands in the manifest."""

    def write(self, variant: Variant, file: Path, *, fp32: Path) -> None:
        """Write one ONNX variant; those with fewer bits are made from the fp32 file."""
        if variant == "fp32":
            export_picture_fp32(self.model, file, height=self.rule.height, width=self.rule.width)
        elif variant == "int8":
            self.tell(quantize_picture_int8(fp32, file, self.calibrating))
        else:
            convert_fp16(fp32, file)

    def predictor(
        self, staged: Path, file: Path, temperature: float, device: Device
    ) -> PicturePredictor:
        """Load a variant from the files that would be published, as the service would load it."""
        del staged
        engine = OnnxPictureEngine(file, intra_threads=torch.get_num_threads(), device=device)
        return PicturePredictor(self.rule, engine, tuple(self.labels), temperature)

    def fields(self) -> dict[str, Any]:
        """Return task, preprocessing and the prompt that is replaced."""
        task: Task = "image-classification"
        return {
            "task": task,
            "preprocessing": self.rule,
            "baseline": picture_baseline(self.recipe, self.data),
        }

    def more_mistakes(
        self, served: Served, logits: FloatArray, temperature: float
    ) -> tuple[Block, ...]:
        """Return the contact sheet of the most confident mistakes."""
        files, split = self.data.files[served.split], self.evaluated[served.split]
        mistakes = confident_mistakes(logits, split.classes, self.labels, temperature)
        if not mistakes:
            return (Text(f"Not one {served.split} picture was answered wrongly."),)
        shown = min(MOST_SHOWN, len(mistakes))
        return (
            Heading("The most confident mistakes"),
            Gallery(
                contact_sheet(mistakes, files),
                f"{shown} of {len(mistakes)} wrong answers on the {served.split} split, the most "
                "confident first. Below each its label, the answer, and the confidence that the "
                "service gives for it. Whoever gets this card can see them.",
            ),
        )


def picture_baseline(recipe: ImageRecipe, data: PictureExamples) -> BaselinePrompt:
    """Return the multimodal prompt that the model replaces: an instruction, and the picture.

    No examples: those would be pictures. What a picture costs is an estimate, by the rule of
    `hone.models.imaging.tokens`, and the method says so.
    """
    labels = ", ".join(data.labels)
    instruction = recipe.baseline.instruction or (
        f"Say which one of these {len(data.labels)} labels fits the picture: {labels}. "
        "Answer with the label only."
    )
    outputs = [estimate_tokens(row.label) for row in data.examples["train"]]
    return BaselinePrompt(
        instruction=instruction,
        static_tokens=estimate_tokens(instruction),
        output_tokens=float(np.mean(outputs)),
        method=PICTURE_TOKENS,
        price_model=recipe.baseline.price_model,
        separator="",
    )


def calibrating_pictures(
    train: PictureSplit, kept: Preprocessing, rule: Preprocessing
) -> FloatArray:
    """Return some training pictures as the model reads them: the centres of what is kept."""
    rows = np.unique(np.linspace(0, len(train) - 1, CALIBRATING_PICTURES).astype(int))
    top, left = (kept.height - rule.height) // 2, (kept.width - rule.width) // 2
    pixels = np.stack([train.pixels[row] for row in rows])
    cut = pixels[:, top : top + rule.height, left : left + rule.width]
    return normalize(cut, rule)
