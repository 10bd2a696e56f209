"""A small PNG that unpacks to 13,000 x 13,000 pixels: `python -m benchmarks.pictures.bomb`.

Prints how long refusing it takes, the median and the longest of 100, and by how much the process
grows.
"""

import resource
import statistics
import time

from hone.models.imaging.decoding import decode_picture
from hone.models.imaging.headers import UnusablePicture
from tests.pictures import png_bomb

_TIMES = 100


def main() -> None:
    bomb = png_bomb(13_000)
    before = _largest_kb()
    seconds = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        try:
            decode_picture(bomb)
        except UnusablePicture as error:
            said = str(error)
        else:
            raise SystemExit("it was decoded")
        seconds.append(time.perf_counter() - started)
    middle, longest = (1e3 * found for found in (statistics.median(seconds), max(seconds)))
    print(
        f"{len(bomb):,} bytes, refused ({said}) in {middle:.3f} ms, at most {longest:.3f} ms; "
        f"the process grew by {_largest_kb() - before:,} KiB"
    )


def _largest_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
