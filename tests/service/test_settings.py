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


def test_where_a_fallback_is_asked_is_an_address_and_its_key_fits_a_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings_from().fallback_url is None
    monkeypatch.setenv("HONE_FALLBACK_URL", "")
    monkeypatch.setenv("HONE_FALLBACK_API_KEY", "")
    empty = settings_from()
    assert (empty.fallback_url, empty.fallback_api_key) == (None, None)
    for wrong in ("ftp://x/v1", "api.example.com", "https://user:key@x/v1", "https://x/v1?key=1"):
        with pytest.raises(InvalidInput, match="fallback_url"):
            settings_from(fallback_url=wrong)
    with pytest.raises(InvalidInput) as refused:
        settings_from(fallback_api_key="sk-secret\nx-other: 1")
    assert "secret" not in str(refused.value)
    assert "sk-" not in repr(settings_from(fallback_api_key="sk-1"))
