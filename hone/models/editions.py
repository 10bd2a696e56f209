"""A new version of a model that differs in its fallback alone.

Versions never change, so that a fallback that is set or taken away makes the next one: the files
are copied, verified before and after.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from hone.models.bundle import Bundle
from hone.models.errors import InvalidInput
from hone.models.manifest import CARD_FILE, FallbackRecord, Manifest, ManifestBody
from hone.models.prompting.arm import FILE_PREFIX
from hone.models.registry import Registry

_SECTION = "\n## Fallback\n"

AddFiles = Callable[[Path], None]
"""Writes the files of an arm into a folder."""


def publish_with_fallback(
    registry: Registry, bundle: Bundle, fallback: FallbackRecord | None, add: AddFiles | None = None
) -> Manifest:
    """Publish a verified bundle's next version with this fallback, None for none.

    InvalidInput if the fallback does not fit the model, Conflict if the version would be served
    instead of a newer one that no alias holds in its place.
    """
    manifest = bundle.manifest
    given = {name: getattr(manifest, name) for name in ManifestBody.model_fields}
    try:
        body = ManifestBody.model_validate(given | {"fallback": fallback})
    except ValueError:
        raise InvalidInput(
            f"the fallback does not fit {manifest.model}@{manifest.version}: its labels must be "
            "those of the model, which classifies what the prompt is asked about"
        ) from None
    with registry.staging() as staged:
        for entry in manifest.files:
            if not entry.path.startswith(FILE_PREFIX):
                shutil.copyfile(bundle.folder / entry.path, staged / entry.path)
        if add is not None:
            add(staged)
        _write_card(staged / CARD_FILE, manifest, fallback)
        return registry.publish(manifest.model, staged, body, edition_of=manifest.version)


def _write_card(path: Path, origin: Manifest, fallback: FallbackRecord | None) -> None:
    """Let the card's last section say which fallback there is, if there is a card."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    if origin.fallback is not None:
        text = text.rpartition(_SECTION)[0] or text
    if fallback is not None:
        said = "\n".join(f"- {name}: {value}" for name, value in describe_fallback(fallback))
        source = f"This version is {origin.model}@{origin.version} with a fallback."
        text = f"{text.rstrip()}\n{_SECTION}\n{source}\n\n{said}\n"
    path.write_text(text, encoding="utf-8")


def describe_fallback(record: FallbackRecord) -> list[tuple[str, str]]:
    """Return what a record says, by name, in words for a person."""
    arm = record.arm
    examples = "no examples" if arm.examples is None else "fixed examples"
    if arm.retrieval is not None:
        examples = f"the {arm.retrieval.k} nearest examples"
    shown = (
        f"at most {record.max_error:.2%} with a probability of {record.confidence:.0%}, by "
        f"{record.items:,} items ({record.kept:,} kept, {record.wrong:,.4g} of them wrong)"
    )
    return [
        ("fallback below", f"a confidence of {record.threshold:.4g}"),
        ("fallback to", f"{arm.model}, {arm.api}, {examples}"),
        ("error kept", shown),
        ("share kept", f"{record.share_kept:.1%} of the items that did not choose"),
        ("fallback set", f"{record.set_at:%Y-%m-%d %H:%M} UTC, after {record.verdict}"),
        ("its judgement", f"report.json with SHA-256 {record.judgement_sha256}"),
    ]
