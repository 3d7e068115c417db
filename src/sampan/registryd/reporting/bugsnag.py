"""Errors go to bugsnag: what is logged as one, and what nobody caught.

Its own deliveries take a thread for each error, and wait without an end. Here one thread sends what
it finds in a queue, which loses what it cannot hold; whoever fails does not wait for it.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from contextvars import ContextVar
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

import bugsnag.delivery
import bugsnag.legacy
from bugsnag.client import Client
from bugsnag.configuration import Configuration
from bugsnag.event import Event
from starlette.types import ASGIApp, Receive, Scope, Send

from sampan.errors import SampanError
from sampan.registryd.reporting.redaction import redact_all, request

log = logging.getLogger(__name__)
WAITING = 100  # errors that are not sent yet
SEND_SECONDS = 10.0
CLOSE_SECONDS = 5.0
STAGE = "production"
Waiting = tuple[str, Callable[[], None]]
# The library has made a client of its own, which hears of what nobody caught, and has no key.
bugsnag.legacy.default_client.uninstall_sys_hook()
_scope: ContextVar[Scope | None] = ContextVar("scope", default=None)


class Bugsnag:
    """Reports for as long as it is entered; an exception that ends it is reported too."""

    def __init__(self, key: str, stage: str, endpoint: str) -> None:
        """Without an endpoint the service's own is taken."""
        endpoint = endpoint or bugsnag.delivery.DEFAULT_ENDPOINT
        self._delivery = _Delivery(key, endpoint)
        words = log.getChild("library")
        words.setLevel(logging.WARNING)  # it tells of every report
        configuration = Configuration(logger=words)
        self._client = Client(
            configuration,
            install_sys_hook=False,
            api_key=key,
            app_type="registry",
            app_version=version("sampan"),
            release_stage=stage or STAGE,
            endpoint=endpoint,
            session_endpoint=endpoint,
            auto_capture_sessions=False,
            send_environment=False,
            max_breadcrumbs=0,
            delivery=self._delivery,
            asynchronous=False,  # the queue is
        )
        configuration.middleware.before_notify(_add_request)
        self._handler = self._client.log_handler(level=logging.ERROR)

    def __enter__(self) -> Self:
        self._delivery.start()
        self._client.install_sys_hook()
        logging.getLogger().addHandler(self._handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, SampanError):
            self._client.excepthook(kind, error, traceback)
        logging.getLogger().removeHandler(self._handler)
        self._client.uninstall_sys_hook()
        self._delivery.close()

    def around(self, application: ASGIApp) -> ASGIApp:
        """Return an application whose errors are told with their requests."""

        async def remember(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                _scope.set(scope)
            await application(scope, receive, send)
            _scope.set(None)  # after a failure the server has still to log it

        return remember


def _add_request(event: Event) -> None:
    scope = _scope.get()
    if scope is not None:
        told = request(scope)
        event.add_tab("request", told)
        event.context = f"{told['httpMethod']} {scope['path']}"


class _Delivery:
    """Sends one error after the other, in the place of the library's own `Delivery`."""

    def __init__(self, key: str, endpoint: str) -> None:
        self._key = key
        self._endpoint = endpoint
        self._waiting: queue.Queue[Waiting | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name="bugsnag", daemon=True)
        self._fails = False
        self._ends = threading.Event()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Send what is there, for a while."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            self._ends.set()
        self._thread.join(CLOSE_SECONDS)
        self._ends.set()

    def deliver(self, config: Configuration, payload: str, options: Any = None) -> None:
        """Put an error into the queue; called by the library."""
        done = (options or {}).get("post_delivery_callback") or (lambda: None)
        try:
            self._waiting.put_nowait((payload, done))
        except queue.Full:
            self._failed("too many errors wait for it; the newest are not told")
            done()

    def deliver_sessions(self, config: Configuration, payload: str, options: Any = None) -> None:
        """Nobody has sessions."""

    def _work(self) -> None:
        while not self._ends.is_set() and (waiting := self._waiting.get()) is not None:
            payload, done = waiting
            try:
                self._send(payload)
            except (OSError, ValueError) as error:
                self._failed(str(getattr(error, "reason", None) or error))
            except Exception as error:  # noqa: BLE001 a report must never end the reports
                self._failed(repr(error))
            else:
                if self._fails:
                    log.info("bugsnag takes errors again")
                self._fails = False
            done()

    def _failed(self, reason: str) -> None:
        if not self._fails:
            log.warning("errors are not told to bugsnag: %s", reason)
        self._fails = True

    def _send(self, payload: str) -> None:
        told = redact_all(json.loads(payload))
        told["apiKey"] = self._key
        sent = urllib.request.Request(  # noqa: S310 an address of http, which is checked
            self._endpoint,
            json.dumps(told).encode(),
            bugsnag.delivery.default_headers(self._key),
        )
        with urllib.request.urlopen(sent, timeout=SEND_SECONDS):  # noqa: S310
            pass
