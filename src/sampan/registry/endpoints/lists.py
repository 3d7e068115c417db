"""/v2/, /v2/_catalog and /v2/NAME/tags/list."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from sampan.registry.endpoints.call import Call
from sampan.registry.errors import RegistryError

DEFAULT_COUNT = 100  # of repositories, where a client does not say
SEARCH_COUNT, SEARCH_MOST = 25, 100  # results: usual, at most
JSON = {"Content-Type": "application/json; charset=utf-8"}


async def base(call: Call) -> Response:
    """Say that here is a registry."""
    return Response(b"{}", headers=JSON)


async def catalog(call: Call) -> Response:
    """List repositories."""
    most = call.service.catalog_max
    count = call.count(0)
    if count is None:
        count = min(DEFAULT_COUNT, most)
    elif count > most:
        raise RegistryError("PAGINATION_NUMBER_INVALID", {"n": count})
    page = await call.run(call.registry.lists.repositories, call.query("last"), count)
    more = call.next_link("v2/_catalog", last=page.last, n=count) if page.last else {}
    return Response(msgspec.json.encode({"repositories": page.items}), headers={**JSON, **more})


async def ping(call: Call) -> Response:
    """Say that repositories can be searched for, as registries of the first version do."""
    return Response(b"true", headers={**JSON, "X-Docker-Registry-Standalone": "true"})


async def search(call: Call) -> Response:
    """Find repositories by a part of their names: what `docker search HOST/TERM` asks."""
    count = call.count(SEARCH_MOST)
    term = call.query("q")
    if not term:
        raise RegistryError("UNSUPPORTED", message="the parameter q is missing", status=400)
    found = await call.run(call.registry.lists.search, term, count or SEARCH_COUNT)
    results = [
        {
            "name": name,
            "description": "",
            "star_count": 0,
            "pull_count": 0,
            "is_official": False,
            "is_automated": False,
            "is_trusted": False,
        }
        for name in found
    ]
    body = {
        "num_pages": 1,
        "page": 1,
        "page_size": count or SEARCH_COUNT,
        "num_results": len(results),
        "query": term,
        "results": results,
    }
    return Response(msgspec.json.encode(body), headers=JSON)


async def tags(call: Call) -> Response:
    """List the tags of a repository."""
    most = call.service.tags_max
    count = call.count(most)
    if count is None and most:
        count = most
    page = await call.run(call.registry.lists.tags, call.repository, call.query("last"), count)
    path = f"v2/{call.repository}/tags/list"
    more = call.next_link(path, last=page.last, n=count or 0) if page.last else {}
    body = {"name": call.repository, "tags": page.items}
    return Response(msgspec.json.encode(body), headers={**JSON, **more})
