"""What publishing must know of a trained model, whatever its task: the seam between tasks."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from hone.models.catalogue import Base, Task
from hone.models.document import Block
from hone.models.engines import Device, FloatArray, OnnxEngine
from hone.models.imaging.predictor import PicturePredictor
from hone.models.manifest import TOKENIZER_FILE, Limits, SplitRecord, Variant
from hone.models.predictor import Predictor
from hone.models.tokenizer import TextTokenizer
from hone.training.baseline import BASELINE_TOKENIZER_FILE, build_baseline
from hone.training.card_scores import Served
from hone.training.classifier import TextClassifier
from hone.training.dataset import token_lengths
from hone.training.export import convert_fp16, export_fp32, quantize_int8
from hone.training.feeding import LabelledSplit, TextFeed, run_over
from hone.training.loading import Data
from hone.training.recipe_groups import Recipe


class Delivery(Protocol):
    """A trained model with its data, ready to be calibrated, exported, compared and described."""

    @property
    def model(self) -> torch.nn.Module:
        """The trained model, on the CPU, in fp32."""

    @property
    def labels(self) -> Sequence[str]:
        """The labels in the model's order."""

    @property
    def records(self) -> dict[str, SplitRecord]:
        """What is noted of each split."""

    @property
    def splits(self) -> Mapping[str, LabelledSplit]:
        """The rows of each split."""

    def trained_logits(self) -> FloatArray:
        """Return the trained model's logits of the validation rows, float32 (rows, labels)."""

    def inputs(self, split: str) -> Sequence[Any]:
        """Return a split's inputs as a client sends them, for the predictor's `encode`."""

    def stage(self, staged: Path) -> None:
        """Write what the bundle needs besides models, weights and card."""

    def write(self, variant: Variant, file: Path, *, fp32: Path) -> None:
        """Write one ONNX variant; those with fewer bits are made from the fp32 file."""

    def predictor(
        self, staged: Path, file: Path, temperature: float, device: Device
    ) -> Predictor | PicturePredictor:
        """Load a variant from the files that would be published, as the service would load it."""

    def fields(self) -> dict[str, Any]:
        """Return the fields of the manifest that only this task knows."""

    def more_mistakes(
        self, served: Served, logits: FloatArray, temperature: float
    ) -> tuple[Block, ...]:
        """Return what the card shows of mistakes besides the confusions.

        Logits over `temperature` are what the service gives shares of.
        """


@dataclass(frozen=True, slots=True)
class TextDelivery:
    """A classifier of texts; `model` has LoRA merged."""

    model: TextClassifier
    base: Base
    data: Data
    recipe: Recipe

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
        """The rows of each split."""
        return self.data.encoded

    def trained_logits(self) -> FloatArray:
        """Return the trained model's logits of the validation rows, float32 (rows, labels)."""
        feed = TextFeed(self.data.tokenizer.pad_id)
        found = run_over(self.model, self.data.encoded["validation"], self.model, feed=feed)
        logits: FloatArray = found.numpy()
        return logits

    def inputs(self, split: str) -> Sequence[str]:
        """Return a split's texts."""
        return [row.text for row in self.data.examples[split]]

    def stage(self, staged: Path) -> None:
        """Write the tokenizers."""
        shutil.copyfile(self.base.folder / TOKENIZER_FILE, staged / TOKENIZER_FILE)
        if self.recipe.baseline.tokenizer is not None:
            shutil.copyfile(self.recipe.baseline.tokenizer, staged / BASELINE_TOKENIZER_FILE)

    def write(self, variant: Variant, file: Path, *, fp32: Path) -> None:
        """Write one ONNX variant; those with fewer bits are made from the fp32 file."""
        write_variant(self.model, variant, file, fp32=fp32)

    def predictor(self, staged: Path, file: Path, temperature: float, device: Device) -> Predictor:
        """Load a variant from the files that would be published, as the service would load it."""
        tokenizer = TextTokenizer.from_file(
            staged / TOKENIZER_FILE,
            max_tokens=self.data.tokenizer.max_tokens,
            long_texts=self.data.tokenizer.long_texts,
        )
        engine = OnnxEngine(file, intra_threads=torch.get_num_threads(), device=device)
        return Predictor(tokenizer, engine, tuple(self.data.labels), temperature)

    def fields(self) -> dict[str, Any]:
        """Return task, limits, lengths and prompts."""
        data, tokenizer = self.data, self.data.tokenizer
        task: Task = "text-classification"
        return {
            "task": task,
            "limits": Limits(max_tokens=tokenizer.max_tokens, long_texts=tokenizer.long_texts),
            "baseline": build_baseline(
                self.recipe.baseline, data.examples["train"], data.labels, data.prompt_form
            ),
            "prompt_form": data.prompt_form,
            "token_lengths": token_lengths(data.encoded["train"]),
        }

    def more_mistakes(
        self, served: Served, logits: FloatArray, temperature: float
    ) -> tuple[Block, ...]:
        """Return nothing: texts are not quoted in a card."""
        del served, logits, temperature
        return ()


def write_variant(model: TextClassifier, variant: Variant, file: Path, *, fp32: Path) -> None:
    """Write one ONNX variant of a classifier of texts."""
    if variant == "fp32":
        export_fp32(model, file)
    elif variant == "int8":
        quantize_int8(fp32, file)
    else:
        convert_fp16(fp32, file)
