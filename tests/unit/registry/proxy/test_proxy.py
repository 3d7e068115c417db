"""Several upstreams in one cache, beside repositories of its own."""

from __future__ import annotations

from sampan.registry.events import Event
from tests.caching import caching, upstream
from tests.lying_registry import LyingRegistry, lying_registry
from tests.remote_images import busybox, push, small_layer


def test_upstreams_are_told_apart_by_prefix_and_namespace(liar: LyingRegistry) -> None:
    one, two = busybox(small_layer("one")), busybox(small_layer("two"))
    with lying_registry() as other:
        push(liar, "app", "1", one)
        push(other, "app", "1", two)
        known = (
            upstream(liar, "one", prefix="one/", namespaces=("one.example",)),
            upstream(other, "two", prefix="two/", namespaces=("two.example",)),
        )
        with caching(*known) as cache:
            for place in ("/v2/one/app/manifests/1", "/v2/app/manifests/1?ns=one.example"):
                assert cache.get(place).header("docker-content-digest") == one.digest
            for place in ("/v2/two/app/manifests/1", "/v2/app/manifests/1?ns=two.example"):
                assert cache.get(place).header("docker-content-digest") == two.digest
            answer = cache.get("/v2/app/manifests/1?ns=two.example")
            assert answer.header("oci-namespace") == "two.example"
            assert not cache.get("/v2/two/app/manifests/1").header("oci-namespace")
            answer = cache.get("/v2/app/manifests/1?ns=three.example")
            assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")
            assert cache.get("/v2/_catalog").json["repositories"] == ["one/app", "two/app"]
            base = one.layers[0].digest
            assert cache.blob("one/app", base).status == 200
            assert cache.blob("two/app", base).status == 200
        fetched = [line for one in (liar, other) for line in one.log.lines]
        assert sum(1 for verb, path in fetched if verb == "GET" and base in path) == 1


def test_repositories_of_ones_own_lie_beside(liar: LyingRegistry) -> None:
    push(liar, "app", "1", busybox())
    with caching(upstream(liar, prefix="hub/")) as cache:
        cache.push("team/app", "1")
        assert cache.tags("team/app") == ["1"]
        assert cache.manifest("hub/app", "1").status == 200
        assert cache.manifest("team/app", "2").status == 404
        assert [path for _, path in liar.log.lines if "team" in path] == []
        digest = busybox().layers[0].digest
        cache.blob("hub/app", digest)
        answer = cache.ask("POST", f"/v2/team/app/blobs/uploads/?mount={digest}&from=hub/app")
        assert answer.status == 201


def test_what_is_cached_can_be_removed(liar: LyingRegistry) -> None:
    shipped = busybox()
    push(liar, "app", "1", shipped)
    with caching(liar) as cache:
        cache.manifest("app", "1")
        assert cache.ask("DELETE", f"/v2/app/manifests/{shipped.digest}").status == 202
        assert cache.registry.lists.tags("app", "", None).items == []
        assert cache.manifest("app", "1").status == 200


def test_what_is_new_here_is_told(liar: LyingRegistry) -> None:
    told: list[Event] = []
    one, two = busybox(), busybox(small_layer("two"))
    push(liar, "app", "1", one)
    with caching(liar, tell=told.append) as cache:
        cache.manifest("app", "1")
        cache.manifest("app", "1")
        push(liar, "app", "1", two)
        cache.manifest("app", "1")
        push(liar, "app", "2", one)
        cache.manifest("app", "2")
    assert [(event.action, event.tag, event.digest) for event in told] == [
        ("push", "1", one.digest),
        ("push", "1", two.digest),
        ("push", "2", one.digest),
    ]


def test_a_sick_storage_stops_no_cache_and_all_else_does(liar: LyingRegistry) -> None:
    push(liar, "app", "1", busybox())
    with caching(liar) as cache:
        sick = {"storagedriver_s3": "it is away"}
        cache.application.sick = lambda: sick
        assert cache.manifest("app", "1").status == 200
        sick["/tmp/out-of-service"] = "file exists"
        assert cache.manifest("app", "1").json["errors"][0]["detail"] == {
            "/tmp/out-of-service": "file exists"
        }
