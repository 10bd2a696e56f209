"""An adapter on its base says what the merged model says, alone and beside others."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from hone.models.decoding.adapters import BARE, UNIT, AdapterWeights
from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.engine import OnnxDecoder, prefill_in_pieces
from hone.models.decoding.prefixes import PrefixStore
from hone.models.decoding.scheduler import Scheduler
from hone.models.errors import BundleCorrupt, InvalidInput
from hone.training.causal.adapter_file import LoraMatrices, check_layers, write_adapter
from hone.training.causal.adapter_graph import take_adapters
from hone.training.causal.export import export_decoder
from hone.training.causal.parity import EXACT, check_decoder
from hone.training.causal.trained import TorchModel
from tests.models.decoding.running import Listener, request
from tests.training.causal import reference
from tests.training.causal.adapting import as_weights, merged, random_lora
from tests.training.causal.reference import EOS, said

RANKS = (1, 4, 16, 24, 40)


@pytest.fixture(scope="module")
def base_fp32(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "model.fp32.onnx"
    export_decoder(stories, "fp32", path, adapters=True)
    return path


@pytest.fixture(scope="module")
def loras(stories: Path) -> list[dict[str, LoraMatrices]]:
    return [random_lora(stories, rank, seed) for seed, rank in enumerate(RANKS)]


@pytest.fixture(scope="module")
def all_weights(
    stories: Path, loras: list[dict[str, LoraMatrices]], tmp_path_factory: pytest.TempPathFactory
) -> list[AdapterWeights]:
    return [as_weights(stories, lora, tmp_path_factory.mktemp("lora")) for lora in loras]


def engine_over(path: Path, slots: int = 8) -> OnnxDecoder:
    return OnnxDecoder(path, slots=slots, longest=256, intra_threads=1)


def save_merged(stories: Path, lora: dict[str, LoraMatrices], folder: Path) -> Path:
    merged(stories, lora).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(stories / name, folder)
    return folder


def test_logits_equal_those_of_the_merged_export(
    stories: Path,
    base_fp32: Path,
    loras: list[dict[str, LoraMatrices]],
    all_weights: list[AdapterWeights],
    tmp_path: Path,
) -> None:
    engine = engine_over(base_fp32)
    numbers = [engine.load_adapter(weights) for weights in all_weights]
    [ids] = reference.prompts(stories, 1, seed=3)
    bare = engine.prefill(0, ids, 0, every=True)
    for place in (1, 3):
        alone = tmp_path / f"{place}.onnx"
        export_decoder(save_merged(stories, loras[place], tmp_path / str(place)), "fp32", alone)
        expected = engine_over(alone).prefill(0, ids, 0, every=True)
        found = engine.prefill(1, ids, 0, every=True, adapter=numbers[place])
        assert np.abs(found - expected).max() < 1e-4
        assert np.abs(found - bare).max() > 1, "it changes what the base says"


def test_rows_of_many_adapters_and_of_the_base_share_a_step(
    stories: Path,
    base_fp32: Path,
    loras: list[dict[str, LoraMatrices]],
    all_weights: list[AdapterWeights],
) -> None:
    engine = engine_over(base_fp32)
    numbers = [engine.load_adapter(weights) for weights in all_weights]
    models = [reference.load(stories), *(merged(stories, lora) for lora in loras)]
    prompts = reference.prompts(stories, 8, seed=5)
    who = [0, 3, 1, 1, 5, 2, 0, 4]
    adapters = [[BARE, *numbers][place] for place in who]
    for slot, (prompt, adapter) in enumerate(zip(prompts, adapters, strict=True)):
        prefill_in_pieces(engine, slot, prompt[:-1], piece=64, adapter=adapter)
    ids = np.array([prompt[-1] for prompt in prompts])
    lengths = np.array([len(prompt) - 1 for prompt in prompts])
    together = engine.step(0, ids, lengths, adapters).copy()
    for row, (place, prompt) in enumerate(zip(who, prompts, strict=True)):
        expected = reference.logits(models[place], prompt)[-1]
        assert np.abs(together[row] - expected).max() < 1e-4
        one = slice(row, row + 1)
        alone = engine.step(row, ids[one], lengths[one], adapters[one])[0]
        assert (alone == together[row]).all(), "to the last bit"


def test_a_base_in_few_bits_gives_a_row_the_same_alone_and_beside_others(
    stories: Path, all_weights: list[AdapterWeights], tmp_path: Path
) -> None:
    """Where activations are rounded, the least difference before would become a great one."""
    export_decoder(stories, "int8", tmp_path / "model.onnx", adapters=True)
    engine = engine_over(tmp_path / "model.onnx")
    numbers = [BARE, *(engine.load_adapter(weights) for weights in all_weights)]
    units = sum(-(-weights.rank // UNIT) for weights in all_weights)
    widths = sum(matrix.shape[1] for matrix in all_weights[0].matrices.values())
    assert engine.adapter_bytes == units * UNIT * widths * 2, "in half precision"
    prompts = reference.prompts(stories, 6, seed=7)
    for slot, (prompt, adapter) in enumerate(zip(prompts, numbers, strict=True)):
        prefill_in_pieces(engine, slot, prompt, piece=64, adapter=adapter)
    ids, lengths = np.arange(6) + 300, np.array([len(prompt) for prompt in prompts])
    together = engine.step(0, ids, lengths, numbers).copy()
    for row in range(6):
        one = slice(row, row + 1)
        assert (engine.step(row, ids[one], lengths[one], numbers[one])[0] == together[row]).all()


def test_beside_a_base_in_few_bits_an_adapter_changes_what_it_changes_beside_a_whole_one(
    stories: Path, base_fp32: Path, all_weights: list[AdapterWeights], tmp_path: Path
) -> None:
    export_decoder(stories, "int8", tmp_path / "model.onnx", adapters=True)
    [ids] = reference.prompts(stories, 1, seed=13)
    changes = []
    for path in (base_fp32, tmp_path / "model.onnx"):
        engine = engine_over(path)
        number = engine.load_adapter(all_weights[1])
        bare = engine.prefill(0, ids, 0, every=True)
        changes.append(engine.prefill(1, ids, 0, every=True, adapter=number) - bare)
    whole, few = changes
    assert np.linalg.norm(few - whole) < 0.1 * np.linalg.norm(whole)


def test_one_whose_numbers_overflow_reaches_no_other_row(
    stories: Path, base_fp32: Path, all_weights: list[AdapterWeights]
) -> None:
    engine = engine_over(base_fp32)
    sound = engine.load_adapter(all_weights[1])
    huge = replace(
        all_weights[2],
        matrices={n: np.full_like(m, 3e38) for n, m in all_weights[2].matrices.items()},
    )
    wild = engine.load_adapter(huge)
    [ids] = reference.prompts(stories, 1, seed=9)
    adapters = [sound, wild, BARE]
    for slot, adapter in enumerate(adapters):
        engine.prefill(slot, ids, 0, every=False, adapter=adapter)
    lengths = np.full(3, len(ids))
    together = engine.step(0, np.full(3, 7), lengths, adapters).copy()
    assert not np.isfinite(together[1]).all()
    for row in (0, 2):
        alone = engine.step(row, np.array([7]), lengths[:1], [adapters[row]])[0]
        assert np.isfinite(together[row]).all()
        assert (alone == together[row]).all()


def test_served_together_each_says_what_transformers_says_while_others_come_and_go(
    stories: Path,
    base_fp32: Path,
    loras: list[dict[str, LoraMatrices]],
    all_weights: list[AdapterWeights],
) -> None:
    listener = Listener()
    engine = engine_over(base_fp32, slots=4)
    scheduler = Scheduler(engine, deliver=listener.hear, prefixes=PrefixStore(1 << 20))
    tokenizer = CausalTokenizer.from_file(stories / "tokenizer.json", eos_ids=[EOS])
    models = [reference.load(stories), *(merged(stories, lora) for lora in loras)]
    voices = [
        scheduler.enter(tokenizer, None, weights) for weights in (None, *all_weights[:3])
    ]  # the base, and three adapters on it
    passing = scheduler.enter(tokenizer, None, all_weights[4])
    prompts = reference.prompts(stories, 12, seed=11)
    begun = [
        scheduler.submit(request(prompt, 24), voices[number % 4])[0]
        for number, prompt in enumerate(prompts)
    ]
    [guest] = scheduler.submit(request(prompts[0], 24), passing)
    before = engine.adapter_bytes
    scheduler.leave(passing, timeout_s=60)
    assert engine.adapter_bytes < before
    voices.append(scheduler.enter(tokenizer, None, all_weights[3]))
    begun += scheduler.submit(request(prompts[0], 24), voices[4])
    ends = listener.wait_for([*begun, guest])
    scheduler.close(timeout_s=30)
    asked = [(number % 4, prompt) for number, prompt in enumerate(prompts)]
    asked += [(4, prompts[0]), (5, prompts[0])]
    for generation, end, (place, prompt) in zip([*begun, guest], ends, asked, strict=True):
        found = said(listener.ids(generation), end.finish)
        assert found == reference.greedy(models[place], prompt, 24)


def test_the_gate_judges_an_adapter_through_its_base(
    stories: Path,
    base_fp32: Path,
    loras: list[dict[str, LoraMatrices]],
    all_weights: list[AdapterWeights],
    tmp_path: Path,
) -> None:
    trained = TorchModel(save_merged(stories, loras[1], tmp_path / "merged"))
    engine, prompts = engine_over(base_fp32), reference.prompts(stories, 4)
    right, wrong = (engine.load_adapter(all_weights[place]) for place in (1, 2))
    passed = check_decoder(engine, trained, prompts, EXACT, adapter=right)
    assert passed.passed, passed.reasons
    assert not check_decoder(engine, trained, prompts, EXACT, adapter=wrong).passed
    assert not check_decoder(engine, trained, prompts, EXACT).passed


def test_biases_and_wide_heads_are_no_obstacle(stories: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512,
        "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": EOS,
    }  # fmt: skip
    base = tmp_path / "base"
    Qwen2ForCausalLM(Qwen2Config(**shape)).save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(stories / name, base)
    export_decoder(base, "fp32", tmp_path / "model.onnx", adapters=True)
    lora = random_lora(base, 6, seed=1)
    engine = engine_over(tmp_path / "model.onnx")
    adapter = engine.load_adapter(as_weights(base, lora, tmp_path))
    ids = [1, 50, 400, 7, 9, 300]
    found = engine.prefill(0, ids, 0, every=True, adapter=adapter)
    assert np.abs(found - reference.logits(merged(base, lora), ids)).max() < 1e-4


def test_what_cannot_be_kept_apart_is_refused_by_name(stories: Path, tmp_path: Path) -> None:
    lora = random_lora(stories, 2, seed=0)
    first = next(iter(lora))
    with pytest.raises(InvalidInput, match=r"model\.layers\.0\.self_attn\.qkv_proj"):
        check_layers([*lora, "model.layers.0.self_attn.qkv_proj"])
    with pytest.raises(InvalidInput, match="lm_head"):
        write_adapter({**lora, "lm_head": lora[first]}, stories, tmp_path / "a.safetensors")
    broken = LoraMatrices(np.full_like(lora[first].a, np.nan), lora[first].b)
    with pytest.raises(InvalidInput, match=f"{first} holds what is not a finite number"):
        write_adapter({**lora, first: broken}, stories, tmp_path / "a.safetensors")
    other = random_lora(stories, 3, seed=0)[first]
    with pytest.raises(InvalidInput, match=r"this has \[2, 3\]"):
        write_adapter({**lora, first: other}, stories, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_a_model_that_takes_no_adapters_says_so(
    stories_fp32: Path, all_weights: list[AdapterWeights]
) -> None:
    with pytest.raises(BundleCorrupt, match="not exported to take adapters"):
        engine_over(stories_fp32).load_adapter(all_weights[0])
    with pytest.raises(InvalidInput, match="no linear layer"):
        take_adapters(onnx.ModelProto())
