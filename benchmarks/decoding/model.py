"""The model of a run: a Llama shape of 100 million random weights, and its exports."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import cast

import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM

from hone.training.causal.export import DecoderVariant, export_decoder

VOCABULARY = 16_384
CONTEXT = 2_048
FOLDER = Path("build/bench/decoding")


def random_llama() -> Path:
    """Return the folder of the random model, made with a fixed seed if it is not there."""
    folder = FOLDER / "llama100m"
    if not (folder / "model.safetensors").is_file():
        torch.manual_seed(0)
        config = LlamaConfig(
            hidden_size=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            num_key_value_heads=4,
            vocab_size=VOCABULARY,
            intermediate_size=2048,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=False,
            bos_token_id=1,
            eos_token_id=2,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
        words = {f"w{number}": number for number in range(VOCABULARY)}
        Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(
            '{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "w1", "eos_token": "w2"}'
        )
    return folder


def hone_model(variant: str) -> Path:
    """Return the ONNX file that Hone exports."""
    path = FOLDER / f"hone.{variant}.onnx"
    if not path.is_file():
        export_decoder(random_llama(), cast("DecoderVariant", variant), path)
    return path


def genai_model(variant: str) -> Path:
    """Return the folder that onnxruntime-genai's model builder makes, as it makes it."""
    folder = FOLDER / f"genai-{variant}"
    if not (folder / "model.onnx").is_file():
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
        command += ["-i", str(random_llama()), "-o", str(folder), "-p", variant, "-e", "cpu"]
        subprocess.run(
            [*command, "-c", str(FOLDER / "cache")], check=True, stdout=subprocess.DEVNULL
        )
    return folder


def ctranslate2_library() -> Path | None:
    """Return a folder with CTranslate2, from PyPI, beside and not inside our environment."""
    folder = FOLDER / "ctranslate2-library"
    if not (folder / "ctranslate2").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        done = subprocess.run(
            [*command, "--target", str(folder), "ctranslate2==4.8.5"], check=False
        )
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            return None
    return folder
