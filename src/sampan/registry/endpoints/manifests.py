"""/v2/NAME/manifests/REFERENCE and /v2/NAME/referrers/DIGEST."""

from __future__ import annotations

from functools import partial

import msgspec
from starlette.responses import Response

from sampan.registry import names
from sampan.registry.bodies import read_body
from sampan.registry.content import classes, documents
from sampan.registry.endpoints.blobs import OCTETS
from sampan.registry.endpoints.call import Call, empty
from sampan.registry.errors import RegistryError
from sampan.registry.events import Event
from sampan.registry.lists import page_of_referrers
from sampan.spec.image import DOCUMENT_LIMIT, MEDIA_INDEX

TAGS = 100  # of one request; the specification demands ten, and 414 for too many


def _reference(call: Call) -> str:
    """Return the tag or digest in the path."""
    reference = call.groups["reference"]
    return names.digest(reference) if ":" in reference else names.tag(reference)


def _content_type(media_type: str) -> str:
    """Return as what a manifest is sent, whatever is in the storage: never as a page."""
    return media_type if media_type in (*documents.KNOWN, documents.MEDIA_SCHEMA1) else OCTETS


async def get(call: Call) -> Response:
    """Send a manifest as it was pushed."""
    reference = _reference(call)
    found = await call.cached.refresh(reference) if call.cached else None
    if found is None:
        found = await call.run(call.registry.manifests.read, call.repository, reference)
    stored, content = found
    headers = {
        "Docker-Content-Digest": stored.digest,
        "Etag": f'"{stored.digest}"',
        "Content-Type": _content_type(stored.media_type),
        "Content-Length": str(stored.size),
    }
    call.condition.demand_match(stored.digest)
    if call.condition.has(stored.digest):
        del headers["Content-Length"]
        return Response(status_code=304, headers=headers)
    if call.request.method == "HEAD":
        return Response(headers=headers)
    tag = "" if ":" in reference else reference
    if call.cached:
        call.cached.sent("manifest", stored.size)
    await call.tell(
        Event(
            *("pull", call.repository, stored.digest, stored.media_type, stored.size, tag),
            content=content,
        )
    )
    return Response(content, headers=headers)


async def put(call: Call) -> Response:
    """Store a manifest; with a digest, `?tag=` may name more tags."""
    reference = _reference(call)
    tags = list(dict.fromkeys(call.request.query_params.getlist("tag")))
    if len(tags) > TAGS:
        raise RegistryError(
            "UNSUPPORTED", message=f"one request gives at most {TAGS} tags", status=414
        )
    content = await _body(call)
    media_type = call.request.headers.get("content-type", "").partition(";")[0].strip()
    registry, name = call.registry, call.repository
    if call.service.classes:
        classes.demand(content, media_type, call.service.classes, call.grant.classes(name))
    store = partial(
        registry.manifests.put, name, reference, media_type, content, tags, call.condition
    )
    stored = await call.run(registry.uploads.making_room, name, store)
    headers = {
        "Location": call.url(f"v2/{call.repository}/manifests/{stored.digest}"),
        "Docker-Content-Digest": stored.digest,
    }
    if stored.subject:
        headers["OCI-Subject"] = stored.subject
    response = empty(201, headers)
    for tag in tags:
        response.headers.append("OCI-Tag", tag)
    for tag in ([] if ":" in reference else [reference]) + tags or [""]:
        await call.tell(
            Event(
                *("push", call.repository, stored.digest, stored.media_type, stored.size, tag),
                content=content,
            )
        )
    return response


async def _body(call: Call) -> bytes:
    body = await read_body(call.request, DOCUMENT_LIMIT)
    if body is None:
        raise RegistryError(
            "SIZE_INVALID", message=f"a manifest has at most {DOCUMENT_LIMIT} bytes", status=413
        )
    return body


async def delete(call: Call) -> Response:
    """Remove a manifest with its tags; or a tag alone."""
    reference = _reference(call)
    manifests = call.registry.manifests
    if ":" in reference:
        remove = partial(manifests.remove, call.repository, names.digest(reference))
        tags = await call.run(remove, call.condition)
        await call.tell(Event("delete", call.repository, reference))
    else:
        tags = [reference]
        await call.run(manifests.untag, call.repository, reference, call.condition)
    for tag in tags:
        await call.tell(Event("delete", call.repository, tag=tag))
    return empty(202, {})


async def referrers(call: Call) -> Response:
    """List the manifests that have this one as their subject."""
    digest = call.digest_group()
    wanted = call.query("artifactType")
    after = call.query("last")
    there = await call.cached.referrers(digest) if call.cached else None
    if there is None:
        lists = call.registry.lists
        page = await call.run(lists.referrers, call.repository, digest, wanted, after)
    else:
        found = [one for one in there if wanted in ("", one.artifact_type) and one.digest > after]
        found.sort(key=lambda one: one.digest)
        page = page_of_referrers(map(msgspec.to_builtins, found))
    headers = {"Content-Type": MEDIA_INDEX}
    if wanted:
        headers["OCI-Filters-Applied"] = "artifactType"
    if page.last:
        query = {"last": page.last, **({"artifactType": wanted} if wanted else {})}
        headers |= call.next_link(f"v2/{call.repository}/referrers/{digest}", **query)
    index = {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": page.items}
    return Response(msgspec.json.encode(index), headers=headers)
