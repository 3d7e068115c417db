"""No route answers whoever has less than it needs, by whatever method."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from sampan.registry.application import ROUTES, Route, Verb
from sampan.registry.auth.token import Token, Trusted
from sampan.registry.registry import Registry
from tests.own_registry import Answer, Shop, serving, sha

KEY = ec.generate_private_key(ec.SECP256R1())
UPLOAD = "00000000-0000-4000-8000-000000000000"
PLACES = (
    *("/v2/", "/v2/_catalog", "/v1/_ping", "/v1/search?q=a", "/v2/team/app/tags/list"),
    *("/v2/_oci/ext/discover", "/v2/team/app/_oci/ext/discover", "/v2/team/app/manifests/1"),
    f"/v2/team/app/referrers/{sha(b'x')}",
    f"/v2/team/app/blobs/uploads/?digest={sha(b'')}",
    f"/v2/team/app/blobs/uploads/{UPLOAD}?digest={sha(b'')}",
    f"/v2/team/app/blobs/{sha(b'layer')}",
)


def route_of(place: str) -> Route:
    path = place.partition("?")[0]
    return next(route for route in ROUTES if route.pattern.fullmatch(path))


EVERY = [
    (place, method, verb)
    for place in PLACES
    for method, verb in route_of(place).verbs.items()
    if not verb.public
]
Granted = tuple[str, str, tuple[str, ...]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key()))
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    path.write_text(json.dumps({"keys": [{**key, "kid": "one"}]}))
    access = Token("http://realm", "hub", "issuer", Trusted.read("", str(path)))
    with Registry.in_memory() as registry:
        with serving(registry) as everybody:
            everybody.push("team/app", "1")
        with serving(registry, access=access) as found:
            yield found


def ask(shop: Shop, place: str, method: str, *granted: Granted) -> Answer:
    claims = {
        "iss": "issuer", "aud": "hub", "sub": "alice", "exp": int(time.time()) + 60,
        "access": [{"type": t, "name": n, "actions": a} for t, n, a in granted],
    }  # fmt: skip
    token = jwt.encode(claims, KEY, "ES256", {"kid": "one"})
    return shop.ask(method, place, headers={"Authorization": f"Bearer {token}"})


def _needs(place: str, verb: Verb) -> Granted:
    kind, name = ("repository", "team/app") if "team" in place else ("registry", "catalog")
    return kind, name, verb.actions


def test_every_route_has_a_place_here() -> None:
    assert [route for route in ROUTES if route not in map(route_of, PLACES)] == []


@pytest.mark.parametrize("header", [{}, {"Authorization": "Basic YWxpY2U6c2VjcmV0"}])
@pytest.mark.parametrize(("place", "method", "verb"), EVERY)
def test_without_a_token_there_is_nothing(
    shop: Shop, place: str, method: str, verb: Verb, header: dict[str, str]
) -> None:
    assert shop.ask(method, place, headers=header).status == 401


@pytest.mark.parametrize(("place", "method", "verb"), [one for one in EVERY if one[2].actions])
def test_less_than_all_that_is_needed_is_nothing(
    shop: Shop, place: str, method: str, verb: Verb
) -> None:
    kind, name, actions = _needs(place, verb)
    others: list[Granted] = [
        (kind, f"{name}x", ("*",)),
        (kind, f"x/{name}", ("*",)),
        (kind, name.upper(), ("*",)),
        ("repository" if kind == "registry" else "registry", name, ("*",)),
        ("repository", "*", ("*",)),
        ("registry" if kind == "registry" else "repository", "", ("*",)),
    ]
    for count in range(len(actions)):
        for some in itertools.combinations(actions, count):
            assert ask(shop, place, method, *others, (kind, name, some)).status == 401
    given = tuple(a for a in ("pull", "push", "delete", "search") if a not in actions)
    assert ask(shop, place, method, *others, (kind, name, given)).status == 401
    assert ask(shop, place, method, (kind, name, actions)).status != 401
