-- Tables that journals of sweep 0.1 lack: made when one is opened to be written, missing while it is only read.
CREATE TABLE IF NOT EXISTS uploads (
    url TEXT NOT NULL, sha256 TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (url, sha256)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS experiments (run INTEGER PRIMARY KEY, facts TEXT NOT NULL, seal INTEGER NOT NULL);
