"""What is asked of registries for a client: search and its filters, inspect, raw manifests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, cast

import pytest

from sampan.distribution.config import RegistryConfig
from sampan.distribution.registries import Registries
from sampan.distribution.search import SearchResult
from sampan.engine.registries import RegistryQueries
from sampan.errors import InvalidArgument, NotFound
from sampan.http.proxies import Proxies
from sampan.spec.platform import PlatformBody
from tests import lying_registry as lies
from tests.lying_registry import LyingRegistry
from tests.remote_images import Blob, Image, image, index, push, small_layer


class Found:
    """Registries that find what a test says."""

    def __init__(self, *results: SearchResult) -> None:
        self.asked: list[tuple[str, int]] = []
        self._results = list(results)

    async def search(self, term: str, limit: int, credentials: Any) -> list[SearchResult]:
        self.asked.append((term, limit))
        return self._results


BOXES = [
    SearchResult("official", "", 9, True, False),
    SearchResult("automated", "", 5, False, True),
    SearchResult("mine", "", 0, False, False),
]


def search(found: Found, limit: int = 0, **filters: list[str]) -> list[str]:
    queries = RegistryQueries(cast(Registries, found))
    wanted = {name.replace("_", "-"): values for name, values in filters.items()}
    return [each.name for each in asyncio.run(queries.search("box", limit, wanted))]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["official", "automated", "mine"]),
        ({"is_official": ["true"]}, ["official"]),
        ({"is_official": ["0"]}, ["automated", "mine"]),
        ({"is_automated": ["1"]}, ["automated"]),
        ({"stars": ["1"]}, ["official", "automated"]),
        ({"stars": ["1", "6"]}, ["official"]),
        ({"stars": ["1"], "is_official": ["false"]}, ["automated"]),
    ],
)
def test_a_search_is_filtered_here(filters: dict[str, list[str]], names: list[str]) -> None:
    assert search(Found(*BOXES), **filters) == names


def test_the_limit_is_dockers_and_between_1_and_100() -> None:
    found = Found()
    search(found)
    search(found, 100)
    assert found.asked == [("box", 25), ("box", 100)]
    with pytest.raises(InvalidArgument, match=r"^limit 101 is outside the range of \[1, 100\]$"):
        search(found, 101)


@pytest.mark.parametrize(
    ("filters", "sentence"),
    [
        ({"colour": ["red"]}, "invalid filter 'colour'"),
        ({"is_official": ["x"]}, "invalid filter 'is-official="),
        ({"is_official": ["true", "false"]}, "invalid filter 'is-official="),
        ({"stars": ["x"]}, "invalid filter 'stars=x'"),
    ],
)
def test_a_wrong_filter_is_refused_before_anybody_is_asked(
    filters: dict[str, list[str]], sentence: str
) -> None:
    found = Found()
    with pytest.raises(InvalidArgument, match=sentence):
        search(found, **filters)
    assert found.asked == []


# --- at a registry ---------------------------------------------------------------------------


@pytest.fixture
def liar() -> Iterator[LyingRegistry]:
    with lies.lying_registry() as registry:
        yield registry


def ask(work: Callable[[RegistryQueries], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        config = RegistryConfig(backoff_seconds=0.01, proxies=Proxies())
        async with Registries(config) as registries:
            return await work(RegistryQueries(registries))

    return asyncio.run(main())


def test_an_image_is_inspected_with_the_platform_of_its_configuration(liar: LyingRegistry) -> None:
    what = image(small_layer("a"), architecture="arm64", variant="v8")
    push(liar, "a/img", "1", what)
    found = ask(lambda queries: queries.inspect(f"{liar.address}/a/img:1"))
    assert found.descriptor.digest == what.digest
    assert found.descriptor.size == len(what.manifest.content)
    assert found.platforms == [PlatformBody(architecture="arm64", os="linux", variant="v8")]


def test_an_index_is_inspected_with_all_its_platforms(liar: LyingRegistry) -> None:
    both = index(image(small_layer("a")), image(small_layer("b"), architecture="arm64"))
    push(liar, "a/img", "latest", both)
    found = ask(lambda queries: queries.inspect(f"{liar.address}/a/img"))
    assert found.descriptor.digest == both.digest
    assert [each.architecture for each in found.platforms] == ["amd64", "arm64"]


def test_what_is_no_image_has_no_platforms(liar: LyingRegistry) -> None:
    made = image(small_layer("a"))
    config = Blob("application/vnd.acme.config", b"[1, 2]")
    document = json.loads(made.manifest.content)
    document["config"] = config.descriptor
    manifest = Blob(made.manifest.media_type, json.dumps(document).encode())
    push(liar, "a/img", "1", Image(manifest, config, made.layers))
    found = ask(lambda queries: queries.inspect(f"{liar.address}/a/img:1"))
    assert found.platforms is None


def test_a_configuration_that_is_too_large_is_not_fetched(liar: LyingRegistry) -> None:
    made = image(small_layer("a"))
    document = json.loads(made.manifest.content)
    document["config"]["size"] = 1 << 40
    manifest = Blob(made.manifest.media_type, json.dumps(document).encode())
    push(liar, "a/img", "1", Image(manifest, made.config, made.layers))
    found = ask(lambda queries: queries.inspect(f"{liar.address}/a/img:1"))
    assert found.platforms is None
    assert liar.log.count("GET", "/blobs/") == 0


def test_manifests_are_read_and_written_as_they_are(liar: LyingRegistry) -> None:
    what = image(small_layer("a"))
    push(liar, "a/img", "1", what)
    found = ask(lambda queries: queries.manifest(f"{liar.address}/a/img:1"))
    assert (found.content, found.descriptor.digest) == (what.manifest.content, what.digest)
    name, kind = f"{liar.address}/b/img", what.manifest.media_type
    ask(lambda queries: queries.put_manifest(name, kind, what.manifest.content, tag="2"))
    ask(lambda queries: queries.put_manifest(name, kind, what.manifest.content))
    assert liar.manifests["b/img"]["2"][1] == what.manifest.content
    with pytest.raises(InvalidArgument):
        ask(lambda queries: queries.put_manifest(name, kind, b"{}"))


def test_a_blob_is_mounted_from_another_repository_of_the_same_registry(
    liar: LyingRegistry,
) -> None:
    what = image(small_layer("a"))
    push(liar, "a/img", "1", what)
    to, source, blob = f"{liar.address}/b/img", f"{liar.address}/a/img", what.layers[0].digest
    ask(lambda queries: queries.mount_blob(to, blob, source))
    assert blob in liar.blobs["b/img"]
    liar.mounts = False
    with pytest.raises(NotFound, match="cannot be mounted"):
        ask(lambda queries: queries.mount_blob(f"{liar.address}/c/img", blob, source))
    with pytest.raises(InvalidArgument, match="is not in the registry of"):
        ask(lambda queries: queries.mount_blob(to, blob, "other.example/a/img"))
