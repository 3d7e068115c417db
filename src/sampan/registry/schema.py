"""The tables of a registry's database, and the triggers that count along what quotas are about."""

from __future__ import annotations

SCHEMA_VERSION = 5
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
SQLITE = _TABLES + _COUNTING + _HOLDING.format(table="manifests", size="NEW.size")
SQLITE += _HOLDING.format(
    table="links", size="coalesce((SELECT size FROM blobs WHERE digest = NEW.digest), 0)"
)

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
"""
TABLES = (
    *("repositories", "blobs", "links", "manifests", "parts", "tags", "verified"),
    *("shares", "held", "uploads"),
)
