"""All that an upstream may answer, and what clients of the cache get: a table of both."""

from __future__ import annotations

import base64
import ipaddress
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sampan.errors import Upstream as Failed
from sampan.http.urls import Url
from sampan.registry.errors import RegistryError
from sampan.registry.proxy import cached, placed
from sampan.registry.proxy.failures import LONGEST_RETRY, failure
from sampan.registry.proxy.logins import Login
from sampan.registry.proxy.upstreams import Place, Upstream
from tests.caching import Cache, caching, upstream
from tests.lying_registry import (
    Answer,
    Handler,
    Lie,
    LyingRegistry,
    broken_off,
    corrupt,
    endless,
    longer,
    lying_registry,
    mute,
    no_answer,
    shorter,
    silent,
    status,
)
from tests.remote_images import busybox, push
from tests.session import PATIENCE

pytestmark = pytest.mark.usefixtures("impatient")


@dataclass(frozen=True)
class Case:
    """A trouble of the upstream; what a client gets where nothing is here."""

    lie: Lie
    status: int
    code: str  # "": that of what is asked for
    retry: str = ""
    is_believed: bool = False  # what is here is gone
    told: str = ""  # in the message

    def code_of(self, what: str) -> str:
        return self.code or ("BLOB_UNKNOWN" if what == "blob" else "MANIFEST_UNKNOWN")


SLOW = ("TOOMANYREQUESTS", "slow down")
CASES = {
    "429": Case(status(429, *SLOW), 429, "TOOMANYREQUESTS", "10", told="takes no more"),
    "429 for a moment": Case(status(429, *SLOW, Retry_After="3"), 429, "TOOMANYREQUESTS", "3"),
    "429 for hours": Case(status(429, *SLOW, Retry_After="21600"), 429, "TOOMANYREQUESTS", "21600"),
    "401": Case(status(401, "UNAUTHORIZED"), 403, "DENIED", told="refuses"),
    "403": Case(status(403, "DENIED"), 404, ""),
    "404": Case(lambda *_: Answer(404), 404, "", is_believed=True),
    "404, known": Case(status(404, "MANIFEST_UNKNOWN"), 404, "", is_believed=True),
    "400": Case(status(400, "UNSUPPORTED"), 503, "UNAVAILABLE", told="cannot be asked"),
    "500": Case(status(500), 503, "UNAVAILABLE", told="500"),
    "502": Case(status(502), 503, "UNAVAILABLE", told="502"),
    "503, come again": Case(status(503, Retry_After="7"), 503, "UNAVAILABLE", told="503"),
    "504": Case(status(504), 503, "UNAVAILABLE", told="504"),
    "no answer": Case(no_answer, 503, "UNAVAILABLE", told="cannot be asked"),
    "mute": Case(mute, 503, "UNAVAILABLE"),
}
LIES: dict[str, Lie] = {
    "corrupt": corrupt,
    "longer": longer,
    "shorter": shorter,
    "endless": endless,
    "silent": silent,
    "broken off": broken_off,
}
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
WHATS = ("tag", "digest", "blob")


class Counter:
    """The image of a test, and how to ask for its parts."""

    def __init__(self, liar: LyingRegistry, cache: Cache) -> None:
        self.liar = liar
        self.cache = cache
        self.shipped = busybox()
        push(liar, "app", "1", self.shipped)

    def url(self, what: str) -> str:
        if what == "blob":
            return f"/v2/app/blobs/{self.shipped.layers[0].digest}"
        return f"/v2/app/manifests/{'1' if what == 'tag' else self.shipped.digest}"

    def content(self, what: str) -> bytes:
        return (self.shipped.layers[0] if what == "blob" else self.shipped.manifest).content

    def is_clean(self) -> bool:
        """Nothing is left of what did not come."""
        driver = self.cache.registry.driver
        return driver.list("docker/registry/v2/repositories/app/_uploads") == []


@pytest.fixture
def counter(liar: LyingRegistry, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> Counter:
    monkeypatch.setattr(placed, "PATIENCE", 0.5)
    return Counter(liar, cache)


@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_where_nothing_is_here_clients_are_told_what_helps_them(
    counter: Counter, case: Case, what: str
) -> None:
    counter.liar.lie("", "/v2/", case.lie)
    answer = counter.cache.get(counter.url(what))
    assert (answer.status, answer.code) == (case.status, case.code_of(what))
    assert answer.header("retry-after") == case.retry
    assert case.told in answer.json["errors"][0]["message"]
    head = counter.cache.ask("HEAD", counter.url(what))
    assert (head.status, head.header("retry-after")) == (case.status, case.retry)
    assert counter.is_clean()
    counter.liar.be_honest()
    assert counter.cache.get(counter.url(what)).body == counter.content(what)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_here_is_served_instead(counter: Counter, case: Case) -> None:
    for what in WHATS:
        assert counter.cache.get(counter.url(what)).status == 200
    counter.liar.lie("", "/v2/", case.lie)
    for what in WHATS:
        answer = counter.cache.get(counter.url(what))
        if what == "tag" and case.is_believed:
            assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
        else:
            assert (answer.status, answer.body) == (200, counter.content(what))


@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_wrong_content_is_neither_kept_nor_passed_on_whole(
    counter: Counter, lie: Lie, what: str
) -> None:
    if what == "blob":
        counter.cache.get(counter.url("tag"))
    part = "/blobs/" if what == "blob" else "/manifests/"
    counter.liar.lie("GET", part, lie)
    asking = counter.cache.begin_to_ask("GET", counter.url(what))
    if error := asking.future.exception(PATIENCE):  # the connection ends amid the answer
        assert what == "blob"
        assert isinstance(error, Failed)
        assert len(asking.answer.body) < len(counter.content(what))
    else:
        assert (asking.answer.status, asking.answer.code) == (503, "UNAVAILABLE")
    assert counter.is_clean()
    counter.liar.be_honest()
    assert counter.cache.get(counter.url(what)).body == counter.content(what)


def test_an_upstream_that_asks_for_a_pause_is_given_it(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter.cache.get(counter.url("tag"))
    counter.liar.lie("HEAD", "/manifests/", status(429, *SLOW, Retry_After="60"), times=1)
    before = time.monotonic()
    assert counter.cache.get(counter.url("tag")).status == 200
    (until,) = counter.cache.proxy._shared.down.values()
    assert before + 50 < until < time.monotonic() + cached.LONGEST_PAUSE
    asked = len(counter.liar.log.lines)
    assert counter.cache.get(counter.url("tag")).status == 200
    assert len(counter.liar.log.lines) == asked


def test_a_limit_of_the_token_server_is_told_too(counter: Counter) -> None:
    liar = counter.liar
    liar.challenge = f'Bearer realm="{liar.url}/token",service="it"'
    liar.lie("GET", "/token", status(429, *SLOW, Retry_After="90"))
    answer = counter.cache.get(counter.url("tag"))
    assert (answer.status, answer.code) == (429, "TOOMANYREQUESTS")
    assert answer.header("retry-after") == "90"


@pytest.fixture
def other() -> Iterator[LyingRegistry]:
    with lying_registry() as found:
        yield found


@pytest.mark.parametrize("what", ["tag", "blob"])
def test_a_password_goes_to_no_other_host(
    liar: LyingRegistry, other: LyingRegistry, tmp_path: Path, what: str
) -> None:
    """Storages of blobs are other hosts: an address with a signature is all that they get."""
    seen: list[tuple[str, str]] = []
    kind = "/blobs/" if what == "blob" else "/manifests/"
    theirs = other.url.replace("127.0.0.1", "localhost")

    def note(where: str) -> Lie:
        def lie(handler: Handler, answer: Answer) -> Answer:
            seen.append((where, handler.headers.get("Authorization", "")))
            assert "me" not in handler.path
            if where == "ours" and not handler.headers.get("Authorization"):
                return Answer(401, {"WWW-Authenticate": 'Basic realm="it"'})
            if where == "ours" and kind in handler.path:
                return Answer(307, {"Location": f"{theirs}{handler.path}"})
            return answer

        return lie

    place = upstream(liar, login=Login("me", "secret"), networks=LOOPBACK)
    with caching(place, root=tmp_path / "data") as cache:
        counter = Counter(liar, cache)
        push(other, "app", "1", counter.shipped)
        liar.lie("", "/v2/", note("ours"))
        other.lie("", "/v2/", note("theirs"))
        assert cache.get(counter.url(what)).body == counter.content(what)
    password = "Basic " + base64.b64encode(b"me:secret").decode()
    assert ("ours", password) in seen
    assert {shown for where, shown in seen if where == "theirs"} == {""}


def test_nobody_is_told_to_wait_for_ever() -> None:
    place = Place("app", Upstream("it", Url.parse("https://registry.example")), "app")
    error = Failed("slow down")
    error.is_limit, error.retry_after = True, 1e12
    told = failure(error, place, RegistryError("BLOB_UNKNOWN"))
    assert isinstance(told, RegistryError)
    assert told.headers["Retry-After"] == str(int(LONGEST_RETRY))
    assert isinstance(failure(OSError("ours"), place, RegistryError("BLOB_UNKNOWN")), OSError)
