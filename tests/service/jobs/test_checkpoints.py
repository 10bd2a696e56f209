"""Which checkpoints an owner may ask for, by their names."""

from hone.models.names import checkpoints_of
from hone.service.jobs.checkpoints import Checkpoints, NewCheckpoint
from hone.service.jobs.claims import Claim, Claims, Progress
from hone.service.jobs.database import Database
from hone.service.jobs.fine_tuned import FineTunedModels
from hone.service.jobs.naming import checkpoint_name, holds_checkpoints, is_job_name, job_of
from hone.service.jobs.records import Failure, Records
from tests.service.jobs.jobs import claim_only, model_for, new_job


def begun(database: Database) -> tuple[Claim, str]:
    """Return a claimed job with one checkpoint, and that one's name."""
    claim = claim_only(database, Records(database).create(new_job()))
    name = checkpoint_name(model_for(claim.job).id, 7)
    told = Progress(checkpoints=[NewCheckpoint(7, name, {"valid_loss": 1.0})])
    Claims(database, "worker").heartbeat(claim, told)
    return claim, name


def test_a_checkpoint_is_its_owners_while_the_job_runs(database: Database) -> None:
    claim, name = begun(database)
    found = Checkpoints(database).find("acme", name)
    assert found is not None
    assert (found.store_model, found.store_version) == (checkpoints_of(claim.job.id), 7)
    assert (found.base, found.job_id, found.id) == ("ada", claim.job.id, name)
    assert Checkpoints(database).find("stranger", name) is None
    assert Checkpoints(database).find("acme", f"{name}0") is None


def test_it_stays_with_the_model_and_goes_with_it(database: Database) -> None:
    claim, name = begun(database)
    model = model_for(claim.job)
    Claims(database, "worker").succeed(claim, model)
    assert Checkpoints(database).find("acme", name) is not None
    FineTunedModels(database).delete("acme", model.id)
    assert Checkpoints(database).find("acme", name) is None


def test_a_job_without_a_model_has_none(database: Database) -> None:
    claim, name = begun(database)
    Claims(database, "worker").fail(claim, Failure("broken", "it broke"))
    assert Checkpoints(database).find("acme", name) is None
    claim, name = begun(database)
    Records(database).cancel("acme", claim.job.id)
    Claims(database, "worker").put_back(claim)
    assert Checkpoints(database).find("acme", name) is None


def test_only_steps_that_are_named_are_listed(database: Database) -> None:
    claim, _ = begun(database)
    more = [NewCheckpoint(step, f"m:ckpt-step-{step}", {}) for step in (14, 21)]
    Claims(database, "worker").heartbeat(claim, Progress(checkpoints=more))
    listed = Checkpoints(database).list("acme", claim.job.id, steps=[7, 21, 99]).items
    assert [one.step for one in listed] == [21, 7]
    assert Checkpoints(database).list("acme", claim.job.id, steps=[]).items == ()
    assert len(Checkpoints(database).list("acme", claim.job.id).items) == 3


def test_names_in_the_store_are_told_apart() -> None:
    job = "ftjob-" + "a1" * 12
    assert is_job_name(job)
    assert is_job_name(f"{checkpoints_of(job)}@7")
    assert holds_checkpoints(checkpoints_of(job))
    assert not holds_checkpoints(job)
    assert not holds_checkpoints("answers-ckpt")
    assert job_of(checkpoints_of(job)) == job_of(job) == job
    assert job_of("answers") == "answers"
