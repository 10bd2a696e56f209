"""A clock that shows what a test sets it to."""


class SetClock:
    def __init__(self, time: float = 1_700_000_000) -> None:
        self.time: float = time

    def __call__(self) -> float:
        return self.time
