"""A small OpenStack Swift for tests: memcached, and one server of each kind with one disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests import session
from tests.stores import HOST, free_port, fresh, process

KINDS = ("account", "container", "object")
_COMMON = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {root}
user = {user}
log_level = WARNING
"""
_STORE = """
devices = {root}/dev
mount_check = false
fallocate_reserve = 0
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_PROXY = """
[pipeline:main]
pipeline = catch_errors cache listing_formats bulk tempurl tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
""" + "".join(
    f"[filter:{name}]\nuse = egg:swift#{name}\n"
    for name in ("catch_errors", "listing_formats", "bulk", "tempurl", "copy", "slo", "dlo")
)
_SWIFT = """
[swift-hash]
swift_hash_path_suffix = x
swift_hash_path_prefix = y
[storage-policy:0]
name = p0
default = yes
"""
# A ring says where things are: here, for all of them.
_RINGS = """
import sys
from swift.common.ring import RingBuilder
root, *ports = sys.argv[1:]
for kind, port in zip(("account", "container", "object"), ports):
    ring = RingBuilder(2, 1, 1)
    ring.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "d",
                  "weight": 1.0, "replication_ip": "127.0.0.1", "replication_port": int(port)})
    ring.rebalance()
    ring.get_ring().save(f"{root}/{kind}.ring.gz")
"""


@contextlib.contextmanager
def swift() -> Iterator[dict[str, Any]]:
    """Run it; yield the options of the driver, but for the container."""
    root = session.scratch()
    ports = {kind: free_port() for kind in (*KINDS, "proxy", "memcached")}
    (root / "dev/d").mkdir(parents=True)
    (root / "swift.conf").write_text(_SWIFT)
    user = os.environ.get("USER") or "root"
    for kind in (*KINDS, "proxy"):
        text = (_COMMON + (_PROXY if kind == "proxy" else _STORE)).format(
            root=root, kind=kind, port=ports[kind], user=user, memcached=ports["memcached"]
        )
        (root / f"{kind}.conf").write_text(text)
    command = [sys.executable, "-W", "ignore", "-c", _RINGS, str(root)]
    subprocess.run([*command, *(str(ports[kind]) for kind in KINDS)], check=True)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, root)
        memcached = ["memcached", "-l", HOST, "-p", str(ports["memcached"]), "-u", user, "-m", "16"]
        stack.enter_context(process(memcached, ports["memcached"]))
        for kind in (*KINDS, "proxy"):
            stack.enter_context(process(_server(root, kind), ports[kind]))
        yield {
            "username": "test:tester",
            "password": "testing",
            "authurl": f"http://{HOST}:{ports['proxy']}/auth/v1.0",
        }


def _server(root: Path, kind: str) -> list[str]:
    program = Path(sys.executable).parent / f"swift-{kind}-server"
    return [sys.executable, "-W", "ignore", str(program), str(root / f"{kind}.conf")]


def container(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that open a new container, which the driver makes."""
    return {**options, "container": fresh("container")}
