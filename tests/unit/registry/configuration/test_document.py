from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.registry.configuration import schema
from sampan.registry.configuration.ciphers import OF_13, OPENSSL
from sampan.registry.configuration.document import check, load

GOOD = b"version: 0.1\nstorage: {filesystem: {rootdirectory: /data}}\n"


def problems(text: str, **environment: str) -> list[str]:
    return [str(p) for p in check(GOOD + text.encode(), environment).problems]


def test_a_small_configuration_is_enough() -> None:
    found = check(GOOD, {})
    assert found.problems == ()
    assert found.get("storage.filesystem.rootdirectory") == "/data"
    assert found.get("http.addr", ":5000") == ":5000"


# The guide's section 3.3.2.3.3 has every key; these are the lines of it that go together.
WHOLE = """
log:
  accesslog: {disabled: true}
  level: debug
  formatter: text
  fields: {service: registry, environment: staging}
  hooks:
    - type: mail
      disabled: true
      levels: [panic]
      options:
        smtp: {addr: "mail.example.com:25", username: u, password: p, insecure: true}
        from: sender@example.com
        to: [errors@example.com]
loglevel: debug
auth: {htpasswd: {realm: basic-realm, path: /path/to/htpasswd}}
http:
  addr: localhost:5000
  prefix: /my/nested/registry/
  host: https://myregistryaddress.org:5000
  secret: asecretforlocaldevelopment
  relativeurls: false
  draintimeout: 60s
  tls:
    certificate: /path/to/x509/public
    key: /path/to/x509/private
    clientcas: [/path/to/ca.pem, /path/to/another/ca.pem]
    minimumtls: tls1.2
  headers: {X-Content-Type-Options: [nosniff]}
  http2: {disabled: false}
compatibility: {schema1: {signingkeyfile: /etc/registry/key.json}}
validation:
  enabled: true
  manifests:
    urls:
      allow: ['^https?://([^/]+\\.)*example\\.com/']
      deny: ['^https?://www\\.example\\.com/']
catalog: {maxentries: 500}
tags: {maxtags: 10}
"""


def test_every_key_that_we_have_is_taken() -> None:
    assert problems(WHOLE) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lgo: {}", "lgo: is not known (did you mean log?)"),
        ("http: {adr: x}", "http.adr: is not known (did you mean addr?)"),
        ("log: {level: loud}", "log.level: must be one of error, warn, info, debug, not 'loud'"),
        ("log: [x]", "log: must be a section"),
        ("log: {fields: [x]}", "log.fields: must be a map"),
        ("http: {headers: {X: y}}", "http.headers.X: must be a list"),
        ("http: {relativeurls: maybe}", "http.relativeurls: must be true or false, not 'maybe'"),
        ("http: {draintimeout: soon}", "http.draintimeout: must be a duration such as 10s"),
        ("http: {prefix: hub}", "http.prefix: must begin and end with a slash"),
        ("http: {tls: {certificate: x}}", "http.tls: certificate and key go together"),
        ("tags: {maxtags: -1}", "tags.maxtags: must be at least 0"),
        (
            "storage: {filesystem: {maxthreads: many}}",
            "storage.filesystem.maxthreads: must be a whole number, not 'many'",
        ),
        ("catalog: {maxentries: x}", "catalog.maxentries: must be a whole number, not 'x'"),
        ("auth: {htpasswd: {realm: x}}", "auth.htpasswd.path: is required"),
        ("auth: {silly: {realm: x, service: ''}}", "auth.silly.service: is required"),
        (
            "auth: {silly: {realm: x, service: y}, htpasswd: {realm: x, path: y}}",
            "auth: must provide exactly one type. Provided: [htpasswd silly]",
        ),
        (
            "auth: {token: {realm: x, service: y, issuer: z}}",
            "auth.token: needs rootcertbundle or jwks",
        ),
        (
            "validation: {manifests: {urls: {allow: ['(']}}}",
            "validation.manifests.urls.allow[0]: is no regular expression",
        ),
        ("redis: {addr: x}", "redis: is not used: storage.cache.blobdescriptor is not redis"),
        ("redis: {adr: 'x:1'}", "redis.adr: is not known (did you mean addr?)"),
        ("redis: {tls: {rootca: x}}", "redis.tls.rootca: is not known (did you mean rootcas?)"),
        ("redis: {db: one}", "redis.db: must be a whole number"),
        ("redis: {dialtimeout: soon}", "redis.dialtimeout: must be a duration"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, told: str) -> None:
    assert any(problem.startswith(told) for problem in problems(text)), problems(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("log: {hooks: [{type: pager}]}", "log.hooks[0]"),
        ("middleware: {storage: [{name: scan}]}", "middleware.storage[0]"),
        ("compatibility: {schema1: {enabled: true}}", "compatibility.schema1"),
        (
            "http: {tls: {certificate: x, key: y, ciphersuites: [TLS_RSA_WITH_RC4_128_SHA]}}",
            "http.tls.ciphersuites",
        ),
        ("http: {tls: {certificate: x, key: y, ciphersuites: [AES]}}", "http.tls.ciphersuites"),
    ],
)
def test_what_we_do_not_have_is_refused(text: str, place: str) -> None:
    (found,) = check(GOOD + text.encode(), {}).problems
    assert (found.path, found.unknown) == (place, False)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("redis: {addrs: ['localhost:6379'], poolsize: 64}", "redis"),
        ("http: {tls: {certificate: x, key: y, minimumtls: tls1.0}}", "http.tls.minimumtls"),
        (
            "http: {tls: {certificate: x, key: y, ciphersuites:"
            " [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_RSA_WITH_3DES_EDE_CBC_SHA]}}",
            "http.tls.ciphersuites",
        ),
        (
            "http: {tls: {certificate: x, key: y, minimumtls: tls1.3, ciphersuites: [TLS_X]}}",
            "http.tls.ciphersuites",
        ),
        (
            "http: {tls: {certificate: x, key: y, clientauth: require-any-client-cert}}",
            "http.tls.clientauth",
        ),
        (
            "auth: {token: {realm: x, service: y, issuer: z, jwks: k,"
            " signingalgorithms: [EdDSA, HS256]}}",
            "auth.token.signingalgorithms",
        ),
        ("proxy: {remoteurl: 'https://x.example', username: u, password: p}", "proxy"),
        ("proxy: {upstreams: [{remoteurl: 'https://x.example', exec: {command: c}}]}", "proxy"),
    ],
)
def test_what_has_no_effect_and_nobody_misses_is_told(text: str, place: str) -> None:
    (found,) = check(GOOD + text.encode(), {}).problems
    assert (found.path, found.harmless, found.stops) == (place, True, False)


@pytest.mark.parametrize(
    "text",
    [
        "policy: {repository: {classes: [image, plugin]}}",
        "catalog: {maxentries: -1}\ntags: {maxtags: 0}",
        "storage: {filesystem: {maxthreads: '50'}}",
        "log: {level: DEBUG}\nloglevel: Warn",
        "validation: {manifests: {indexes: {platforms: List}}}",
        "http: {tls: {certificate: x, key: y, clientcas: [z],"
        " clientauth: verify-client-cert-if-given}}",
        f"http: {{tls: {{certificate: x, key: y, ciphersuites: [{', '.join(OPENSSL)}]}}}}",
        f"http: {{tls: {{certificate: x, key: y, ciphersuites: [{', '.join(OF_13)}]}}}}",
        "storage: {filesystem: {}, cache: {blobdescriptor: inmemory, blobdescriptorsize: 10},"
        " tag: {concurrencylimit: 8}}",
    ],
)
def test_what_docker_registry_3_takes_is_taken(text: str) -> None:
    assert problems(text) == []


@pytest.mark.parametrize("driver", schema.DRIVERS)
def test_options_of_a_storage_are_known_or_told(driver: str) -> None:
    storage = {driver: {"rotdirectory": "x"}, "delete": {"enabled": True}}
    text = yaml.safe_dump({"version": 0.1, "storage": storage}).encode()
    (found,) = check(text, {}).problems
    assert found.unknown
    assert str(found).startswith(f"storage.{driver}.rotdirectory: is not known")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version: 0.1", "storage: no storage configuration provided"),
        ("version: 0.1\nstorage: {delete: {enabled: true}}", "storage: no storage configuration"),
        ("storage: inmemory", "version: is required"),
        ("version: 0.2\nstorage: inmemory", 'version: unsupported version: "0.2"'),
        (
            "version: 0.1\nstorage: {inmemory: , filesystem: }",
            "storage: must provide exactly one storage type. Provided: [filesystem inmemory]",
        ),
        (
            "version: 0.1\nstorage: {inmemory: , maintenance: {uploadpurging: {enabled: true}}}",
            "storage.maintenance.uploadpurging.age: is required",
        ),
        (
            "version: 0.1\nstorage: {inmemory: , maintenance: {readonly: true}}",
            "storage.maintenance.readonly: must be a section",
        ),
    ],
)
def test_there_is_one_version_and_one_storage(text: str, told: str) -> None:
    assert any(str(p).startswith(told) for p in check(text.encode(), {}).problems)


@pytest.mark.parametrize("text", [b"\xff", b"[", b"- a", b"text", b"a: *b", b"\0"])
def test_what_is_no_configuration_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidArgument):
        check(text, {})


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="No such file"):
        load(tmp_path / "none", {})


_KEYS = [*schema.ROOT.keys, *schema.HTTP.keys, *schema.STORAGE.keys, *schema.AUTH.keys, "x"]
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=4))
def test_any_document_is_checked(document: dict[str, Any]) -> None:
    for problem in check(yaml.safe_dump(document).encode(), {}).problems:
        assert str(problem)


CACHED = "version: 0.1\nstorage: {inmemory: , cache: {%s: redis}}\n"


@pytest.mark.parametrize("key", ["blobdescriptor", "layerinfo"])
@pytest.mark.parametrize(
    "text",
    [
        "{addr: 'redis.example.com:6379', password: x, db: 1, dialtimeout: 10ms, readtimeout: 10ms,"
        " writetimeout: 10ms, pool: {maxidle: 16, maxactive: 64, idletimeout: 300s}}",
        "{addrs: [redis], username: x, password: y, db: 1, tls: {certificate: c, key: k,"
        " rootcas: [r]}, poolsize: 10, minidleconns: 1, maxidleconns: 2, connmaxidletime: 1m,"
        " connmaxlifetime: 1h, pooltimeout: 1s, maxretries: -1, minretrybackoff: 8ms}",
        "{addrs: ['a:1', 'b:2'], mastername: m, sentinelusername: s, sentinelpassword: t, db: 3}",
        "{addrs: ['a:1', 'b:2'], maxredirects: 3, readonly: true, routebylatency: true}",
        "{addrs: [/run/redis.sock]}",
        "{addr: 'a:1', addrs: ['a:1']}",
        "{addrs: ['[2001:db8::1]:1'], tls: {clientcas: [x]}, protocol: 3}",
    ],
)
def test_a_redis_is_described_as_in_both_versions(key: str, text: str) -> None:
    assert check(f"{CACHED % key}redis: {text}".encode(), {}).problems == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "redis.addrs: is required"),
        ("redis: {password: x}", "redis.addrs: is required"),
        ("redis: {addrs: x}", "redis.addrs: must be a list"),
        ("redis: {addr: 'a:port'}", "redis.addr: 'a:port' is no host:port"),
        ("redis: {addrs: [a, 'b:0']}", "redis.addrs[1]: 'b:0' is no host:port"),
        ("redis: {addrs: ['redis://a:1']}", "redis.addrs[0]: 'redis://a:1' is no host:port"),
        ("redis: {addr: 'a:1', addrs: ['b:1']}", "redis.addr: is 2.x's word for addrs"),
        ("redis: {addrs: [/a, 'b:1']}", "redis.addrs[0]: a socket is one server"),
        ("redis: {addrs: ['a:1', 'b:1'], db: 1}", "redis.db: a cluster"),
        ("redis: {addr: a, tls: {certificate: x}}", "redis.tls: certificate and key go together"),
        ("redis: {addr: a, protocol: 4}", "redis.protocol: must be 2 or 3"),
        ("redis: {addr: a, maxretries: -2}", "redis.maxretries: must be at least -1"),
    ],
)
def test_what_is_wrong_with_a_redis_is_told(text: str, told: str) -> None:
    problems = check(f"{CACHED % 'blobdescriptor'}{text}".encode(), {}).problems
    assert any(str(p).startswith(told) for p in problems), problems


def test_a_redis_can_be_given_by_the_environment() -> None:
    environment = {
        "REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR": "redis",
        "REGISTRY_REDIS_ADDRS": "[a, b]",
        "REGISTRY_REDIS_MASTERNAME": "m",
        "REGISTRY_REDIS_TLS_ROOTCAS": "[/ca.pem]",
    }
    found = check(GOOD, environment)
    assert found.problems == ()
    assert found.get("redis") == {
        "addrs": ["a", "b"],
        "mastername": "m",
        "tls": {"rootcas": ["/ca.pem"]},
    }


def test_aliases_that_would_be_more_than_memory_are_refused() -> None:
    text = "a0: &a0 {k: v}\n"
    for level in range(1, 12):
        inner = ", ".join(f"k{number}: *a{level - 1}" for number in range(10))
        text += f"a{level}: &a{level} {{{inner}}}\n"
    with pytest.raises(InvalidArgument, match="more than 100000 values"):
        check(text.encode(), {})


def test_no_more_is_read_than_a_configuration_may_have() -> None:
    with pytest.raises(InvalidArgument, match="too large"):
        load(Path("/dev/zero"), {})
