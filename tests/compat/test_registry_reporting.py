"""Errors at bugsnag, transactions at New Relic: the vendors' libraries and doubles of services."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.registry import paths
from sampan.registry.application import Application
from sampan.registry.auth.access import NoAccess
from sampan.registry.registry import Registry as OwnRegistry
from sampan.registryd.reporting.bugsnag import Bugsnag
from sampan.spec.digest import Digest
from tests.netns import named
from tests.own_registry import Shop
from tests.registries import OURS, Registry, registry
from tests.remote_images import busybox, image, push, small_layer
from tests.reporting import Service, bugsnag, called, collector
from tests.session import eventually
from tests.wire import LOOPBACK, within

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]
KEY = "0123456789abcdef0123456789abcdef"
SECRETS = {
    "Authorization": "Basic czNjcjN0OnMzY3IzdA==",
    "Cookie": "session=s3cr3t",
    "X-Forwarded-For": "s3cr3t",
    "User-Agent": "docker/27",
}


@pytest.fixture
def namespace() -> Iterator[str]:
    with named() as name:
        yield name


@pytest.fixture
def service(namespace: str) -> Iterator[Service]:
    with bugsnag(namespace) as found:
        yield found


def bugsnag_at(address: str) -> dict[str, Any]:
    section = {"apikey": KEY, "releasestage": "trial", "endpoint": address}
    return {"reporting": {"bugsnag": section}}


def break_blob(hub: Registry, blob: str) -> None:
    """Make a folder of its file: reading it is an error of the storage."""
    path = hub.storage / paths.blob(Digest(blob))
    path.unlink()
    path.mkdir()


def fail(hub: Registry, manifest: str) -> None:
    path = f"/v2/team/app/manifests/{manifest}?account=s3cr3t&ns=docker.io"
    assert hub.ask("GET", path, headers=SECRETS).status == 503


# --- bugsnag


def test_an_error_is_told_with_its_request_and_without_secrets(
    namespace: str, service: Service
) -> None:
    with registry(namespace, program=OURS, more=bugsnag_at(f"{service.site.url}/errors")) as hub:
        item = busybox()
        push(hub, "team/app", "1", item)
        break_blob(hub, item.digest)
        fail(hub, item.digest)
        eventually(lambda: service.reports)
    (report,) = service.reports
    assert report.path == "/errors"
    assert report.headers["Bugsnag-Api-Key"] == KEY
    assert report.headers["Content-Type"] == "application/json"
    assert report.body["apiKey"] == KEY
    (event,) = report.body["events"]
    assert (event["severity"], event["unhandled"], event["releaseStage"]) == (
        *("error", False, "trial"),
    )
    assert event["app"] == {"version": "0.1.0", "type": "registry"}
    assert event["context"] == f"GET /v2/team/app/manifests/{item.digest}"
    assert event["exceptions"][0]["errorClass"] == "LogERROR"
    assert "Is a directory" in event["exceptions"][0]["message"]
    told = event["metaData"]["request"]
    assert told["clientIp"] == LOOPBACK
    assert told["httpMethod"] == "GET"
    assert told["url"] == f"{hub.url}/v2/team/app/manifests/{item.digest}"
    assert told["query"] == "account=[hidden]&ns=docker.io"
    assert told["headers"]["user-agent"] == "docker/27"
    assert "s3cr3t" not in str(report)
    assert "czNjcjN0" not in str(report)


@pytest.mark.parametrize("listens", [False, True], ids=["refuses", "hangs"])
def test_a_service_that_is_away_costs_one_warning(namespace: str, listens: bool) -> None:
    with within(namespace), socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        if listens:
            sock.listen()
        address = f"http://{LOOPBACK}:{sock.getsockname()[1]}"
        with registry(namespace, program=OURS, more=bugsnag_at(address)) as hub:
            item = busybox()
            push(hub, "team/app", "1", item)
            break_blob(hub, item.digest)
            for _ in range(150):  # more than wait for the service
                fail(hub, item.digest)
            push(hub, "team/app", "2", image(small_layer("note")))
            eventually(lambda: "errors are not told to bugsnag" in hub.log)
            hub.stop()
            assert hub.log.count("errors are not told to bugsnag") == 1
            assert "Traceback" not in hub.log


def test_one_that_comes_back_is_told_again(namespace: str, service: Service) -> None:
    with within(namespace), Bugsnag(KEY, "", service.site.url):
        log = logging.getLogger("under test")
        service.status = 503
        log.error("one")
        eventually(lambda: service.reports)
        service.status = 200
        log.error("two")
        log.warning("nobody is told of this")
    messages = [r.body["events"][0]["exceptions"][0]["message"] for r in service.reports]
    assert messages == ["one", "two"]
    assert service.reports[0].body["events"][0]["releaseStage"] == "production"


def test_what_nobody_caught_is_told_with_its_causes(namespace: str, service: Service) -> None:
    class Broken(NoAccess):
        def authorize(self, *given: object) -> Any:
            raise LookupError("password=s3cr3t") from ValueError("https://user:s3cr3t@host")

    with (
        OwnRegistry.in_memory() as own,
        within(namespace),
        Bugsnag(KEY, "", service.site.url) as reporter,
    ):
        application = Application(own, access=Broken())
        shop = Shop(reporter.around(application))  # type: ignore[arg-type]
        assert shop.ask("GET", "/v2/", headers=SECRETS).status == 500
        application.close()
    (event,) = service.reports[0].body["events"]
    kinds = [found["errorClass"] for found in event["exceptions"]]
    assert kinds == ["LookupError", "ValueError"]
    assert event["metaData"]["request"]["httpMethod"] == "GET"
    assert "s3cr3t" not in str(service.reports)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_end_by_an_exception_is_told(namespace: str, service: Service) -> None:
    def fails() -> None:
        raise LookupError("in a thread")

    hook = threading.excepthook
    with pytest.raises(RuntimeError), within(namespace), Bugsnag(KEY, "", service.site.url):
        thread = threading.Thread(target=fails)
        thread.start()
        thread.join()
        raise RuntimeError("the end")
    assert threading.excepthook is hook
    events = [report.body["events"][0] for report in service.reports]
    assert [event["exceptions"][0]["errorClass"] for event in events] == [
        *("LookupError", "RuntimeError"),
    ]
    assert all(event["unhandled"] for event in events)


# --- New Relic


def test_transactions_are_told_and_nothing_else(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = {"licensekey": KEY, "name": "our registry"}
    with collector(namespace, tmp_path / "ca.pem") as service:
        for name, value in (
            ("HOST", LOOPBACK),
            ("OTLP_HOST", LOOPBACK),
            ("PORT", str(service.site.port)),
            ("CA_BUNDLE_PATH", str(tmp_path / "ca.pem")),
        ):
            monkeypatch.setenv(f"NEW_RELIC_{name}", value)
        more = {"reporting": {"newrelic": section}}
        with registry(namespace, program=OURS, more=more) as hub:

            def counts() -> bool:
                hub.ask("GET", "/v2/")
                return any(called(report) == "analytic_event_data" for report in service.reports)

            eventually(counts)
            item = busybox()
            push(hub, "team/app", "1", item)
            blob = item.layers[0]
            reply = hub.ask("GET", f"/v2/team/app/blobs/{blob.digest}?t=s3cr3t", None, SECRETS)
            assert reply.body == blob.content
            break_blob(hub, item.digest)
            fail(hub, item.digest)
            hub.stop()  # the agent tells once a minute, and at its end
            assert "new relic" not in hub.log
    told = {called(report): report for report in service.reports}
    assert set(told) == {
        *("preconnect", "connect", "agent_settings", "get_agent_commands", "shutdown"),
        *("metric_data", "analytic_event_data"),
    }
    connect = told["connect"].body[0]
    assert connect["app_name"] == ["our registry"]
    assert "Plugin List" not in str(connect["environment"])
    assert "vendors" not in connect["utilization"]
    names = {found[0]["name"] for found in told["metric_data"].body[3]}
    for name in ("PUT manifest", "POST blob_upload", "GET blob"):
        assert f"WebTransaction/Registry/{name}" in names
    statuses = {
        (found[0]["name"], found[2]["http.statusCode"])
        for report in service.reports
        if called(report) == "analytic_event_data"
        for found in report.body[2]
    }
    assert ("WebTransaction/Registry/PUT manifest", 201) in statuses
    assert ("WebTransaction/Registry/GET manifest", 503) in statuses
    bodies = str(service.bodies())
    for secret in ("s3cr3t", "czNjcjN0", blob.digest, str(hub.storage)):
        assert secret not in bodies


def test_a_collector_that_is_away_costs_a_warning(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEW_RELIC_HOST", LOOPBACK)
    monkeypatch.setenv("NEW_RELIC_PORT", "9")
    with registry(
        namespace, program=OURS, more={"reporting": {"newrelic": {"licensekey": KEY}}}
    ) as hub:
        eventually(lambda: "new relic" in hub.log)
        push(hub, "team/app", "1", busybox())
        assert hub.ask("GET", "/v2/team/app/tags/list").json["tags"] == ["1"]
        hub.stop()
        assert hub.log.count("new relic") == 1
        assert "level=error" not in hub.log


def test_what_has_no_key_loads_nothing(namespace: str) -> None:
    more = {"reporting": {"bugsnag": {"releasestage": "x"}, "newrelic": {"name": "x"}}}
    with registry(namespace, program=OURS, more=more) as hub:
        assert hub.process
        loaded = Path(f"/proc/{hub.process.pid}/maps").read_text()
        assert "newrelic" not in loaded
        names = set()
        for thread in Path(f"/proc/{hub.process.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                names.add((thread / "comm").read_text())
        assert not any("bugsnag" in name for name in names)
