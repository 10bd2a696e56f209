"""Features of pictures by an image base, to find those that look alike.

The training room computes them, as a process of its own: here is no torch. What it found is kept in
the run folder, by the hashes of the pictures and of the base's files.
"""

import hashlib
import importlib.util
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hone.models import leash
from hone.models.catalogue import CATALOGUE, HUB_PREFIX, LEGACY_ALIASES, SCRATCH_BASES, find_base
from hone.models.engines import FloatArray
from hone.models.errors import InvalidInput, MissingDependency
from hone.models.examples import sha256_of_file
from hone.models.imaging.pictures import PictureFile
from hone.models.manifest import sha256_of_json

_COMMAND = "hone.training.images.features"
_FILES = ("*.safetensors", "config.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True)
class PictureEncoder:
    """An image base by its name; `revision` is a hash of its files, or the name on a hub."""

    base: str
    revision: str

    @classmethod
    def of(cls, name: str) -> "PictureEncoder":
        """Look at a base without loading it.

        InvalidInput or NotFound for what is no folder of an image classifier and no `hub:` name;
        MissingDependency where there is nothing to compute features with.
        """
        if name in CATALOGUE or name in LEGACY_ALIASES or name in SCRATCH_BASES:
            raise InvalidInput(
                f"base: {name} sees nothing in pictures: give the folder of an image classifier, "
                f"or {HUB_PREFIX}owner/name"
            )
        revision = name
        if not name.startswith(HUB_PREFIX):
            folder = find_base(name, "image-classification").folder
            files = [path for pattern in _FILES for path in sorted(folder.glob(pattern))]
            if not any(path.suffix == ".safetensors" for path in files):
                raise InvalidInput(f"base: the folder {folder} has no weights in safetensors")
            revision = sha256_of_json([sha256_of_file(path) for path in files])
        if importlib.util.find_spec("torch") is None:
            raise MissingDependency("finding pictures that look alike", "train")
        return cls(name, revision)

    def features(
        self,
        pictures: Sequence[PictureFile],
        folder: Path,
        progressed: Callable[[int], None] | None = None,
    ) -> FloatArray:
        """Return float32 vectors of length 1, of shape (pictures, features).

        They are read from `folder`, or computed and kept there; `progressed` is told of each batch
        and may raise, which ends the process. InvalidInput with what it said, if it failed.
        """
        path = folder / f"embeddings-{self._key(pictures)}.f32"
        if not path.is_file():
            with tempfile.TemporaryDirectory(prefix=".features-", dir=folder) as scratch:
                self._compute(pictures, Path(scratch), progressed).replace(path)
        return np.fromfile(path, dtype="<f4").reshape(len(pictures), -1)

    def _key(self, pictures: Sequence[PictureFile]) -> str:
        digest = hashlib.sha256(self.revision.encode())
        for picture in pictures:
            digest.update(bytes.fromhex(picture.sha256))
        return digest.hexdigest()[:32]

    def _compute(
        self,
        pictures: Sequence[PictureFile],
        scratch: Path,
        progressed: Callable[[int], None] | None,
    ) -> Path:
        """Run the process in a folder of its own, and return the file that it wrote.

        Its kernel's parent is this thread, with which it ends.
        """
        listed, out, errors = (scratch / name for name in ("pictures.jsonl", "features", "errors"))
        lines = (picture.model_dump_json() for picture in pictures)
        listed.write_text("\n".join(lines), encoding="utf-8")
        program = [sys.executable, "-m", _COMMAND, self.base, str(listed), str(out)]
        command = leash.command(signal.SIGKILL, program=program)
        with (
            errors.open("wb") as said,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said) as process,  # noqa: S603
        ):
            try:
                for line in process.stdout or ():
                    if progressed is not None:
                        progressed(int(line))
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            last = errors.read_text("utf-8", errors="replace").strip().splitlines()[-1:]
            raise InvalidInput(f"base: {last[0] if last else 'the features were not computed'}")
        return out
