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
