"""Names on networks: real questions from containers' namespaces, by a library that is not ours."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.reversename
import dns.rrset
import pytest

from sampan import rpc
from sampan.network.linux_plumber import LinuxPlumber
from sampan.network.plumber import BridgeSpec, EndpointSpec, Plumber, ResolverSpec
from sampan.network.sandbox import inside
from sampan.rpc import Fd
from tests.netns import HOST, NEIGHBOUR, Hosts, hosts
from tests.session import PATIENCE, eventually, scratch

pytestmark = pytest.mark.privileged

ADDRESS = "127.0.0.11"


@dataclass
class World:
    here: Hosts
    folder: Path
    stack: ExitStack
    plumber: Plumber = field(init=False)
    helper: int = 0

    @property
    def resolv_conf(self) -> Path:
        return self.folder / "resolv.conf"

    def start_helper(self) -> None:
        arguments = [str(self.folder / "state"), f"resolv-conf={self.resolv_conf}"]
        sock, process = rpc.start("sampan.helpers.network", arguments)
        self.stack.callback(process.wait, PATIENCE)
        self.stack.enter_context(sock)
        self.plumber = rpc.connect(Plumber, sock, PATIENCE)  # type: ignore[type-abstract]
        self.helper = process.pid

    def network(self, number: int, name: str = "", *, internal: bool = False) -> None:
        self.plumber.ensure_network(
            BridgeSpec(
                network_id=f"n{number}",
                name=f"br{number}",
                subnet=f"172.{number}.0.0/16",
                gateway=f"172.{number}.0.1",
                internal=internal,
                domain=name or f"net{number}",
            )
        )

    def container(self, number: int, *names: str, network: int = 30, **resolver: object) -> Fd:
        """Return the namespace of a new container whose address ends with `number`."""
        namespace = self.join(number, *names, network=network)
        spec = ResolverSpec(container_id=f"c{number}", **resolver)  # type: ignore[arg-type]
        self.plumber.resolve(spec, namespace)
        return namespace

    def join(
        self, number: int, *names: str, network: int = 30, sandbox: Fd | None = None, nth: int = 0
    ) -> Fd:
        spec = EndpointSpec(
            endpoint_id=f"e{network}-{number}",
            network_id=f"n{network}",
            address=f"172.{network}.0.{number}/16",
            mac_address=f"02:42:ac:{network:02x}:00:{number:02x}",
            gateway="" if nth else f"172.{network}.0.1",
            interface=f"eth{nth}",
            container_id=f"c{number}",
            names=list(names),
        )
        return self.stack.enter_context(self.plumber.attach(spec, sandbox))

    @property
    def resolver(self) -> int:
        """Return the resolver's pid."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"sampan.helpers.resolver" in line and bytes(self.folder) in line:
                    found.append(int(pid))
        [pid] = found
        return pid


@pytest.fixture
def world() -> Iterator[World]:
    with hosts() as here, ExitStack() as stack:
        folder = scratch()  # the resolver, which is nobody, reads the host's resolv.conf
        folder.chmod(0o755)
        stack.callback(shutil.rmtree, folder)
        world = World(here, folder, stack)
        world.resolv_conf.write_text(f"nameserver {NEIGHBOUR}\n")
        world.start_helper()
        world.network(30, "back")
        yield world
        for made in world.plumber.endpoints():
            world.plumber.detach(made.endpoint.endpoint_id)


def ask(
    namespace: Fd,
    name: str,
    kind: str = "A",
    *,
    tcp: bool = False,
    seconds: float = PATIENCE,
    **options: object,
) -> dns.message.Message:
    question = dns.message.make_query(name, kind, **options)  # type: ignore[arg-type]
    with inside(namespace.number):
        if tcp:
            sock = socket.create_connection((ADDRESS, 53), timeout=seconds)
        else:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect((ADDRESS, 53))
    with sock:
        sock.settimeout(seconds)
        wire = question.to_wire()
        sock.sendall(len(wire).to_bytes(2, "big") + wire if tcp else wire)
        if tcp:
            reader = sock.makefile("rb")
            with reader:
                answer = reader.read(int.from_bytes(reader.read(2), "big"))
        else:
            answer = sock.recv(65535)
    read = dns.message.from_wire(answer)
    assert question.is_response(read)
    return read


def addresses(answer: dns.message.Message) -> list[str]:
    return [item.to_text() for rrset in answer.answer for item in rrset]


@contextmanager
def name_server(
    namespace: int, address: str, reply: Callable[[dns.message.Message, bool], object]
) -> Iterator[list[dns.message.Message]]:
    """Run a server; `reply` takes the question and whether it came by TCP."""
    asked: list[dns.message.Message] = []
    with inside(namespace):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((address, 53))
        tcp = socket.create_server((address, 53))

    def answered(wire: bytes, by_tcp: bool) -> bytes:
        question = dns.message.from_wire(wire)
        asked.append(question)
        made = reply(question, by_tcp)
        return made.to_wire() if isinstance(made, dns.message.Message) else b""

    def serve_udp() -> None:
        with suppress(OSError):
            while packet := udp.recvfrom(65535):
                if not packet[1]:
                    return
                if answer := answered(packet[0], False):
                    udp.sendto(answer, packet[1])

    def serve_tcp() -> None:
        with suppress(OSError):
            while True:
                client, _ = tcp.accept()
                with client, client.makefile("rb") as reader:
                    wire = reader.read(int.from_bytes(reader.read(2), "big"))
                    if answer := answered(wire, True):
                        client.sendall(len(answer).to_bytes(2, "big") + answer)

    threads = [threading.Thread(target=serve) for serve in (serve_udp, serve_tcp)]
    for thread in threads:
        thread.start()
    try:
        yield asked
    finally:
        for sock, thread in zip((udp, tcp), threads, strict=True):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)
            sock.close()


def reply_with(*texts: str, flags: int = 0) -> Callable[[dns.message.Message, bool], object]:
    def reply(question: dns.message.Message, by_tcp: bool) -> dns.message.Message:
        answer = dns.message.make_response(question)
        name = question.question[0].name
        if texts:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", *texts))
        answer.flags |= flags
        return answer

    return reply


def test_containers_find_one_another_by_every_name(world: World) -> None:
    one = world.container(2, "web", "www", "0123456789ab")
    two = world.container(3, "db")
    for name in ("web", "www", "WWW", "0123456789ab", "web.back", "web."):
        for tcp in (False, True):
            assert addresses(ask(two, name, tcp=tcp)) == ["172.30.0.2"]
    assert addresses(ask(one, "db")) == ["172.30.0.3"]
    assert addresses(ask(one, "web")) == ["172.30.0.2"]  # itself
    assert ask(two, "web", "AAAA").answer == []
    assert ask(two, "web", "MX").rcode() == dns.rcode.NOERROR


def test_an_address_leads_to_a_name(world: World) -> None:
    world.container(2, "web")
    client = world.container(3, "db")
    answer = ask(client, str(dns.reversename.from_address("172.30.0.2")), "PTR")
    assert addresses(answer) == ["web.back."]


def test_several_containers_of_one_alias_take_turns(world: World) -> None:
    for number in (2, 3):
        world.join(number, f"c{number}", "web")
    client = world.container(4, "client")
    firsts = [addresses(ask(client, "web"))[0] for _ in range(6)]
    assert sorted(firsts) == ["172.30.0.2"] * 3 + ["172.30.0.3"] * 3


def test_networks_do_not_know_each_other_s_names_until_a_container_joins(world: World) -> None:
    world.network(29)
    world.container(2, "web", network=29)
    client = world.container(3, "client")
    assert ask(client, "web").rcode() == dns.rcode.SERVFAIL
    world.join(3, "client", network=29, sandbox=client, nth=1)
    assert addresses(ask(client, "web")) == ["172.29.0.2"]
    assert addresses(ask(client, "web.net29")) == ["172.29.0.2"]
    world.plumber.detach("e29-3")
    assert ask(client, "web").rcode() == dns.rcode.SERVFAIL


def test_a_container_that_has_gone_or_was_renamed_is_not_found_by_its_old_name(
    world: World,
) -> None:
    world.container(2, "web")
    client = world.container(3, "client")
    world.plumber.rename("e30-2", ["www"])
    assert ask(client, "web").rcode() == dns.rcode.SERVFAIL
    assert addresses(ask(client, "www")) == ["172.30.0.2"]
    world.plumber.detach("e30-2")
    assert ask(client, "www").rcode() == dns.rcode.SERVFAIL


def test_private_aliases_are_the_container_s_own(world: World) -> None:
    world.container(2, "postgres")
    client = world.container(3, "client", aliases={"db": "postgres"})
    assert addresses(ask(client, "DB")) == ["172.30.0.2"]
    assert ask(world.container(4, "other"), "db").rcode() == dns.rcode.SERVFAIL


def test_other_names_are_asked_of_the_host_s_servers_and_pass_unchanged(world: World) -> None:
    client = world.container(2, "client")
    with name_server(world.here.neighbour, NEIGHBOUR, reply_with("192.0.2.7")) as asked:
        answer = ask(client, "example.org", use_edns=0, payload=4096)
        assert addresses(answer) == ["192.0.2.7"]
        assert asked[0].payload == 4096
        assert addresses(ask(client, "example.org", tcp=True)) == ["192.0.2.7"]


def test_a_truncated_answer_has_the_client_ask_again_by_tcp(world: World) -> None:
    def reply(question: dns.message.Message, by_tcp: bool) -> object:
        many = [f"192.0.2.{number}" for number in range(1, 100)]
        return reply_with(*many)(question, by_tcp) if by_tcp else truncated(question, by_tcp)

    truncated = reply_with(flags=dns.flags.TC)
    client = world.container(2, "client")
    with name_server(world.here.neighbour, NEIGHBOUR, reply):
        assert ask(client, "example.org").flags & dns.flags.TC
        assert len(addresses(ask(client, "example.org", tcp=True))) == 99


def test_a_changed_resolv_conf_of_the_host_is_followed(world: World) -> None:
    client = world.container(2, "client")
    world.resolv_conf.write_text(f"nameserver {HOST}\n")
    with name_server(world.here.host, HOST, reply_with("192.0.2.8")):
        assert addresses(ask(client, "example.org")) == ["192.0.2.8"]


def test_the_next_server_is_asked_if_one_is_silent_fails_or_is_not_there(world: World) -> None:
    client = world.container(2, "client", servers=[NEIGHBOUR, "127.0.0.9", HOST])

    def failing(question: dns.message.Message, by_tcp: bool) -> object:
        answer = dns.message.make_response(question)
        answer.set_rcode(dns.rcode.SERVFAIL)
        return answer

    with name_server(world.here.host, HOST, reply_with("192.0.2.9")):
        for first in (failing, lambda *_: None):
            with name_server(world.here.neighbour, NEIGHBOUR, first):
                assert addresses(ask(client, "example.org")) == ["192.0.2.9"]
    with name_server(world.here.neighbour, NEIGHBOUR, failing):
        assert ask(client, "example.org").rcode() == dns.rcode.SERVFAIL


def test_a_forged_answer_is_not_believed(world: World) -> None:
    def reply(question: dns.message.Message, by_tcp: bool) -> object:
        if str(question.question[0].name) == "good.org.":
            return reply_with("192.0.2.1")(question, by_tcp)
        other = dns.message.make_query("evil.org", "A", id=question.id)
        return reply_with("192.0.2.66")(other, by_tcp)

    client = world.container(2, "client")
    with name_server(world.here.neighbour, NEIGHBOUR, reply):
        assert ask(client, "bank.org").rcode() == dns.rcode.SERVFAIL
        assert addresses(ask(client, "good.org")) == ["192.0.2.1"]


def test_nobody_outside_is_asked_for_a_container_of_internal_networks(world: World) -> None:
    world.network(29, internal=True)
    world.container(2, "db", network=29)
    client = world.container(3, "client", network=29)
    with name_server(world.here.neighbour, NEIGHBOUR, reply_with("192.0.2.7")) as asked:
        assert ask(client, "example.org").rcode() == dns.rcode.SERVFAIL
        assert ask(client, "example.org", tcp=True).rcode() == dns.rcode.SERVFAIL
        assert addresses(ask(client, "db")) == ["172.29.0.2"]
        assert asked == []
        world.join(3, "client", sandbox=client, nth=1)
        assert addresses(ask(client, "example.org")) == ["192.0.2.7"]


def test_a_container_may_run_a_name_server_of_its_own(world: World) -> None:
    world.container(2, "web")
    client = world.container(3, "client")
    with name_server(client.number, "0.0.0.0", reply_with("192.0.2.1")):
        assert addresses(ask(client, "web")) == ["172.30.0.2"]


def test_names_are_found_while_the_helper_is_away_and_by_its_successor(world: World) -> None:
    world.container(2, "web")
    client = world.container(3, "client")
    pid = world.resolver
    os.kill(world.helper, signal.SIGKILL)
    assert addresses(ask(client, "web")) == ["172.30.0.2"]
    world.start_helper()
    world.network(30, "back")
    assert addresses(ask(client, "web")) == ["172.30.0.2"]
    world.join(4, "new")
    assert addresses(ask(client, "new")) == ["172.30.0.4"]
    assert world.resolver == pid
    world.plumber.reconcile(["e30-3"])
    assert ask(client, "web").rcode() == dns.rcode.SERVFAIL


def test_a_resolver_that_dies_is_replaced(world: World) -> None:
    world.container(2, "web")
    client = world.container(3, "client")
    pid = world.resolver
    os.kill(pid, signal.SIGKILL)

    def answers() -> bool:
        try:
            # What came to the old one in its last moment, nobody answers.
            return addresses(ask(client, "web", seconds=0.5)) == ["172.30.0.2"]
        except OSError:
            return False

    eventually(answers)
    assert world.resolver != pid


def test_a_resolver_that_dies_with_the_helper_is_replaced_when_the_engine_is_back(
    world: World,
) -> None:
    world.container(2, "web")
    client = world.container(3, "client")
    for pid in (world.helper, world.resolver):
        os.kill(pid, signal.SIGKILL)
    world.start_helper()
    for number, namespace in ((3, client),):
        world.plumber.resolve(ResolverSpec(container_id=f"c{number}"), namespace)
    assert addresses(ask(client, "web")) == ["172.30.0.2"]


def test_resolving_twice_keeps_the_sockets_and_a_new_namespace_gets_new_ones(world: World) -> None:
    client = world.container(2, "web")
    world.plumber.resolve(ResolverSpec(container_id="c2"), client)
    assert addresses(ask(client, "web")) == ["172.30.0.2"]
    again = world.container(2, "web")
    assert addresses(ask(again, "web")) == ["172.30.0.2"]


def test_the_resolver_has_no_privileges_and_goes_with_the_last_network(world: World) -> None:
    world.container(2, "web")
    status = Path(f"/proc/{world.resolver}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["65534"] * 4
    assert fields["Gid"].split() == ["65534"] * 4
    assert fields["Groups"].strip() == ""
    assert {int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapInh")} == {0}
    assert fields["NoNewPrivs"] == "1"
    pid = world.resolver
    world.plumber.remove_network("n30")
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_a_resolver_whose_folder_was_removed_ends(world: World) -> None:
    world.container(2, "web")
    pid = world.resolver
    os.kill(world.helper, signal.SIGKILL)
    shutil.rmtree(world.folder / "state")
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    world.start_helper()


def test_garbage_and_idle_connections_harm_nobody(world: World) -> None:
    client = world.container(2, "web")
    with inside(client.number), ExitStack() as stack:
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        for size in (0, 1, 11, 12, 100, 1400):
            udp.sendto(os.urandom(size), (ADDRESS, 53))
        for _ in range(40):  # more than one container may have
            held = stack.enter_context(socket.create_connection((ADDRESS, 53), timeout=PATIENCE))
            held.sendall(b"\xff\xff half a message")
    assert addresses(ask(client, "web")) == ["172.30.0.2"]


def test_as_a_library_names_are_found_too(tmp_path: Path) -> None:
    with hosts(), ExitStack() as stack:
        plumber = LinuxPlumber()
        stack.callback(plumber.close)
        bridge = BridgeSpec(
            network_id="n30",
            name="br30",
            subnet="172.30.0.0/16",
            gateway="172.30.0.1",
            domain="back",
        )
        plumber.ensure_network(bridge)
        spec = EndpointSpec(
            endpoint_id="e",
            network_id="n30",
            address="172.30.0.2/16",
            mac_address="02:42:ac:1e:00:02",
            gateway="172.30.0.1",
            container_id="c",
            names=["web"],
        )
        namespace = stack.enter_context(plumber.attach(spec))
        plumber.resolve(ResolverSpec(container_id="c"), namespace)
        assert addresses(ask(namespace, "web")) == ["172.30.0.2"]
        plumber.detach("e")
