"""The tables of a registry's database, and the triggers that count along what quotas are about."""

from __future__ import annotations

SCHEMA_VERSION = 6
_TABLES = """
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
_TABLES += """
CREATE TABLE shares (low TEXT PRIMARY KEY, high TEXT NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE held (
    low TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, holders INTEGER NOT NULL,
    PRIMARY KEY (low, digest)
) WITHOUT ROWID;
"""
# Uploads that are not finished, where there are quotas (`unfinished.py`): bytes set aside for them.
_TABLES += """
CREATE TABLE uploads (
    repository TEXT NOT NULL, upload TEXT NOT NULL, size INTEGER NOT NULL,
    moment REAL NOT NULL DEFAULT 0, PRIMARY KEY (repository, upload)
) WITHOUT ROWID;
"""
# What other registries read in a Redis (`descriptors/`): where, and what has to be removed there.
_TABLES += """
CREATE TABLE described (place TEXT PRIMARY KEY, run TEXT NOT NULL, swept REAL NOT NULL)
    WITHOUT ROWID;
CREATE TABLE owed (
    repository TEXT NOT NULL, digest TEXT NOT NULL, due REAL NOT NULL,
    PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX owed_by_due ON owed (due);
"""
_COUNTING = """
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
_OWING = """
CREATE TRIGGER {table}_owed AFTER DELETE ON {table} WHEN EXISTS (SELECT 1 FROM described) BEGIN
    INSERT INTO owed VALUES ({repository}, OLD.digest, 0)
        ON CONFLICT (repository, digest) DO UPDATE SET due = 0;
END;
"""
SQLITE = _TABLES + _COUNTING + _HOLDING.format(table="manifests", size="NEW.size")
SQLITE += _HOLDING.format(
    table="links", size="coalesce((SELECT size FROM blobs WHERE digest = NEW.digest), 0)"
)
SQLITE += _OWING.format(table="links", repository="OLD.repository")
SQLITE += _OWING.format(table="blobs", repository="''")

# The same for PostgreSQL: names in the order of bytes, and triggers that call functions.
POSTGRESQL = _TABLES.replace(" WITHOUT ROWID", "").replace("INTEGER", "BIGINT")
POSTGRESQL = POSTGRESQL.replace("REAL", "DOUBLE PRECISION").replace("TEXT", 'TEXT COLLATE "C"')
POSTGRESQL += """
CREATE OR REPLACE FUNCTION instr(whole text, part text) RETURNS integer
    LANGUAGE sql IMMUTABLE AS 'SELECT strpos(whole, part)';
CREATE OR REPLACE FUNCTION count_held() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'INSERT' THEN
        UPDATE shares SET used = used + NEW.size WHERE low = NEW.low;
    ELSIF TG_OP = 'DELETE' THEN
        UPDATE shares SET used = used - OLD.size WHERE low = OLD.low;
    ELSE
        UPDATE shares SET used = used + NEW.size - OLD.size WHERE low = NEW.low;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER held_counted AFTER INSERT OR DELETE OR UPDATE OF size ON held
    FOR EACH ROW EXECUTE FUNCTION count_held();
CREATE OR REPLACE FUNCTION measure_held() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE held SET size = NEW.size WHERE digest = NEW.digest AND size != NEW.size
        AND low IN (SELECT low FROM shares);
    RETURN NULL;
END $$;
CREATE TRIGGER blobs_measured AFTER INSERT OR UPDATE OF size ON blobs
    FOR EACH ROW EXECUTE FUNCTION measure_held();
CREATE OR REPLACE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE bytes bigint := 0;
BEGIN
    IF TG_OP = 'DELETE' THEN
        UPDATE held SET holders = holders - 1 WHERE digest = OLD.digest AND low IN (
            SELECT low FROM shares WHERE OLD.repository >= low AND OLD.repository < high);
        DELETE FROM held WHERE digest = OLD.digest AND holders = 0
            AND low IN (SELECT low FROM shares);
        RETURN NULL;
    END IF;
    IF TG_TABLE_NAME = 'manifests' THEN
        bytes := NEW.size;
    ELSE
        SELECT coalesce(max(size), 0) INTO bytes FROM blobs WHERE digest = NEW.digest;
    END IF;
    INSERT INTO held SELECT low, NEW.digest, bytes, 1 FROM shares
        WHERE NEW.repository >= low AND NEW.repository < high
        ON CONFLICT (low, digest) DO UPDATE SET holders = held.holders + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER links_held AFTER INSERT OR DELETE ON links
    FOR EACH ROW EXECUTE FUNCTION hold();
CREATE TRIGGER manifests_held AFTER INSERT OR DELETE ON manifests
    FOR EACH ROW EXECUTE FUNCTION hold();
CREATE OR REPLACE FUNCTION owe() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE name text := '';
BEGIN
    IF TG_TABLE_NAME = 'links' THEN
        name := OLD.repository;
    END IF;
    INSERT INTO owed SELECT name, OLD.digest, 0 WHERE EXISTS (SELECT 1 FROM described)
        ON CONFLICT (repository, digest) DO UPDATE SET due = 0;
    RETURN NULL;
END $$;
CREATE TRIGGER links_owed AFTER DELETE ON links FOR EACH ROW EXECUTE FUNCTION owe();
CREATE TRIGGER blobs_owed AFTER DELETE ON blobs FOR EACH ROW EXECUTE FUNCTION owe();
"""
TABLES = (
    *("repositories", "blobs", "links", "manifests", "parts", "tags", "verified"),
    *("shares", "held", "uploads", "described", "owed"),
)
