"""Jobs that are made from outputs of other datasets: each output once, no job of nothing, none left out (hides the queries)."""

from __future__ import annotations

import sqlite3

from icp.ledger.check.chunks import limited
from icp.states import Dataset, File

__all__ = ["chains"]

_RULES: tuple[tuple[str, str], ...] = (
    (
        "dataset {0} was given file {1} as one of task {2}, which did not make it",
        "SELECT s.dataset, s.file, s.task FROM source s LEFT JOIN file f ON f.id = s.file LEFT JOIN attempt a ON a.id = f.attempt WHERE a.task IS NOT s.task",
    ),
    (
        "dataset {0} has {1} jobs; {2} of them are made from files, and {3} have arguments",
        "SELECT d.id, d.jobs, (SELECT count(DISTINCT job) FROM source s WHERE s.dataset = d.id) AS made, "
        "(SELECT count(*) FROM job_list l WHERE l.dataset = d.id) AS listed FROM dataset d "
        "WHERE d.id IN (SELECT dataset FROM source UNION SELECT dataset FROM follow) AND (made <> d.jobs OR listed <> d.jobs)",
    ),
    (
        "job {1} of dataset {0} is made from a file, and there are {2} jobs",
        "SELECT s.dataset, s.job, d.jobs FROM source s JOIN dataset d ON d.id = s.dataset WHERE s.job < 0 OR s.job >= d.jobs",
    ),
    (
        "job {1} of dataset {0} is made from {2} files of {3} groups, and may have {4} of one",
        "SELECT s.dataset, s.job, count(*) AS n, count(DISTINCT coalesce(s.key, '')), "
        "CASE WHEN max(s.key IS NULL) THEN 1 ELSE json_extract(d.definition, '$.jobs.group') END AS most "
        "FROM source s JOIN dataset d ON d.id = s.dataset WHERE s.job IS NOT NULL GROUP BY s.dataset, s.job "
        "HAVING n > coalesce(most, n) OR count(DISTINCT coalesce(s.key, '')) > 1",
    ),
    (
        "file {1} waits for a group of dataset {0}, which follows nothing",
        "SELECT s.dataset, s.file FROM source s WHERE s.job IS NULL AND NOT EXISTS (SELECT 1 FROM follow w WHERE w.dataset = s.dataset)",
    ),
    (
        "dataset {0} is complete, and {1} files wait for a group, or more outputs of dataset {2} may come",
        "SELECT w.dataset, (SELECT count(*) FROM source s WHERE s.dataset = w.dataset AND s.job IS NULL) AS held, w.source FROM follow w "
        f"JOIN dataset d ON d.id = w.dataset WHERE d.state = {int(Dataset.COMPLETE)} AND (held > 0 OR w.open = 1) "
        "AND NOT EXISTS (SELECT 1 FROM arrival a WHERE a.dataset = w.dataset)",
    ),
    (
        "dataset {0} follows dataset {1}, whose file {2} is home and was given to no job, nor waits to be",
        "SELECT w.dataset, w.source, f.id FROM follow w JOIN task t INDEXED BY task_job ON t.dataset = w.source AND t.task_def = w.task_def "
        f"JOIN file f ON f.attempt = t.accepted AND f.output = w.output AND f.state = {int(File.HOME)} "
        "WHERE NOT EXISTS (SELECT 1 FROM source s WHERE s.dataset = w.dataset AND s.task = t.id) "
        "AND NOT EXISTS (SELECT 1 FROM arrival a JOIN file g ON g.id = a.file WHERE a.dataset = w.dataset AND g.attempt = t.accepted) "
        f"AND NOT EXISTS (SELECT 1 FROM file g WHERE g.attempt = t.accepted AND g.output = w.output AND g.state <> {int(File.HOME)})",
    ),
)


def chains(db: sqlite3.Connection) -> list[str]:
    """What is wrong with chains of datasets."""
    found: list[str] = []
    for sentence, query in _RULES:
        found += limited(sentence.format(*row) for row in db.execute(query).fetchall())
    return found
