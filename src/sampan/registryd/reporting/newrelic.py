"""Transactions go to New Relic: each request by its kind, and how long it took.

The agent is used without its instrumentation: nothing in this process is patched. What it would
tell beside transactions (errors, SQL, logs, packages, the machine) is switched off, and so is what
the service may order from afar.
"""

from __future__ import annotations

import logging
import threading
from importlib.metadata import version
from types import TracebackType
from typing import Self

import newrelic.agent
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sampan.registry.service import HANDLER

log = logging.getLogger(__name__)
SHUTDOWN_SECONDS = 5.0
LOOK_SECONDS = 10.0  # after the start
# Sections of the agent's settings that would tell more than transactions, or ask others.
_OFF = """error_collector.enabled transaction_tracer.enabled slow_sql.enabled
thread_profiler.enabled
browser_monitoring.enabled application_logging.enabled distributed_tracing.enabled
custom_insights_events.enabled ml_insights_events.enabled span_events.enabled
package_reporting.enabled ai_monitoring.enabled code_level_metrics.enabled
utilization.detect_aws utilization.detect_azure utilization.detect_azurefunction
utilization.detect_azureappservice utilization.detect_docker utilization.detect_gcp
utilization.detect_kubernetes utilization.detect_pcf capture_params"""
_SECRET = ["request.parameters.*", "request.headers.referer", "request.uri"]


class NewRelic:
    """Reports for as long as it is entered."""

    def __init__(self, key: str, name: str, verbose: bool) -> None:
        settings = newrelic.agent.global_settings()
        settings.enabled = True
        settings.license_key = key
        settings.app_name = name
        settings.ignore_server_configuration = True
        settings.attributes.exclude = _SECRET
        for path in _OFF.split():
            section, _, flag = path.rpartition(".")
            found = settings
            for part in filter(None, section.split(".")):
                found = getattr(found, part, None)
            if hasattr(found, flag):  # agents of other years have other ones
                setattr(found, flag, False)
        self._name = name
        self._words = _Words(verbose)

    def __enter__(self) -> Self:
        logger = logging.getLogger("newrelic")
        logger.addHandler(self._words)
        logger.propagate = False
        self._application = newrelic.agent.register_application(
            name=self._name,
            timeout=0.0,  # in a thread
        )
        self._look = threading.Timer(LOOK_SECONDS, self._warn)
        self._look.daemon = True
        self._look.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._look.cancel()
        newrelic.agent.shutdown_agent(timeout=SHUTDOWN_SECONDS)
        logging.getLogger("newrelic").removeHandler(self._words)

    def _warn(self) -> None:
        """Say what the agent itself says after minutes."""
        if not self._application.active:
            log.warning("new relic does not answer: transactions are lost until it does")

    def around(self, application: ASGIApp) -> ASGIApp:
        """Return an application whose requests are transactions."""

        async def named(scope: Scope, receive: Receive, send: Send) -> None:
            async def begin(message: Message) -> None:
                if message["type"] == "http.response.start":  # the agent's end is that of answers
                    handler = scope.get(HANDLER, "none")
                    method = scope["method"] if handler != "none" else "other"
                    newrelic.agent.set_transaction_name(f"{method} {handler}", "Registry")
                await send(message)

            await application(scope, receive, begin)

        wrapped: ASGIApp = newrelic.agent.ASGIApplicationWrapper(
            named, self._name, framework=("Sampan", version("sampan"))
        )
        return wrapped


class _Words(logging.Handler):
    """What the agent says: all of it, or each warning once."""

    def __init__(self, verbose: bool) -> None:
        super().__init__(logging.DEBUG if verbose else logging.WARNING)
        self._verbose = verbose
        self._said: set[object] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if self._verbose:
            log.log(record.levelno, "new relic: %s", record.getMessage(), exc_info=record.exc_info)
        elif record.msg not in self._said:
            self._said.add(record.msg)
            log.warning("new relic: %s", record.getMessage())
