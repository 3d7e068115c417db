"""Middlewares change where clients are sent for blobs."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.errors import InvalidArgument
from sampan.registry.drivers.objects.options import Options
from sampan.registry.redirects.addresses import Addresses, Redirect, Rewrite
from sampan.registry.registry import Registry
from sampan.registry.service import Service
from tests.own_registry import serving, sha


def options(**given: Any) -> Options:
    return Options(given, "here")


def storage(path: str, method: str) -> str:
    return f"https://s3.test/bucket/{path}?{method}"


def test_a_redirect_leads_to_another_server() -> None:
    for base in ("https://cdn.test/files", "https://cdn.test/files/"):
        found = Addresses(storage, [Redirect(options(baseurl=base))])
        assert found.url("a/b c", "GET", "") == "https://cdn.test/files/a/b%20c"
    for wrong in ("", "cdn.test", "https://", "/files"):
        with pytest.raises(InvalidArgument, match="baseurl"):
            Redirect(options(baseurl=wrong))


def test_a_rewrite_changes_parts_of_an_address() -> None:
    made = Rewrite(options(scheme="http", host="proxy:80", trimpathprefix="/bucket"))
    assert Addresses(storage, [made]).url("a", "HEAD", "") == "http://proxy:80/a?HEAD"
    assert Addresses(storage, [Rewrite(options())]).url("a", "GET", "") == storage("a", "GET")
    assert Addresses(lambda path, method: "", [made]).url("a", "GET", "") == ""


def test_the_last_has_the_last_word() -> None:
    rewrite, redirect = Rewrite(options(host="x")), Redirect(options(baseurl="http://y"))
    assert Addresses(storage, [rewrite, redirect]).url("a", "GET", "") == "http://y/a"
    assert Addresses(storage, [redirect, rewrite]).url("a", "GET", "") == "http://x/a"


def test_blobs_of_any_storage_can_be_elsewhere() -> None:
    with Registry.in_memory() as registry:
        registry.use(Addresses(registry.driver.url, [Redirect(options(baseurl="http://cdn"))]))
        with serving(registry, Service(redirect=True)) as shop:
            image = shop.push("a", "1")
            answer = shop.get(f"/v2/a/blobs/{sha(b'layer')}")
            digits = sha(b"layer").partition(":")[2]
            place = f"docker/registry/v2/blobs/sha256/{digits[:2]}/{digits}/data"
            assert (answer.status, answer.header("location")) == (307, f"http://cdn/{place}")
            assert shop.get(f"/v2/a/blobs/{sha(b'none')}").status == 404
            assert shop.get("/v2/a/manifests/1").header("docker-content-digest") == image
