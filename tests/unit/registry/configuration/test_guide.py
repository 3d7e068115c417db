"""Every key of section 3.3.2.3.3 of the guide, in a file and in the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from sampan.registry.configuration.document import check

# The guide's list with the indentation that it lost; what excludes one another is below.
EVERYTHING = r"""
version: 0.1
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
        smtp:
          addr: mail.example.com:25
          username: mailuser
          password: password
          insecure: true
        from: sender@example.com
        to: [errors@example.com]
loglevel: debug
storage:
  delete: {enabled: false}
  redirect: {disable: false}
  cache: {blobdescriptor: redis}
  maintenance:
    uploadpurging: {enabled: true, age: 168h, interval: 24h, dryrun: false}
    readonly: {enabled: false}
reporting:
  bugsnag: {apikey: bugsnagapikey, releasestage: bugsnagreleasestage, endpoint: bugsnagendpoint}
  newrelic: {licensekey: newreliclicensekey, name: newrelicname, verbose: true}
http:
  addr: localhost:5000
  prefix: /my/nested/registry/
  host: https://myregistryaddress.org:5000
  secret: asecretforlocaldevelopment
  relativeurls: false
  tls: {clientcas: [/path/to/ca.pem, /path/to/another/ca.pem]}
  debug: {addr: localhost:5001}
  headers: {X-Content-Type-Options: [nosniff]}
  http2: {disabled: false}
notifications:
  endpoints:
    - name: alistener
      disabled: false
      url: https://my.listener.com/event
      headers: {Authorization: [Bearer x]}
      timeout: 500
      threshold: 5
      backoff: 1000
      ignoredmediatypes: [application/octet-stream]
redis:
  addr: localhost:6379
  password: asecret
  db: 0
  dialtimeout: 10ms
  readtimeout: 10ms
  writetimeout: 10ms
  pool: {maxidle: 16, maxactive: 64, idletimeout: 300s}
health:
  storagedriver: {enabled: true, interval: 10s, threshold: 3}
  file:
    - {file: /path/to/checked/file, interval: 10s}
  http:
    - uri: http://server.to.check/must/return/200
      headers: {Authorization: [Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==]}
      statuscode: 200
      timeout: 3s
      interval: 10s
      threshold: 3
  tcp:
    - {addr: "redis-server.domain.com:6379", timeout: 3s, interval: 10s, threshold: 3}
proxy:
  remoteurl: https://registry-1.docker.io
  username: username
  password: password
compatibility:
  schema1: {signingkeyfile: /etc/registry/key.json}
validation:
  enabled: true
  manifests:
    urls:
      allow: ['^https?://([^/]+\.)*example\.com/']
      deny: ['^https?://www\.example\.com/']
"""
STORAGES = r"""
filesystem: {rootdirectory: /var/lib/registry, maxthreads: 100}
azure: {accountname: accountname, accountkey: base64encodedaccountkey, container: containername}
gcs:
  bucket: bucketname
  keyfile: /path/to/keyfile
  rootdirectory: /gcs/object/name/prefix
  chunksize: 5242880
s3:
  accesskey: awsaccesskey
  secretkey: awssecretkey
  region: us-west-1
  regionendpoint: http://myobjects.local
  bucket: bucketname
  encrypt: true
  keyid: mykeyid
  secure: true
  v4auth: true
  chunksize: 5242880
  multipartcopychunksize: 33554432
  multipartcopymaxconcurrency: 100
  multipartcopythresholdsize: 33554432
  rootdirectory: /s3/object/name/prefix
swift:
  username: username
  password: password
  authurl: https://storage.myprovider.com/auth/v1.0
  tenant: tenantname
  tenantid: tenantid
  domain: domain name for Openstack Identity v3 API
  domainid: domain id for Openstack Identity v3 API
  insecureskipverify: true
  region: fr
  container: containername
  rootdirectory: /swift/object/name/prefix
oss:
  accesskeyid: accesskeyid
  accesskeysecret: accesskeysecret
  region: OSS region name
  endpoint: optional endpoints
  internal: optional internal endpoint
  bucket: OSS bucket
  encrypt: optional data encryption setting
  secure: optional ssl setting
  chunksize: optional size valye
  rootdirectory: optional root directory
inmemory:
"""
KINDS = r"""
silly: {realm: silly-realm, service: silly-service}
token:
  realm: token-realm
  service: token-service
  issuer: registry-token-issuer
  rootcertbundle: /root/certs/bundle
htpasswd: {realm: basic-realm, path: /path/to/htpasswd}
"""
MIDDLEWARES = r"""
- name: cloudfront
  options:
    baseurl: https://my.cloudfronted.domain.com/
    privatekey: /path/to/pem
    keypairid: cloudfrontkeypairid
    duration: 3000s
- {name: redirect, options: {baseurl: https://example.com/}}
"""
CERTIFICATES = r"""
- {certificate: /path/to/x509/public, key: /path/to/x509/private}
- letsencrypt: {cachefile: /path/to/cache-file, email: emailused@letsencrypt.com, hosts: [x.test]}
"""


def variants() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the whole list with each of what excludes one another."""
    storages, kinds, middlewares, certificates = map(
        yaml.safe_load, (STORAGES, KINDS, MIDDLEWARES, CERTIFICATES)
    )
    for number, (name, options) in enumerate(storages.items()):
        found = yaml.safe_load(EVERYTHING)
        found["storage"][name] = options
        kind = list(kinds)[number % len(kinds)]
        found["auth"] = {kind: kinds[kind]}
        found["middleware"] = {"storage": [middlewares[number % len(middlewares)]]}
        found["http"]["tls"] |= certificates[number % len(certificates)]
        yield name, found


VARIANTS = dict(variants())


@pytest.fixture(params=VARIANTS)
def wanted(request: pytest.FixtureRequest) -> dict[str, Any]:
    return VARIANTS[request.param]


def told(text: str, **environment: str) -> Any:
    """Return what a configuration says, if nothing stops it."""
    found = check(text.encode(), environment)
    assert [str(one) for one in found.problems if one.stops or one.unknown] == []
    return found.document


def test_every_key_is_taken(wanted: dict[str, Any]) -> None:
    assert told(yaml.safe_dump(wanted)).keys() == wanted.keys()


def leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield a variable for each value: `a: {b: [{c: 1}]}` is A_B_0_C=1."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, f"{name}_{str(key).upper()}")
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from leaves(item, f"{name}_{number}")
    else:
        yield name, yaml.safe_dump(value).removesuffix("...\n").strip()


def plain(value: Any) -> Any:
    """Keys without capitals, values as they are written: docker-registry knows no difference."""
    if isinstance(value, Mapping):
        return {str(key).lower(): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return str(value).lower() if value is not None else {}


def test_every_key_can_be_set_by_a_variable(wanted: dict[str, Any]) -> None:
    variables = dict(leaves(wanted, "REGISTRY"))
    del variables["REGISTRY_VERSION"]  # the file's alone, in docker-registry too
    storage = next(iter(set(wanted["storage"]) & yaml.safe_load(STORAGES).keys()))
    found = told(f"version: 0.1\nstorage: {{{storage}: {{}}}}\n", **variables)
    assert plain(found) == plain(wanted)


def test_what_would_end_before_it_began_is_told() -> None:
    """The guide's `timeout: 500` is half a microsecond in docker-registry, and so it is here."""
    text = "notifications: {endpoints: [{name: a, url: 'http://a/', timeout: 500, backoff: 1s}]}"
    (found,) = check(f"version: 0.1\nstorage: inmemory\n{text}\n".encode(), {}).problems
    assert found.harmless
    assert str(found) == (
        "notifications.endpoints[0].timeout: 500 is a number of nanoseconds: is 500ms meant?"
    )


def test_options_without_effect_are_told() -> None:
    text = "version: 0.1\nstorage: {swift: {rootdirectory: /x}}\n"
    (found,) = check(text.encode(), {}).problems
    assert (found.path, found.harmless) == ("storage.swift.rootdirectory", True)
