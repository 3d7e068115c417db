"""Time and memory of containers: ours and dockerd in turn, on the same machine and image.

    .venv/bin/python bench/containers.py [run exec start scale memory idle remove] [--runs N]

Prints a Markdown table of medians in milliseconds and the ratio ours / dockerd.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import time
from collections.abc import Callable

from engines import REPOSITORY, Engine, import_base, running, wanted

SAMPAN = f"{REPOSITORY}/.venv/bin/sampan"
IDLE = {"Image": "busybox", "Cmd": ["sleep", "100000"]}


def timed(action: Callable[[], object]) -> float:
    """Return the wall time of one call in milliseconds."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


def command(engine: Engine, *arguments: str) -> Callable[[], object]:
    return lambda: subprocess.run(
        arguments, env=engine.environment, check=True, capture_output=True
    )


def in_turn(actions: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Run the actions alternately and return the median of each."""
    for action in actions.values():
        action()
    samples: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(runs):
        for name, action in actions.items():
            samples[name].append(timed(action))
    return {name: statistics.median(values) for name, values in samples.items()}


def report(title: str, figures: dict[str, float], unit: str = "ms") -> None:
    """Print one row: ours, the peer, the ratio."""
    peer = figures.get("dockerd")
    for name, value in figures.items():
        if name == "dockerd":
            continue
        ratio = f"{value / peer:.3f}" if peer else "-"
        other = f"{peer:.1f}" if peer is not None else "-"
        print(f"| {title} ({name}) | {value:.1f} {unit} | {other} {unit} | {ratio} |", flush=True)


def bench_run(engines: dict[str, Engine], runs: int) -> None:
    """`run --rm busybox true` by the docker CLI on each, and by our CLI on ours."""
    for label, options in {"bridge": [], "host": ["--net=host"], "port": ["-p", "80"]}.items():
        arguments = ["run", "--rm", *options, "busybox", "true"]
        actions = {name: command(engine, "docker", *arguments) for name, engine in engines.items()}
        actions["sampand, sampan CLI"] = command(engines["sampand"], SAMPAN, *arguments)
        report(f"run --rm busybox true, {label}", in_turn(actions, runs))


def bench_exec(engines: dict[str, Engine], runs: int) -> None:
    """`exec` of true in a running container."""
    with contextlib.ExitStack() as stack:
        actions = {}
        for name, engine in engines.items():
            container = start(engine)
            stack.callback(remove, engine, container)
            actions[name] = command(engine, "docker", "exec", container, "true")
            if name == "sampand":
                actions["sampand, sampan CLI"] = command(engine, SAMPAN, "exec", container, "true")
        report("exec true", in_turn(actions, runs))


def start(engine: Engine) -> str:
    """Create and start one idle container; return its id."""
    container: str = engine.request("POST", "/containers/create", IDLE)["Id"]
    engine.request("POST", f"/containers/{container}/start")
    return container


def remove(engine: Engine, container: str) -> None:
    engine.request("DELETE", f"/containers/{container}?force=1")


def start_latency(engine: Engine, runs: int) -> float:
    """Return the median time from POST …/start to its answer, when the program runs."""
    samples = []
    for _ in range(runs):
        container = engine.request("POST", "/containers/create", IDLE)["Id"]
        path = f"/containers/{container}/start"
        samples.append(timed(lambda path=path: engine.request("POST", path)))
        remove(engine, container)
    return statistics.median(samples)


def bench_start(engines: dict[str, Engine], runs: int) -> None:
    """API request to running process."""
    report("API start to running", {n: start_latency(e, runs) for n, e in engines.items()})


def bench_scale(engines: dict[str, Engine], runs: int) -> None:
    """Ours alone, with 1, 100 and 500 containers running: start, ps, memory, end of all."""
    engine = engines["sampand"]
    before = engine.memory()
    containers: list[str] = []
    for count in (1, 100, 500):
        while len(containers) < count:
            containers.append(start(engine))
        title = f"with {count} running: "
        report(title + "API start", {"sampand": start_latency(engine, runs)})
        report(
            title + "API list",
            {
                "sampand": statistics.median(
                    timed(lambda: engine.request("GET", "/containers/json")) for _ in range(runs)
                )
            },
        )
        report(
            title + "sampan ps",
            {
                "sampand": statistics.median(
                    timed(command(engine, SAMPAN, "ps")) for _ in range(runs)
                )
            },
        )
        marginal = (engine.memory() - before) / count / (1 << 20)
        print(f"| {title}PSS a container | {marginal:.3f} MB | - | - |", flush=True)
    report("rm -f of 500 running", {"sampand": timed(engine.remove_all)})


def bench_memory(engines: dict[str, Engine], runs: int) -> None:
    """Marginal PSS of 50 idle containers."""
    figures = {}
    for name, engine in engines.items():
        before = engine.memory()
        for _ in range(50):
            start(engine)
        figures[name] = (engine.memory() - before) / 50 / (1 << 20)
        engine.remove_all()
    report("memory of one more idle container, of 50", figures, "MB")


def bench_idle(engines: dict[str, Engine], runs: int) -> None:
    """PSS of the idle daemon with all its helpers, and its CPU use in ten seconds."""
    report("idle engine", {n: e.memory() / (1 << 20) for n, e in engines.items()}, "MB")
    before = {name: engine.cpu() for name, engine in engines.items()}
    time.sleep(10)
    report("CPU in 10 s of idling", {n: (e.cpu() - before[n]) * 1000 for n, e in engines.items()})


def bench_remove(engines: dict[str, Engine], runs: int) -> None:
    """`rm -f` of 50 running containers by one docker command."""
    figures = {}
    for name, engine in engines.items():
        containers = [start(engine) for _ in range(50)]
        figures[name] = timed(command(engine, "docker", "rm", "-f", *containers))
    report("rm -f of 50 running", figures)


BENCHMARKS = {
    "idle": bench_idle,
    "run": bench_run,
    "exec": bench_exec,
    "start": bench_start,
    "memory": bench_memory,
    "remove": bench_remove,
    "scale": bench_scale,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], default=[])
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        engines = {name: stack.enter_context(running(name)) for name in wanted()}
        for engine in engines.values():
            import_base(engine)
        print("| what | Sampan | dockerd | ratio |\n|---|---|---|---|")
        for name in arguments.names or BENCHMARKS:
            BENCHMARKS[name](engines, arguments.runs)


if __name__ == "__main__":
    main()
