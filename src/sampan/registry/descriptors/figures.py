"""How a cache of descriptors does, for health and for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(eq=False)
class Figures(Collector):
    """Counted by one thread, read by others."""

    away: str = ""  # why the server cannot be used
    refused: str = ""  # why it takes nothing more
    owed: int = 0
    written: int = 0
    removed: int = 0
    failures: int = 0

    def notes(self) -> dict[str, str]:
        """Return what an administrator should know."""
        reason = self.away or self.refused
        owed = f"; {self.owed} descriptors are to be removed there" if self.owed else ""
        return {"redis": reason + owed} if reason else {}

    def collect(self) -> Iterator[Metric]:
        """Yield all figures, as prometheus_client asks for them."""
        name = "registry_redis"
        yield GaugeMetricFamily(f"{name}_up", "Redis can be used.", int(not self.away))
        yield GaugeMetricFamily(f"{name}_owed", "Descriptors to be removed there.", self.owed)
        for figure, text, value in (
            ("written", "Descriptors that were written.", self.written),
            ("removed", "Descriptors that were removed.", self.removed),
            ("failures", "How often it failed.", self.failures),
        ):
            yield CounterMetricFamily(f"{name}_{figure}", text, value)
