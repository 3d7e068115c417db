"""The daemon proper: the child of the supervisor, without privileges, with the event loop."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import logging
import os
import signal
import socket
import ssl
import sys
from typing import NoReturn

from sampan.api.app import App, standing_headers
from sampan.api.errors import refusal
from sampan.daemon import logs, privileges, tls
from sampan.daemon.configuration import configuring
from sampan.daemon.configuration.config import Config
from sampan.daemon.configuration.flags import UsageError
from sampan.daemon.confinement import confinement
from sampan.daemon.listeners import Listener
from sampan.daemon.supervisor import FAILED, READY, RELOAD
from sampan.daemon.wiring import Daemon
from sampan.engine.doctor.examination import examine
from sampan.engine.doctor.findings import warnings
from sampan.engine.doctor.host_probes import HostProbes
from sampan.engine.system import ENGINE_VERSION
from sampan.errors import SampanError
from sampan.http.limits import Limits
from sampan.http.server import Server
from sampan.linux import heap

log = logging.getLogger(__name__)
MESSAGE_BYTES = 256 << 10  # of the supervisor

# Modules that Python loads on first use: afterwards the files may be out of this user's reach.
PRELOADED = ("concurrent.futures.thread", "encodings.idna", "_strptime", "traceback", "linecache")


def serve(
    config: Config, who: privileges.Identity, listeners: list[Listener], control: socket.socket
) -> NoReturn:
    """Be the daemon until the supervisor says stop or is gone."""
    logs.configure(config["log-format"], config["log-level"], config["debug"])
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    try:
        for name in PRELOADED:
            __import__(name)
        context = tls.server_context(config)
        os.umask(0o077)  # what the daemon writes is for itself
        degraded = warnings(examine(HostProbes(), config["data-root"]))
        for sentence in degraded:
            log.warning("%s", sentence.removeprefix("WARNING: "))
        defaults = confinement(config)
        privileges.drop(who)
        heap.few_arenas()
        daemon = Daemon(config, degraded, defaults)
        asyncio.run(_serve(daemon, config, listeners, context, control))
    except (UsageError, SampanError, OSError) as error:
        log.debug("the daemon could not start", exc_info=True)
        _tell(control, FAILED + str(error).encode()[:2000])
        sys.exit(1)
    sys.exit(0)


def _tell(control: socket.socket, message: bytes) -> None:
    try:
        control.send(message)
    except OSError:
        log.debug("the supervisor is gone")


async def _serve(
    daemon: Daemon,
    config: Config,
    listeners: list[Listener],
    context: ssl.SSLContext | None,
    control: socket.socket,
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    control.setblocking(False)
    loop.add_reader(control.fileno(), _receive, daemon, config, control)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # the supervisor passes SIGTERM on
    await daemon.start()
    server = Server(
        App(daemon.backend),
        headers=standing_headers(ENGINE_VERSION),
        refuse=refusal,
        limits=Limits(),
        http2=True,
    )
    async with server:
        for listener in listeners:
            server.listen(listener.sock.dup(), context if listener.tls else None)
        gc.collect()
        gc.freeze()  # what is there now stays: later collections need not look at it
        gc.enable()
        _tell(control, READY)
        log.info("API listens on %s", ", ".join(config.hosts))
        await stop.wait()
        log.info("stopping")
    await daemon.stop()


def _receive(daemon: Daemon, config: Config, control: socket.socket) -> None:
    """Take a helper's socket or a configuration from the supervisor; without one, end."""
    try:
        message, numbers, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 4, socket.MSG_CMSG_CLOEXEC)
    except BlockingIOError:
        return
    except OSError:
        message, numbers = b"", []
    if not message:
        log.error("the supervisor is gone; stopping, containers stay")
        os._exit(1)
    if message.startswith(RELOAD):
        reload(daemon, config, message.removeprefix(RELOAD))
    for number in numbers:
        daemon.use_helper(message.decode(), socket.socket(fileno=number))


def reload(daemon: Daemon, config: Config, content: bytes) -> None:
    """Apply what can be changed while we run; `content` was read and checked as root."""
    try:
        changed = configuring.reload(config, json.loads(content))
    except UsageError as error:
        log.error("the new configuration is not used: %s", error)
        return
    logs.set_level(config["log-level"], config["debug"])
    daemon.reload(config)
    log.info("reloaded configuration: %s", ", ".join(changed) or "nothing changed")
