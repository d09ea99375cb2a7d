-- The ledger, version 2. Moments are seconds since 1970 (UTC); durations of attempts are milliseconds, memory is KiB.
-- States are the numbers of icp.states. `live` is a literal column because partial indexes are chosen only on literals.

CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;

CREATE TABLE name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);

CREATE TABLE site (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  zone INTEGER NOT NULL,                     -- name.id
  epoch INTEGER NOT NULL DEFAULT 1,          -- the spool's
  serial INTEGER NOT NULL DEFAULT 0,         -- last one answered
  host TEXT, boot TEXT, remote REAL,         -- from the last answer: login node and its clock
  observed REAL NOT NULL DEFAULT 0,          -- seconds between successful exchanges, summed: what timeouts are measured in
  tried REAL, answered REAL, unreachable REAL, failures INTEGER NOT NULL DEFAULT 0, reason TEXT,
  young INTEGER NOT NULL DEFAULT 0,          -- pilots in a row that ended without an agent
  hold REAL NOT NULL DEFAULT 0,              -- no pilot before this moment
  strange INTEGER NOT NULL DEFAULT 0,        -- facts that named no attempt of ours, or that no table knows
  health TEXT,
  paused TEXT,                               -- why no cards and no pilots go there
  draining INTEGER NOT NULL DEFAULT 0,       -- its pilots were told to end
  logs INTEGER NOT NULL DEFAULT 0,           -- logs of cards up to this one were removed there
  gone REAL,                                  -- since when it is no site any more: the row stays for what was done there
  vain INTEGER NOT NULL DEFAULT 0,           -- agents in a row that left without having found a card, though some wait there
  login REAL                                 -- since when it lets only a person in (`icp login`)
);

CREATE TABLE dataset (
  id INTEGER PRIMARY KEY AUTOINCREMENT,      -- the number that people use: never given twice
  uuid TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  category TEXT NOT NULL DEFAULT '',
  state INTEGER NOT NULL DEFAULT 0,
  reason TEXT,
  priority INTEGER NOT NULL DEFAULT 0,
  seed INTEGER NOT NULL,
  jobs INTEGER NOT NULL,
  released INTEGER NOT NULL DEFAULT 0,       -- jobs below this mark are rows, or lie in a range that says why not
  grouped INTEGER NOT NULL DEFAULT 0,        -- jobs below this mark are counted in final_left
  stop_loss INTEGER NOT NULL DEFAULT 20,
  definition TEXT NOT NULL,                  -- JSON of the validated steering file
  steering TEXT NOT NULL,                    -- its text, as it was
  coming INTEGER NOT NULL DEFAULT 0,         -- kept files of accepted attempts that are not home yet
  directory TEXT NOT NULL,
  outputs TEXT NOT NULL,
  pack BLOB,                                 -- blob.sha256 of the shipped files
  submitted REAL NOT NULL,
  finished REAL,
  deleted REAL,
  max_running INTEGER,                       -- tasks at sites at once, at the most
  sites TEXT                                 -- JSON: names of the sites that it may use; NULL: all
);
CREATE UNIQUE INDEX dataset_name ON dataset (name) WHERE deleted IS NULL;
CREATE INDEX dataset_active ON dataset (state) WHERE deleted IS NULL AND state IN (0, 1);

-- How a dataset was described before what describes it now.
CREATE TABLE revision (
  dataset INTEGER NOT NULL, number INTEGER NOT NULL,
  until INTEGER NOT NULL,                    -- attempt.id: of attempts up to this one
  at REAL NOT NULL,                          -- when it was replaced
  jobs INTEGER NOT NULL, definition TEXT NOT NULL, steering TEXT NOT NULL, pack BLOB,
  PRIMARY KEY (dataset, number)
) WITHOUT ROWID;

CREATE TABLE task_def (
  id INTEGER PRIMARY KEY,
  dataset INTEGER NOT NULL,
  idx INTEGER NOT NULL,
  name TEXT NOT NULL,
  final INTEGER NOT NULL DEFAULT 0,          -- 1: all jobs are one group; 2: with group_by
  tries INTEGER NOT NULL DEFAULT 3,
  same_error BLOB, same_errors INTEGER NOT NULL DEFAULT 0,   -- stop-loss: the last errors' one fingerprint, and how many
  UNIQUE (dataset, idx)
);

-- child waits for parent; with `reads` it also reads the parent's output. A final child waits for all jobs of its group.
CREATE TABLE edge (parent INTEGER NOT NULL, child INTEGER NOT NULL, PRIMARY KEY (parent, child)) WITHOUT ROWID;
CREATE INDEX edge_child ON edge (child, parent);

CREATE TABLE output_def (
  task_def INTEGER NOT NULL, idx INTEGER NOT NULL, name TEXT NOT NULL,
  kept INTEGER NOT NULL, optional INTEGER NOT NULL, glob INTEGER NOT NULL,
  PRIMARY KEY (task_def, idx)
) WITHOUT ROWID;

-- Which output a child reads.
CREATE TABLE input_def (
  task_def INTEGER NOT NULL, idx INTEGER NOT NULL, parent INTEGER NOT NULL, output INTEGER NOT NULL,
  PRIMARY KEY (task_def, idx)
) WITHOUT ROWID;

CREATE TABLE job_list (dataset INTEGER NOT NULL, job INTEGER NOT NULL, row TEXT NOT NULL, PRIMARY KEY (dataset, job)) WITHOUT ROWID;

-- What a person said of jobs: cancel, suspend and release (next to be released): jobs in it have no rows; released: above the mark
-- and already rows; priority: of jobs that are not rows yet. All but priority are disjoint.
CREATE TABLE range (
  id INTEGER PRIMARY KEY, dataset INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
  action TEXT NOT NULL CHECK (action IN ('cancel', 'suspend', 'release', 'released', 'priority')), value INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX range_dataset ON range (dataset, action, first);

CREATE TABLE need (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, body TEXT NOT NULL);

CREATE TABLE task (
  id INTEGER PRIMARY KEY,
  dataset INTEGER NOT NULL,
  task_def INTEGER NOT NULL,
  job INTEGER NOT NULL,                      -- -1 - group for a final task
  state INTEGER NOT NULL,
  live INTEGER NOT NULL,                     -- state IN (idle, waiting, queued, processing)
  need INTEGER NOT NULL,
  tier INTEGER NOT NULL DEFAULT 0,
  zone INTEGER NOT NULL DEFAULT 0,           -- where its inputs are
  site INTEGER NOT NULL DEFAULT 0,           -- of its live or accepted attempt
  priority INTEGER NOT NULL DEFAULT 0,
  waiting_on INTEGER NOT NULL DEFAULT 0,     -- parents without an accepted attempt
  accepted INTEGER,                          -- attempt.id
  mark INTEGER NOT NULL DEFAULT 0,           -- attempts after this id count against the limits
  not_before REAL,                           -- back-off
  CHECK ((state = 4) = (accepted IS NOT NULL)),
  CHECK (live = (state <= 3)),
  CHECK (state <> 1 OR waiting_on = 0)
);
CREATE UNIQUE INDEX task_job ON task (dataset, job, task_def);
CREATE INDEX task_live ON task (dataset, task_def, need, state, zone, priority DESC, job) WHERE live = 1;
CREATE INDEX task_stuck ON task (dataset, state) WHERE live = 0 AND state IN (5, 6);

CREATE TABLE card (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,
  site INTEGER NOT NULL,
  need INTEGER NOT NULL,                     -- of the card: folded for its site, the join of a chain
  priority INTEGER NOT NULL,
  made REAL NOT NULL
);

CREATE TABLE attempt (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,
  passkey BLOB NOT NULL,
  task INTEGER NOT NULL,
  try INTEGER NOT NULL,
  site INTEGER NOT NULL,
  card INTEGER NOT NULL,
  agent INTEGER,
  state INTEGER NOT NULL DEFAULT 0,
  live INTEGER NOT NULL DEFAULT 1,           -- state <= copying_output
  void INTEGER NOT NULL DEFAULT 0,
  stop INTEGER NOT NULL DEFAULT 0,           -- 1 recall wanted, 2 recall and cancel wanted, 3 and 4 the same, sent
  since REAL,                                -- site.observed when it took its state; NULL when it ended
  begun REAL, staging INTEGER, running INTEGER, storing INTEGER,
  cpu INTEGER, rss INTEGER, exit INTEGER,
  log INTEGER, out INTEGER, err INTEGER,     -- in the card's pack: offset, bytes of stdout and of stderr
  error INTEGER,
  stats TEXT,
  sought INTEGER NOT NULL DEFAULT 0,         -- answers in a row in which its card, asked back, was nowhere
  had INTEGER,                               -- name.id: the software that it really had, as JSON by environment
  CHECK (live = (state <= 4))
);
CREATE INDEX attempt_task ON attempt (task);
CREATE INDEX attempt_live ON attempt (site, state) WHERE live = 1;
CREATE INDEX attempt_live_task ON attempt (task) WHERE live = 1;
CREATE INDEX attempt_live_card ON attempt (card) WHERE live = 1;
CREATE INDEX attempt_live_agent ON attempt (agent) WHERE live = 1;
CREATE INDEX attempt_stop ON attempt (site) WHERE live = 1 AND stop IN (1, 2);

CREATE TABLE error (
  id INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, task_def INTEGER NOT NULL, kind TEXT NOT NULL,
  fingerprint BLOB NOT NULL, text TEXT NOT NULL, at REAL NOT NULL
);
CREATE INDEX error_task_def ON error (task_def, id);

CREATE TABLE pilot (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,
  site INTEGER NOT NULL,
  state INTEGER NOT NULL DEFAULT 0,
  live INTEGER NOT NULL DEFAULT 1,
  batch TEXT,
  cpus INTEGER NOT NULL, memory INTEGER NOT NULL, gpus INTEGER NOT NULL DEFAULT 0, nodes INTEGER NOT NULL DEFAULT 1,
  walltime INTEGER,
  made REAL NOT NULL, started REAL, ended REAL,
  since REAL NOT NULL,                       -- site.observed when it took its state
  missing INTEGER NOT NULL DEFAULT 0,        -- ticks in a row in which the batch system did not know it
  stopping INTEGER NOT NULL DEFAULT 0,       -- its end: 1 wanted, 2 ordered
  reason TEXT,
  word TEXT, said TEXT,                      -- the batch system's last: pending, running, ended, unknown; and why, in its words
  never TEXT, never_since REAL,              -- it waits for what never comes: what mends it; site.observed
  others TEXT,                               -- ids of further jobs of this pilot, to be cancelled: JSON
  told REAL,                                 -- site.observed when its end was ordered
  card INTEGER,                              -- the one card that it is there for, at a site without pilots
  -- where workers share no file system: 1 its card travels with its job, 2 that is over: to be gathered, 3 ordered, 4 gathered, 5 and nobody took the card
  bag INTEGER NOT NULL DEFAULT 0,
  tells TEXT,                                -- what its running job says of the card that travels with it, for people (icp.pilot.live)
  dropped INTEGER NOT NULL DEFAULT 0,        -- its folder at the site was removed
  core_seconds REAL,                         -- what the batch system's accounting says it used
  asked INTEGER NOT NULL DEFAULT 0           -- times that accounting was asked for it after its end
);
CREATE INDEX pilot_over ON pilot (site, ended) WHERE live = 0 AND dropped = 0;
CREATE INDEX pilot_live ON pilot (site, state) WHERE live = 1;
CREATE INDEX pilot_made ON pilot (site, made);
CREATE INDEX pilot_others ON pilot (site) WHERE others IS NOT NULL;
CREATE INDEX pilot_card ON pilot (card) WHERE card IS NOT NULL;
CREATE INDEX pilot_bag ON pilot (site) WHERE bag IN (1, 2, 3);
CREATE INDEX pilot_unaccounted ON pilot (site) WHERE live = 0 AND core_seconds IS NULL AND asked < 5;

CREATE TABLE agent (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  pilot INTEGER NOT NULL,
  site INTEGER NOT NULL,
  state INTEGER NOT NULL DEFAULT 0,
  live INTEGER NOT NULL DEFAULT 1,           -- not ended
  host INTEGER,
  started REAL, seen REAL, until REAL,       -- `until`: when its walltime ends, by its own clock
  silent REAL NOT NULL DEFAULT 0,            -- observed seconds without a new fact
  cpus INTEGER NOT NULL DEFAULT 0, memory INTEGER NOT NULL DEFAULT 0, disk INTEGER NOT NULL DEFAULT 0, gpus INTEGER NOT NULL DEFAULT 0,
  attrs TEXT NOT NULL DEFAULT '{}',
  fence INTEGER NOT NULL DEFAULT 0,          -- 1 wanted, 2 sent
  claims INTEGER NOT NULL DEFAULT 0,         -- cards that it said it claimed
  software TEXT                              -- JSON: environment -> how its node comes by it, or why it cannot, and what was tried in vain
);
CREATE INDEX agent_live ON agent (site) WHERE live = 1;
CREATE INDEX agent_pilot ON agent (pilot);
CREATE INDEX agent_site ON agent (site);

CREATE TABLE stream (
  agent INTEGER NOT NULL, kind TEXT NOT NULL, segment INTEGER NOT NULL DEFAULT 0, offset INTEGER NOT NULL DEFAULT 0,
  seq INTEGER NOT NULL DEFAULT 0, acked INTEGER NOT NULL DEFAULT 0, read REAL,
  PRIMARY KEY (agent, kind)
) WITHOUT ROWID;

-- Orders, sent byte for byte until answered.
CREATE TABLE outbox (
  site INTEGER PRIMARY KEY, serial INTEGER NOT NULL, body BLOB NOT NULL, digest TEXT NOT NULL, made REAL NOT NULL, sent INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE file (
  id INTEGER PRIMARY KEY,
  attempt INTEGER NOT NULL,
  output INTEGER NOT NULL,                   -- output_def.idx
  name TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  sha256 BLOB NOT NULL,
  state INTEGER NOT NULL DEFAULT 0,
  live INTEGER NOT NULL DEFAULT 1,           -- a site holds it, or it is on its way
  kept INTEGER NOT NULL,
  misses INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX file_attempt ON file (attempt);
CREATE INDEX file_wanted ON file (state, id) WHERE live = 1 AND kept = 1 AND state IN (0, 1, 2);

-- Outputs that a task at another site reads come home too, into the engine's relay cache; what it need not keep any more is unlinked
-- once the change is committed.
CREATE INDEX file_relaying ON file (id) WHERE live = 1 AND kept = 0 AND state = 1;
CREATE TABLE unlinking (file INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, sha256 BLOB NOT NULL);
CREATE TRIGGER file_unlinking AFTER UPDATE OF state ON file
WHEN NEW.state IN (4, 5) AND (OLD.state IN (1, 2) OR (OLD.state = 3 AND OLD.kept = 0)) BEGIN
  INSERT OR IGNORE INTO unlinking VALUES (OLD.id, OLD.attempt, OLD.sha256);
END;

CREATE TABLE replica (attempt INTEGER NOT NULL, site INTEGER NOT NULL, dropping INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (attempt, site)) WITHOUT ROWID;
CREATE INDEX replica_dropping ON replica (site) WHERE dropping = 1;

CREATE TABLE blob (sha256 BLOB PRIMARY KEY, bytes INTEGER NOT NULL, data BLOB);
CREATE TABLE cached (site INTEGER NOT NULL, sha256 BLOB NOT NULL, dropping INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (site, sha256)) WITHOUT ROWID;

-- Who reads what lies in a site's cache: task.id, or -dataset.id for its pack. When nobody does any more, it is dropped there.
CREATE TABLE cached_for (task INTEGER NOT NULL, site INTEGER NOT NULL, sha256 BLOB NOT NULL, PRIMARY KEY (task, site, sha256)) WITHOUT ROWID;
CREATE INDEX cached_for_blob ON cached_for (site, sha256);
CREATE INDEX cached_dropping ON cached (site) WHERE dropping = 1;

-- Large bytes on their way into a site's cache, in sessions of their own; path NULL: a pack, from `blob`.
CREATE TABLE sending (site INTEGER NOT NULL, sha256 BLOB NOT NULL, bytes INTEGER NOT NULL, path TEXT, PRIMARY KEY (site, sha256)) WITHOUT ROWID;

CREATE TABLE command (id INTEGER PRIMARY KEY, at REAL NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, dataset INTEGER, detail TEXT);

-- Counts that are kept: what `status` and the planner read.
CREATE TABLE dataset_tally (dataset INTEGER NOT NULL, state INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (dataset, state)) WITHOUT ROWID;
CREATE TABLE live_class (
  dataset INTEGER NOT NULL, task_def INTEGER NOT NULL, need INTEGER NOT NULL, zone INTEGER NOT NULL, site INTEGER NOT NULL, state INTEGER NOT NULL,
  n INTEGER NOT NULL, PRIMARY KEY (dataset, task_def, need, zone, site, state)
) WITHOUT ROWID;
CREATE TABLE tally (
  dataset INTEGER NOT NULL, task_def INTEGER NOT NULL, site INTEGER NOT NULL, state INTEGER NOT NULL, n INTEGER NOT NULL,
  PRIMARY KEY (dataset, task_def, site, state)
) WITHOUT ROWID;

CREATE TABLE final_left (
  dataset INTEGER NOT NULL, task_def INTEGER NOT NULL, grp INTEGER NOT NULL, key TEXT NOT NULL,
  members INTEGER NOT NULL DEFAULT 0,        -- jobs
  left INTEGER NOT NULL DEFAULT 0,           -- (job, parent) that are neither ok nor cancelled
  oks INTEGER NOT NULL DEFAULT 0,            -- (job, parent) that are ok
  made INTEGER NOT NULL DEFAULT 0,           -- 1: the final task is a row; 2: it ended, its inputs can go; 3: they went
  swept INTEGER NOT NULL DEFAULT 0,          -- inputs of jobs below this mark went
  PRIMARY KEY (dataset, task_def, grp)
) WITHOUT ROWID;
CREATE UNIQUE INDEX final_left_key ON final_left (dataset, task_def, key);
CREATE INDEX final_ready ON final_left (dataset, task_def) WHERE left = 0 AND made = 0;
CREATE INDEX final_sweep ON final_left (dataset, task_def) WHERE made = 2;

-- Which group of a final task with `group_by` a job belongs to; without one all are in group 0 and have no row.
CREATE TABLE job_group (
  task_def INTEGER NOT NULL, job INTEGER NOT NULL, grp INTEGER NOT NULL, PRIMARY KEY (task_def, job)
) WITHOUT ROWID;
CREATE INDEX job_group_members ON job_group (task_def, grp, job);

CREATE TABLE summary (
  dataset INTEGER NOT NULL, task_def INTEGER NOT NULL, stat INTEGER NOT NULL,
  n INTEGER NOT NULL, sum REAL NOT NULL, squares REAL NOT NULL, min REAL NOT NULL, max REAL NOT NULL, stale INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (dataset, task_def, stat)
) WITHOUT ROWID;

CREATE TABLE runtime (
  task_def INTEGER PRIMARY KEY, n INTEGER NOT NULL, recent TEXT NOT NULL, longest INTEGER NOT NULL, rss INTEGER NOT NULL
);

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

-- What attempts fetched and stored by URL: how is 0 fetched, 1 from the site's cache, 2 stored.
CREATE TABLE transferred (
  attempt INTEGER NOT NULL, idx INTEGER NOT NULL, how INTEGER NOT NULL, name TEXT NOT NULL, url TEXT NOT NULL,
  bytes INTEGER NOT NULL, ms INTEGER NOT NULL, sha256 BLOB NOT NULL,
  PRIMARY KEY (attempt, idx)
) WITHOUT ROWID;
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

-- What a person wants to be told (docs/unattended.md).
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
