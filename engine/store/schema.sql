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
