"""The rules of what is plugged by hand, on a plumber that makes nothing."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest

from sampan.engine.networks.plugs import Plugs
from sampan.errors import Forbidden, InvalidArgument, NotFound, Unavailable
from sampan.network.plumber import IntoBridge, OntoParent, PlugSpec, ToPeer
from sampan.rpc import Fd
from sampan.spec.docker.plugs import Plug, PlugPeer, PlugRequest
from tests.unit.engine.network_world import CONTAINER, World, connect, create, wish

OTHER = "d" * 64


@pytest.fixture
def namespace() -> Iterator[Fd]:
    with Fd(os.open("/dev/null", os.O_RDONLY)) as given:
        yield given


@pytest.fixture
def plugs(world: World) -> Plugs:
    return world.networks.plugs


def plug(world: World, namespace: Fd, container_id: str = CONTAINER, **wanted: object) -> Plug:
    request = PlugRequest(**wanted)  # type: ignore[arg-type]
    peer = namespace if request.peer else None
    return world.run(world.networks.plugs.plug(container_id, request, namespace, peer))


def test_the_plumber_is_told_what_is_wanted(world: World, namespace: Fd) -> None:
    bridge = plug(world, namespace, bridge="br0", port="em1", addresses=["192.168.7.40/20"])
    card = plug(world, namespace, parent="em1", mode="vepa", mac_address="02-00-00-00-00-0A")
    told = world.plumber.plugged
    assert told[bridge.id].into == IntoBridge(name="br0", port="em1")
    assert told[bridge.id].end.mac_address == "02:42:c0:a8:07:28"
    assert told[card.id].into == OntoParent(parent="em1", mode="vepa")
    assert told[card.id].end.mac_address == "02:00:00:00:00:0a"


def test_an_address_without_a_prefix_is_a_single_one(world: World, namespace: Fd) -> None:
    peer = PlugPeer(container=OTHER, addresses=["10.1.1.2"])
    made = plug(world, namespace, peer=peer, addresses=["10.1.1.1"])
    assert made.addresses == ["10.1.1.1/32"]
    assert made.peer is not None
    assert made.peer.addresses == ["10.1.1.2/32"]


def test_both_containers_of_a_pair_see_it_from_their_side(
    world: World, namespace: Fd, plugs: Plugs
) -> None:
    peer = PlugPeer(container=OTHER, addresses=["10.1.1.2"], interface="p2p")
    plug(world, namespace, peer=peer, addresses=["10.1.1.1"])
    [mine], [other] = plugs.of(CONTAINER), plugs.of(OTHER)
    assert (mine.interface, mine.addresses) == ("eth1", ["10.1.1.1/32"])
    assert (other.interface, other.addresses) == ("p2p", ["10.1.1.2/32"])
    assert other.peer is not None
    assert (other.peer.container, other.peer.interface) == (CONTAINER, "eth1")
    assert isinstance(plugs.find(OTHER, "p2p").into, ToPeer)
    with pytest.raises(NotFound, match=f"nothing is plugged into container {OTHER} as eth1"):
        plugs.find(OTHER, "eth1")


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({}, "name one of a bridge, a parent interface and another container"),
        ({"bridge": "br0", "parent": "em1"}, "name one of a bridge"),
        ({"parent": "em1", "port": "em1"}, "a port goes with a bridge"),
        ({"bridge": "br0", "mode": "vepa"}, "a mode with a parent"),
        ({"parent": "em1", "mode": "x"}, "requested macvlan mode 'x' is not valid"),
        ({"bridge": "br0", "addresses": ["nowhere"]}, "invalid address"),
    ],
)
def test_what_is_not_one_thing_is_refused(
    world: World, namespace: Fd, wanted: dict[str, object], sentence: str
) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        plug(world, namespace, **wanted)
    assert world.plumber.plugged == {}


def test_an_address_of_a_network_of_ours_is_kept_for_it(
    world: World, namespace: Fd, plugs: Plugs
) -> None:
    made = create(world, "backend", "10.9.0.0/29")
    bridge = f"br-{made[:12]}"
    connect(world, wish(mode="backend"))  # has 10.9.0.2
    for taken in ("10.9.0.1", "10.9.0.2"):
        with pytest.raises(Forbidden, match="Address already in use"):
            plug(world, namespace, bridge=bridge, addresses=["10.9.0.3/29", f"{taken}/29"])
    plug(world, namespace, OTHER, bridge=bridge, addresses=["10.9.0.3/29", "192.0.2.1/24"])
    second = wish(container_id="e" * 64, mode="backend")
    assert connect(world, second).settings.networks["backend"].ip_address == "10.9.0.4"
    again = world.again(second, wish(container_id=OTHER))
    with pytest.raises(Forbidden, match="Address already in use"):
        plug(world, namespace, bridge=bridge, addresses=["10.9.0.3/29"])
    world.run(again.disconnect(OTHER))
    plug(world, namespace, bridge=bridge, addresses=["10.9.0.3/29"])


def test_a_plug_that_failed_gives_its_address_back(
    world: World, namespace: Fd, plugs: Plugs
) -> None:
    made = create(world, "backend", "10.9.0.0/29")
    wanted = {"bridge": f"br-{made[:12]}", "addresses": ["10.9.0.3/29"]}
    world.plumber.refuses = Unavailable("gone")
    with pytest.raises(Unavailable):
        plug(world, namespace, **wanted)
    assert plugs.of(CONTAINER) == []
    world.plumber.refuses = None
    plug(world, namespace, **wanted)


def test_all_ends_with_either_container(world: World, namespace: Fd, plugs: Plugs) -> None:
    connect(world, wish())
    plug(world, namespace, bridge="br0")
    plug(world, namespace, OTHER, peer=PlugPeer(container=CONTAINER))
    kept = plug(world, namespace, OTHER, bridge="br0")
    world.run(world.networks.disconnect(CONTAINER))
    assert list(world.plumber.plugged) == [kept.id]
    assert plugs.of(CONTAINER) == []


def test_a_daemon_that_starts_again_keeps_what_runs_and_no_more(
    world: World, namespace: Fd
) -> None:
    kept = plug(world, namespace, bridge="br0", addresses=["10.1.0.1/24"])
    plug(world, namespace, peer=PlugPeer(container=OTHER))
    plug(world, namespace, OTHER, bridge="br0")
    again = world.again(wish())
    assert list(world.plumber.plugged) == [kept.id]
    assert again.plugs.of(CONTAINER) == [kept]


def test_a_client_that_goes_away_meanwhile_leaves_nothing_plugged(
    world: World, namespace: Fd, plugs: Plugs, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()
    plug_ = world.plumber.plug

    def slowly(spec: PlugSpec, sandbox: Fd, peer: Fd | None = None) -> PlugSpec:
        begun.set()
        assert may_end.wait(30)
        return plug_(spec, sandbox, peer)

    monkeypatch.setattr(world.plumber, "plug", slowly)

    async def cancelled() -> None:
        wanted = PlugRequest(bridge="br0")
        task = asyncio.create_task(plugs.plug(CONTAINER, wanted, namespace, None))
        await asyncio.to_thread(begun.wait, 30)
        task.cancel()
        may_end.set()
        await asyncio.wait([task])
        assert task.cancelled()

    world.run(cancelled())
    assert world.plumber.plugged == {}
    assert plugs.of(CONTAINER) == []
