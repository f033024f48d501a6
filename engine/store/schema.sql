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
