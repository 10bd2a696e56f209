"""A real exported model says what transformers says on the same weights, alone and in company."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.engine import OnnxDecoder, prefill_in_pieces
from hone.models.decoding.prefixes import PrefixStore
from hone.models.decoding.scheduler import Scheduler
from hone.models.errors import BundleCorrupt, InvalidInput
from hone.training.causal.export import export_decoder
from tests.models.decoding.running import Listener, request
from tests.training.causal import reference
from tests.training.causal.reference import EOS, said


@pytest.mark.parametrize("slots", [1, 16])
def test_greedy_continuations_equal_those_of_transformers(
    stories: Path, stories_fp32: Path, slots: int
) -> None:
    model = reference.load(stories)
    prompts = reference.prompts(stories, 24)
    engine = OnnxDecoder(stories_fp32, slots=slots, longest=256, intra_threads=1)
    listener = Listener()
    scheduler = Scheduler(
        engine,
        CausalTokenizer.from_file(stories / "tokenizer.json", eos_ids=[EOS]),
        deliver=listener.hear,
        prefixes=PrefixStore(1 << 20),
    )
    generations = [scheduler.submit(request(prompt, 40))[0] for prompt in prompts]
    ends = listener.wait_for(generations)
    scheduler.close(timeout_s=30)
    for generation, end, prompt in zip(generations, ends, prompts, strict=True):
        found = said(listener.ids(generation), end.finish)
        assert found == reference.greedy(model, prompt, 40)


def test_a_rows_logits_do_not_depend_on_the_rows_beside_it(
    stories: Path, stories_fp32: Path
) -> None:
    prompts = reference.prompts(stories, 16)
    engine = OnnxDecoder(stories_fp32, slots=16, longest=256, intra_threads=1)
    for slot, prompt in enumerate(prompts):
        prefill_in_pieces(engine, slot, prompt, piece=64)
    ids = np.array([prompt[-1] for prompt in prompts])
    lengths = np.array([len(prompt) for prompt in prompts])
    together = engine.step(0, ids, lengths).copy()
    for rows in (1, 2, 3, 5, 8, 13):
        part = engine.step(0, ids[:rows], lengths[:rows])
        assert np.abs(part - together[:rows]).max() < 1e-4
        assert (part.argmax(axis=1) == together[:rows].argmax(axis=1)).all()


def test_logits_are_the_same_in_one_piece_in_many_and_out_of_a_prefix(
    stories: Path, stories_fp32: Path
) -> None:
    [ids] = reference.prompts(stories, 1, seed=3)
    expected = reference.logits(reference.load(stories), ids)
    engine = OnnxDecoder(stories_fp32, slots=3, longest=256, intra_threads=1)
    every = engine.prefill(0, ids, 0, every=True)
    assert np.abs(every - expected).max() < 1e-4
    pieces = prefill_in_pieces(engine, 1, ids, piece=7)
    assert np.abs(pieces[0] - expected[-1]).max() < 1e-4
    engine.write(2, 0, engine.read(0, 0, 20))
    resumed = engine.prefill(2, ids[20:], 20, every=False)
    assert np.abs(resumed[0] - expected[-1]).max() < 1e-4
    engine.exchange(1, 2, (len(ids), len(ids)))
    step = np.array([5])
    assert np.abs(
        engine.step(1, step, np.array([len(ids)])) - engine.step(2, step, np.array([len(ids)]))
    ).max() < 1e-4  # fmt: skip


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_other_shapes_are_exported_too(family: str, stories: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": EOS,
    }
    model = (
        Qwen2ForCausalLM(Qwen2Config(**shape))
        if family == "qwen2"
        else Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=16))
    ).eval()
    folder = tmp_path / "base"
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(stories / name, folder)
    export_decoder(folder, "fp32", tmp_path / "model.onnx")
    engine = OnnxDecoder(tmp_path / "model.onnx", slots=1, longest=64, intra_threads=1)
    ids = [1, 50, 400, 7, 9, 300]
    found = engine.prefill(0, ids, 0, every=True)
    assert np.abs(found - reference.logits(model, ids)).max() < 1e-4


def test_quantized_weights_stay_near(stories: Path, tmp_path: Path) -> None:
    export_decoder(stories, "int8", tmp_path / "model.onnx")
    [ids] = reference.prompts(stories, 1, seed=5)
    engine = OnnxDecoder(tmp_path / "model.onnx", slots=1, longest=256, intra_threads=1)
    expected = reference.logits(reference.load(stories), ids)
    found = engine.prefill(0, ids, 0, every=True)
    assert (tmp_path / "model.onnx").stat().st_size < 600_000
    assert 1e-6 < np.abs(found - expected).max() < 1
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9


def test_a_folder_that_cannot_be_exported_is_refused_with_the_reason(
    stories: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=r"config\.json"):
        export_decoder(tmp_path, "fp32", tmp_path / "model.onnx")
    folder = tmp_path / "odd"
    shutil.copytree(stories, folder)
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidInput, match="heads of 8"):
        export_decoder(folder, "fp32", tmp_path / "model.onnx")
    unknown = tmp_path / "unknown"
    LlamaConfig(hidden_size=64, num_attention_heads=4, architectures=["Nobody"]).save_pretrained(
        unknown
    )
    with pytest.raises(InvalidInput, match="model builder cannot export"):
        export_decoder(unknown, "fp32", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_graph_that_is_no_decoder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(BundleCorrupt):
        OnnxDecoder(path, slots=1, longest=8)
