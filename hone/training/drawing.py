"""What all pictures share: colours for light and dark pages, fonts, and small PNG files.

Drawn without pyplot, so that no window, global figure or display is involved.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib import font_manager, style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from hone.models.document import Png
from hone.models.page import DARK_SURFACE, LIGHT_SURFACE

Floats = npt.NDArray[np.float64]

_CSS_DPI = 96
BLACK, WHITE = "#101215", "#ffffff"

_FONTS = (
    "DejaVu Sans",  # comes with matplotlib
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
)


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of a picture. The ramps go from a share of nothing to a share of all.

    Blue for what is right and orange for what is wrong: the colour-blind can tell them apart.
    """

    surface: str
    ink: str
    muted: str
    line: str
    right: tuple[str, str]
    wrong: tuple[str, str]


LIGHT = Theme(
    surface=LIGHT_SURFACE,
    ink="#1a1d23",
    muted="#5b6270",
    line="#dcdfe5",
    right=("#e3edfb", "#1d5fbf"),
    wrong=("#fdebdc", "#c4500c"),
)
DARK = Theme(
    surface=DARK_SURFACE,
    ink="#e6e8ec",
    muted="#a3abb8",
    line="#3b424e",
    right=("#24344d", "#82b1ff"),
    wrong=("#46301f", "#ffa45c"),
)


def can_be_drawn(texts: Sequence[str]) -> bool:
    """Whether the fonts of this machine have every character of the texts."""
    known: set[int] = set()
    for family in _fonts():
        path = font_manager.findfont(font_manager.FontProperties(family=family))
        known.update(font_manager.get_font(path).get_charmap())
    return all(ord(character) in known for text in texts for character in text)


def _fonts() -> list[str]:
    installed = set(font_manager.fontManager.get_font_names())
    return [family for family in _FONTS if family in installed] or ["DejaVu Sans"]


@contextmanager
def drawn_in(theme: Theme) -> Iterator[None]:
    """Draw with the theme's colours, whatever the user's matplotlibrc says."""
    settings = {
        "font.family": _fonts(),
        "font.size": 9,
        "text.color": theme.ink,
        "text.parse_math": False,
        "axes.facecolor": theme.surface,
        "axes.edgecolor": theme.line,
        "axes.labelcolor": theme.muted,
        "axes.titlelocation": "left",
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "xtick.color": theme.line,
        "ytick.color": theme.line,
        "xtick.labelcolor": theme.muted,
        "ytick.labelcolor": theme.muted,
        "grid.color": theme.line,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
    }
    with style.context(settings, after_reset=True):
        yield


def to_png(figure: Figure, *, dpi: int, theme: Theme) -> Png:
    """Render with a palette instead of 24 bits a pixel: a third of the size."""
    FigureCanvasAgg(figure)
    drawn = io.BytesIO()
    figure.savefig(
        drawn, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.08, facecolor=theme.surface
    )
    image = Image.open(drawn).convert("RGB")
    small = io.BytesIO()
    _with_palette(image, _palette(theme)).save(small, format="png", optimize=True)
    width, height = (round(pixels * _CSS_DPI / dpi) for pixels in image.size)
    return Png(small.getvalue(), width, height)


def _with_palette(image: Image.Image, palette: npt.NDArray[np.int64]) -> Image.Image:
    """Give each pixel the nearest colour; Pillow's own search is not exact, and tints surfaces."""
    pixels = np.asarray(image, dtype=np.int64)
    packed, where = np.unique(pixels @ (65536, 256, 1), return_inverse=True)
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1)
    distances = (palette**2).sum(axis=1) - 2 * colours @ palette.T
    nearest = distances.argmin(axis=1).astype(np.uint8)
    few = Image.fromarray(nearest[where].reshape(pixels.shape[:2]))  # putpalette makes "P" of it
    few.putpalette(palette.astype(np.uint8).tobytes())
    return few


def _palette(theme: Theme) -> npt.NDArray[np.int64]:
    """Return the colours (n, 3) that a picture may have: the theme's, and those between any two.

    A palette chosen by how often a colour occurs would spoil the shades of a few cells.
    """
    surface = to_rgb(theme.surface)
    colours = [np.linspace(surface, to_rgb(theme.ink), 14)]
    colours += [np.linspace(surface, to_rgb(theme.muted), 10)]
    colours += [np.linspace(surface, to_rgb(theme.line), 4)]
    for ramp in (theme.right, theme.wrong):
        shades = np.linspace(to_rgb(ramp[0]), to_rgb(ramp[1]), 41)
        colours += [shades, np.linspace(surface, shades[-1], 10)]
        for ink in (BLACK, WHITE):  # the edges of the numbers in the cells
            colours += [np.linspace(shade, to_rgb(ink), 7) for shade in shades[::20]]
    return np.rint(255 * np.concatenate(colours)).astype(np.int64)
