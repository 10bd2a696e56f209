"""`hone fallback`: let a model's least confident answers go to the prompt as well, or no more.

A command of its own, and no option of `hone compare`: asking costs money and needs keys, while
this changes what a store holds, is done after a person has read the report, and asks nobody.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hone.comparison.adoption import read_adoption
from hone.comparison.stores import looked_up
from hone.models.editions import describe_fallback, publish_with_fallback
from hone.models.errors import InvalidInput
from hone.models.manifest import Manifest
from hone.models.names import ModelReference, parse_reference
from hone.models.registry import Registry
from hone.models.terminal import plain

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

StoreOption = Annotated[
    Path, typer.Option("--store", envvar="HONE_STORE", help="The folder that holds the bundles.")
]
PromoteOption = Annotated[
    bool, typer.Option("--promote", help="Let the alias production point at the new version.")
]
ReferenceArgument = Annotated[str, typer.Argument(help="support, support@3 or support@production")]
_DEFAULT_STORE = Path("store")


@app.command("set")
def set_fallback(
    run: Annotated[Path, typer.Argument(help="The folder of a finished `hone compare`.")],
    store: Annotated[
        Path | None, typer.Option("--store", help="Default: the store of the experiment.")
    ] = None,
    despite_verdict: Annotated[
        bool,
        typer.Option("--despite-verdict", help="Also where the verdict is no fallback."),
    ] = False,
    promote: PromoteOption = False,
) -> None:
    """Publish the model that was judged once more, with the threshold and the prompt.

    It may be called from any folder: the run knows where its experiment's paths are from. Nobody
    is asked, and what is not as it was judged and reported is refused.
    """
    adoption = read_adoption(run, store=store, despite_verdict=despite_verdict)
    manifest = adoption.publish()
    _tell(adoption.registry, manifest, promote=promote)
    Console().print(
        "A service asks the prompt only where HONE_FALLBACK_URL says at which address; the key is "
        "HONE_FALLBACK_API_KEY.",
        highlight=False,
    )


@app.command("show")
def show_fallback(reference: ReferenceArgument, store: StoreOption = _DEFAULT_STORE) -> None:
    """Show a version's fallback, its prompt included."""
    registry, named = Registry(store), parse_reference(reference)
    with looked_up(registry, named):
        manifest = registry.manifest(named)
    console = Console()
    if manifest.fallback is None:
        console.print(f"{manifest.model}@{manifest.version} has no fallback", highlight=False)
        return
    table = Table(show_header=False, box=None)
    arm = manifest.fallback.arm
    prompt = [("system", arm.system), ("user", arm.user)]
    for name, value in [*describe_fallback(manifest.fallback), *prompt]:
        lines = (plain(line) for line in value.split("\n"))
        table.add_row(plain(name), "\n".join(lines))
    console.print(table)


@app.command("clear")
def clear_fallback(
    reference: ReferenceArgument,
    store: StoreOption = _DEFAULT_STORE,
    promote: PromoteOption = False,
) -> None:
    """Publish a version once more, without its fallback."""
    registry, named = Registry(store), parse_reference(reference)
    with looked_up(registry, named):
        bundle = registry.open(named)
    if bundle.manifest.fallback is None:
        raise InvalidInput(f"{bundle.manifest.model}@{bundle.manifest.version} has no fallback")
    _tell(registry, publish_with_fallback(registry, bundle, None), promote=promote)


def _tell(registry: Registry, manifest: Manifest, *, promote: bool) -> None:
    """Say what was published, and whether it is what a bare name means now."""
    new = ModelReference(manifest.model, version=manifest.version)
    console = Console()
    record = manifest.fallback
    below = "no fallback" if record is None else f"a fallback below {record.threshold:.4g}"
    console.print(f"published {new} with {below}", highlight=False)
    if promote:
        registry.promote(new)
    if registry.resolve(ModelReference(manifest.model)) != manifest.version:
        console.print(f"to serve it: hone models promote {new}", highlight=False)
