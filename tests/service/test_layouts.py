"""A measured layout is kept for the next start, where it can be trusted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hone.models.bundle import Bundle
from hone.models.layout import LayoutTrial, SessionLayout
from hone.models.names import parse_reference
from hone.models.registry import Registry
from hone.service import layouts
from hone.service.settings import Settings
from tests.tiny_bundle import publish_tiny


class Measurer:
    """Stands for measuring: chooses the second candidate, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.worst = 95.0

    def __call__(
        self, engine_for: Any, candidates: Sequence[SessionLayout], **options: Any
    ) -> tuple[SessionLayout, list[LayoutTrial]]:
        self.asked += 1
        chosen = candidates[-1]
        return chosen, [LayoutTrial(chosen, 100.0, self.worst)]


@pytest.fixture
def measurer(monkeypatch: pytest.MonkeyPatch) -> Measurer:
    measurer = Measurer()
    monkeypatch.setattr(layouts, "measure_layout", measurer)
    return measurer


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    registry = Registry(tmp_path / "store")
    publish_tiny(registry)
    return registry.open(parse_reference("support"))


def load(bundle: Bundle, folder: Path, **options: Any) -> SessionLayout:
    settings = Settings(state_dir=folder, **options)
    return layouts.load_engine(bundle, "fp32", 20, settings)[1]


def test_a_layout_is_measured_once(bundle: Bundle, tmp_path: Path, measurer: Measurer) -> None:
    first = load(bundle, tmp_path / "state")
    assert load(bundle, tmp_path / "state") == first
    assert measurer.asked == 1


def test_another_choice_of_candidates_is_measured_anew(
    bundle: Bundle, tmp_path: Path, measurer: Measurer
) -> None:
    load(bundle, tmp_path / "state")
    assert load(bundle, tmp_path / "state", batch_tokens=7).batch_tokens == 7
    assert measurer.asked == 2


def test_a_noisy_measurement_is_not_kept(
    bundle: Bundle, tmp_path: Path, measurer: Measurer
) -> None:
    measurer.worst = 40.0
    load(bundle, tmp_path / "state")
    load(bundle, tmp_path / "state")
    assert measurer.asked == 2


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"workers": 99}', b"\xff"])
def test_a_spoilt_note_is_measured_anew(
    bundle: Bundle, tmp_path: Path, measurer: Measurer, content: bytes
) -> None:
    layout = load(bundle, tmp_path / "state")
    (note,) = (tmp_path / "state").iterdir()
    note.write_bytes(content)
    assert load(bundle, tmp_path / "state") == layout
    assert measurer.asked == 2


def test_with_everything_given_nothing_is_measured(bundle: Bundle, tmp_path: Path) -> None:
    layout = load(bundle, tmp_path / "state", workers=3, threads=2, batch_tokens=50)
    assert layout == SessionLayout(3, 2, 50)
    assert not (tmp_path / "state").exists()
