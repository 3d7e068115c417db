"""RUN --mount: fields and what they must be."""

from __future__ import annotations

import pytest

from sampan.build.instructions.model import Mount
from sampan.build.instructions.mounts import origin_of, read_mount
from sampan.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/a", Mount(type="bind", target="/a", read_only=True)),
        ("type=bind,src=b,dst=/a,rw", Mount(type="bind", source="b", target="/a")),
        ("type=bind,from=x,target=/a,ro=false", Mount(type="bind", origin="x", target="/a")),
        (
            "type=cache,target=/a,id=b,sharing=locked,mode=0750,uid=1,gid=2",
            Mount(type="cache", target="/a", id="b", sharing="locked", mode=0o750, uid=1, gid=2),
        ),
        ("type=tmpfs,destination=/a,size=1k", Mount(type="tmpfs", target="/a", size=1024)),
        ("type=secret,id=b,required", Mount(type="secret", id="b", required=True)),
        ("type=secret,id=b,env=C", Mount(type="secret", id="b", env="C")),
        ("type=ssh", Mount(type="ssh")),
        ('type=tmpfs,"target=/a,b"', Mount(type="tmpfs", target="/a,b")),
    ],
)
def test_a_mount_is_read(text: str, expected: Mount) -> None:
    assert read_mount(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=x,target=/a", 'unsupported mount type "x"'),
        ("type=bind", "target required for mount type 'bind'"),
        ("type=cache", "target required"),
        ("type=tmpfs,target=/a,uid=1", 'uid not allowed for "tmpfs" type mounts'),
        ("type=cache,target=/a,required", "unexpected key 'required' for mount type 'cache'"),
        ("type=secret,id=a,sharing=shared", "invalid cache sharing set for secret mount"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=secret", "one of source, target required"),
        ("type=ssh,source=b", "ssh does not support source"),
        ("type=secret,id=a,mode=-1", "invalid value -1 for mode"),
        ("type=secret,id=a,uid=4294967296", "invalid value 4294967296 for uid"),
        ("type=bind,target=/a,size=1", "unexpected key 'size' for mount type 'bind'"),
        ("target=/a,what=b", "unexpected key 'what' in 'what=b'"),
        ("target=/a,what", "invalid field 'what' must be a key=value pair"),
        ("type=bind,target=/a,bind-propagation=shared", "unexpected key 'bind-propagation'"),
        ("type=cache,target=/a,sharing=some", 'unsupported sharing value "some"'),
        ("type=cache,target=/a,mode=9", "invalid value 9 for mode"),
        ("type=cache,target=/a,uid=x", "invalid value x for uid"),
        ("type=tmpfs,target=/a,size=x", "invalid value for size: x"),
        ("target=/a,ro=maybe", "invalid value for readonly: maybe"),
        ('"target=/a', "failed to parse csv mounts"),
    ],
)
def test_what_does_not_belong_to_a_mount_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        read_mount(text)


def test_what_a_variable_says_is_never_another_field() -> None:
    """Options could be brought in by arguments in buildah (CVE-2024-9407)."""
    values = {"$T": "/a,from=host,rw", "$F": "type=cache,target=/b"}
    assert read_mount("target=$T", lambda text: values.get(text, text)) == Mount(
        type="bind", target="/a,from=host,rw", read_only=True
    )
    with pytest.raises(InvalidArgument, match="must be a key=value pair"):
        read_mount("target=/a,$F", lambda text: values.get(text, text))


def test_the_origin_is_known_before_variables_are() -> None:
    assert origin_of("type=$T,uid=$U,from=base,target=/a") == "base"
    assert origin_of("type=ssh") == ""
    with pytest.raises(InvalidArgument, match="'from' doesn't support variable expansion"):
        origin_of("from=$A,target=/a")
