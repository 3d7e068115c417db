"""Debian's nginx before a registry: it has the certificate, the registry speaks plain HTTP."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator

from tests.registries import OUTSIDE, Authority, Registry, add_address
from tests.session import PATIENCE, eventually, scratch
from tests.wire import Site, within

_AROUND = """
daemon off;
worker_processes 1;
user root;
pid {folder}/pid;
error_log {folder}/log info;
events {{}}
http {{
    access_log {folder}/access;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/proxied;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{server}
}}
"""


@contextlib.contextmanager
def nginx(namespace: str, hub: Registry, server: str) -> Iterator[Registry]:
    """Run nginx before `hub`, with a `server` block as in our documentation; yield what it is then.

    In the block are the paths and addresses that people have; here they are others.
    """
    assert shutil.which("nginx"), "apt-get install nginx-light"
    add_address(namespace, OUTSIDE)
    folder = scratch()
    authority = Authority(OUTSIDE)
    site = Site(namespace, OUTSIDE, 5443, context=authority.context())
    (folder / "registry.crt").write_bytes(
        b"".join(pem.bytes() for pem in authority.server.cert_chain_pems)
    )
    (folder / "registry.key").write_bytes(authority.server.private_key_pem.bytes())
    socket = json.loads((hub.folder / "config.yml").read_text())["http"]["addr"]
    theirs = {
        "listen 443": f"listen {site.address}",
        "/etc/ssl/registry": str(folder),
        "http://127.0.0.1:5000": hub.url,
        "/run/sampan-registry.sock": socket,
    }
    for one, other in theirs.items():
        server = server.replace(one, other)
    config = folder / "nginx.conf"
    config.write_text(_AROUND.format(folder=folder, server=server))
    with within(namespace), (folder / "out").open("wb") as out:
        process = subprocess.Popen(["nginx", "-c", str(config)], stdout=out, stderr=out)

    def listens() -> bool:
        assert process.poll() is None, (folder / "out").read_text()
        with contextlib.suppress(OSError):
            return site.ask("GET", "/").status > 0
        return False

    try:
        eventually(listens)
        yield Registry(site, hub.folder, authority=authority)
    finally:
        process.terminate()
        process.wait(PATIENCE)
        shutil.rmtree(folder)
