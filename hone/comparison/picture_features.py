"""Features of pictures by an image base, to find those that look alike.

The training room computes them, as a process of its own: here is no torch. What it found is kept in
the run folder, by the hashes of the pictures and of the base's files, or by its commit on a hub: a
name alone may stand for other weights tomorrow.
"""

import hashlib
import importlib.util
import os
import re
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
from hone.models.errors import InvalidInput, MissingDependency, ProcessFailed
from hone.models.examples import sha256_of_file
from hone.models.imaging.feature_messages import DONE, REFUSED, FeatureMessage, read_message
from hone.models.imaging.pictures import PictureFile
from hone.models.manifest import sha256_of_json

_COMMAND = "hone.training.images.features"
_MOST_SAID = 2**20
_LONGEST_LAST = 500
FAILED_FILE = "features-failed.txt"
"""In the run folder: what the process said last on its standard error, where it broke."""

_WITH_COMMIT = re.compile(rf"{HUB_PREFIX}[^@]+@[0-9a-f]{{40}}")
_FILES = ("*.safetensors", "config.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True)
class PictureEncoder:
    """An image base by its name.

    `revision` is a hash of its files, or its name on a hub with the commit; None where only the
    hub knows that.
    """

    base: str
    revision: str | None

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
        revision = name if _WITH_COMMIT.fullmatch(name) else None
        if not name.startswith(HUB_PREFIX):
            folder = find_base(name, "image-classification").folder
            files = [path for pattern in _FILES for path in sorted(folder.glob(pattern))]
            if not any(path.suffix == ".safetensors" for path in files):
                raise InvalidInput(f"base: the folder {folder} has no weights in safetensors")
            revision = sha256_of_json([sha256_of_file(path) for path in files])
        if importlib.util.find_spec("torch") is None:
            raise MissingDependency("finding pictures that look alike", "train")
        return cls(name, revision)

    def pinned(self, folder: Path) -> "PictureEncoder":
        """Return the base as it is now: one of a hub is fetched, and has its commit from then on.

        InvalidInput with what the process said, if it refused; ProcessFailed if it broke, with
        what it said besides kept in `folder`.
        """
        if self.revision is not None:
            return self
        messages: list[FeatureMessage] = []
        _run([self.base], messages.append, folder)
        name = next((each.base for each in messages if each.base is not None), None)
        if name is None or not _WITH_COMMIT.fullmatch(name):
            raise InvalidInput(f"base: {self.base} has no commit that its features could go by")
        return PictureEncoder(name, name)

    def features(
        self,
        pictures: Sequence[PictureFile],
        folder: Path,
        progressed: Callable[[int], None] | None = None,
    ) -> FloatArray:
        """Return float32 vectors of length 1, of shape (pictures, features).

        They are read from `folder`, or computed and kept there; `progressed` is told of each batch
        and may raise, which ends the process. The base has to be `pinned`. Raises as that does.
        """
        path = folder / f"embeddings-{self._key(pictures)}.f32"
        if not path.is_file():
            with tempfile.TemporaryDirectory(prefix=".features-", dir=folder) as scratch:
                self._compute(pictures, Path(scratch), progressed).replace(path)
        return np.fromfile(path, dtype="<f4").reshape(len(pictures), -1)

    def _key(self, pictures: Sequence[PictureFile]) -> str:
        if self.revision is None:
            raise ValueError(f"the base {self.base} is not pinned")
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
        """Run the process in a folder of its own, and return the file that it wrote."""
        listed, out = scratch / "pictures.jsonl", scratch / "features"
        lines = (picture.model_dump_json() for picture in pictures)
        listed.write_text("\n".join(lines), encoding="utf-8")

        def heard(message: FeatureMessage) -> None:
            if progressed is not None and message.pictures is not None:
                progressed(message.pictures)

        _run([self.base, str(listed), str(out)], heard, scratch.parent)
        return out


def _run(arguments: Sequence[str], heard: Callable[[FeatureMessage], None], folder: Path) -> None:
    """Run the process, which tells `heard` of each message; that may raise, which ends it.

    Its kernel's parent is this thread, with which it ends. InvalidInput with what it said, if it
    refused. ProcessFailed however else it failed: a sentence, and its traceback in `folder`.
    """
    program = [sys.executable, "-m", _COMMAND, *arguments]
    command = leash.command(signal.SIGKILL, program=program)
    error: FeatureMessage | None = None
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said) as process,  # noqa: S603
    ):
        try:
            for line in process.stdout or ():
                message = read_message(line)
                if message is None:
                    continue
                error = message if message.error is not None else error
                heard(message)
        except BaseException:
            process.kill()
            raise
        status = process.wait()
        said.seek(max(0, said.seek(0, os.SEEK_END) - _MOST_SAID))
        last_said = said.read()
    if status == DONE:
        return
    if status == REFUSED and error is not None:
        raise InvalidInput(f"base: {error.error}")
    raise _broken(status, error, last_said, folder)


def _broken(status: int, error: FeatureMessage | None, said: bytes, folder: Path) -> ProcessFailed:
    """Keep what a process said before it broke, and return the error that tells of it."""
    how = f"signal {-status}" if status < 0 else f"status {status}"
    why = f"the process that computes features ended with {how}"
    if error is not None:
        why = str(error.error)
    elif last := said.decode("utf-8", errors="replace").strip().splitlines()[-1:]:
        why += f": {last[0].strip()[:_LONGEST_LAST]}"
    if not said.strip():
        return ProcessFailed(f"base: {why}")
    kept = folder / FAILED_FILE
    kept.write_bytes(said)
    return ProcessFailed(f"base: {why}; what it said is in {kept}")
