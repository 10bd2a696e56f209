"""The store: what is published stays as it is, what moves moves at once, nothing escapes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hone.models import durable
from hone.models.errors import BundleCorrupt, Conflict, InvalidName, NotFound
from hone.models.manifest import MANIFEST_FILE
from hone.models.names import ModelReference, parse_reference
from hone.models.registry import Registry
from tests.models.bodies import MODEL_FILE, ROOT, fill, make_body, publish


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "store")


def resolve(registry: Registry, reference: str) -> int:
    return registry.resolve(parse_reference(reference))


def files_under(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.name not in {".lock", ".staging", ".trash"}}


def test_an_empty_or_absent_store_has_no_models(registry: Registry) -> None:
    assert registry.models() == []
    with pytest.raises(NotFound):
        registry.listing("support")
    assert not registry.store.exists()


def test_versions_count_up_from_one(registry: Registry) -> None:
    assert [publish(registry).version for _ in range(3)] == [1, 2, 3]
    assert publish(registry, "other").version == 1
    assert registry.models() == ["other", "support"]
    assert registry.listing("support").versions == [1, 2, 3]


def test_what_was_published_is_what_opens(registry: Registry) -> None:
    published = publish(registry)
    opened = registry.open(ModelReference("support"))
    assert opened.manifest == published == registry.manifest(ModelReference("support"))
    assert {path.name for path in opened.folder.iterdir()} == {MODEL_FILE, "card.md", MANIFEST_FILE}
    assert not list((registry.store / ".staging").glob("[!.]*"))


def test_a_version_may_be_read_by_whom_the_umask_lets(registry: Registry) -> None:
    """A private folder would shut out a service that runs as another user than the trainer."""
    old = os.umask(0o022)
    try:
        publish(registry)
    finally:
        os.umask(old)
    assert registry.folder("support", 1).stat().st_mode & 0o777 == 0o755


def test_later_work_leaves_a_version_as_it_is(registry: Registry) -> None:
    publish(registry)
    folder = registry.folder("support", 1)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    publish(registry, size=4096)
    registry.promote(ModelReference("support", version=2))
    registry.promote(ModelReference("support", version=1), "canary")
    assert before == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}


def test_a_bare_name_means_production_or_else_latest(registry: Registry) -> None:
    publish(registry)
    publish(registry)
    assert resolve(registry, "support") == 2
    registry.promote(ModelReference("support", version=1))
    assert resolve(registry, "support") == resolve(registry, "support@production") == 1
    assert resolve(registry, "support@latest") == 2
    publish(registry)
    assert resolve(registry, "support") == 1
    assert resolve(registry, "support@latest") == 3


def test_promotion_moves_an_alias_from_any_reference(registry: Registry) -> None:
    publish(registry)
    publish(registry)
    assert registry.promote(parse_reference("support@latest"), "canary") == 2
    assert registry.promote(parse_reference("support@canary")) == 2
    assert registry.listing("support").aliases == {"canary": 2, "production": 2, "latest": 2}


@pytest.mark.parametrize("alias", ["latest", "", "3", "Up", "a b", "../x", "a" * 33, "a\n"])
def test_an_alias_that_is_not_allowed_cannot_be_set(registry: Registry, alias: str) -> None:
    publish(registry)
    with pytest.raises(InvalidName):
        registry.promote(ModelReference("support"), alias)


def test_a_damaged_version_is_not_promoted(registry: Registry) -> None:
    publish(registry)
    publish(registry)
    registry.promote(ModelReference("support", version=1))
    path = registry.folder("support", 2) / MODEL_FILE
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(BundleCorrupt):
        registry.promote(ModelReference("support", version=2))
    assert resolve(registry, "support") == 1


@pytest.mark.parametrize("text", ["support@7", "support@canary", "other", "other@latest"])
def test_what_is_not_there_is_not_found_and_leaves_no_trace(registry: Registry, text: str) -> None:
    publish(registry)
    before = files_under(registry.store)
    reference = parse_reference(text)
    for attempt in (registry.resolve, registry.manifest, registry.open, registry.promote):
        with pytest.raises(NotFound):
            attempt(reference)
    with pytest.raises(NotFound):
        registry.remove(reference.model, 7)
    assert files_under(registry.store) == before


@pytest.mark.parametrize("removed", [1, 2, 3])
def test_the_number_of_a_removed_version_is_never_given_again(
    registry: Registry, removed: int
) -> None:
    for _ in range(3):
        publish(registry)
    registry.remove("support", removed)
    assert registry.listing("support").versions == sorted({1, 2, 3} - {removed})
    assert publish(registry).version == 4


def test_numbers_go_on_when_every_version_was_removed(registry: Registry) -> None:
    publish(registry)
    publish(registry)
    registry.remove("support", 2)
    registry.remove("support", 1)
    assert registry.models() == []
    with pytest.raises(NotFound):
        resolve(registry, "support")
    assert publish(registry).version == 3


def test_a_number_may_be_chosen_if_none_was_higher(registry: Registry) -> None:
    def choose(version: int) -> int:
        with registry.staging() as staged:
            fill(staged)
            return registry.publish("support", staged, make_body(), version=version).version

    assert registry.highest("support") == 0
    assert [choose(7), choose(20)] == [7, 20]
    registry.remove("support", 20)
    for taken in (7, 12, 20):
        with pytest.raises(Conflict):
            choose(taken)
    assert registry.highest("support") == 20
    assert publish(registry).version == 21
    assert registry.listing("support").versions == [7, 21]


def test_latest_falls_back_when_the_highest_version_is_removed(registry: Registry) -> None:
    publish(registry)
    publish(registry)
    registry.remove("support", 2)
    assert resolve(registry, "support@latest") == 1


def test_a_version_that_an_alias_points_at_cannot_be_removed(registry: Registry) -> None:
    publish(registry)
    publish(registry)
    registry.promote(ModelReference("support", version=1))
    with pytest.raises(Conflict):
        registry.remove("support", 1)
    registry.promote(ModelReference("support", version=2))
    registry.remove("support", 1)
    assert registry.listing("support").versions == [2]


def test_a_bundle_copied_under_another_name_or_number_is_refused(registry: Registry) -> None:
    publish(registry)
    store = registry.store
    shutil.copytree(store / "support" / "1", store / "support" / "2")
    shutil.copytree(store / "support" / "1", store / "other" / "1")
    for reference in ("support@2", "other@1"):
        with pytest.raises(BundleCorrupt):
            registry.open(parse_reference(reference))
        with pytest.raises(BundleCorrupt):
            registry.manifest(parse_reference(reference))


def test_strange_folders_in_the_store_are_passed_over(registry: Registry) -> None:
    publish(registry)
    for name in ("Upper/1", "a..b/1", "-dash/1", "support/01", "support/x", "support/0", ".x/1"):
        (registry.store / name).mkdir(parents=True)
    (registry.store / "file").write_bytes(b"")
    (registry.store / "support" / "9").write_bytes(b"")
    assert registry.models() == ["support"]
    assert [registry.listing(model).versions for model in registry.models()] == [[1]]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"aliases": {"production": "x"}}', b"\0"])
def test_a_damaged_state_file_is_an_error_of_our_own(registry: Registry, content: bytes) -> None:
    publish(registry)
    (registry.store / "support" / "state.json").write_bytes(content)
    with pytest.raises(BundleCorrupt):
        resolve(registry, "support")
    with pytest.raises(BundleCorrupt):
        publish(registry)


def test_a_failed_publication_leaves_the_store_as_it_was(registry: Registry) -> None:
    publish(registry)
    before = files_under(registry.store)
    with registry.staging() as staged:
        fill(staged)
        (staged / "run.py").write_bytes(b"")
        with pytest.raises(BundleCorrupt):
            registry.publish("support", staged, make_body())
    assert files_under(registry.store) == before


def test_a_body_whose_variant_was_not_staged_cannot_be_published(registry: Registry) -> None:
    with registry.staging() as staged:
        (staged / "card.md").write_bytes(b"x")
        with pytest.raises(BundleCorrupt):
            registry.publish("support", staged, make_body())
    assert registry.models() == []


HOSTILE_NAMES = [
    "", ".", "..", "../x", "/etc", "a/b", "a\\b", "a\0b", "a\n", "\na", ".hidden", ".staging",
    "-rf", "_x", "A", "ü", "a..b", "a" * 65, "a b", "a@1", "\ud800", "a\u202e", "١",
]  # fmt: skip


@given(name=st.sampled_from(HOSTILE_NAMES) | st.text() | st.text("ab.-_/@\\\0~", max_size=70))
@settings(max_examples=300)
def test_no_name_leads_out_of_the_store(name: str) -> None:
    registry = Registry(Path("/nowhere/store"))
    try:
        folder = registry.folder(name, 1)
    except InvalidName:
        return
    assert Path(os.path.normpath(folder)).parent.parent == registry.store
    assert not folder.parent.name.startswith(".")


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_is_refused_by_every_method(registry: Registry, name: str) -> None:
    publish(registry)
    before = files_under(registry.store.parent)
    attempts: list[Callable[[], object]] = [
        lambda: registry.listing(name),
        lambda: registry.folder(name, 1),
        lambda: registry.open(ModelReference(name)),
        lambda: registry.promote(ModelReference(name)),
        lambda: registry.remove(name, 1),
        lambda: publish(registry, name),
    ]
    for attempt in attempts:
        with pytest.raises(InvalidName):
            attempt()
    assert files_under(registry.store.parent) == before


class InterruptedRegistry(Registry):
    """Lets another act between the steps of a reader that holds no lock."""

    def __init__(self, store: Path, *acts: Callable[[], object]) -> None:
        super().__init__(store)
        self.acts = list(acts)

    def _versions(self, model: str) -> list[int]:
        found = super()._versions(model)
        if self.acts:
            self.acts.pop(0)()
        return found


def test_a_reader_never_sees_an_unpromoted_version_as_the_one_to_serve(registry: Registry) -> None:
    """Versions read before a publication and aliases after it must not be put together."""
    publish(registry)
    publish(registry)  # 2 is latest and was never promoted
    registry.promote(ModelReference("support", version=1))

    def publish_and_promote() -> None:
        number = publish(registry).version
        registry.promote(ModelReference("support", version=number))
        if number > 3:
            registry.remove("support", number - 1)

    reader = InterruptedRegistry(registry.store, publish_and_promote, publish_and_promote)
    assert reader.resolve(ModelReference("support")) == 4


def test_the_staging_of_another_writer_is_left_alone(registry: Registry) -> None:
    with registry.staging() as other:
        fill(other)
        publish(registry)
        assert (other / MODEL_FILE).exists()
        assert registry.publish("support", other, make_body()).version == 2


WRITER = """
import sys
from pathlib import Path
from hone.models.registry import Registry
with Registry(Path(sys.argv[1])).staging() as staged:
    (staged / "half.onnx").write_bytes(b"x")
    print(staged, flush=True)
    sys.stdin.read()
"""


def test_staging_is_swept_when_its_process_is_dead_and_not_before(registry: Registry) -> None:
    command = [sys.executable, "-c", WRITER, str(registry.store)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as writer:
        assert writer.stdout is not None
        staged = Path(writer.stdout.readline().strip())
        publish(registry)
        assert (staged / "half.onnx").exists()
        writer.kill()
    assert (staged / "half.onnx").exists()
    publish(registry)
    assert not staged.exists()


def test_a_sweep_in_the_middle_of_a_removal_does_no_harm(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(registry)
    publish(registry)
    rename = durable.rename

    def rename_after_a_sweep(source: Path, target: Path) -> None:
        monkeypatch.setattr(durable, "rename", rename)
        publish(registry, "other")
        rename(source, target)

    monkeypatch.setattr(durable, "rename", rename_after_a_sweep)
    registry.remove("support", 1)
    assert registry.listing("support").versions == [2]
    assert not list((registry.store / ".trash").iterdir())


def test_what_a_killed_removal_left_is_swept(registry: Registry) -> None:
    left = registry.store / ".trash" / "left"
    left.mkdir(parents=True)
    (left / MODEL_FILE).write_bytes(b"x")
    publish(registry)
    assert not left.exists()
