"""The errors of the distribution API: codes, statuses, sentences, and the body that carries them.

Source: opencontainers/distribution-spec spec.md, "Error Codes"; distribution
registry/api/errcode and registry/api/v2/errors.go for the statuses and Docker's additions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class Kind:
    """What one code means: the status it is sent with and its sentence."""

    status: int
    message: str


KINDS: dict[str, Kind] = {
    "UNKNOWN": Kind(500, "unknown error"),
    "UNSUPPORTED": Kind(405, "The operation is unsupported."),
    "UNAUTHORIZED": Kind(401, "authentication required"),
    "DENIED": Kind(403, "requested access to the resource is denied"),
    "UNAVAILABLE": Kind(503, "service unavailable"),
    "TOOMANYREQUESTS": Kind(429, "too many requests"),
    "DIGEST_INVALID": Kind(400, "provided digest did not match uploaded content"),
    "SIZE_INVALID": Kind(400, "provided length did not match content length"),
    "RANGE_INVALID": Kind(416, "invalid content range"),
    "NAME_INVALID": Kind(400, "invalid repository name"),
    "NAME_UNKNOWN": Kind(404, "repository name not known to registry"),
    "TAG_INVALID": Kind(400, "manifest tag did not match URI"),
    "MANIFEST_UNKNOWN": Kind(404, "manifest unknown"),
    "MANIFEST_INVALID": Kind(400, "manifest invalid"),
    "MANIFEST_BLOB_UNKNOWN": Kind(400, "blob unknown to registry"),
    "BLOB_UNKNOWN": Kind(404, "blob unknown to registry"),
    "BLOB_UPLOAD_UNKNOWN": Kind(404, "blob upload unknown to registry"),
    "BLOB_UPLOAD_INVALID": Kind(400, "blob upload invalid"),
    "PAGINATION_NUMBER_INVALID": Kind(400, "invalid number of results requested"),
}


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of an error body."""

    code: str
    detail: Any = None
    message: str = ""


class RegistryError(Exception):
    """An answer that is no success. `items` are told; the status is that of the first.

    `status` overrides it, where one code has several; `headers` are sent along.
    """

    def __init__(
        self,
        code: str,
        detail: Any = None,
        *,
        message: str = "",
        status: int = 0,
        headers: Mapping[str, str] | None = None,
        more: Sequence[Item] = (),
    ) -> None:
        super().__init__(f"{code}: {message or KINDS[code].message}")
        self.items = [Item(code, detail, message), *more]
        self.status = status or KINDS[code].status
        self.headers = dict(headers or {})

    def about(self, detail: Any) -> RegistryError:
        """Return the same answer with another detail."""
        first, *rest = self.items
        return RegistryError(
            first.code,
            detail,
            message=first.message,
            status=self.status,
            headers=self.headers,
            more=rest,
        )

    @property
    def body(self) -> bytes:
        """The JSON that clients read."""
        told = [
            {"code": item.code, "message": item.message or KINDS[item.code].message}
            | ({} if item.detail is None else {"detail": item.detail})
            for item in self.items
        ]
        return msgspec.json.encode({"errors": told})
