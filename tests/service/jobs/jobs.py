"""Jobs in any state, for tests."""

from typing import Any

from hone.service.jobs.claims import Claim, Claims, NewModel
from hone.service.jobs.database import Database
from hone.service.jobs.records import Failure, Job, NewJob, Records, Status


def new_job(owner: str = "acme", **values: Any) -> NewJob:
    return NewJob(
        **{"flavour": "modern", "model": "ada", "training_file": "file-x", "seed": 1, **values},
        owner=owner,
    )


def model_for(job: Job) -> NewModel:
    return NewModel(f"ft:ada:acme::{job.id}", base="ada", store_version=1)


def claim_only(database: Database, job: Job) -> Claim:
    """Claim a job when no other is queued."""
    claim = Claims(database, "worker").claim()
    assert claim is not None
    assert claim.job.id == job.id
    return claim


def put_into(database: Database, status: Status) -> Job:
    """Make a job of the owner `acme` in this state; no other job may be queued then."""
    records, claims = Records(database), Claims(database, "worker")
    if status in ("validating_files", "queued"):
        return records.create(new_job(status=status))
    queued = [j for j in records.list_all(statuses=["queued"]).items if j.owner == "acme"]
    for job in queued:
        records.pause("acme", job.id)
    job = records.create(new_job())
    if status in ("paused", "cancelled"):
        job = (records.pause if status == "paused" else records.cancel)("acme", job.id)
    else:
        claim = claim_only(database, job)
        job = claim.job
        if status == "succeeded":
            job = claims.succeed(claim, model_for(job))
        if status == "failed":
            job = claims.fail(claim, Failure("broken", "it broke"))
    for other in queued:
        records.resume("acme", other.id)
    return job
