"""SIGKILL between any two steps: the next start repairs all, and the host's own is not touched.

Every case is run twice: daemon and helper die together (a child that is both), or the helper alone
(a child that serves a daemon which lives on).
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from sampan import rpc
from sampan.engine.database import Database
from sampan.engine.networks.networks import Networks, Wish
from sampan.errors import Conflict, NotFound, SampanError, Unavailable
from sampan.network import ports
from sampan.network.linux_plumber import LinuxPlumber
from sampan.network.netlink.route_socket import RouteSocket
from sampan.network.netlink.rtnetlink import add_veth
from sampan.network.plumber import Plumber
from sampan.network.sandbox import Sandbox, read_sysctl
from sampan.network.service import serve
from sampan.rpc import Fd
from sampan.spec.docker.networks import NetworkCreateRequest, PortBinding
from sampan.spec.docker.plugs import PlugRequest
from tests.mortal import Countdown, forked, was_killed
from tests.netns import hosts, links
from tests.one_thread import block_here
from tests.session import PATIENCE

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

CONTAINER = "c" * 64
PORTS = {"80/tcp": [PortBinding(host_port="8080")], "53/udp": [PortBinding(host_port="5300")]}
MORE = {"81/tcp": [PortBinding(host_port="8081")]}
WISH = Wish(container_id=CONTAINER, name="web", hostname="web", mode="own", port_bindings=PORTS)
MOST = 200  # steps


class Helper:
    """The plumber as a process that may die; the call during which it does fails, as for a daemon.

    Called from one thread: pool threads are in the machine's own namespace.
    """

    def __init__(self, state: Path, countdown: Countdown) -> None:
        self._state, self._countdown = state, countdown
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def work() -> None:
            ours.close()
            self._countdown.install()
            serve(theirs, LinuxPlumber(self._state, defers=True))

        self._pid = forked(work)
        theirs.close()
        self._socket = ours
        self._client = rpc.connect(Plumber, ours, PATIENCE)  # type: ignore[type-abstract]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            try:
                return getattr(self._client, name)(*arguments, **named)
            except Unavailable:
                self._socket.close()
                assert was_killed(self._pid)
                self._start()
                raise

        return call

    def close(self) -> None:
        self._socket.close()
        assert not was_killed(self._pid)


@dataclass
class Engine:
    """The network's part of a daemon."""

    folder: Path
    running: list[Wish]
    plumber: Any = None
    networks: Networks = field(init=False)

    def __post_init__(self) -> None:
        self._database = Database(self.folder / "database.sqlite")
        self.plumber = self.plumber or LinuxPlumber(self.folder / "state")
        self.networks = Networks(self._database, cast(Plumber, self.plumber))
        self.do(self.networks.start(self.running))

    def do(self, work: Awaitable[Any]) -> Any:
        async def awaited() -> Any:
            return await work

        return asyncio.run(awaited())

    def names(self) -> set[str]:
        return {network.name for network in self.do(self.networks.list({}))}

    def close(self) -> None:
        self.plumber.close()
        self._database.close()


@pytest.fixture(autouse=True)
def _in_this_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    block_here(monkeypatch, "sampan.engine.networks")


# --- what is done, and what is there before and after --------------------------------------------


class Case:
    """One change of networks; each can be made of what `before` leaves."""

    runs = False  # whether the container runs, which is not ours to end

    def __init__(self, namespace: Fd) -> None:
        self.namespace = namespace  # of a container that runs

    @property
    def running(self) -> list[Wish]:
        """The containers that run, before the change and after it."""
        return [WISH] if self.runs else []

    @property
    def changed(self) -> list[Wish]:
        """The containers that run when the change begins."""
        return self.running

    def close(self) -> None:
        self.namespace.close()

    def before(self, engine: Engine) -> None:
        """Bring about what there is before the change, from whatever there is."""

    def change(self, engine: Engine) -> None:
        raise NotImplementedError


def made(engine: Engine, name: str) -> None:
    with suppress(Conflict):
        engine.do(engine.networks.create(NetworkCreateRequest(name=name)))


def gone(engine: Engine, name: str) -> None:
    with suppress(NotFound):
        engine.do(engine.networks.remove(name))


def stopped(engine: Engine) -> None:
    engine.do(engine.networks.disconnect(CONTAINER))


class Create(Case):
    def before(self, engine: Engine) -> None:
        gone(engine, "own")

    def change(self, engine: Engine) -> None:
        request = NetworkCreateRequest(name="own", enable_ipv6=True)
        engine.do(engine.networks.create(request))


class Remove(Case):
    def before(self, engine: Engine) -> None:
        made(engine, "own")

    def change(self, engine: Engine) -> None:
        engine.do(engine.networks.remove("own"))


class Start(Case):
    """Attach, names, publish: all that the start of a container takes."""

    def before(self, engine: Engine) -> None:
        stopped(engine)
        made(engine, "own")

    def change(self, engine: Engine) -> None:
        engine.do(engine.networks.connect(WISH)).namespace.close()


class Stop(Case):
    @property
    def changed(self) -> list[Wish]:
        return [WISH]

    def before(self, engine: Engine) -> None:
        made(engine, "own")
        stopped(engine)
        self.close()
        self.namespace = engine.do(engine.networks.connect(WISH)).namespace

    def change(self, engine: Engine) -> None:
        stopped(engine)


class OfARunning(Case):
    """A change of a container that runs: it is there all the time, with its first network."""

    runs = True

    def before(self, engine: Engine) -> None:
        made(engine, "own")
        made(engine, "other")
        if not (settings := engine.networks.settings(CONTAINER)) or not settings.networks:
            engine.do(engine.networks.join(WISH, "own", None, self.namespace))
            engine.do(engine.networks.publish(CONTAINER, PORTS, []))
        self.calm(engine)

    def calm(self, engine: Engine) -> None:
        """Bring about what the change begins with."""

    def is_on(self, engine: Engine, name: str) -> bool:
        settings = engine.networks.settings(CONTAINER)
        return bool(settings and name in settings.networks)


class Join(OfARunning):
    def calm(self, engine: Engine) -> None:
        if self.is_on(engine, "other"):
            engine.do(engine.networks.leave(CONTAINER, "other", self.namespace))

    def change(self, engine: Engine) -> None:
        engine.do(engine.networks.join(WISH, "other", None, self.namespace))


class Leave(OfARunning):
    def calm(self, engine: Engine) -> None:
        if not self.is_on(engine, "other"):
            engine.do(engine.networks.join(WISH, "other", None, self.namespace))

    def change(self, engine: Engine) -> None:
        engine.do(engine.networks.leave(CONTAINER, "other", self.namespace))


class Publish(OfARunning):
    def calm(self, engine: Engine) -> None:
        engine.do(engine.networks.publish(CONTAINER, {}, [ports.Unwanted.parse("8081:81")]))

    def change(self, engine: Engine) -> None:
        engine.do(engine.networks.publish(CONTAINER, MORE, []))


class Unpublish(OfARunning):
    def calm(self, engine: Engine) -> None:
        engine.do(engine.networks.publish(CONTAINER, {}, [ports.Unwanted.parse("8081:81")]))
        engine.do(engine.networks.publish(CONTAINER, MORE, []))

    def change(self, engine: Engine) -> None:
        engine.do(engine.networks.publish(CONTAINER, {}, [ports.Unwanted.parse("8081:81")]))


class CreateWire(Case):
    """A network on a parent that is made for it."""

    def before(self, engine: Engine) -> None:
        gone(engine, "wire")

    def change(self, engine: Engine) -> None:
        engine.do(engine.networks.create(NetworkCreateRequest(name="wire", driver="macvlan")))


class RemoveWire(CreateWire):
    def before(self, engine: Engine) -> None:
        if "wire" not in engine.names():
            super().change(engine)

    def change(self, engine: Engine) -> None:
        engine.do(engine.networks.remove("wire"))


class Plug(OfARunning):
    """A card of the host becomes the port of a bridge that is made, and so does the container."""

    def calm(self, engine: Engine) -> None:
        plugs = engine.networks.plugs
        for it in plugs.of(CONTAINER):
            engine.do(plugs.unplug(plugs.find(CONTAINER, it.interface), self.namespace, None))

    def change(self, engine: Engine) -> None:
        wanted = PlugRequest(bridge="br7", port="card0", addresses=["10.88.0.9/24"])
        engine.do(engine.networks.plugs.plug(CONTAINER, wanted, self.namespace, None))


class Unplug(Plug):
    def calm(self, engine: Engine) -> None:
        if not engine.networks.plugs.of(CONTAINER):
            super().change(engine)

    def change(self, engine: Engine) -> None:
        plugs = engine.networks.plugs
        for it in plugs.of(CONTAINER):
            engine.do(plugs.unplug(plugs.find(CONTAINER, it.interface), self.namespace, None))


CASES = [
    *(Create, Remove, Start, Stop, Join, Leave, Publish, Unpublish),
    *(CreateWire, RemoveWire, Plug, Unplug),
]

# --- what is looked at ---------------------------------------------------------------------------


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def of_the_host() -> tuple[str, ...]:
    """Return what the host has, but for ours."""
    filter_ = output("nft", "list", "table", "ip", "filter")
    return (
        *sorted(re.findall(r"\d+: (\S+ +inet6? [^f]\S+)", output("ip", "-o", "address"))),
        output("ip", "route").replace("linkdown", ""),
        re.sub(r"packets \d+ bytes \d+", "", filter_),
    )


def check_whole(engine: Engine, folder: Path) -> None:
    """All that is there belongs to a network or an endpoint, and nothing of those is missing."""
    engine.plumber.chores.finish()  # as the helper does between calls
    networks = engine.do(engine.networks.list({}))
    bridges = {"sampan0"} | {f"br-{it.id[:12]}" for it in networks if it.driver == "bridge"}
    bridges -= {f"br-{it.id[:12]}" for it in networks if it.name == "bridge"}
    wires = {f"dm-{it.id[:12]}" for it in networks if it.driver == "macvlan"}
    endpoints, plugs = engine.plumber.endpoints(), engine.plumber.plugs()
    shown = output("ip", "-o", "link")
    aliases = re.findall(r"alias sampan:(\S+)", shown)
    plugged = {it.into.name for it in plugs}
    present = {name for name in links() if not name.startswith("veth")} - OF_THE_HOST
    assert present == bridges | wires | plugged
    ours = sorted(alias for alias in aliases if alias not in ("bridge", "parent", "plug"))
    ids = [*(it.endpoint.endpoint_id for it in endpoints), *(it.plug_id for it in plugs)]
    assert ours == sorted(ids)
    assert shown.count("veth") == len(ids)
    assert ("alias sampan-port" in shown) == ("master br7" in shown) == bool(plugs)
    rules = output("nft", "list", "table", "inet", "sampan")
    assert set(re.findall(r"\b(?:br-[0-9a-f]{12}|sampan0)\b", rules)) == bridges
    if read_sysctl("ipv4/ip_forward") == "1":  # as before us, nothing goes through the host
        assert re.search(r'set uplinks {[^}]*elements = { "uplink0" }', rules)
    published = {it.host_port for one in endpoints for it in one.ports}
    [any_port] = re.findall(r"map published_any {[^}]*?(?:elements = {(.*?)}\s*)?}", rules, re.S)
    assert {int(it) for it in re.findall(r"\. (\d+) :", any_port)} == published
    state = folder / "state"
    kept = {kind: {path.stem for path in (state / kind).iterdir()} for kind in KINDS}
    assert kept["networks"] == {it.id for it in networks if it.driver in ("bridge", "macvlan")}
    assert kept["plugs"] == {it.plug_id for it in plugs}
    assert kept["endpoints"] == {it.endpoint.endpoint_id for it in endpoints}
    assert kept["resolvers"] <= {it.endpoint.container_id for it in endpoints}
    assert not [path for path in state.rglob("*") if path.suffix == ".new"]


KINDS = ("networks", "endpoints", "resolvers", "plugs")
OF_THE_HOST = {"lo", "uplink0", "card0"}


@pytest.fixture
def countdown() -> Iterator[Countdown]:
    countdown = Countdown()
    yield countdown
    countdown.close()


def both_die(folder: Path, case: Case, countdown: Countdown, point: int) -> bool:
    """Make the change in a process that is daemon and helper, and dies at a step."""

    def work() -> None:
        engine = Engine(folder, case.changed)
        countdown.install()
        countdown.left = point
        case.change(engine)

    return was_killed(forked(work))


def helper_dies(folder: Path, case: Case, countdown: Countdown, point: int) -> bool:
    """Make the change with a helper that dies at a step; the daemon goes on."""
    helper = Helper(folder / "state", countdown)
    engine = Engine(folder, case.changed, helper)
    try:
        countdown.left = point
        with suppress(SampanError):
            case.change(engine)
        died = not countdown.left
        countdown.left = 0
        with suppress(SampanError):  # it may have died in a chore, after the change
            helper.endpoints()
        check_usable(engine, case)
    finally:
        countdown.left = 0
        engine.close()
    return died


def check_usable(engine: Engine, case: Case) -> None:
    """Without another start, the same can be done again."""
    case.before(engine)
    case.change(engine)


@pytest.mark.parametrize("who", [both_die, helper_dies])
@pytest.mark.parametrize("kind", CASES)
def test_a_kill_at_any_step_is_repaired_by_the_next_start(
    tmp_path: Path, countdown: Countdown, kind: type[Case], who: Callable[..., bool]
) -> None:
    with hosts() as here, Sandbox.new() as container:
        case = kind(Fd(os.dup(container.namespace)))
        # What somebody else filters, before which we have to let our own bridges pass.
        output("iptables", "-A", "FORWARD", "-d", "192.0.2.0/24", "-j", "DROP")
        output("iptables", "-P", "FORWARD", "DROP")
        with RouteSocket() as netlink:
            netlink.request(add_veth("card0", "card0", here.neighbour))
        before, died = of_the_host(), True
        for point in range(1, MOST):
            engine = Engine(tmp_path, case.running)
            if point > 1:
                check_whole(engine, tmp_path)
            if not died:
                break
            case.before(engine)
            engine.close()
            died = who(tmp_path, case, countdown, point)
        else:
            pytest.fail("it never came to its end")
        engine.close()
        case.close()
        engine = Engine(tmp_path, [])
        for name in engine.names() - {"bridge", "host", "none"}:
            engine.do(engine.networks.remove(name))
        engine.plumber.reconcile([], [])
        engine.close()
        assert point > 3
        assert of_the_host() == before
