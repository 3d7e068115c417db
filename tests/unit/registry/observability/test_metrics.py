from __future__ import annotations

import asyncio

from sampan.registry.observability.metrics import Metrics
from sampan.registry.registry import Registry
from tests.own_registry import Shop, serving


def test_requests_are_counted_by_place_method_and_status() -> None:
    with Registry.in_memory() as registry, serving(registry) as shop:
        metrics = Metrics(shop.application)
        counted = Shop(metrics)  # type: ignore[arg-type]
        counted.get("/v2/")
        counted.get("/v2/")
        counted.get("/v2/a/manifests/1")
        counted.ask("EVIL", "/nowhere")
        counted.ask("EVIL", "/v2/")
        text = metrics.text().decode()
    for line in (
        'registry_http_requests_total{code="200",handler="base",method="get"} 2.0',
        'registry_http_requests_total{code="404",handler="manifest",method="get"} 1.0',
        'registry_http_requests_total{code="404",handler="none",method="other"} 1.0',
        'registry_http_requests_total{code="405",handler="base",method="other"} 1.0',
        "registry_http_in_flight_requests 0.0",
        'registry_http_request_duration_seconds_count{handler="base",method="get"} 2.0',
    ):
        assert line in text.splitlines()
    assert "process_resident_memory_bytes" in text
    assert "evil" not in text.lower()


def test_other_connections_are_not_counted() -> None:
    async def application(scope: object, receive: object, send: object) -> None:
        pass

    metrics = Metrics(application)  # type: ignore[arg-type]
    asyncio.run(metrics({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert b"registry_http_requests_total{" not in metrics.text()
