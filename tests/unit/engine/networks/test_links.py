"""Links: how they are written, and the variables that tell of them."""

from __future__ import annotations

import pytest

from sampan.engine.networks.links import parse_link, variables
from sampan.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("db", ("db", "db")),
        ("db:data", ("db", "data")),
        ("/db:/web/data", ("db", "data")),  # as inspect shows it
    ],
)
def test_a_link_is_a_name_and_an_alias(text: str, parts: tuple[str, str]) -> None:
    assert parse_link(text) == parts


@pytest.mark.parametrize("text", ["", ":x", "a:b:c"])
def test_what_is_no_link_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="links"):
        parse_link(text)


def test_variables_tell_address_ports_name_and_environment() -> None:
    found = variables(
        "/web/my-db", "172.17.0.2", ["A=1", "PATH=/bin", "HOME=/", "odd"], ["53/udp", "80/tcp"]
    )
    assert found == [
        "MY_DB_PORT=tcp://172.17.0.2:80",
        "MY_DB_PORT_80_TCP=tcp://172.17.0.2:80",
        "MY_DB_PORT_80_TCP_ADDR=172.17.0.2",
        "MY_DB_PORT_80_TCP_PORT=80",
        "MY_DB_PORT_80_TCP_PROTO=tcp",
        "MY_DB_PORT_53_UDP=udp://172.17.0.2:53",
        "MY_DB_PORT_53_UDP_ADDR=172.17.0.2",
        "MY_DB_PORT_53_UDP_PORT=53",
        "MY_DB_PORT_53_UDP_PROTO=udp",
        "MY_DB_NAME=/web/my-db",
        "MY_DB_ENV_A=1",
    ]
