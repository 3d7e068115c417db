"""`serve`: the registry of a configuration, from the first socket to the last request."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sqlite3
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

from sampan.errors import InvalidArgument
from sampan.http.server import Server as DebugServer
from sampan.linux import heap
from sampan.registry.application import Application
from sampan.registry.configuration.document import Checked
from sampan.registry.database.clock import NOTE_SECONDS
from sampan.registry.observability.access_log import AccessLog
from sampan.registry.observability.audit import Audited, AuditLog
from sampan.registry.observability.health import Health
from sampan.registry.observability.notifications import Endpoint, Notifier
from sampan.registry.registry import Registry
from sampan.registry.serving.proxied import Proxied
from sampan.registry.serving.servers import make_server
from sampan.registry.upkeep.purging import Purging
from sampan.registryd import (
    bounds,
    control,
    debugging,
    governing,
    logs,
    memory,
    settings,
    sockets,
    token_settings,
    web,
)
from sampan.registryd.reporting import services
from sampan.registryd.tls import Tls
from sampan.registryd.upkeep import Upkeep

if TYPE_CHECKING:  # what not every configuration needs is imported where it is wanted
    from prometheus_client.registry import Collector

    from sampan.registry.proxy.proxy import Proxy
    from sampan.registry.tokens.issuer import Issuer

log = logging.getLogger(__name__)
DEFAULT_ADDRESS = ":5000"
OUTBOX = "notifications.db"
LEAST_TEND_SECONDS = 60.0
ENDING = (signal.SIGTERM, signal.SIGINT)
FIRST_PURGE_SECONDS = 3600.0  # the first purge is somewhere within, so that replicas spread


def configure_logs(checked: Checked) -> None:
    """Log as the configuration says."""
    level = str(checked.get("log.level") or checked.get("loglevel") or "info").lower()
    fields = {str(k): str(v) for k, v in checked.get("log.fields", {}).items()}
    kind = checked.get("log.formatter", "text")
    logs.configure(level, kind, fields, checked.get("log.reportcaller", False))


async def serve(checked: Checked) -> None:
    """Serve until SIGTERM or SIGINT. SIGHUP reads certificates anew."""
    heap.few_arenas()
    loop = asyncio.get_running_loop()
    _end_early(loop)
    async with AsyncExitStack() as stack:
        mailboxes = settings.mailboxes(checked)
        if mailboxes:
            from sampan.registryd.mail import Post

            stack.enter_context(Post(mailboxes))
        report = services.begin(checked, stack)
        lifetime = token_settings.lifetime(checked)
        address = str(checked.get("http.addr", DEFAULT_ADDRESS))
        net = checked.get("http.net", "tcp")
        listener = stack.enter_context(sockets.listening(address, net, os.environ))
        tls = Tls()
        await tls.prepare(checked, stack, listener)
        audit = governing.audit(checked)
        if audit:
            stack.callback(audit.close)
        works: list[Coroutine[Any, Any, None]] = [memory.Slimming().keep()]
        figures: list[Collector] = []
        stack.callback(_drop, works)
        application = None
        issuer = None
        if token_settings.is_wanted(checked):
            issuer = stack.enter_context(token_settings.issuer(checked))
            works.append(_tend(issuer, lifetime))
        health = Health()
        if settings.has_storage(checked):
            application, health = await _registry(checked, stack, works, figures, audit)
        served = _faces(checked, stack, application, issuer, audit)
        if not checked.get("log.accesslog.disabled", False):
            served = AccessLog(served, logs.unbuffered(sys.stdout))
        served = report(await _debug(checked, stack, health, served, figures))
        if trusted := bounds.proxies(checked):
            served = Proxied(served, trusted)
        server = await stack.enter_async_context(
            make_server(
                served,
                listener,
                tls=tls.certificates.tls if tls.certificates else None,
                http2=tls.http2(checked),
                limits=bounds.limits(checked),
            )
        )
        background = await stack.enter_async_context(_Background())
        while works:
            background.start(works.pop())
        if tls.certificates:
            for work in tls.works(server):
                background.start(work)
        loop.add_signal_handler(signal.SIGHUP, tls.hang_up, server)
        for number in ENDING:
            loop.add_signal_handler(number, server.stop)
        kind = ", tls" if tls.certificates else ""
        log.info("listening on %s%s", sockets.name_of(listener), kind)
        await server.ended()
    log.info("the registry has ended")


def _end_early(loop: asyncio.AbstractEventLoop) -> None:
    """Have a signal that comes during the start undo what there is of it."""
    starting = asyncio.current_task()
    assert starting

    def end() -> None:
        for number in ENDING:
            loop.add_signal_handler(number, lambda: None)
        starting.cancel()

    for number in ENDING:
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # all is about to be read anyway


def _faces(
    checked: Checked,
    stack: AsyncExitStack,
    application: Application | None,
    issuer: Issuer | None,
    audit: AuditLog | None,
) -> ASGIApp:
    """Return what is served: a registry, a token service, or both; and pages for browsers."""
    served: ASGIApp | None = application
    if issuer:
        from sampan.registry.tokens.application import TokenApplication

        tokens = TokenApplication(issuer, token_settings.path(checked), served)
        stack.callback(tokens.close)
        served = tokens
    assert served, "a configuration without storage and tokens is refused"
    if audit:
        served = Audited(served, audit)
    if application and (pages := web.pages(checked, application, served, issuer)):
        stack.callback(pages.close)
        served = pages
    return served


def _drop(works: list[Coroutine[Any, Any, None]]) -> None:
    for work in works:  # that nobody began, because something before it failed
        work.close()


async def _registry(
    checked: Checked,
    stack: AsyncExitStack,
    works: list[Coroutine[Any, Any, None]],
    figures: list[Collector],
    audit: AuditLog | None,
) -> tuple[Application, Health]:
    """Open the registry; say what has to go on beside the requests, and what is counted."""
    cache = _cache(checked)
    access = settings.access(checked)
    collecting = settings.collecting(checked)
    endpoints = settings.endpoints(checked)
    registry = stack.enter_context(settings.open_registry(checked))
    stack.callback(_note_time, registry)
    notifier = _notifier(checked, registry, endpoints)
    if notifier:
        stack.callback(notifier.close)
        notifier.start()
    redis = registry.descriptors.figures
    if redis:
        figures.append(redis)
    checks = settings.checks(checked, registry.driver.check)
    health = Health(checks, redis.notes if redis else dict)
    application = Application(registry, settings.service(checked), access, notifier, health.sick)
    stack.callback(application.close)
    if cache:
        tell = partial(notifier, None) if notifier else None
        proxy = await stack.enter_async_context(cache(registry, application.threads, tell=tell))
        application.proxy = proxy
        works.append(proxy.work())
        figures.append(proxy.figures)
    upkeep = Upkeep(
        *(registry, governing.retaining(checked), governing.scrubbing(checked)), collecting, audit
    )
    upkeep.serving = True
    stack.callback(upkeep.close)
    if settings.own_folder(checked):
        stack.push_async_exit(server := DebugServer(control.handler(upkeep)))
        server.listen(control.listen(registry.own_folder))
        stack.callback(sockets.removal(registry.own_folder / control.NAME))
    works.append(upkeep.keep_tidy(application.threads))
    works.append(upkeep.keep_reading(application.threads))
    works.append(upkeep.keep_looking(application.threads, settings.looking(checked)))
    works.append(health.watch(application.threads))
    works.append(_keep_time(registry, application))
    works.append(_purge(registry, application, settings.purging(checked)))
    works.append(upkeep.keep_collecting(application.threads))
    return application, health


def _cache(checked: Checked) -> Callable[..., Proxy] | None:
    """Return what makes the cache of other registries; None if this is none."""
    if not checked.get("proxy"):
        return None
    from sampan.registry.proxy.proxy import Proxy  # the client of registries: 10 MB
    from sampan.registryd import upstreams

    places = upstreams.places(checked)
    return partial(Proxy, places=places) if places else None


def _notifier(
    checked: Checked, registry: Registry, endpoints: Sequence[Endpoint]
) -> Notifier | None:
    if not endpoints:
        return None
    references = bool(checked.get("notifications.events.includereferences", False))
    return Notifier(registry.own_folder / OUTBOX, endpoints, references)


async def _debug(
    checked: Checked,
    stack: AsyncExitStack,
    health: Health,
    served: ASGIApp,
    figures: Sequence[Collector],
) -> ASGIApp:
    """Open the debug port, if there is one; return the application, counted if that is wanted."""
    address = checked.get("http.debug.addr")
    if not address:
        return served
    counted = checked.get("http.debug.prometheus.enabled", False)
    metrics = None
    if counted:
        from sampan.registry.observability.metrics import Metrics

        metrics = Metrics(served)
        for collector in figures:
            metrics.add(collector)
    path = str(checked.get("http.debug.prometheus.path") or "/metrics")
    server = await stack.enter_async_context(DebugServer(debugging.handler(health, metrics, path)))
    listener = sockets.on_address(str(address))
    server.listen(listener)
    log.info("debug server listening %s", sockets.name_of(listener))
    return metrics or served


class _Background:
    """Owns the tasks that go on beside the requests."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_tell_failure)
        self._tasks.append(task)

    async def __aenter__(self) -> _Background:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("a task beside the requests has failed", exc_info=error)


async def _tend(issuer: Issuer, lifetime: float) -> None:
    """Make and remove signing keys when it is time."""
    while True:
        try:
            await asyncio.to_thread(issuer.keys.tend)
        except (OSError, InvalidArgument) as error:
            log.error("keys of the token service are not renewed: %s", error)
        await asyncio.sleep(max(lifetime, LEAST_TEND_SECONDS))


async def _purge(registry: Registry, application: Application, purging: settings.Purging) -> None:
    """End uploads that nobody goes on with."""
    if not purging.enabled:
        return
    interval = max(purging.interval, 1.0)
    work = Purging(registry, purging.age, purging.dry_run)
    first = min(interval, FIRST_PURGE_SECONDS)
    await asyncio.sleep(random.uniform(0, first))  # noqa: S311 no secret
    loop = asyncio.get_running_loop()
    while True:
        try:
            await loop.run_in_executor(application.threads, work.look)
        except (OSError, sqlite3.Error) as error:
            log.error("uploads are not purged: %s", error)
        pause = max(work.pause, 1.0)
        await asyncio.sleep(min(interval, pause) if work.waits() else interval)


async def _keep_time(registry: Registry, application: Application) -> None:
    """Write down again and again what time it is."""
    loop = asyncio.get_running_loop()
    while True:
        await loop.run_in_executor(application.threads, _note_time, registry)
        await asyncio.sleep(NOTE_SECONDS)


def _note_time(registry: Registry) -> None:
    try:
        registry.metadata.note_time()
    except (OSError, sqlite3.Error) as error:  # what is not noted does not count
        log.debug("the time is not noted: %s", error)
