"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# How long an example takes tells of the machine and what else runs there, never of the code.
settings.register_profile(
    "untimed",
    settings.get_profile(settings.get_current_profile_name()),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("untimed")
