"""The layout of a data directory, which is docker-registry's: every path below the driver's root.

Source: distribution registry/storage/paths.go (the same in 2.8 and 3.1).
"""

from __future__ import annotations

from sampan.spec.digest import Digest, algorithm, encoded

ROOT = "docker/registry/v2"
BLOBS = f"{ROOT}/blobs"
REPOSITORIES = f"{ROOT}/repositories"
LAYERS, MANIFESTS, UPLOADS = "_layers", "_manifests", "_uploads"
RESERVED = (LAYERS, MANIFESTS, UPLOADS)


def _by_digest(folder: str, digest: Digest) -> str:
    return f"{folder}/{algorithm(digest)}/{encoded(digest)}"


def repository(name: str) -> str:
    """Return the folder of a repository."""
    return f"{REPOSITORIES}/{name}"


def blob_folder(digest: Digest) -> str:
    """Return the folder that holds one blob, for all repositories."""
    digits = encoded(digest)
    return f"{BLOBS}/{algorithm(digest)}/{digits[:2]}/{digits}"


def blob(digest: Digest) -> str:
    """Return the file of a blob's content."""
    return f"{blob_folder(digest)}/data"


def layers(name: str) -> str:
    """Return the folder of the blobs that a repository has."""
    return f"{repository(name)}/{LAYERS}"


def layer_folder(name: str, digest: Digest) -> str:
    """Return the folder of a repository's link to a blob."""
    return _by_digest(layers(name), digest)


def layer_link(name: str, digest: Digest) -> str:
    """Return the file that says: this repository has this blob."""
    return f"{layer_folder(name, digest)}/link"


def revisions(name: str) -> str:
    """Return the folder of a repository's manifests."""
    return f"{repository(name)}/{MANIFESTS}/revisions"


def revision_folder(name: str, digest: Digest) -> str:
    """Return the folder of a repository's link to a manifest."""
    return _by_digest(revisions(name), digest)


def revision_link(name: str, digest: Digest) -> str:
    """Return the file that says: this repository has this manifest."""
    return f"{revision_folder(name, digest)}/link"


def tags(name: str) -> str:
    """Return the folder of a repository's tags."""
    return f"{repository(name)}/{MANIFESTS}/tags"


def tag(name: str, tag: str) -> str:
    """Return the folder of one tag."""
    return f"{tags(name)}/{tag}"


def tag_current(name: str, tag: str) -> str:
    """Return the file that says what a tag points to."""
    return f"{tags(name)}/{tag}/current/link"


def tag_index(name: str, tag: str, digest: Digest) -> str:
    """Return the file that says that a tag once pointed to a manifest."""
    return f"{_by_digest(f'{tags(name)}/{tag}/index', digest)}/link"


def uploads(name: str) -> str:
    """Return the folder of a repository's uploads."""
    return f"{repository(name)}/{UPLOADS}"


def upload(name: str, id: str) -> str:
    """Return the folder of one upload."""
    return f"{uploads(name)}/{id}"
