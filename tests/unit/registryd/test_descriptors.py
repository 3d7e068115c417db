from __future__ import annotations

from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.registry.configuration.document import Checked, check
from sampan.registry.descriptors.server import Server, Tls, host_and_port
from sampan.registryd import descriptors

CACHED = "version: 0.1\nstorage: {inmemory: , cache: {blobdescriptor: redis}}\nredis: "


def checked(text: str) -> Checked:
    found = check((CACHED + text).encode(), {})
    assert found.problems == ()
    return found


def test_defaults_are_go_rediss() -> None:
    found = descriptors.where(checked("{addr: a}"))
    assert found == Server(("a",))
    assert (found.dial_seconds, found.answer_seconds, found.tls) == (5.0, 3.0, None)
    marks = "{addr: a, dialtimeout: 0, readtimeout: -1, writetimeout: -2, maxretries: 0}"
    assert descriptors.where(checked(marks)) == Server(("a",))


def test_both_spellings_mean_the_same() -> None:
    old = "{addr: 'a:1', password: p, db: 2, dialtimeout: 1s, readtimeout: 2s, writetimeout: 3s}"
    new = "{addrs: ['a:1'], password: p, db: 2, dialtimeout: 1s, readtimeout: 3s, writetimeout: 2s}"
    found = descriptors.where(checked(old))
    assert found == descriptors.where(checked(new))
    assert found == Server(("a:1",), database=2, password="p", dial_seconds=1.0, answer_seconds=3.0)


def test_sentinels_retries_and_certificates() -> None:
    text = (
        "{addrs: [a, b], mastername: m, sentinelusername: su, sentinelpassword: sp, username: u,"
        " maxretries: -1, minretrybackoff: 1ms, maxretrybackoff: 1s, clientname: n, protocol: 3,"
        " tls: {certificate: c, key: k, rootcas: [r], clientcas: [s]}}"
    )
    assert descriptors.where(checked(text)) == Server(
        ("a", "b"),
        username="u",
        master="m",
        sentinel_username="su",
        sentinel_password="sp",
        retries=0,
        retry_seconds=(0.001, 1.0),
        name="n",
        protocol=3,
        tls=Tls("c", "k", ("r", "s")),
    )


def test_files_are_looked_at(tmp_path: Path) -> None:
    descriptors.look(checked("{addrs: [a, b]}"))
    with pytest.raises(InvalidArgument, match=r"redis\.tls: /none: No such file"):
        descriptors.look(checked("{addr: a, tls: {rootcas: [/none]}}"))
    path = tmp_path / "ca.pem"
    for content in (b"\xff", b"text", b""):
        path.write_bytes(content)
        for tls in (f"rootcas: [{path}]", f"certificate: {path}, key: {path}"):
            with pytest.raises(InvalidArgument, match="is not in PEM, or not of this key"):
                descriptors.look(checked(f"{{addr: a, tls: {{{tls}}}}}"))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a:1", ("a", 1)),
        ("a", ("a", 6379)),
        (":1", ("localhost", 1)),
        ("[2001:db8::1]:2", ("2001:db8::1", 2)),
        ("[2001:db8::1]", ("2001:db8::1", 6379)),
    ],
)
def test_addresses(text: str, place: tuple[str, int]) -> None:
    assert host_and_port(text) == place


@pytest.mark.parametrize("text", ["a:", "a:0", "a:65536", "a:b", "2001:db8::1:2", "http://a:1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is no host:port"):
        host_and_port(text)
