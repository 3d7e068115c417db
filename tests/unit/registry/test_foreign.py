from __future__ import annotations

import pytest

from sampan.registry.registry import Registry
from sampan.registry.service import Service
from tests.own_registry import serving, sha

HERE, THERE = "http://registry.test", "https://evil.example"
DIGEST = sha(b"x")


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": THERE}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://other.test"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": HERE}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": THERE}, True),
        ({"Origin": "null"}, True),
        ({"Origin": HERE}, False),
        ({"Origin": "https://outside.test", "X-Forwarded-Host": "outside.test"}, False),
        ({"Origin": "http://registry.test.evil.example"}, True),
    ],
)
def test_a_page_of_another_site_uploads_nothing(headers: dict[str, str], is_refused: bool) -> None:
    with Registry.in_memory() as registry, serving(registry) as shop:
        url = f"/v2/team/app/blobs/uploads/?digest={DIGEST}"
        answer = shop.ask("POST", url, b"x", headers)
        assert answer.status == (403 if is_refused else 201)
        assert shop.get(f"/v2/team/app/blobs/{DIGEST}", **headers).status == (
            404 if is_refused else 200
        )


@pytest.mark.parametrize(
    ("permitted", "origin", "status"), [(THERE, THERE, 202), ("*", THERE, 202), (HERE, THERE, 403)]
)
def test_a_page_of_another_site_may_be_permitted(permitted: str, origin: str, status: int) -> None:
    service = Service(headers={"Access-control-allow-origin": [permitted]})
    with Registry.in_memory() as registry, serving(registry, service) as shop:
        headers = {"Sec-Fetch-Site": "cross-site", "Origin": origin}
        assert shop.ask("POST", "/v2/team/app/blobs/uploads/", headers=headers).status == status
