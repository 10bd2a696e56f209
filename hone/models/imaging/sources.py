"""What files of pictures, and tables with their paths, are called, and where they may lie."""

from pathlib import Path

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".avif"}
)
"""What is looked at in a folder of classes. The last six are found and told as unreadable."""

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".json", ".parquet"})


def leads_out(path: Path, folder: Path) -> bool:
    """Tell whether a path is one of something outside of a folder: absolute, by `..`, by a link.

    Also for one that no file can have. Links are followed as far as they go.
    """
    try:
        return not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle; a zero in the path
        return True
