from __future__ import annotations

import base64
import datetime
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from sampan.errors import InvalidArgument
from sampan.registry.auth.token import MEMBER_LIMIT, Token, Trusted, key_ids, thumbprint
from sampan.registry.content.classes import MEDIA_PLUGIN
from sampan.registry.registry import Registry
from sampan.registry.service import Service
from sampan.spec.image import MEDIA_DOCKER_CONFIG, MEDIA_DOCKER_MANIFEST
from tests.own_registry import Answer, Shop, serving, sha

EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
ED = ed25519.Ed25519PrivateKey.generate()
OTHER = ec.generate_private_key(ec.SECP256R1())


def certificate(
    key: Any, issuer: tuple[x509.Certificate, Any] | None = None, ca: bool = True, days: int = 1
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test {id(key)}")])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer[0].subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )


def x5c(*chain: x509.Certificate) -> dict[str, Any]:
    encoded = [base64.b64encode(c.public_bytes(serialization.Encoding.DER)).decode() for c in chain]
    return {"x5c": encoded}


ROOT = certificate(EC)
ROOT_RSA = certificate(RSA)


UNKNOWN_VERSION = {  # nobody has signed it, and nobody has to
    "x5c": [
        base64.b64encode(
            ROOT.public_bytes(serialization.Encoding.DER).replace(
                b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x26", 1
            )
        ).decode()
    ]
}


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Trusted:
    folder = tmp_path_factory.mktemp("keys")
    pem = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (ROOT, ROOT_RSA))
    (folder / "bundle.pem").write_bytes(pem)
    key = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(ED.public_key()))
    key_set = {"keys": [{**key, "kid": "named", "alg": "EdDSA"}]}
    (folder / "keys.json").write_text(json.dumps(key_set))
    return Trusted.read(str(folder / "bundle.pem"), str(folder / "keys.json"))


@pytest.fixture(scope="module")
def shop(trusted: Trusted) -> Iterator[Shop]:
    access = Token("http://realm", "hub", "issuer", trusted)
    with Registry.in_memory() as registry:
        with serving(registry) as everybody:
            everybody.push_blob("team/app", b"x")
        with serving(registry, access=access) as found:
            yield found


def claims(*access: tuple[str, str, list[str]], **more: Any) -> dict[str, Any]:
    now = int(time.time())
    granted = [{"type": t, "name": n, "actions": a} for t, n, a in access]
    base = {"iss": "issuer", "aud": "hub", "sub": "captain", "exp": now + 86400, "nbf": now - 5}
    return {k: v for k, v in {**base, "access": granted, **more}.items() if v is not None}


def ask(
    shop: Shop,
    content: dict[str, Any],
    key: Any = EC,
    algorithm: str = "ES256",
    headers: dict[str, Any] | None = None,
    method: str = "GET",
    url: str = "/v2/team/app/tags/list",
) -> Answer:
    head = x5c(ROOT) if headers is None else headers
    text = jwt.encode(content, key, algorithm, head)
    return shop.ask(method, url, headers={"Authorization": f"Bearer {text}"})


PULL = claims(("repository", "team/app", ["pull"]))


@pytest.mark.parametrize(
    ("key", "algorithm", "headers"),
    [
        (EC, "ES256", x5c(ROOT)),
        (RSA, "RS256", x5c(ROOT_RSA)),
        (RSA, "PS256", x5c(ROOT_RSA)),
        (EC, "ES256", {"kid": key_ids(EC.public_key())[0]}),
        (EC, "ES256", {"kid": key_ids(EC.public_key())[1]}),
        (RSA, "RS512", {"kid": key_ids(RSA.public_key())[0]}),
        (ED, "EdDSA", {"kid": "named"}),
        (ED, "EdDSA", {"kid": thumbprint(ED.public_key())}),
        (OTHER, "ES256", x5c(certificate(OTHER, (ROOT, EC), ca=False))),
        (OTHER, "ES256", x5c(certificate(OTHER, (ROOT, EC), ca=False), ROOT)),
        (EC, "ES256", {"jwk": json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC.public_key()))}),
    ],
)
def test_a_token_of_a_trusted_key_opens(
    shop: Shop, key: Any, algorithm: str, headers: dict[str, Any]
) -> None:
    assert ask(shop, PULL, key, algorithm, headers).status == 200


def public_rsa(**more: Any) -> dict[str, Any]:
    return {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key())), **more}


def test_of_a_key_in_a_header_nothing_private_is_looked_at(shop: Shop) -> None:
    # What is no exponent of this key: whoever looked for primes with it would find none, slowly.
    answer = ask(shop, PULL, RSA, "RS256", {"jwk": public_rsa(d="AQAB", p="AQAB", oth=[])})
    assert answer.status == 200


def test_a_number_without_end_makes_no_key(trusted: Trusted) -> None:
    key = public_rsa()
    assert trusted.key({"jwk": key}) is not None
    for name in ("n", "e"):  # zeros before a number change no key, but the time that it takes
        assert trusted.key({"jwk": {**key, name: "A" * 4 * MEMBER_LIMIT + key[name]}}) is None


@pytest.mark.parametrize(
    ("key", "algorithm", "headers"),
    [
        (OTHER, "ES256", x5c(ROOT)),
        (OTHER, "ES256", x5c(certificate(OTHER))),
        (OTHER, "ES256", x5c(certificate(OTHER), ROOT)),
        (OTHER, "ES256", x5c(certificate(OTHER, (ROOT, EC), days=-1))),
        (OTHER, "ES256", {"kid": key_ids(EC.public_key())[0]}),
        (OTHER, "ES256", {"kid": "unknown"}),
        (OTHER, "ES256", {}),
        (OTHER, "ES256", {"x5c": ["AAAA"]}),
        (OTHER, "ES256", {"x5c": ["?"]}),
        (OTHER, "ES256", UNKNOWN_VERSION),
        (OTHER, "ES256", {"jwk": {"kty": "EC"}}),
        (
            *(OTHER, "ES256"),
            {"jwk": json.loads(jwt.algorithms.ECAlgorithm.to_jwk(OTHER.public_key()))},
        ),
        ("secret" * 8, "HS256", {"kid": "named"}),
        (
            *("secret" * 8, "HS256"),
            {
                "jwk": {
                    "kty": "oct",
                    "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0",
                    "alg": "HS256",
                }
            },
        ),
        (None, "none", {"kid": "named"}),
    ],
)
def test_a_token_of_another_key_does_not_open(
    shop: Shop, key: Any, algorithm: str, headers: dict[str, Any]
) -> None:
    answer = ask(shop, PULL, key, algorithm, headers)
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
    assert answer.header("www-authenticate") == (
        'Bearer realm="http://realm",service="hub",scope="repository:team/app:pull",'
        'error="invalid_token"'
    )


def test_a_certificate_that_is_no_authority_vouches_for_nobody(shop: Shop) -> None:
    middle = ec.generate_private_key(ec.SECP256R1())
    issued = certificate(middle, (ROOT, EC), ca=False)
    leaf = certificate(OTHER, (issued, middle))
    assert ask(shop, PULL, OTHER, headers=x5c(leaf, issued)).status == 401
    issued = certificate(middle, (ROOT, EC), ca=True)
    leaf = certificate(OTHER, (issued, middle))
    assert ask(shop, PULL, OTHER, headers=x5c(leaf, issued)).status == 200


class Ago(int):
    """Seconds before the time of the test."""


def timed(content: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is None, and make times of those that are relative."""
    now = int(time.time())
    return {
        key: now - value if isinstance(value, Ago) else value
        for key, value in content.items()
        if value is not None
    }


@pytest.mark.parametrize(
    "more",
    [
        *({"iss": "other"}, {"iss": None}, {"aud": "other"}, {"aud": None}, {"aud": []}),
        *({"exp": Ago(100)}, {"exp": None}, {"nbf": Ago(-500)}, {"access": "x"}),
        *({"access": [{"type": "repository"}]}, {"exp": "soon"}),
    ],
    ids=str,
)
def test_a_token_for_others_or_another_time_does_not_open(shop: Shop, more: dict[str, Any]) -> None:
    assert ask(shop, timed({**PULL, **more})).status == 401


@pytest.mark.parametrize("more", [{"aud": ["x", "hub"]}, {"exp": Ago(20)}, {"nbf": None}])
def test_clocks_may_differ_a_little(shop: Shop, more: dict[str, Any]) -> None:
    assert ask(shop, timed({**PULL, **more})).status == 200


@pytest.mark.parametrize(
    ("access", "method", "path", "opens"),
    [
        (("repository", "team/app", ["pull"]), "GET", "tags/list", True),
        (("repository", "team/app", ["*"]), "GET", "tags/list", True),
        (("repository(plugin)", "team/app", ["pull"]), "GET", "tags/list", True),
        (("repository", "team/app", ["push"]), "GET", "tags/list", False),
        (("repository", "team/other", ["pull"]), "GET", "tags/list", False),
        (("registry", "team/app", ["pull"]), "GET", "tags/list", False),
        (("repository", "team/app", ["pull"]), "POST", "blobs/uploads/", False),
        (("repository", "team/app", ["push"]), "POST", "blobs/uploads/", False),
        (("repository", "team/app", ["pull", "push"]), "POST", "blobs/uploads/", True),
        (("repository", "team/app", ["pull", "push"]), "DELETE", "manifests/1", False),
        (("repository", "team/app", ["delete"]), "DELETE", "manifests/1", True),
    ],
)
def test_a_token_opens_what_it_grants(
    shop: Shop, access: Any, method: str, path: str, opens: bool
) -> None:
    answer = ask(shop, claims(access), method=method, url=f"/v2/team/app/{path}")
    assert (answer.status != 401) == opens
    if not opens:
        assert 'error="insufficient_scope"' in answer.header("www-authenticate")


def test_the_catalog_is_a_scope_of_its_own(shop: Shop) -> None:
    granted = claims(("registry", "catalog", ["*"]))
    assert ask(shop, granted, url="/v2/_catalog").status == 200
    answer = ask(shop, PULL, url="/v2/_catalog")
    assert 'scope="registry:catalog:*"' in answer.header("www-authenticate")


def test_a_search_needs_a_right_of_its_own(shop: Shop) -> None:
    assert shop.get("/v1/_ping").status == 200
    for action in ("*", "search"):
        granted = claims(("registry", "catalog", [action]))
        assert ask(shop, granted, url="/v1/search?q=x").status == 200
    assert ask(shop, PULL, url="/v1/search?q=x").status == 401


def test_any_valid_token_opens_the_base(shop: Shop) -> None:
    assert ask(shop, claims(), url="/v2/").status == 200
    for header in ("", "Basic x", "Bearer", "Bearer x", "Bearer x.y.z", "Bearer " + "a" * 100_000):
        assert shop.get("/v2/", authorization=header).status == 401


def test_a_mount_needs_the_right_to_pull_from_the_source(shop: Shop) -> None:
    with serving(shop.registry) as everybody:
        digest = everybody.push_blob("secret/source", b"secret")
    url = f"/v2/team/app/blobs/uploads/?mount={digest}&from=secret/source"
    push = ("repository", "team/app", ["pull", "push"])
    assert ask(shop, claims(push), method="POST", url=url).status == 202
    pull = ("repository", "secret/source", ["pull"])
    assert ask(shop, claims(push, pull), method="POST", url=url).status == 201


def test_the_realm_can_be_where_the_client_is(trusted: Trusted) -> None:
    access = Token("", "hub", "issuer", trusted, redirect_path="/auth/token")
    with Registry.in_memory() as registry, serving(registry, access=access) as shop:
        found = shop.get("/v2/").header("www-authenticate")
        assert found.startswith('Bearer realm="https://registry.test/auth/token"')


def test_only_permitted_algorithms_are_taken(trusted: Trusted) -> None:
    access = Token("http://realm", "hub", "issuer", trusted, ["RS256"])
    with Registry.in_memory() as registry, serving(registry, access=access) as shop:
        assert ask(shop, PULL).status == 401
        assert ask(shop, PULL, RSA, "RS256", x5c(ROOT_RSA)).status == 404
    with pytest.raises(InvalidArgument, match="none"):
        Token("http://realm", "hub", "issuer", trusted, ["none"])


def test_symmetric_algorithms_may_be_listed_and_verify_nothing(trusted: Trusted) -> None:
    public = RSA.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    header = {"alg": "HS256", "kid": key_ids(RSA.public_key())[1]}
    text = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in (header, PULL)
    )
    code = hmac.digest(public, text.encode(), "sha256")
    forged = f"{text}.{base64.urlsafe_b64encode(code).rstrip(b'=').decode()}"
    for listed, status in ((["HS256"], 401), (["HS256", "ES256"], 404)):
        access = Token("http://realm", "hub", "issuer", trusted, listed)
        with Registry.in_memory() as registry, serving(registry, access=access) as shop:
            assert ask(shop, PULL).status == status
            bearer = {"Authorization": f"Bearer {forged}"}
            assert shop.ask("GET", "/v2/team/app/tags/list", headers=bearer).status == 401


def test_the_key_id_of_libtrust_is_that_of_libtrust() -> None:
    # Twelve groups of four letters, from the first 240 bits of a hash.
    libtrust, _ = key_ids(EC.public_key())
    assert [len(group) for group in libtrust.split(":")] == [4] * 12


def test_the_thumbprint_is_that_of_rfc_7638() -> None:
    # RFC 7638, 3.1.
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiF"
        "V4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c"
        "7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF"
        "44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = jwt.PyJWK({"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256"}).key
    assert thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize(
    ("bundle", "keys"), [("", ""), ("/none", ""), ("", "/none"), ("", '{"keys": []}')]
)
def test_without_a_key_nothing_starts(tmp_path: Path, bundle: str, keys: str) -> None:
    if keys.startswith("{"):
        (tmp_path / "keys").write_text(keys)
        keys = str(tmp_path / "keys")
    with pytest.raises(InvalidArgument, match="token server"):
        Trusted.read(bundle, keys)


@pytest.mark.parametrize(
    ("named", "pushed", "status"),
    [
        ("", MEDIA_DOCKER_CONFIG, 201),
        ("", MEDIA_PLUGIN, 403),
        ("plugin", MEDIA_PLUGIN, 201),
        ("plugin", MEDIA_DOCKER_CONFIG, 403),
    ],
)
def test_the_class_that_a_token_names_is_the_one_that_may_be_pushed(
    trusted: Trusted, named: str, pushed: str, status: int
) -> None:
    service = Service(classes=["image", "plugin"])
    access = Token("https://auth.test/token", "hub", "issuer", trusted)
    may = {"type": "repository", "name": "team/app", "actions": ["pull", "push"]}
    token = claims(access=[may | ({"class": named} if named else {})])
    bearer = {"Authorization": f"Bearer {jwt.encode(token, EC, 'ES256', x5c(ROOT))}"}
    config = b"{}"
    part = {"mediaType": pushed, "digest": sha(config), "size": len(config)}
    kind = MEDIA_DOCKER_MANIFEST
    document = {"schemaVersion": 2, "mediaType": kind, "config": part, "layers": []}
    with (
        Registry.in_memory() as registry,
        serving(registry, service=service, access=access) as shop,
    ):
        place = f"/v2/team/app/blobs/uploads/?digest={sha(config)}"
        assert shop.ask("POST", place, config, bearer).status == 201
        headers = {**bearer, "Content-Type": kind}
        body = json.dumps(document).encode()
        answer = shop.ask("PUT", "/v2/team/app/manifests/1", body, headers)
        assert answer.status == status
