"""A trained folder becomes all that serving needs, or is refused with the reason."""

import json
import shutil
from pathlib import Path

import pytest

from hone.models.errors import InvalidInput, ParityFailed
from hone.training.causal.staging import CHAT_TEMPLATE_FILE, stage_decoder
from tests.training.causal import reference


@pytest.fixture
def trained(stories: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "trained"
    shutil.copytree(stories, folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    folder.chmod(0o755)
    (folder / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[-1].content }}")
    return folder


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    folder = tmp_path / "staged"
    folder.mkdir()
    return folder


def test_what_passes_is_staged_and_what_fails_is_left_out_with_the_reason(
    trained: Path, staged: Path
) -> None:
    found = stage_decoder(trained, staged, reference.prompts(trained, 5), ["fp32", "int4"])
    assert found.variants == {"fp32": "model.fp32.onnx"}
    assert "loss" in found.left_out["int4"]
    assert {path.name for path in staged.iterdir()} == {
        "model.fp32.onnx", "tokenizer.json", CHAT_TEMPLATE_FILE,
    }  # fmt: skip
    assert found.record.context_tokens == 512
    assert found.record.eos_ids == [2]
    assert found.record.chat_template == CHAT_TEMPLATE_FILE
    assert found.record.template_tokens["bos_token"] == "<s>"
    assert found.record.parity["fp32"].passed


def test_nothing_that_passes_is_an_error(trained: Path, staged: Path) -> None:
    with pytest.raises(ParityFailed, match="int4: "):
        stage_decoder(trained, staged, reference.prompts(trained, 3), ["int4"])
    assert not (staged / "model.int4.onnx").exists()


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("tokenizer.json", None, "tokenizer.json"),
        ("config.json", "[]", "JSON object"),
        ("config.json", json.dumps({"max_position_embeddings": 8}), "ends a text"),
        ("chat_template.jinja", "{% for %}", "chat template"),
        ("tokenizer_config.json", "{", "cannot be read"),
    ],
)
def test_a_folder_that_lacks_something_is_refused(
    trained: Path, staged: Path, file: str, content: str | None, reason: str
) -> None:
    if content is None:
        (trained / file).unlink()
    else:
        (trained / file).write_text(content)
    with pytest.raises(InvalidInput, match=reason):
        stage_decoder(trained, staged, [[1]], ["fp32"])
