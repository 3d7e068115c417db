"""Port specifications of --publish and --expose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cli.containers.ports import bindings_of, exposed
from sampan.errors import InvalidArgument


@pytest.mark.parametrize(
    ("specification", "bindings"),
    [
        ("80", {"80/tcp": [{"HostIp": "", "HostPort": ""}]}),
        ("8080:80", {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}),
        ("53:53/udp", {"53/udp": [{"HostIp": "", "HostPort": "53"}]}),
        ("127.0.0.1::80", {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}),
        ("127.0.0.1:8080:80", {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}),
        ("[::1]:8080:80", {"80/tcp": [{"HostIp": "::1", "HostPort": "8080"}]}),
        ("8000-9000:80", {"80/tcp": [{"HostIp": "", "HostPort": "8000-9000"}]}),
        (
            "8000-8001:80-81",
            {
                "80/tcp": [{"HostIp": "", "HostPort": "8000"}],
                "81/tcp": [{"HostIp": "", "HostPort": "8001"}],
            },
        ),
        ("published=1,target=2,protocol=udp", {"2/udp": [{"HostIp": "", "HostPort": "1"}]}),
    ],
)
def test_a_publication_is_read(
    specification: str, bindings: dict[str, list[dict[str, str]]]
) -> None:
    assert bindings_of([specification]) == bindings


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("", "no port specified: <empty>"),
        ("x", "invalid containerPort: x"),
        ("x:80", "invalid hostPort: x"),
        ("70000", "invalid containerPort: 70000"),
        ("80/foo", "invalid proto: foo"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
        ("published", "invalid containerPort: published"),
        ("published=1,x", "invalid publish opts format (should be name=value but got 'x')"),
    ],
)
def test_a_wrong_publication_is_refused(specification: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        bindings_of([specification])
    assert str(raised.value) == message


def test_one_port_may_be_published_twice() -> None:
    assert len(bindings_of(["80:80", "81:80"])["80/tcp"]) == 2


def test_a_range_is_exposed_port_by_port() -> None:
    assert exposed("80-82/udp") == ["80/udp", "81/udp", "82/udp"]
    with pytest.raises(InvalidArgument, match="invalid range format for --expose"):
        exposed("82-80")


@given(st.text(alphabet="0123456789:-/[].=,tcpx", max_size=20))
def test_no_text_raises_anything_but_invalid_argument(text: str) -> None:
    try:
        bindings_of([text])
    except InvalidArgument:
        pass
