"""What a cache has done, counted, with docker-registry's names for Prometheus.

Source: distribution registry/proxy/proxymetrics.go.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

_TOLD = {
    "requests": "Requests for what is cached.",
    "hits": "Those that were answered with what was here.",
    "misses": "Those for which the upstream had to be asked for content.",
    "stale": "Those that were answered with what was here because the upstream failed.",
    "pulled_bytes": "Bytes that were fetched from the upstream.",
    "pushed_bytes": "Bytes that were given to clients.",
    "evicted_bytes": "Bytes that were forgotten to make room.",
}


class Figures(Collector):
    """Counts by upstream and by what was asked for: `manifest` or `blob`. A collector too."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, figure: str, upstream: str, kind: str, count: int = 1) -> None:
        """Count; from any thread."""
        with self._lock:
            self._counts[figure, upstream, kind] += count

    def get(self, figure: str, upstream: str, kind: str) -> int:
        """Return a count."""
        with self._lock:
            return self._counts[figure, upstream, kind]

    def collect(self) -> Iterator[Metric]:
        """Yield all figures, as prometheus_client asks for them."""
        with self._lock:
            counts = dict(self._counts)
        for figure, told in _TOLD.items():
            family = CounterMetricFamily(
                f"registry_proxy_{figure}", told, labels=("upstream", "type")
            )
            for (name, upstream, kind), count in sorted(counts.items()):
                if name == figure:
                    family.add_metric((upstream, kind), count)
            yield family
