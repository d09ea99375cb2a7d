-- Sites over ssh with batch systems: why a site takes nothing now, and what batch systems say of pilots.
ALTER TABLE site ADD COLUMN paused TEXT;
ALTER TABLE site ADD COLUMN draining INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pilot ADD COLUMN word TEXT;
ALTER TABLE pilot ADD COLUMN said TEXT;
ALTER TABLE pilot ADD COLUMN never TEXT;
ALTER TABLE pilot ADD COLUMN never_since REAL;
ALTER TABLE pilot ADD COLUMN others TEXT;
ALTER TABLE pilot ADD COLUMN told REAL;
ALTER TABLE pilot ADD COLUMN card INTEGER;
ALTER TABLE pilot ADD COLUMN bag INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pilot ADD COLUMN tells TEXT;
ALTER TABLE pilot ADD COLUMN core_seconds REAL;
ALTER TABLE pilot ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
CREATE INDEX pilot_made ON pilot (site, made);
CREATE INDEX pilot_others ON pilot (site) WHERE others IS NOT NULL;
CREATE INDEX pilot_card ON pilot (card) WHERE card IS NOT NULL;
CREATE INDEX pilot_bag ON pilot (site) WHERE bag IN (1, 2, 3);
CREATE INDEX pilot_unaccounted ON pilot (site) WHERE live = 0 AND core_seconds IS NULL AND asked < 5;

-- Outputs that a task at another site reads come home too, into the engine's relay cache; what it need not keep any more is unlinked
-- once the change is committed.
CREATE INDEX file_relaying ON file (id) WHERE live = 1 AND kept = 0 AND state = 1;
CREATE TABLE unlinking (file INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, sha256 BLOB NOT NULL);
CREATE TRIGGER file_unlinking AFTER UPDATE OF state ON file
WHEN NEW.state IN (4, 5) AND (OLD.state IN (1, 2) OR (OLD.state = 3 AND OLD.kept = 0)) BEGIN
  INSERT OR IGNORE INTO unlinking VALUES (OLD.id, OLD.attempt, OLD.sha256);
END;

ALTER TABLE cached ADD COLUMN dropping INTEGER NOT NULL DEFAULT 0;
-- Who reads what lies in a site's cache: task.id, or -dataset.id for its pack. When nobody does any more, it is dropped there.
CREATE TABLE cached_for (task INTEGER NOT NULL, site INTEGER NOT NULL, sha256 BLOB NOT NULL, PRIMARY KEY (task, site, sha256)) WITHOUT ROWID;
CREATE INDEX cached_for_blob ON cached_for (site, sha256);
CREATE INDEX cached_dropping ON cached (site) WHERE dropping = 1;

-- Large bytes on their way into a site's cache, in sessions of their own; path NULL: a pack, from `blob`.
CREATE TABLE sending (site INTEGER NOT NULL, sha256 BLOB NOT NULL, bytes INTEGER NOT NULL, path TEXT, PRIMARY KEY (site, sha256)) WITHOUT ROWID;
INSERT INTO cached_for SELECT -d.id, c.site, c.sha256 FROM dataset d JOIN cached c ON c.sha256 = d.pack;

-- What a site keeps no longer than the retention.
ALTER TABLE pilot ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE site ADD COLUMN logs INTEGER NOT NULL DEFAULT 0;
ALTER TABLE site ADD COLUMN gone REAL;
CREATE INDEX pilot_over ON pilot (site, ended) WHERE live = 0 AND dropped = 0;

-- Jobs of an HTCondor pool that are taken over. State: wanted, held, here, delivered, releasing; removed, released and gone are ends.
CREATE TABLE overflow (
  id INTEGER PRIMARY KEY,
  pool TEXT NOT NULL, cluster INTEGER NOT NULL, proc INTEGER NOT NULL,
  queued INTEGER NOT NULL,                   -- its QDate: numbers of clusters may come round again
  state TEXT NOT NULL,
  live INTEGER NOT NULL DEFAULT 1,           -- no end yet
  dataset INTEGER, job INTEGER,
  ad TEXT NOT NULL,                          -- JSON, as it was when it was wanted
  why TEXT,
  since REAL NOT NULL,
  UNIQUE (pool, cluster, proc, queued)
);
CREATE INDEX overflow_live ON overflow (pool) WHERE live = 1;

-- Cards that are in no place: agents that came and found nothing, and how often a card was sought in vain.
ALTER TABLE site ADD COLUMN vain INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agent ADD COLUMN claims INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN sought INTEGER NOT NULL DEFAULT 0;

-- What attempts fetched and stored by URL: how is 0 fetched, 1 from the site's cache, 2 stored.
CREATE TABLE transferred (
  attempt INTEGER NOT NULL, idx INTEGER NOT NULL, how INTEGER NOT NULL, name TEXT NOT NULL, url TEXT NOT NULL,
  bytes INTEGER NOT NULL, ms INTEGER NOT NULL, sha256 BLOB NOT NULL,
  PRIMARY KEY (attempt, idx)
) WITHOUT ROWID;

-- What a person changed of a dataset after it was submitted: its limits, and how it was described before.
ALTER TABLE dataset ADD COLUMN max_running INTEGER;
ALTER TABLE dataset ADD COLUMN sites TEXT;
CREATE TABLE revision (
  dataset INTEGER NOT NULL, number INTEGER NOT NULL,
  until INTEGER NOT NULL,                    -- attempt.id: of attempts up to this one
  at REAL NOT NULL,                          -- when it was replaced
  jobs INTEGER NOT NULL, definition TEXT NOT NULL, steering TEXT NOT NULL, pack BLOB,
  PRIMARY KEY (dataset, number)
) WITHOUT ROWID;
-- Software: what an attempt really had, and what agents found on their nodes.
ALTER TABLE attempt ADD COLUMN had INTEGER;
ALTER TABLE agent ADD COLUMN software TEXT;
CREATE INDEX agent_site ON agent (site);
-- What a person wants to be told (docs/unattended.md), and sites that only let a person in.
ALTER TABLE site ADD COLUMN login REAL;
CREATE TABLE notice (
  id INTEGER PRIMARY KEY,
  event TEXT NOT NULL,                       -- one of icp.config.keys.EVENTS
  dataset INTEGER, site INTEGER,
  at REAL NOT NULL,                          -- the tick in which it happened
  text TEXT NOT NULL,                        -- one sentence
  state TEXT NOT NULL DEFAULT 'new',         -- new, begun (handed to the command; nobody knows how that ended), told, failed, unasked
  told REAL, said TEXT
);
CREATE INDEX notice_new ON notice (id) WHERE state = 'new';

-- Files of other datasets from which the jobs of a dataset are made. That each is given once is the unique index.
CREATE TABLE source (
  id INTEGER PRIMARY KEY,                    -- in the order in which they came
  dataset INTEGER NOT NULL,                  -- whose job it is
  job INTEGER,                               -- NULL: it waits until its group is full
  file INTEGER NOT NULL,
  task INTEGER NOT NULL, part INTEGER NOT NULL,   -- what made it, and which of the files of its output it is
  key TEXT                                   -- what group_by gave, '' without one; NULL: a job has one file
);
CREATE UNIQUE INDEX source_once ON source (dataset, task, part);
CREATE INDEX source_job ON source (dataset, job);
CREATE INDEX source_waiting ON source (dataset, key, id) WHERE job IS NULL;
CREATE INDEX source_task ON source (task);

-- Datasets whose jobs are added as outputs of another one come home, and outputs that came and were not looked at yet.
CREATE TABLE follow (
  dataset INTEGER PRIMARY KEY,
  source INTEGER NOT NULL, task_def INTEGER NOT NULL, output INTEGER NOT NULL,
  grouped INTEGER NOT NULL,                  -- a job has a list of files
  open INTEGER NOT NULL DEFAULT 1            -- more may come: the other dataset has not ended, or not all that came was looked at
);
CREATE INDEX follow_source ON follow (source, task_def, output);
CREATE INDEX follow_open ON follow (dataset) WHERE open = 1;
CREATE TABLE arrival (id INTEGER PRIMARY KEY, dataset INTEGER NOT NULL, file INTEGER NOT NULL);
CREATE INDEX arrival_dataset ON arrival (dataset, id);
CREATE INDEX arrival_file ON arrival (file);
CREATE TRIGGER file_arrived AFTER UPDATE OF state ON file
WHEN NEW.state = 3 AND OLD.state <> 3 AND NEW.kept = 1 AND EXISTS (SELECT 1 FROM follow) BEGIN
  INSERT INTO arrival (dataset, file) SELECT w.dataset, NEW.id FROM attempt a JOIN task t ON t.id = a.task
    JOIN follow w ON w.source = t.dataset AND w.task_def = t.task_def AND w.output = NEW.output WHERE a.id = NEW.attempt;
  UPDATE follow SET open = 1 WHERE open = 0 AND dataset IN (SELECT dataset FROM arrival WHERE file = NEW.id);
END;
-- What attempts cost and made, kept by task definition and site: cpus held (ms) by accepted attempts and by all others, and of the accepted
-- ones cpu time (ms) and bytes of outputs; and by minute what became ok, and how many cpus were held (`edge`: ms in the minutes in which
-- attempts began and ended; `whole`: in the minutes after this one, added up).
CREATE TABLE work (
  dataset INTEGER NOT NULL, task_def INTEGER NOT NULL, site INTEGER NOT NULL,
  ok INTEGER NOT NULL, others INTEGER NOT NULL, good INTEGER NOT NULL, wasted INTEGER NOT NULL, cpu INTEGER NOT NULL, bytes INTEGER NOT NULL,
  PRIMARY KEY (dataset, task_def, site)
) WITHOUT ROWID;
CREATE TABLE minute (
  dataset INTEGER NOT NULL, minute INTEGER NOT NULL, site INTEGER NOT NULL,
  ok INTEGER NOT NULL, edge INTEGER NOT NULL, whole INTEGER NOT NULL,
  PRIMARY KEY (dataset, minute, site)
) WITHOUT ROWID;
CREATE INDEX minute_site ON minute (site, minute);
INSERT INTO work
  SELECT t.dataset, t.task_def, a.site, count(*) FILTER (WHERE t.accepted = a.id), count(*) FILTER (WHERE t.accepted IS NOT a.id),
    coalesce(sum(a.staging + a.running + a.storing) FILTER (WHERE t.accepted = a.id), 0),
    coalesce(sum(a.staging + a.running + a.storing) FILTER (WHERE t.accepted IS NOT a.id), 0),
    coalesce(sum(a.cpu) FILTER (WHERE t.accepted = a.id), 0),
    coalesce(sum((SELECT sum(f.bytes) FROM file f WHERE f.attempt = a.id)) FILTER (WHERE t.accepted = a.id), 0)
  FROM attempt a JOIN task t ON t.id = a.task WHERE a.live = 0 AND (a.begun IS NOT NULL OR t.accepted = a.id) GROUP BY 1, 2, 3;
