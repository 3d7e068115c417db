"""The tables of a registry's database, and the triggers that count along what quotas are about."""

from __future__ import annotations

SCHEMA_VERSION = 4
SCHEMA = """
CREATE TABLE repositories (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, touched REAL NOT NULL)
    WITHOUT ROWID;
CREATE TABLE links (
    repository TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX links_by_digest ON links (digest);
CREATE TABLE manifests (
    repository TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL,
    size INTEGER NOT NULL, subject TEXT, artifact_type TEXT NOT NULL, annotations TEXT,
    touched REAL NOT NULL, PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX manifests_by_digest ON manifests (digest);
CREATE INDEX manifests_by_subject ON manifests (repository, subject) WHERE subject IS NOT NULL;
CREATE TABLE parts (
    repository TEXT NOT NULL, manifest TEXT NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL,
    PRIMARY KEY (repository, manifest, digest, kind)
) WITHOUT ROWID;
CREATE INDEX parts_by_digest ON parts (digest);
CREATE TABLE tags (
    repository TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL,
    moved REAL NOT NULL DEFAULT 0, PRIMARY KEY (repository, name)
) WITHOUT ROWID;
CREATE INDEX tags_by_digest ON tags (repository, digest);
CREATE TABLE verified (digest TEXT PRIMARY KEY, moment REAL NOT NULL) WITHOUT ROWID;
"""
# Quotas that repositories share (`quotas.py`): what those from `low` up to `high` hold, each once.
_SHARES = """
CREATE TABLE shares (low TEXT PRIMARY KEY, high TEXT NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE held (
    low TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, holders INTEGER NOT NULL,
    PRIMARY KEY (low, digest)
) WITHOUT ROWID;
CREATE TRIGGER held_more AFTER INSERT ON held BEGIN
    UPDATE shares SET used = used + NEW.size WHERE low = NEW.low;
END;
CREATE TRIGGER held_less AFTER DELETE ON held BEGIN
    UPDATE shares SET used = used - OLD.size WHERE low = OLD.low;
END;
CREATE TRIGGER held_otherwise AFTER UPDATE OF size ON held BEGIN
    UPDATE shares SET used = used + NEW.size - OLD.size WHERE low = NEW.low;
END;
CREATE TRIGGER blob_of_another_size AFTER UPDATE OF size ON blobs BEGIN
    UPDATE held SET size = NEW.size WHERE digest = NEW.digest AND size != NEW.size
        AND low IN (SELECT low FROM shares);
END;
CREATE TRIGGER blob_again AFTER INSERT ON blobs BEGIN
    UPDATE held SET size = NEW.size WHERE digest = NEW.digest AND size != NEW.size
        AND low IN (SELECT low FROM shares);
END;
"""
_HOLDING = """
CREATE TRIGGER {table}_added AFTER INSERT ON {table} BEGIN
    INSERT INTO held SELECT low, NEW.digest, {size}, 1 FROM shares
        WHERE NEW.repository >= low AND NEW.repository < high
        ON CONFLICT (low, digest) DO UPDATE SET holders = holders + 1;
END;
CREATE TRIGGER {table}_removed AFTER DELETE ON {table} BEGIN
    UPDATE held SET holders = holders - 1 WHERE digest = OLD.digest AND low IN (
        SELECT low FROM shares WHERE OLD.repository >= low AND OLD.repository < high);
    DELETE FROM held WHERE digest = OLD.digest AND holders = 0
        AND low IN (SELECT low FROM shares);
END;
"""
SCHEMA += _SHARES + _HOLDING.format(table="manifests", size="NEW.size")
SCHEMA += _HOLDING.format(
    table="links", size="coalesce((SELECT size FROM blobs WHERE digest = NEW.digest), 0)"
)
