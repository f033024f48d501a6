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
