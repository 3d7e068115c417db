"""Samples of resource use, in Docker's shape."""

from __future__ import annotations

import asyncio
import os

import msgspec

from sampan.engine.containers.container import Container
from sampan.engine.containers.stats import Stats, network_counters, system_cpu
from sampan.engine.containers.waiting import settle_removal
from sampan.spec.docker.stats import CPUStats, CPUUsage, StatsResponse
from tests.unit.engine.fakes import container


class CountingStats(Stats):
    """Counts its samples instead of asking the kernel."""

    def __init__(self) -> None:
        self.count = 0

    async def sample(self, container: Container) -> StatsResponse:
        self.count += 1
        cpu = CPUStats(cpu_usage=CPUUsage(total_usage=self.count))
        return StatsResponse(id=container.id, name="/tested", read=str(self.count), cpu_stats=cpu)


def test_a_container_at_rest_has_an_empty_sample_with_its_name() -> None:
    async def single() -> StatsResponse:
        return await anext(Stats().samples(container(), stream=False))

    document = msgspec.to_builtins(asyncio.run(single()))
    assert document["name"] == "/tested"
    assert document["read"] == "0001-01-01T00:00:00Z"
    assert document["memory_stats"] == {}
    assert "networks" not in document


def test_one_shot_is_one_sample_without_the_one_before() -> None:
    async def single() -> StatsResponse:
        stats = CountingStats()
        return await anext(stats.samples(container(running=True), stream=False, one_shot=True))

    sample = asyncio.run(single())
    assert (sample.cpu_stats.cpu_usage.total_usage, sample.preread) == (1, "0001-01-01T00:00:00Z")


def test_a_stream_carries_the_counters_of_the_sample_before_and_ends_with_the_container() -> None:
    async def stream() -> list[tuple[int, int]]:
        made, seen = container(running=True), []
        async for sample in CountingStats().samples(made):
            now, before = sample.cpu_stats.cpu_usage, sample.precpu_stats.cpu_usage
            seen.append((now.total_usage, before.total_usage))
            if len(seen) == 2:
                settle_removal(made)
        return seen

    assert asyncio.run(stream()) == [(1, 0), (2, 1)]


def test_the_host_s_processors_are_counted() -> None:
    total, count = system_cpu()
    assert total > 0
    assert count >= len(os.sched_getaffinity(0)) > 0


def test_loopback_is_no_network() -> None:
    assert "lo" not in network_counters(os.getpid())
