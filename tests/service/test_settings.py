"""Settings: defaults, environment, command line, in rising order."""

from pathlib import Path

import pytest

from hone.models.errors import InvalidInput
from hone.service.command import settings_from


def test_it_binds_to_loopback_unless_told_otherwise() -> None:
    assert settings_from().host == "127.0.0.1"
    assert settings_from(host="0.0.0.0").host == "0.0.0.0"


def test_the_command_line_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONE_PORT", "9000")
    monkeypatch.setenv("HONE_WORKERS", "3")
    monkeypatch.setenv("HONE_MODELS", "support,other")
    chosen = settings_from(port=9001, host=None)
    assert (chosen.port, chosen.workers, chosen.host) == (9001, 3, "127.0.0.1")
    assert chosen.models == ("support", "other")


def test_every_bad_value_is_named_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        settings_from(port=99999, workers=0, models=("A B",))
    for name in ("port", "workers", "models"):
        assert name in str(refused.value)


def test_a_request_that_could_never_fit_the_queue_is_refused_here() -> None:
    with pytest.raises(InvalidInput, match="max_items"):
        settings_from(max_items=100, max_queue_items=50)


def test_layouts_lie_in_the_store_unless_told_otherwise() -> None:
    assert settings_from(store=Path("s")).layouts_folder == Path("s/.layouts")
    assert settings_from(state_dir=Path("x")).layouts_folder == Path("x")
