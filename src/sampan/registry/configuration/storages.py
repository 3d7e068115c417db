"""The options of every storage driver. Their values are checked by the driver that reads them.

Source: distribution registry/storage/driver, v2.8.3 and v3.1.1. As there, numbers and flags may be
written as strings.
"""

from __future__ import annotations

from sampan.registry.configuration.nodes import Anything, Free, Integer, Node, Section, Text

_S3 = """accesskey secretkey sessiontoken region regionendpoint forcepathstyle bucket encrypt keyid
secure skipverify v4auth chunksize multipartcopychunksize multipartcopymaxconcurrency
multipartcopythresholdsize rootdirectory storageclass objectacl useragent accelerate usedualstack
usefipsendpoint redirectendpoint loglevel"""
_AZURE = """accountname accountkey container realm serviceurl rootdirectory connectionstring
skipverify max_retries retry_delay"""
_GCS = "bucket keyfile rootdirectory chunksize maxconcurrency"
_SWIFT = """username password authurl container tenant tenantid domain domainid tenantdomain
tenantdomainid trustid region authversion endpointtype insecureskipverify chunksize prefix secretkey
accesskey tempurlcontainerkey rootdirectory"""
_OSS = """accesskeyid accesskeysecret region bucket endpoint internal encrypt encryptionkeyid secure
chunksize rootdirectory"""


def _options(words: str, **more: Node) -> Section:
    return Section({**{name: Text() for name in words.split()}, **more})


_CREDENTIALS = Section({name: Text() for name in ("type", "clientid", "tenantid", "secret")})
DRIVERS = {
    "filesystem": Section({"rootdirectory": Text(), "maxthreads": Integer(quoted=True)}),
    "inmemory": Section({}),
    "s3": _options(_S3),
    "s3aws": _options(_S3),
    "azure": _options(_AZURE, credentials=_CREDENTIALS),
    "gcs": _options(_GCS, credentials=Free(Anything())),
    "swift": _options(_SWIFT, tempurlmethods=Anything()),
    "oss": _options(_OSS),
}
