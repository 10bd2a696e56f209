"""A measured layout is kept for the next start, where it can be trusted."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hone.models.bundle import Bundle
from hone.models.layout import LayoutTrial, SessionLayout
from hone.models.names import parse_reference
from hone.models.registry import Registry
from hone.models.tokenizer import pad
from hone.service import layouts
from hone.service.settings import Settings
from tests.tiny_bundle import publish_tiny


class Measurer:
    """Stands for measuring: chooses a candidate by its place, and counts how often it was asked.

    `lone` is the place of the number of threads that is best for a lone text.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.worst = 95.0
        self.place = -1
        self.lone = 0

    def __call__(
        self, engine_for: Any, candidates: Sequence[SessionLayout], workload: Any
    ) -> tuple[SessionLayout, list[LayoutTrial]]:
        self.asked += 1
        chosen = replace(candidates[self.place], overhead_tokens=7.0)
        return chosen, [LayoutTrial(chosen, 100.0, self.worst)]

    def lone_threads(self, engine_for: Any, candidates: Sequence[int], workload: Any) -> int:
        return candidates[self.lone]


@pytest.fixture
def measurer(monkeypatch: pytest.MonkeyPatch) -> Measurer:
    measurer = Measurer()
    monkeypatch.setattr(layouts, "measure_layout", measurer)
    monkeypatch.setattr(layouts, "measure_lone_threads", measurer.lone_threads)
    monkeypatch.setattr(layouts, "usable_cores", lambda: 4)
    return measurer


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    registry = Registry(tmp_path / "store")
    publish_tiny(registry)
    return registry.open(parse_reference("support"))


def load(bundle: Bundle, folder: Path, **options: Any) -> SessionLayout:
    settings = Settings(state_dir=folder, **options)
    return layouts.load_engines(bundle, "fp32", 20, settings).layout


def test_a_layout_is_measured_once(bundle: Bundle, tmp_path: Path, measurer: Measurer) -> None:
    first = load(bundle, tmp_path / "state")
    assert first.overhead_tokens == 7.0
    assert load(bundle, tmp_path / "state") == first
    assert measurer.asked == 1


def test_a_lone_text_gets_all_cores_where_that_is_faster_and_this_is_remembered(
    bundle: Bundle, tmp_path: Path, measurer: Measurer
) -> None:
    measurer.place, measurer.lone = 0, 1
    first = load(bundle, tmp_path / "state")
    assert first.lone_threads == 4
    measurer.lone = 0
    assert load(bundle, tmp_path / "state") == first
    assert load(bundle, tmp_path / "other").lone_threads is None


def test_a_lone_text_runs_on_a_session_of_its_own_only_if_it_gets_more_threads(
    bundle: Bundle, tmp_path: Path, measurer: Measurer
) -> None:
    measurer.place = 0
    settings = Settings(state_dir=tmp_path / "state")
    plain = layouts.load_engines(bundle, "fp32", 20, settings)
    assert plain.lone_engine is plain.engine
    measurer.lone = 1
    settings = Settings(state_dir=tmp_path / "other")
    two = layouts.load_engines(bundle, "fp32", 20, settings)
    assert two.lone_engine is not two.engine
    ids, mask = pad([[1, 2, 3]], 0)
    np.testing.assert_allclose(two.lone_engine.run(ids, mask), two.engine.run(ids, mask))


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


def test_what_is_given_is_not_tried_but_a_batch_has_its_measured_overhead(
    bundle: Bundle, tmp_path: Path
) -> None:
    layout = load(bundle, tmp_path / "state", workers=3, threads=2, batch_tokens=50)
    assert replace(layout, overhead_tokens=0) == SessionLayout(3, 2, 50, overhead_tokens=0)
    assert layout.overhead_tokens != SessionLayout(3, 2, 50).overhead_tokens
