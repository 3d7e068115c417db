"""Mirroring: what is wanted comes before anybody asks."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from sampan.registry.proxy import mirrors
from sampan.registry.proxy.mirrors import Mirror, Round
from sampan.registry.proxy.schedules import Mirroring
from tests.caching import Cache, caching, upstream
from tests.lying_registry import Answer, Handler, LyingRegistry, no_answer, status
from tests.remote_images import busybox, index, push, small_layer


def mirror(cache: Cache, *repositories: str, **wanted: tuple[str, ...]) -> Round:
    """Go round once."""
    found = cache.proxy.places.upstreams[0]
    mirroring = Mirroring(repositories, interval=60.0, **wanted)  # type: ignore[arg-type]
    return cache.run(Mirror(cache.proxy, found, mirroring).once())


def here(cache: Cache) -> dict[str, list[str]]:
    lists = cache.registry.lists
    names = lists.repositories("", 100).items
    return {name: lists.tags(name, "", None).items for name in names}


def test_chosen_tags_of_chosen_repositories_come_whole(liar: LyingRegistry, cache: Cache) -> None:
    shipped = busybox()
    for tag in ("1.0", "1.1", "2.0", "latest"):
        push(liar, "app", tag, shipped)
    push(liar, "other", "1.0", shipped)
    assert mirror(cache, "app", tags=("1.*", "latest")) == Round(tags=3)
    assert here(cache) == {"app": ["1.0", "1.1", "latest"]}
    liar.lie("", "", no_answer)
    assert cache.manifest("app", "1.1").status == 200
    for blob in shipped.blobs:
        assert cache.blob("app", blob.digest).body == blob.content


def test_a_second_round_fetches_what_is_new(liar: LyingRegistry, cache: Cache) -> None:
    push(liar, "app", "1", busybox())
    mirror(cache, "app")
    liar.log.lines.clear()
    mirror(cache, "app")
    assert {method for method, path in liar.log.lines if "tags" not in path} == {"HEAD"}
    push(liar, "app", "1", busybox(small_layer("newer")))
    mirror(cache, "app")
    assert sum(1 for method, path in liar.log.lines if method == "GET" and "blobs" in path) == 2


def test_repositories_are_chosen_by_patterns(liar: LyingRegistry, cache: Cache) -> None:
    for name in ("team/a", "team/b", "other/c"):
        push(liar, name, "1", busybox())

    def catalog(handler: Handler, answer: Answer) -> Answer:
        return Answer(body=json.dumps({"repositories": sorted(liar.manifests)}).encode())

    liar.lie("GET", "/v2/_catalog", catalog)
    assert mirror(cache, "team/*").tags == 2
    assert sorted(here(cache)) == ["team/a", "team/b"]
    liar.be_honest()
    liar.lie("GET", "/v2/_catalog", status(404, "UNSUPPORTED"))
    assert mirror(cache, "team/*") == Round(failures=1)


@pytest.mark.parametrize(
    "name", ["team/../../../../../../escaped", "team//a", "team/A", "team/_layers"]
)
def test_what_is_listed_and_can_be_no_name_is_passed_over(
    liar: LyingRegistry, cache: Cache, tmp_path: Path, name: str
) -> None:
    """Names become folders. Whoever lists them is not believed that they are names."""
    for one in ("team/a", name):
        push(liar, "team/a", "1", busybox())
        liar.manifests[one] = liar.manifests["team/a"]
        liar.blobs[one] = liar.blobs["team/a"]

    def catalog(handler: Handler, answer: Answer) -> Answer:
        return Answer(body=json.dumps({"repositories": [name, "team/a"]}).encode())

    def tags(handler: Handler, answer: Answer) -> Answer:
        return Answer(body=json.dumps({"tags": ["../../../../../../tag", "1"]}).encode())

    liar.lie("GET", "/v2/_catalog", catalog)
    liar.lie("GET", "/tags/list", tags)
    assert mirror(cache, "team/*") == Round(tags=1)
    assert here(cache) == {"team/a": ["1"]}
    assert not [path for path in tmp_path.rglob("*") if path.name in ("escaped", "tag")]


def test_only_chosen_platforms_of_an_index_come(liar: LyingRegistry, cache: Cache) -> None:
    one, two = busybox(architecture="amd64"), busybox(small_layer("x"), architecture="arm64")
    push(liar, "app", "1", index(one, two))
    mirror(cache, "app", platforms=("linux/arm64",))
    known = {d for (d,) in cache.registry.metadata.rows("SELECT digest FROM blobs")}
    assert two.layers[-1].digest in known
    assert one.digest not in known


def test_what_fails_is_left_for_the_next_round(liar: LyingRegistry, cache: Cache) -> None:
    broken = busybox(small_layer("broken"))
    push(liar, "app", "1", broken)
    push(liar, "app", "2", busybox())
    liar.lie("GET", broken.layers[-1].digest, status(404, "BLOB_UNKNOWN"))
    assert mirror(cache, "app") == Round(tags=1, failures=1)
    liar.lie("GET", "/tags/list", status(404, "NAME_UNKNOWN"), times=1)
    assert mirror(cache, "app") == Round(failures=1)
    liar.lie("GET", "/tags/list", status(500))
    assert mirror(cache, "app") == Round(failures=1)


@pytest.mark.parametrize("prefix", ["", "hub/"])
def test_mirrors_begin_by_themselves(liar: LyingRegistry, prefix: str) -> None:
    from tests.session import eventually

    push(liar, "app", "1", busybox())
    mirroring = Mirroring(("app",), interval=60.0)
    with caching(upstream(liar, prefix=prefix, mirroring=(mirroring,))) as cache:
        with cache.working():
            eventually(lambda: here(cache) == {f"{prefix}app": ["1"]})


class Day:
    """A clock; who sleeps lets it go on, and it may be set meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = datetime(2026, 3, 1, 1, 0).astimezone()
        self.slept = 0.0
        self.set_by: list[timedelta] = []
        monkeypatch.setattr(mirrors, "datetime", self)
        monkeypatch.setattr(mirrors.asyncio, "sleep", self.sleep)

    def now(self) -> datetime:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.at += timedelta(seconds=seconds)
        if self.set_by:
            self.at += self.set_by.pop()


@pytest.mark.parametrize(
    ("set_by", "hours"),
    [
        (timedelta(), 2),
        (timedelta(days=365, hours=5), 0.2),
        (timedelta(days=-365), 2),
        (timedelta(hours=-2), 4),
    ],
)
def test_a_mirror_goes_round_at_its_time_though_the_clock_is_set(
    monkeypatch: pytest.MonkeyPatch, set_by: timedelta, hours: float
) -> None:
    day = Day(monkeypatch)
    day.set_by.append(set_by)
    mirror = Mirror(None, None, Mirroring(("app",), cron="0 3 * * *"))  # type: ignore[arg-type]
    asyncio.run(mirror._wait())
    assert day.slept <= hours * 3600
    assert set_by.days == 365 or day.at.hour == 3
