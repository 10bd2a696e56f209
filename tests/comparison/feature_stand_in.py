"""Stands for the process that computes features, and ends as its first argument says."""

import os
import signal
import sys

from hone.models.imaging.feature_messages import BROKE, REFUSED, FeatureMessage


def main(does: str) -> int:
    """Say something, as libraries do, and end."""
    print("Loading: 100%")
    print('{"loss": 3}', flush=True)
    if does == "refuses":
        sys.stdout.buffer.write(FeatureMessage(error="no such thing").line())
        return REFUSED
    if does == "breaks":
        error = "computing features failed inside (KeyError)"
        sys.stdout.buffer.write(FeatureMessage(error=error).line())
        print("Traceback: ...\nKeyError: 'a key'", file=sys.stderr)
        return BROKE
    if does == "fails":
        raise ValueError("oh")
    if does == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
