from __future__ import annotations

from sampan.registry.auth.silly import Silly
from sampan.registry.registry import Registry
from tests.own_registry import serving


def test_anything_opens_and_nothing_does_not() -> None:
    access = Silly("http://realm", "hub")
    with Registry.in_memory() as registry, serving(registry, access=access) as shop:
        answer = shop.ask("POST", "/v2/a/b/blobs/uploads/?mount=sha256:" + "0" * 64 + "&from=c")
        assert answer.status == 401
        assert answer.header("www-authenticate") == (
            'Bearer realm="http://realm",service="hub",'
            'scope="repository:a/b:pull,push repository:c:pull"'
        )
        assert shop.get("/v2/").header("www-authenticate") == (
            'Bearer realm="http://realm",service="hub"'
        )
        assert shop.get("/v2/", authorization="anything").status == 200
