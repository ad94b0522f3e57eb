-- The tables of a new journal.sqlite, format 1; times are microseconds since 1970, UTC.
CREATE TABLE runs (
    number INTEGER PRIMARY KEY, definition INTEGER NOT NULL, fingerprint TEXT NOT NULL, experiment TEXT NOT NULL,
    axes TEXT NOT NULL, points INTEGER NOT NULL, servers TEXT NOT NULL, command TEXT NOT NULL,
    sweep_version TEXT NOT NULL, begun_at INTEGER NOT NULL, ended_at INTEGER, ending TEXT, seal INTEGER NOT NULL
);
CREATE TABLE points (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, definition INTEGER NOT NULL, idx INTEGER NOT NULL,
    axis_values TEXT NOT NULL, prompt TEXT, model TEXT, source TEXT, state TEXT NOT NULL
        CHECK (state IN ('pending', 'intended', 'submitted', 'rendered', 'completed', 'failed', 'cancelled')),
    kind TEXT, message TEXT, attempts INTEGER NOT NULL DEFAULT 0, server TEXT,
    queued_at INTEGER, started_at INTEGER, finished_at INTEGER, seal INTEGER NOT NULL
);
CREATE INDEX points_by_key ON points (key);
CREATE INDEX points_by_index ON points (definition, idx, state);
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, number INTEGER NOT NULL, run INTEGER NOT NULL REFERENCES runs (number),
    server TEXT NOT NULL, url TEXT NOT NULL, batch_id TEXT NOT NULL, item_id TEXT, outputs TEXT NOT NULL,
    state TEXT NOT NULL, begun_at INTEGER NOT NULL, ended_at INTEGER, kind TEXT, message TEXT
);
CREATE INDEX attempts_by_key ON attempts (key);
CREATE INDEX attempts_open ON attempts (batch_id) WHERE ended_at IS NULL;
CREATE TABLE images (
    key TEXT NOT NULL, ordinal INTEGER NOT NULL, path TEXT NOT NULL UNIQUE, image_name TEXT NOT NULL,
    node TEXT NOT NULL, iteration INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
    sha256 TEXT NOT NULL, size INTEGER NOT NULL, seal INTEGER NOT NULL, PRIMARY KEY (key, ordinal)
) WITHOUT ROWID;
CREATE TABLE seeds (axis TEXT PRIMARY KEY, drawn TEXT NOT NULL, seal INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE inputs (
    sha256 TEXT PRIMARY KEY, path TEXT NOT NULL, name TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
    seal INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE metrics (
    image TEXT NOT NULL, reference TEXT NOT NULL, metric TEXT NOT NULL, version TEXT NOT NULL,
    working_size INTEGER NOT NULL, value REAL, put INTEGER NOT NULL, seal INTEGER NOT NULL,
    PRIMARY KEY (image, reference, metric, version, working_size)
) WITHOUT ROWID;
CREATE TABLE metric_names (name TEXT PRIMARY KEY, puts INTEGER NOT NULL DEFAULT 0, seal INTEGER NOT NULL)
    WITHOUT ROWID;
