"""Quotas: nobody gets over them, whatever happens at once, and nobody is refused within them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sampan.errors import InvalidArgument
from sampan.registry import paths
from sampan.registry.content.quotas import Quota, in_words
from sampan.registry.patterns import Pattern
from sampan.registry.registry import Registry
from tests.own_registry import Answer, Shop, manifest, serving, sha

EACH = Quota(Pattern("team/*"), 1000)
SHARED = Quota(Pattern("crew/**"), 1000, together=True)
TAGS = Quota(Pattern("tags/*"), tags=2)


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Registry.in_memory() as registry, serving(registry) as found:
        registry.quotas.define([EACH, SHARED, TAGS])
        yield found


def put_blob(shop: Shop, name: str, content: bytes) -> Answer:
    """Push a blob in one request of a known length."""
    return shop.ask("POST", f"/v2/{name}/blobs/uploads/?digest={sha(content)}", content)


def uploads(shop: Shop, name: str) -> list[str]:
    return shop.registry.driver.list(paths.uploads(name))


def used(shop: Shop, owner: str) -> int:
    return {row.name: row.used for row in shop.registry.quotas.used()}.get(owner, 0)


def test_a_repository_gets_what_its_quota_is_and_no_more(shop: Shop) -> None:
    assert put_blob(shop, "team/a", b"x" * 600).status == 201
    answer = put_blob(shop, "team/a", b"y" * 401)
    assert (answer.status, answer.code) == (403, "DENIED")
    assert answer.json["errors"][0]["message"] == (
        "the quota of team/* is 1000 bytes: 600 bytes are in use, and this needs 401 bytes more"
    )
    assert uploads(shop, "team/a") == []
    assert put_blob(shop, "team/a", b"z" * 400).status == 201
    assert put_blob(shop, "team/b", b"x" * 1000).status == 201
    assert put_blob(shop, "other/a", b"x" * 5000).status == 201
    assert used(shop, "team/a") == 1000


def test_a_full_repository_refuses_the_beginning_of_an_upload(shop: Shop) -> None:
    put_blob(shop, "team/a", b"x" * 1000)
    answer = shop.ask("POST", "/v2/team/a/blobs/uploads/")
    assert (answer.status, answer.code) == (403, "DENIED")
    assert put_blob(shop, "team/a", b"x" * 1000).status == 201  # which is there already
    place = shop.ask("POST", f"/v2/team/a/blobs/uploads/?mount={sha(b'?')}&from=team/b")
    assert place.status == 403


def test_a_length_that_does_not_fit_is_refused_before_a_byte_is_read(shop: Shop) -> None:
    place = shop.begin("team/a")
    headers = {"Content-Length": "1001"}
    answer = shop.ask("PATCH", place, [b"x" * 10], headers)
    assert (answer.status, answer.code) == (403, "DENIED")
    assert uploads(shop, "team/a") == []


def test_a_stream_of_unknown_length_ends_at_the_quota(shop: Shop) -> None:
    place = shop.begin("team/a")
    answer = shop.ask("PATCH", place, [b"x" * 700, b"x" * 200])
    assert answer.status == 202
    answer = shop.ask("PATCH", place, [b"x" * 700, b"x" * 700])
    assert (answer.status, answer.code) == (403, "DENIED")
    assert uploads(shop, "team/a") == []
    assert used(shop, "team/a") == 0


def test_content_that_is_there_opens_no_way_for_more(shop: Shop) -> None:
    held = b"x" * 600
    put_blob(shop, "team/a", held)
    put_blob(shop, "team/a", b"y" * 300)
    for body in (b"z" * 4000, [b"z" * 500, b"z" * 500]):
        answer = shop.ask("PUT", f"{shop.begin('team/a')}?digest={sha(held)}", body)
        assert (answer.status, answer.code) == (403, "DENIED")
        assert uploads(shop, "team/a") == []
    for content in (held, b""):
        assert put_blob(shop, "team/a", content).status == 201
        assert put_blob(shop, "team/a", content).status == 201


def test_a_mount_counts(shop: Shop) -> None:
    content = b"x" * 600
    put_blob(shop, "other/a", content)
    put_blob(shop, "team/a", b"y" * 600)
    url = f"/v2/team/a/blobs/uploads/?mount={sha(content)}&from=other/a"
    answer = shop.ask("POST", url)
    assert (answer.status, answer.code) == (403, "DENIED")
    assert shop.ask("POST", url.replace("team/a", "team/b")).status == 201
    assert used(shop, "team/b") == 600


def test_those_who_share_a_quota_pay_once_for_what_they_share(shop: Shop) -> None:
    layer = b"x" * 600
    assert put_blob(shop, "crew/a", layer).status == 201
    assert put_blob(shop, "crew/deep/b", layer).status == 201
    url = f"/v2/crew/c/blobs/uploads/?mount={sha(layer)}&from=crew/a"
    assert shop.ask("POST", url).status == 201
    assert used(shop, "crew/**") == 600
    assert put_blob(shop, "crew/d", b"y" * 401).status == 403
    assert put_blob(shop, "crew/d", b"y" * 400).status == 201
    assert put_blob(shop, "crewless/d", b"y" * 4000).status == 201


def test_manifests_count(shop: Shop) -> None:
    layer, config = b"x" * 800, b"{}"
    put_blob(shop, "team/a", layer)
    put_blob(shop, "team/a", config)
    body = manifest([sha(layer)], [layer], config)
    answer = shop.put("team/a", "1", body)
    assert len(body) > 198
    assert (answer.status, answer.code) == (403, "DENIED")
    assert shop.tags("team/a") == []


def test_what_is_removed_makes_room(shop: Shop) -> None:
    content = b"x" * 1000
    put_blob(shop, "team/a", content)
    shop.ask("DELETE", f"/v2/team/a/blobs/{sha(content)}")
    assert put_blob(shop, "team/a", b"y" * 1000).status == 201
    shop.registry.collector.collect(-1)
    assert put_blob(shop, "team/a", b"z" * 1000).status == 201


def test_tags_have_a_quota_too(shop: Shop) -> None:
    for tag in ("1", "2", "1"):
        shop.push("tags/a", tag)
    shop.push_blob("tags/a", b"layer")
    answer = shop.put("tags/a", "3", manifest([sha(b"layer")], [b"layer"]))
    assert (answer.status, answer.code) == (403, "DENIED")
    assert "2 tags" in answer.json["errors"][0]["message"]
    shop.ask("DELETE", "/v2/tags/a/manifests/1")
    shop.push("tags/a", "3")


def test_pushes_at_once_do_not_get_over_it_together(shop: Shop) -> None:
    contents = [bytes([n]) * 300 for n in range(12)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda content: put_blob(shop, "team/a", content), contents))
    assert sorted(answer.status for answer in answers) == [201] * 3 + [403] * 9
    assert used(shop, "team/a") == 900
    assert uploads(shop, "team/a") == []


@pytest.mark.parametrize("pattern", ["team/*", "team", "*/**", "$user/**"])
def test_what_cannot_be_shared_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgument, match="NAMESPACE"):
        Quota(Pattern(pattern), 1, together=True)
    with pytest.raises(InvalidArgument, match="limits nothing"):
        Quota(Pattern(pattern))


def test_numbers_are_told_as_one_reads_them() -> None:
    told = [in_words(n) for n in (0, 1023, 1536, 10 << 30, 1 << 60)]
    assert told == ["0 bytes", "1023 bytes", "1.5 KiB", "10.0 GiB", "1048576.0 TiB"]


class AnyOrder(RuleBasedStateMachine):
    """Pushes, uploads that are left, mounts, deletes and collections in any order: a model says
    who must be refused."""

    NAMES = ("team/a", "team/b", "crew/a", "crew/b")
    SIZES = (100, 350, 400, 700)

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry.in_memory()
        self.registry.quotas.define([EACH, SHARED])
        self.life = serving(self.registry)
        self.shop = self.life.__enter__()
        self.held: dict[str, set[int]] = {name: set() for name in self.NAMES}
        self.left: dict[str, dict[str, int]] = {name: {} for name in self.NAMES}  # by address

    def _use(self, name: str, more: int = 0) -> int:
        sizes = set().union(*(self.held[other] for other in self._sharing(name)))
        return sum(sizes | ({more} if more else set()))

    @staticmethod
    def _sharing(name: str) -> list[str]:
        return [name] if name.startswith("team/") else ["crew/a", "crew/b"]

    def _unfinished(self, name: str) -> int:
        return sum(sum(self.left[other].values()) for other in self._sharing(name))

    @staticmethod
    def _blob(size: int) -> bytes:
        return bytes([size % 251]) * size

    @rule(name=st.sampled_from(NAMES), size=st.sampled_from(SIZES), known=st.booleans())
    def push(self, name: str, size: int, known: bool) -> None:
        content = self._blob(size)
        if known:
            answer = put_blob(self.shop, name, content)
        else:
            answer = self.shop.ask("POST", f"/v2/{name}/blobs/uploads/")
            if answer.status == 202:
                place = answer.header("location").removeprefix("http://registry.test")
                url = f"{place}?digest={sha(content)}"
                answer = self.shop.ask("PUT", url, [content[:50], content[50:]])
        limit = 1000 - self._unfinished(name)
        fits = self._use(name, size) <= limit
        if fits and (known or self._use(name) + size <= limit):
            assert answer.status == 201
        elif not fits:
            assert (answer.status, answer.code) == (403, "DENIED")
        if answer.status == 201:
            self.held[name].add(size)

    @rule(name=st.sampled_from(NAMES), source=st.sampled_from(NAMES), size=st.sampled_from(SIZES))
    def mount(self, name: str, source: str, size: int) -> None:
        url = f"/v2/{name}/blobs/uploads/?mount={sha(self._blob(size))}&from={source}"
        answer = self.shop.ask("POST", url)
        if size in self.held[source]:
            fits = self._use(name, size) + self._unfinished(name) <= 1000
            assert answer.status == (201 if fits else 403)
            if answer.status == 201:
                self.held[name].add(size)
        elif answer.status == 202:
            place = answer.header("location").removeprefix("http://registry.test")
            self.shop.ask("DELETE", place)

    @rule(name=st.sampled_from(NAMES), size=st.sampled_from(SIZES), told=st.booleans())
    def leave(self, name: str, size: int, told: bool) -> None:
        answer = self.shop.ask("POST", f"/v2/{name}/blobs/uploads/")
        room = 1000 - self._use(name) - self._unfinished(name)
        assert answer.status == (202 if room else 403)
        if answer.status == 202:
            place = answer.header("location").removeprefix("http://registry.test")
            content = self._blob(size)
            body = content if told else [content[:50], content[50:]]
            answer = self.shop.ask("PATCH", place, body)
            assert answer.status == (202 if size <= room else 403)
            if answer.status == 202:
                self.left[name][place] = size

    @rule(name=st.sampled_from(NAMES), finish=st.booleans())
    def end(self, name: str, finish: bool) -> None:
        if self.left[name]:
            place, size = self.left[name].popitem()
            if finish:
                url = f"{place}?digest={sha(self._blob(size))}"
                assert self.shop.ask("PUT", url).status == 201
                self.held[name].add(size)
            else:
                assert self.shop.ask("DELETE", place).status == 204

    @rule(name=st.sampled_from(NAMES), size=st.sampled_from(SIZES))
    def delete(self, name: str, size: int) -> None:
        answer = self.shop.ask("DELETE", f"/v2/{name}/blobs/{sha(self._blob(size))}")
        assert answer.status == (202 if size in self.held[name] else 404)
        self.held[name].discard(size)

    @rule()
    def collect(self) -> None:
        self.registry.collector.collect(-1)
        for sizes in self.held.values():
            sizes.clear()  # no manifest needs any of it

    @invariant()
    def the_books_are_right(self) -> None:
        for use in self.registry.quotas.used():
            name = use.name if use.name in self.NAMES else "crew/a"
            assert use.used == self._use(name)
            assert use.unfinished == self._unfinished(name)
            assert use.size is not None
            assert use.used + use.unfinished <= use.size

    @rule()
    def count_again(self) -> None:
        self.registry.quotas.define([EACH, SHARED])

    def teardown(self) -> None:
        self.life.__exit__(None, None, None)
        self.registry.close()


AnyOrder.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestAnyOrder = AnyOrder.TestCase
