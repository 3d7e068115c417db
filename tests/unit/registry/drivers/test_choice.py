"""The options of object storages: what is wrong is told by its name, before anything is asked."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from sampan.errors import InvalidArgument
from sampan.registry.drivers.choice import OBJECTS, open_objects
from sampan.registry.drivers.objects.azure import AzureBucket
from sampan.registry.drivers.objects.oss import OssBucket
from sampan.registry.drivers.objects.s3 import S3Bucket
from sampan.registry.drivers.objects.swift import SwiftBucket

S3 = {"bucket": "images", "region": "eu-central-1", "accesskey": "a", "secretkey": "s"}
AZURE = {"accountname": "a", "accountkey": "a2V5", "container": "c"}
GCS = {"bucket": "images"}
SWIFT = {"username": "u", "password": "p", "authurl": "https://h/v3", "container": "c"}
OSS = {"accesskeyid": "i", "accesskeysecret": "s", "region": "oss-cn-x", "bucket": "images"}
GOOD: dict[str, dict[str, Any]] = {
    "s3": S3,
    "azure": AZURE,
    "gcs": GCS,
    "swift": SWIFT,
    "oss": OSS,
}


def opened(kind: str, **more: Any) -> Any:
    driver = open_objects(kind, {**GOOD[kind], **more})
    driver.close()
    return driver.bucket


@pytest.mark.parametrize(
    ("kind", "more", "told"),
    [
        ("s3", {"bucket": ""}, "storage.s3.bucket: is required"),
        ("s3", {"region": None}, "storage.s3.region: is required"),
        ("s3", {"region": "nowhere"}, "nowhere is no region of Amazon"),
        ("s3", {"chunksize": 5 << 19}, "storage.s3.chunksize: must be between 5242880"),
        ("s3", {"chunksize": "many"}, "must be a whole number"),
        ("s3", {"secure": "perhaps"}, "storage.s3.secure: must be true or false"),
        ("s3", {"v4auth": False}, "storage.s3.v4auth: "),
        ("s3", {"storageclass": "PAPER"}, "storage.s3.storageclass: must be one of"),
        ("s3", {"objectacl": "everybody"}, "storage.s3.objectacl: must be one of"),
        ("s3", {"loglevel": "loud"}, "storage.s3.loglevel: must be one of"),
        ("s3", {"multipartcopymaxconcurrency": 0}, "must be at least 1"),
        ("s3", {"redirectendpoint": "https://h/path"}, "must be a scheme and a host"),
        ("azure", {"accountkey": ""}, "storage.azure.accountkey: is required"),
        ("azure", {"credentials": {"type": "luck"}}, "credentials.type: must be one of"),
        ("azure", {"credentials": {"type": "client_secret"}}, "credentials.tenantid: is required"),
        ("azure", {"credentials": "x"}, "storage.azure.credentials: must be a section"),
        ("azure", {"retry_delay": "soon"}, "storage.azure.retry_delay: "),
        ("gcs", {"chunksize": 300_000}, "storage.gcs.chunksize: must be a multiple of 262144"),
        ("gcs", {"keyfile": "/nowhere/key.json"}, "storage.gcs: .*No such file"),
        ("gcs", {"credentials": {"type": "service_account"}}, "storage.gcs: "),
        ("swift", {"authurl": "https://h/"}, "storage.swift.authversion: cannot be told"),
        ("swift", {"authversion": 4}, "must be between 0 and 3"),
        ("swift", {"endpointtype": "secret"}, "must be one of public, internal, admin"),
        ("swift", {"chunksize": 1}, "must be at least 1048576"),
        ("oss", {"accesskeyid": ""}, "storage.oss.accesskeyid: is required"),
        ("oss", {"bucket": "B"}, "storage.oss: .*bucket_name is invalid"),
        ("oss", {"internal": "so"}, "storage.oss.internal: must be true or false"),
    ],
)
def test_wrong_options_are_told(kind: str, more: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        opened(kind, **more)


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_library_that_is_missing_is_told(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = OBJECTS[kind]
    monkeypatch.delitem(sys.modules, f"sampan.registry.drivers.objects.{name}", raising=False)
    for library in ("botocore", "azure.core", "google.auth", "swiftclient", "oss2"):
        for known in [k for k in sys.modules if k == library or k.startswith(f"{library}.")]:
            monkeypatch.delitem(sys.modules, known)
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InvalidArgument, match=rf"is missing: install sampan\[registry-{name}\]"):
        open_objects(kind, {})


@pytest.mark.parametrize(
    ("more", "url"),
    [
        ({}, "https://images.s3.eu-central-1.amazonaws.com/k"),
        ({"rootdirectory": "/r/"}, "https://images.s3.eu-central-1.amazonaws.com/r/k"),
        ({"regionendpoint": "http://h:9000"}, "http://h:9000/images/k"),
        ({"regionendpoint": "h:9000", "secure": "false"}, "http://h:9000/images/k"),
        (
            {"regionendpoint": "https://h", "forcepathstyle": False, "region": None},
            "https://images.h/k",
        ),
        ({"bucket": "with.dots"}, "https://s3.eu-central-1.amazonaws.com/with.dots/k"),
        ({"forcepathstyle": True}, "https://s3.eu-central-1.amazonaws.com/images/k"),
        ({"accelerate": True}, "https://images.s3-accelerate.amazonaws.com/k"),
        ({"usedualstack": True}, "https://images.s3.dualstack.eu-central-1.amazonaws.com/k"),
        (
            {"usefipsendpoint": True, "region": "us-east-1"},
            "https://images.s3-fips.us-east-1.amazonaws.com/k",
        ),
        ({"redirectendpoint": "https://cdn.test"}, "https://images.cdn.test/k"),
        ({"redirectendpoint": "https://h", "forcepathstyle": True}, "https://h/images/k"),
    ],
)
def test_s3_is_reached_where_the_options_say(more: dict[str, Any], url: str) -> None:
    driver = open_objects("s3", {**S3, **more})
    found, _, query = driver.url("k", "GET").partition("?")
    driver.close()
    assert found == url
    assert "X-Amz-Expires=1200" in query
    assert "X-Amz-Signature=" in query


def test_s3_signs_in_the_old_way_for_others_than_amazon() -> None:
    driver = open_objects("s3", {**S3, "regionendpoint": "http://h", "v4auth": "false"})
    assert "AWSAccessKeyId=a&Signature=" in driver.url("k", "HEAD")
    driver.close()


def test_objects_of_s3_are_what_the_options_say() -> None:
    found = opened("s3", encrypt=True, storageclass="standard_ia", objectacl="public-read")
    assert isinstance(found, S3Bucket)
    assert found.extra == {
        "ServerSideEncryption": "AES256",
        "StorageClass": "STANDARD_IA",
        "ACL": "public-read",
    }
    assert opened("s3", encrypt="true", keyid="key").extra == {
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "key",
    }
    assert opened("s3", storageclass="NONE", keyid="alone").extra == {}
    assert (found.chunk, found.copying.chunk) == (10 << 20, 32 << 20)


def test_azure_is_reached_where_the_options_say() -> None:
    found = opened("azure", realm="core.chinacloudapi.cn")
    assert isinstance(found, AzureBucket)
    assert found._service.url == "https://a.blob.core.chinacloudapi.cn/"
    secret = {"type": "client_secret", "tenantid": "t", "clientid": "c", "secret": "s"}
    opened("azure", accountkey=None, credentials=secret)


def test_oss_is_reached_where_the_options_say() -> None:
    found = opened("oss", internal=True, secure=False, encrypt=True)
    assert isinstance(found, OssBucket)
    assert found.bucket.endpoint == "http://oss-cn-x-internal.aliyuncs.com"
    assert found.extra == {"x-oss-server-side-encryption": "AES256"}
    assert opened("oss", endpoint="oss.test").bucket.endpoint == "https://oss.test"


def test_files_of_swift_are_below_its_prefix() -> None:
    driver = open_objects("swift", {**SWIFT, "prefix": "/a/b/"})
    assert isinstance(driver.bucket, SwiftBucket)
    assert (driver.key("k"), driver.bucket.segments) == ("a/b/files/k", "a/b/segments")
    driver.close()
    assert opened("swift").segments == "segments"


def test_what_amazons_library_does_not_need_is_not_loaded() -> None:
    program = f"""
import sys
from sampan.registry.drivers.choice import open_objects
driver = open_objects("s3", {S3!r})
assert "OpenSSL" not in sys.modules
assert "urllib3.contrib.pyopenssl" not in sys.modules
import urllib3.contrib.pyopenssl
api = driver.bucket.client.meta.service_model
assert "GetObject" in api.operation_names
assert not api.operation_model("GetObject").documentation
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
