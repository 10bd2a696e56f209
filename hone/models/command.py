"""`hone models`: look at the store and change it."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hone.models.editions import describe_fallback
from hone.models.errors import BundleCorrupt, HoneError, InvalidInput, NotFound
from hone.models.manifest import CARD_FILE, Manifest, Score
from hone.models.measures import GENERATION_MEASURES
from hone.models.names import PRODUCTION, ModelReference, parse_reference
from hone.models.registry import Registry
from hone.models.tables import console, id_table
from hone.models.terminal import plain

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

StoreOption = Annotated[
    Path, typer.Option("--store", envvar="HONE_STORE", help="The folder that holds the bundles.")
]
ReferenceArgument = Annotated[str, typer.Argument(help="support, support@3 or support@production")]
_DEFAULT_STORE = Path("store")


@app.command("list")
def list_models(store: StoreOption = _DEFAULT_STORE) -> None:
    """List every model with its versions, aliases and scores."""
    registry = _existing(store)
    table = id_table("model", "version", "aliases", "test score", "variants", "published")
    for model in registry.models():
        listing = registry.listing(model)
        for version in reversed(listing.versions):
            aliases = ", ".join(a for a, v in sorted(listing.aliases.items()) if v == version)
            table.add_row(model, str(version), aliases, *_summary(registry, model, version))
    if table.row_count:
        console().print(table)
    else:
        Console().print(
            f"There are no models in {plain(str(store.resolve()))}. `hone train` publishes one."
        )


@app.command("show")
def show_model(reference: ReferenceArgument, store: StoreOption = _DEFAULT_STORE) -> None:
    """Show a version's manifest in short."""
    registry = Registry(store)
    parsed = parse_reference(reference)
    manifest = registry.manifest(parsed)
    table = Table(show_header=False, box=None)
    for name, value in _facts(manifest):
        table.add_row(plain(name), plain(value))
    Console().print(table)
    folder = registry.folder(manifest.model, manifest.version)
    if (folder / CARD_FILE).is_file():
        Console().print(f"\nThe model card: {plain(str(folder / CARD_FILE))}", soft_wrap=True)


@app.command("verify")
def verify_models(
    reference: Annotated[
        str | None, typer.Argument(help="One model or version; default: all of them.")
    ] = None,
    store: StoreOption = _DEFAULT_STORE,
) -> None:
    """Read every file again and compare it with its hash; exit code 1 if one differs.

    An adapter's base must be there, too.
    """
    registry = _existing(store)
    console = Console()
    broken = 0
    for one in _references(registry, reference):
        try:
            manifest = registry.open(one).manifest
            if manifest.adapter is not None:
                for variant in manifest.adapter.base_files:
                    registry.base_of(manifest.adapter, variant)
            console.print(f"{one}: {len(manifest.files)} files match their hashes")
        except (BundleCorrupt, NotFound) as error:
            broken += 1
            console.print(f"[red]{one}: {plain(str(error))}[/]", soft_wrap=True)
    if broken:
        raise typer.Exit(1)


@app.command("promote")
def promote_model(
    reference: ReferenceArgument,
    alias: Annotated[str, typer.Option(help="The alias to point at this version.")] = PRODUCTION,
    store: StoreOption = _DEFAULT_STORE,
) -> None:
    """Verify a version and point an alias (production) at it; a running service follows."""
    parsed = parse_reference(reference)
    version = Registry(store).promote(parsed, alias)
    Console().print(f"{parsed.model}@{alias} is now version {version}")


@app.command("remove")
def remove_version(
    reference: ReferenceArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = _DEFAULT_STORE,
) -> None:
    """Remove one version for good; its number is never used again."""
    parsed = parse_reference(reference)
    if parsed.version is None:
        raise InvalidInput(f"name the version to remove, such as {parsed.model}@3")
    if not yes:
        typer.confirm(f"Remove {parsed} from {store}?", abort=True)
    Registry(store).remove(parsed.model, parsed.version)
    Console().print(f"removed {parsed}")


def _existing(store: Path) -> Registry:
    """Return the registry of a store; NotFound if there is no such folder."""
    if not store.is_dir():
        raise NotFound(f"there is no store {store.resolve()}; `hone train` makes one")
    return Registry(store)


def _references(registry: Registry, reference: str | None) -> list[ModelReference]:
    """Return the versions meant: one, all of a model, or all there are."""
    if reference is not None and "@" in reference:
        return [parse_reference(reference)]
    models = registry.models() if reference is None else [parse_reference(reference).model]
    return [
        ModelReference(model, version=version)
        for model in models
        for version in registry.listing(model).versions
    ]


def _summary(registry: Registry, model: str, version: int) -> tuple[str, str, str]:
    try:
        manifest = registry.manifest(ModelReference(model, version=version))
    except HoneError:
        return "[red]corrupt[/]", "", ""
    return _test_score(manifest), ", ".join(manifest.variants), _when(manifest.created_at)


def _test_score(manifest: Manifest) -> str:
    """Return a version's scores by their names; empty for one that was not scored, as a base."""
    for split in ("test", "validation"):
        note = "" if split == "test" else " (validation)"
        for variant in ("int8", "fp32"):
            scores = manifest.scores.get(f"{split}:{variant}")
            if scores and "accuracy" in scores:
                return f"accuracy {_score(scores['accuracy'])}{note}"
        written = manifest.scores.get(split, {})
        found = [
            f"{said} {written[name].value:.4f}"
            for name, said in GENERATION_MEASURES.items()
            if name in written
        ]
        if found:
            count = next(score.n for score in written.values())
            return f"{', '.join(found)} (n={count}){note}"
    return ""


def _score(score: Score) -> str:
    return f"{score.value:.4f} ({score.low:.4f} to {score.high:.4f}, n={score.n})"


def _when(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def _limit(manifest: Manifest) -> str:
    """Return what becomes of long texts, or how pictures are made alike."""
    if manifest.preprocessing is not None:
        return f"pictures become {manifest.preprocessing.width} x {manifest.preprocessing.height}"
    limits = manifest.text_limits
    return f"{limits.max_tokens} tokens, longer: {limits.long_texts}"


def _facts(manifest: Manifest) -> list[tuple[str, str]]:
    labels = ", ".join(manifest.labels[:12]) + (" …" if len(manifest.labels) > 12 else "")
    size = sum(entry.size for entry in manifest.files) / 1e6
    facts = [
        ("model", f"{manifest.model}@{manifest.version}"),
        ("published", f"{_when(manifest.created_at)} by hone {manifest.hone_version}"),
        ("task", manifest.task),
        ("base", f"{manifest.base.id} ({manifest.base.licence})"),
        *([("labels", f"{len(manifest.labels)}: {labels}")] if manifest.labels else []),
        ("limit", _limit(manifest)),
        ("data", ", ".join(f"{name} {split.rows}" for name, split in manifest.data.items())),
        ("size", f"{size:.1f} MB in {len(manifest.files)} files"),
    ]
    facts += [
        (f"accuracy {name}", _score(s["accuracy"]))
        for name, s in manifest.scores.items()
        if "accuracy" in s
    ]
    facts += [
        (f"{said} {split}", _score(scores[name]))
        for split, scores in manifest.scores.items()
        for name, said in GENERATION_MEASURES.items()
        if name in scores
    ]
    facts += [
        (f"parity {name}", f"{record.equal_predictions:.2%} equal on {record.rows} rows")
        for name, record in manifest.parity.items()
    ]
    if manifest.generation is not None:
        facts += [
            (f"parity {name}", f"{record.equal_tokens:.2%} equal on {record.tokens} tokens")
            for name, record in manifest.generation.parity.items()
        ]
    facts += [(f"left out {name}", reason) for name, reason in manifest.left_out.items()]
    if manifest.baseline is not None:
        count = f"{manifest.baseline.static_tokens} tokens and the input"
        facts.append(("replaces a prompt of", f"{count} ({manifest.baseline.method})"))
    if manifest.fallback is not None:
        facts += describe_fallback(manifest.fallback)
    return [*facts, ("digest", manifest.digest)]
