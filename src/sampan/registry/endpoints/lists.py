"""/v2/, /v2/_catalog, /v2/NAME/tags/list, and what else tells what there is."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.responses import Response

from sampan.registry.endpoints.call import Call
from sampan.registry.errors import RegistryError
from sampan.registry.kept import Answer, Key
from sampan.registry.lists import page_of

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
    after, lists = call.query("last"), call.registry.lists

    def ask() -> Answer:
        page = lists.repositories(after, count)
        return Answer(msgspec.json.encode({"repositories": page.items}), page.last)

    answer = await _kept(call, ("", after, str(count)), ask)
    more = call.next_link("v2/_catalog", last=answer.last, n=count) if answer.last else {}
    return Response(answer.body, headers={**JSON, **more})


async def _kept(call: Call, key: Key, ask: Callable[[], Answer]) -> Answer:
    """Return an answer that is kept, or ask in a thread and keep it."""
    kept = call.registry.lists.kept
    found = kept.get(key)
    return found if found is not None else await call.run(kept.make, key, ask)


_SPECIFICATION = "https://github.com/opencontainers/distribution-spec/blob/main/extensions"
_EXTENSIONS = (
    {
        "name": "_oci",
        "url": f"{_SPECIFICATION}/_oci.md",
        "description": "Extensions that there are",
        "endpoints": ["_oci/ext/discover"],
    },
    {
        "name": "_catalog",
        "url": f"{_SPECIFICATION}/README.md",
        "description": "Repositories of this registry",
        "endpoints": ["_catalog"],
    },
)


async def extensions(call: Call) -> Response:
    """Say what there is beside the specification; for a repository, what each of them has."""
    there = _EXTENSIONS[:1] if call.repository else _EXTENSIONS
    return Response(msgspec.json.encode({"extensions": there}), headers=JSON)


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
    count = call.count(call.service.tags_max)
    name, after, lists = call.repository, call.query("last"), call.registry.lists
    there = await call.cached.tags() if call.cached else None

    def ask() -> Answer:
        if there is None:
            page = lists.tags(name, after, count)
        else:
            found = [tag for tag in there if tag > after]
            page = page_of(found, len(found) if count is None else count)
        return Answer(msgspec.json.encode({"name": name, "tags": page.items}), page.last)

    # What an upstream has may be another list the next time.
    kept = _kept(call, (name, after, str(count)), ask) if there is None else call.run(ask)
    answer = await kept
    path = f"v2/{name}/tags/list"
    more = call.next_link(path, last=answer.last, n=count or 0) if answer.last else {}
    return Response(answer.body, headers={**JSON, **more})
