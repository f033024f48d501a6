-- The tables of sluice.db, one section per migration; PRAGMA user_version counts the sections that a file has.
-- Never edit the statements of a released section: write a later change as a new section at the end.

-- migration 1: accounts, and what was changed about models at run time

CREATE TABLE users (
    name TEXT NOT NULL PRIMARY KEY,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
) STRICT, WITHOUT ROWID;

-- A key is 16 random bytes in hex: too many values for anybody to find the key behind a plain SHA-256. The key itself is not stored.
CREATE TABLE keys (
    sha256 BLOB NOT NULL PRIMARY KEY CHECK (length(sha256) = 32),
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('full', 'read_only')),
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
    UNIQUE (user, kind)
) STRICT, WITHOUT ROWID;

-- Overrides: where a value is NULL, the model's folder decides (its highest version, its config.json).
CREATE TABLE models (
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    active_version INTEGER CHECK (active_version >= 1),
    shared INTEGER CHECK (shared IN (0, 1)),
    PRIMARY KEY (owner, name)
) STRICT, WITHOUT ROWID;

-- migration 2: publishing

-- The highest number that a version ever had. A number is never used twice, so the row stays when the model is gone.
ALTER TABLE models ADD COLUMN highest_version INTEGER NOT NULL DEFAULT 0 CHECK (highest_version >= 0);

-- migration 3: datasets

-- The catalogue: one row for each dataset. Its versions are files (engine/datasets/), and where a row and the files differ at a start,
-- the files are right. Visibility and description stand here only.
CREATE TABLE datasets (
    org TEXT NOT NULL,
    name TEXT NOT NULL,
    visibility TEXT NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'public')),
    description TEXT NOT NULL DEFAULT '',
    version INTEGER NOT NULL CHECK (version >= 1),
    num_rows INTEGER NOT NULL CHECK (num_rows >= 0),
    num_bytes INTEGER NOT NULL CHECK (num_bytes >= 0),
    updated_at TEXT NOT NULL,
    PRIMARY KEY (org, name)
) STRICT, WITHOUT ROWID;

-- migration 4: jobs

-- Durable work. The key says what is worked on: of one key at most one job waits, and at most one is started. An id is never used
-- again, because files are named by it. Times are UTC with six digits after the second and no zone; they sort as text.
CREATE TABLE job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    party TEXT NOT NULL,
    dataset TEXT,
    config TEXT,
    split TEXT,
    status TEXT NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'started', 'success', 'error', 'cancelled')),
    priority INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    generation INTEGER,
    worker TEXT,
    not_before TEXT NOT NULL DEFAULT '',
    created_at TEXT NOT NULL,
    started_at TEXT,
    heartbeat_at TEXT,
    finished_at TEXT,
    error TEXT
) STRICT;
CREATE UNIQUE INDEX job_waiting ON job (key) WHERE status = 'waiting';
CREATE UNIQUE INDEX job_started ON job (key) WHERE status = 'started';
CREATE INDEX job_status ON job (status, kind, finished_at);

-- When a job of each party was last taken, so that the party that has waited longest comes first.
CREATE TABLE turn (
    party TEXT NOT NULL PRIMARY KEY,
    taken_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- migration 5: preview

-- The last generation that was given to a dataset. Work that was asked for in an earlier generation changes nothing.
CREATE TABLE preview_generation (number INTEGER NOT NULL) STRICT;
INSERT INTO preview_generation (number) VALUES (0);

-- What preview knows of a dataset. Ids grow in the order in which datasets were first cached. A dataset that was removed keeps its
-- row, with nothing in it, so that neither a request nor a new revision brings it back.
CREATE TABLE preview_dataset (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL CHECK (status IN ('empty', 'error', 'stalled', 'valid')),
    generation INTEGER NOT NULL,
    is_removed INTEGER NOT NULL DEFAULT 0 CHECK (is_removed IN (0, 1)),
    is_private INTEGER NOT NULL DEFAULT 0 CHECK (is_private IN (0, 1)),
    is_listed INTEGER NOT NULL DEFAULT 0 CHECK (is_listed IN (0, 1)),
    root TEXT NOT NULL DEFAULT '',
    revision TEXT NOT NULL DEFAULT '',
    error TEXT
) STRICT;

-- One split, or a config that could not be listed, whose split is empty then. Numbers and what `prepare` made are JSON.
CREATE TABLE preview_split (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    dataset TEXT NOT NULL REFERENCES preview_dataset (name) ON DELETE CASCADE,
    config TEXT NOT NULL,
    split TEXT NOT NULL,
    place INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('empty', 'error', 'stalled', 'valid')),
    num_bytes INTEGER,
    num_examples INTEGER,
    revision TEXT NOT NULL DEFAULT '',
    run TEXT NOT NULL DEFAULT '',
    about TEXT,
    error TEXT,
    prepare TEXT NOT NULL DEFAULT 'none' CHECK (prepare IN ('none', 'waiting', 'ok', 'failed')),
    prepared TEXT,
    prepare_error TEXT,
    statistics TEXT NOT NULL DEFAULT 'none' CHECK (statistics IN ('none', 'waiting', 'ok', 'failed')),
    statistics_error TEXT,
    UNIQUE (dataset, config, split)
) STRICT;
CREATE INDEX preview_split_status ON preview_split (status);

-- The finished answers of a split, by endpoint: bytes that are sent as they are.
CREATE TABLE preview_answer (
    split INTEGER NOT NULL REFERENCES preview_split (id) ON DELETE CASCADE,
    endpoint TEXT NOT NULL,
    plain BLOB NOT NULL,
    gzip BLOB NOT NULL,
    UNIQUE (split, endpoint)
) STRICT;

-- How many answers with data each dataset has given.
CREATE TABLE preview_download (
    dataset TEXT NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- migration 6: teams, tokens and projects

-- Users and teams share one namespace. Each user has a team of the same id, and is its Admin.
CREATE TABLE teams (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
) STRICT, WITHOUT ROWID;
INSERT INTO teams (id, name, created_at) SELECT name, name, created_at FROM users;

CREATE TABLE members (
    team TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    role TEXT NOT NULL CHECK (role IN ('Observer', 'Member', 'DataManager', 'ModelDeveloper', 'Manager', 'Admin')),
    PRIMARY KEY (team, user)
) STRICT, WITHOUT ROWID;
CREATE INDEX member_user ON members (user);
INSERT INTO members (team, user, role) SELECT name, name, 'Admin' FROM users;

-- A token is worth its user's full key until it expires or is revoked. The rows of the newest stay after that, so that a number is
-- never used again, and so that we can say why a token opens nothing any more. Times are UTC, as 2026-01-31T09:00:00Z, and sort as
-- text.
CREATE TABLE tokens (
    sha256 BLOB NOT NULL PRIMARY KEY CHECK (length(sha256) = 32),
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    iid INTEGER NOT NULL CHECK (iid >= 1),
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    last_used_at TEXT,
    revoked_at TEXT,
    UNIQUE (user, iid)
) STRICT, WITHOUT ROWID;

-- A project that is being removed stays until all that it made is gone; it is not found any more.
CREATE TABLE project (
    team TEXT NOT NULL REFERENCES teams (id),
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at TEXT NOT NULL,
    is_removed INTEGER NOT NULL DEFAULT 0 CHECK (is_removed IN (0, 1)),
    PRIMARY KEY (team, id)
) STRICT, WITHOUT ROWID;

-- The highest number that was given in a project to an object of each kind. It outlives the project: no number is used twice.
CREATE TABLE project_number (
    team TEXT NOT NULL,
    project TEXT NOT NULL,
    kind TEXT NOT NULL,
    highest INTEGER NOT NULL CHECK (highest >= 1),
    PRIMARY KEY (team, project, kind)
) STRICT, WITHOUT ROWID;

-- What a project has: uploads, datasets, models, attributions, attribution sets. How an object stands is told by its job until that
-- ends; the transaction that ends the job writes state, times, attempts, error and result here, and so the object outlives its job.
-- request, result, warnings and error are JSON; `result` stands as the replica wrote it. Times are UTC, as 2026-01-31T09:00:00Z.
-- active      the slot that the object has taken in its project: '' for a dataset or a set, the combination for a model
-- extra       what belongs to the object and is not shown with it, such as the names of its files: JSON
-- is_removed  the object is not found any more; its row stays until its files are gone
CREATE TABLE project_object (
    team TEXT NOT NULL,
    project TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('upload', 'dataset', 'model', 'attribution', 'attribution_set')),
    iid INTEGER NOT NULL CHECK (iid >= 1),
    request TEXT NOT NULL,
    created_at TEXT NOT NULL,
    created_by TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'success', 'error', 'cancelled')),
    started_at TEXT,
    finished_at TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    result TEXT,
    warnings TEXT NOT NULL DEFAULT '[]',
    error TEXT,
    active TEXT,
    extra TEXT,
    is_removed INTEGER NOT NULL DEFAULT 0 CHECK (is_removed IN (0, 1)),
    PRIMARY KEY (team, project, kind, iid),
    FOREIGN KEY (team, project) REFERENCES project (team, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX project_active ON project_object (team, project, kind, active) WHERE active IS NOT NULL;
CREATE INDEX project_unfinished ON project_object (team) WHERE status = 'waiting';
CREATE INDEX project_removed ON project_object (is_removed) WHERE is_removed;

-- Which object was made of which: what is used by another cannot be deleted.
CREATE TABLE project_use (
    team TEXT NOT NULL,
    project TEXT NOT NULL,
    kind TEXT NOT NULL,
    iid INTEGER NOT NULL,
    used_kind TEXT NOT NULL,
    used_iid INTEGER NOT NULL,
    PRIMARY KEY (team, project, kind, iid, used_kind, used_iid),
    FOREIGN KEY (team, project, kind, iid) REFERENCES project_object (team, project, kind, iid) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX project_used ON project_use (team, project, used_kind, used_iid);

-- Graphs of the high level, and the instances of the low level that they were made into. Ids are never used again.
-- is_saved   a person has saved the graph; the others were sent, or made, with a model
CREATE TABLE graph (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    team TEXT NOT NULL,
    project TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at TEXT NOT NULL,
    is_saved INTEGER NOT NULL CHECK (is_saved IN (0, 1)),
    FOREIGN KEY (team, project) REFERENCES project (team, id) ON DELETE CASCADE
) STRICT;
CREATE INDEX graph_project ON graph (team, project);

CREATE TABLE graph_instance (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    graph INTEGER NOT NULL REFERENCES graph (id) ON DELETE CASCADE,
    team TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX graph_instance_graph ON graph_instance (graph);

-- migration 7: versions of what preview has prepared

-- The id of the last job that has changed which Parquet files of the dataset are current; 0 before there are any.
ALTER TABLE preview_dataset ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
