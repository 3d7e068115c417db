"""The columns of container lists."""

from __future__ import annotations

from sampan.cli.containers.columns import columns, ports


def port(private: int, public: int = 0, address: str = "", kind: str = "tcp") -> dict[str, object]:
    item: dict[str, object] = {"PrivatePort": private, "Type": kind}
    return item | ({"IP": address, "PublicPort": public} if address else {})


def test_neighbouring_ports_become_a_range() -> None:
    assert ports([port(80), port(81), port(443)]) == "80-81/tcp, 443/tcp"
    assert ports([port(53, kind="udp"), port(53)]) == "53/tcp, 53/udp"


def test_published_ports_show_where() -> None:
    assert ports([port(80, 8080, "0.0.0.0")]) == "0.0.0.0:8080->80/tcp"
    assert ports([port(80, 80, "0.0.0.0"), port(81, 81, "0.0.0.0")]) == ("0.0.0.0:80-81->80-81/tcp")
    assert ports([port(80, 80, "::")]) == "[::]:80->80/tcp"


def test_truncated_columns_are_short() -> None:
    item = {
        "Id": "0123456789abcdef",
        "Image": "busybox",
        "ImageID": "sha256:" + "f" * 64,
        "Command": "/bin/sh -c 'while true; do sleep 1; done'",
        "Names": ["/other/alias", "/web"],
        "Status": "Up 2 minutes (healthy)",
        "Labels": {"b": "2", "a": "1"},
    }
    shown = {name: columns(True)[name](item) for name in ("ID", "Image", "Command", "Names")}
    assert shown == {
        "ID": "0123456789ab",
        "Image": "busybox",
        "Command": '"/bin/sh -c \'while t…"',
        "Names": "web",
    }
    assert columns(False)["Names"](item) == "other/alias,web"
    assert columns(True)["HealthStatus"](item) == "healthy"
    assert columns(True)["Labels"](item) == "a=1,b=2"
