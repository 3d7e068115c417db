"""Networks: ours and dockerd in turn, on the same machine and image.

    .venv/bin/python bench/network.py [start throughput dns] [--runs N] [--many N] [--seconds N]
                                      [--alone]

Prints a Markdown table of medians and the ratio ours / dockerd. Needs iperf3. With --alone only
ours is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from containers import IDLE, report, timed
from engines import Engine, import_base, running, wanted

from sampan.network.sandbox import inside

NETWORK = "bench"
MODES: dict[str, dict[str, Any]] = {
    "none": {"HostConfig": {"NetworkMode": "none"}},
    "bridge": {},
    "bridge and a port": {
        "ExposedPorts": {"80/tcp": {}},
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": ""}]}},
    },
    "network of a user": {"HostConfig": {"NetworkMode": NETWORK}},
}
IN_FLIGHT = 16  # questions that a client of the resolver has out


def create(engine: Engine, **more: Any) -> str:
    made: str = engine.request("POST", "/containers/create", {**IDLE, **more})["Id"]
    return made


def started(engine: Engine, **more: Any) -> str:
    container = create(engine, **more)
    engine.request("POST", f"/containers/{container}/start")
    return container


def bench_start(engines: dict[str, Engine], arguments: argparse.Namespace) -> None:
    """`POST /containers/ID/start` until it is answered, with 1 and with many running."""
    for running_before in (1, arguments.many):
        for engine in engines.values():
            for _ in range(running_before - 1):
                started(engine)
        for mode, more in MODES.items():
            samples: dict[str, list[float]] = {name: [] for name in engines}
            for _ in range(arguments.runs + 1):
                for name, engine in engines.items():
                    container = create(engine, **more)
                    path = f"/containers/{container}"
                    samples[name].append(
                        timed(lambda it=engine, at=path: it.request("POST", f"{at}/start"))
                    )
                    engine.request("DELETE", f"{path}?force=1")
            figures = {name: statistics.median(taken[1:]) for name, taken in samples.items()}
            report(f"start, {mode}, {running_before} running", figures)
    for engine in engines.values():
        engine.remove_all()


def bench_throughput(engines: dict[str, Engine], arguments: argparse.Namespace) -> None:
    """iperf3 between two containers, and from the host through a published port, in turn.

    The CPU time of both ends for each gigabyte is what the path through the kernel costs: unlike
    the throughput, it is hardly disturbed by what else the machine does.
    """
    between: dict[str, list[Transfer]] = {name: [] for name in engines}
    published: dict[str, list[Transfer]] = {name: [] for name in engines}
    pairs = {name: _pair(engine) for name, engine in engines.items()}
    for run in range(arguments.runs):
        order = list(engines.items())
        for name, engine in order if run % 2 else reversed(order):
            server, client = pairs[name]
            about = engine.request("GET", f"/containers/{server}/json")["NetworkSettings"]
            address, gateway = (about["Networks"][NETWORK][it] for it in ("IPAddress", "Gateway"))
            with _iperf_server(engine, server):
                inner = _enter(engine, client)
                between[name].append(_iperf(inner, address, arguments.seconds))
            with _iperf_server(engine, server):
                outside = ["nsenter", f"--net=/run/netns/{engine.namespace}"]
                published[name].append(_iperf(outside, gateway, arguments.seconds))
    for engine in engines.values():
        engine.remove_all()
    for title, samples in (
        ("between two containers", between),
        ("through a published port", published),
    ):
        speeds = {
            name: statistics.median(it.speed for it in all_) for name, all_ in samples.items()
        }
        costs = {name: statistics.median(it.cost for it in all_) for name, all_ in samples.items()}
        report(f"throughput {title}", speeds, "Gbit/s")
        report(f"CPU time {title}", costs, "ms for each GB")


def _pair(engine: Engine) -> tuple[str, str]:
    """Return a server that publishes iperf3's port, and a client on the same network."""
    ports = {"PortBindings": {"5201/tcp": [{"HostPort": "5201"}]}}
    host = {"NetworkMode": NETWORK, **ports}
    server = started(engine, ExposedPorts={"5201/tcp": {}}, HostConfig=host)
    return server, started(engine, HostConfig={"NetworkMode": NETWORK})


def _pid(engine: Engine, container: str) -> int:
    return int(engine.request("GET", f"/containers/{container}/json")["State"]["Pid"])


def _enter(engine: Engine, container: str) -> list[str]:
    return ["nsenter", f"--net=/proc/{_pid(engine, container)}/ns/net"]


@contextlib.contextmanager
def _iperf_server(engine: Engine, container: str) -> Any:
    command = [*_enter(engine, container), "iperf3", "-s", "-1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        table = f"/proc/{_pid(engine, container)}/net/"
        while not any(_listens(f"{table}{kind}") for kind in ("tcp", "tcp6")):
            time.sleep(0.02)
        try:
            yield
        finally:
            process.terminate()


def _listens(table: str) -> bool:
    """Tell whether somebody listens on iperf3's port. Source: proc(5), /proc/net/tcp."""
    with open(table) as file:
        lines = [line.split() for line in file]
    return any(line[1].endswith(":1451") and line[3] == "0A" for line in lines[1:])


class Transfer(NamedTuple):
    """What iperf3 found."""

    speed: float  # Gbit/s
    cost: float  # milliseconds of CPU for each GB, of both ends


def _iperf(enter: list[str], address: str, seconds: int) -> Transfer:
    command = [*enter, "iperf3", "-c", address, "-t", str(seconds), "--json"]
    done = subprocess.run(command, check=True, capture_output=True)
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise RuntimeError(f"{command}: {answer['error']}")
    received, used = answer["end"]["sum_received"], answer["end"]["cpu_utilization_percent"]
    share = (used["host_total"] + used["remote_total"]) / 100
    return Transfer(
        received["bits_per_second"] / 1e9,
        1e3 * share * received["seconds"] / (received["bytes"] / 1e9),
    )


def bench_dns(engines: dict[str, Engine], arguments: argparse.Namespace) -> None:
    """Questions about a container's name that are answered in a second."""
    figures = {}
    for name, engine in engines.items():
        engine.request(
            "POST", "/containers/create?name=web", {**IDLE, **MODES["network of a user"]}
        )
        engine.request("POST", "/containers/web/start")
        client = started(engine, **MODES["network of a user"])
        with multiprocessing.Pool(1) as pool:
            call = (_pid(engine, client), arguments.seconds)
            figures[name] = pool.apply(_ask, call)
        engine.remove_all()
    report("DNS answers a second", figures, "")


def _ask(pid: int, seconds: int) -> float:
    question = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\3web\0" + struct.pack("!HH", 1, 1)
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    with inside(namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.11", 53))
        client.settimeout(2)
        for _ in range(IN_FLIGHT):
            client.send(question)
        count, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            client.recv(1500)
            client.send(question)
            count += 1
    os.close(namespace)
    return count / seconds


BENCHMARKS: dict[str, Callable[[dict[str, Engine], argparse.Namespace], None]] = {
    "start": bench_start,
    "throughput": bench_throughput,
    "dns": bench_dns,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], default=[])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--many", type=int, default=300)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--alone", action="store_true")
    arguments = parser.parse_args()
    print("| what | Sampan | dockerd | ratio |\n|---|---|---|---|")
    with contextlib.ExitStack() as stack:
        names = ["sampand"] if arguments.alone else wanted()
        engines = {name: stack.enter_context(running(name)) for name in names}
        for engine in engines.values():
            import_base(engine)
            engine.request("POST", "/networks/create", {"Name": NETWORK})
        for name in arguments.names or BENCHMARKS:
            BENCHMARKS[name](engines, arguments)


if __name__ == "__main__":
    main()
