"""The history of the tables, run at start by `hone.service.jobs.database`.

A new revision is a module in `versions` whose `down_revision` is the newest one there; a test
compares what the revisions make with `tables.py`.
"""
