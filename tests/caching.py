"""Our registry as a cache inside the test: its application in a loop of its own, no server.

with lying_registry() as liar, caching(liar) as cache:
    push(liar, "library/app", "1", image)
    assert cache.get("/v2/library/app/manifests/1").status == 200
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from sampan.http.urls import Url
from sampan.registry.application import Application
from sampan.registry.auth.access import Access
from sampan.registry.events import Event
from sampan.registry.proxy.proxy import Proxy
from sampan.registry.proxy.upstreams import Places, Upstream, own_namespaces
from sampan.registry.registry import Registry
from sampan.registry.service import Service
from tests.lying_registry import LyingRegistry
from tests.own_registry import Answer, Shop
from tests.session import PATIENCE

T = TypeVar("T")


class Asking:
    """A request that is being answered."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.future: Future[Answer]

    def result(self) -> Answer:
        """Return the whole answer."""
        return self.future.result(PATIENCE)

    def cut(self) -> None:
        """Go away."""
        self.future.cancel()


class Cache(Shop):
    """Asks a cache; requests may overlap."""

    def __init__(self, application: Application, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(application)
        self._loop = loop
        self.proxy: Proxy

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns, which runs in the cache's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Let the cache do for a while what it does beside requests."""

        async def begin() -> asyncio.Task[None]:
            return asyncio.create_task(self.proxy.work())

        async def end() -> None:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

        work = self.run(begin())
        try:
            yield
        finally:
            self.run(end())

    def begin_to_ask(
        self, method: str, url: str, headers: Mapping[str, str] | None = None
    ) -> Asking:
        """Send a request and do not wait."""
        asking = Asking()
        work = self.asked(method, url, b"", headers or {}, answer=asking.answer)
        asking.future = asyncio.run_coroutine_threadsafe(work, self._loop)
        return asking

    def ask(
        self,
        method: str,
        url: str,
        body: Any = b"",
        headers: Mapping[str, str] | None = None,
        **rest: Any,
    ) -> Answer:
        return self.run(self.asked(method, url, body, headers or {}, **rest))

    def blob(self, name: str, digest: str, **headers: str) -> Answer:
        return self.get(f"/v2/{name}/blobs/{digest}", **headers)

    def manifest(self, name: str, reference: str) -> Answer:
        return self.get(f"/v2/{name}/manifests/{reference}")

    def figure(self, figure: str, kind: str, upstream: str = "liar") -> int:
        return self.proxy.figures.get(figure, upstream, kind)


def upstream(liar: LyingRegistry, name: str = "liar", **settings: Any) -> Upstream:
    """Return a lying registry as an upstream."""
    url = Url.parse(liar.url)
    return Upstream(name, url, **{"namespaces": own_namespaces(url), **settings})


@contextlib.contextmanager
def caching(
    *upstreams: Upstream | LyingRegistry,
    root: Path | None = None,
    registry: Registry | None = None,
    local: tuple[str, ...] = (),
    service: Service | None = None,
    access: Access | None = None,
    tell: Callable[[Event], None] | None = None,
) -> Iterator[Cache]:
    """Serve a cache of some upstreams: in memory, below a folder, or in a registry, which ends."""
    found = [one if isinstance(one, Upstream) else upstream(one) for one in upstreams]
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="cache")
    thread.start()
    if registry is None:
        registry = Registry.on_filesystem(str(root)) if root else Registry.in_memory()
    application = Application(registry, service or Service(deletes=True), access)
    cache = Cache(application, loop)

    async def enter() -> Proxy:
        return await Proxy(registry, application.threads, Places(found, local), tell).__aenter__()

    try:
        cache.proxy = application.proxy = cache.run(enter())
        try:
            yield cache
        finally:
            cache.run(cache.proxy.__aexit__())
    finally:
        application.close()
        registry.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
