"""RUN --mount: fields and what they must be."""

from __future__ import annotations

import pytest

from sampan.build.instructions.model import Mount
from sampan.build.instructions.mounts import read_mount
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
        ("type=tmpfs,target=/a,id=b", "unexpected key 'id' for mount type 'tmpfs'"),
        ("type=bind,target=/a,size=1", "unexpected key 'size' for mount type 'bind'"),
        ("target=/a,what=b", "unexpected key 'what' in 'what=b'"),
        ("target=/a,what", "invalid field 'what' must be a key=value pair"),
        ("type=bind,target=/a,bind-propagation=shared", "unexpected key 'bind-propagation'"),
        ("type=cache,target=/a,sharing=some", 'unsupported sharing value "some"'),
        ("type=cache,target=/a,mode=9", "invalid value 9 for mode"),
        ("type=cache,target=/a,uid=x", "invalid id x"),
        ("type=tmpfs,target=/a,size=x", "invalid value for size: x"),
        ("target=/a,ro=maybe", "invalid boolean: maybe"),
        ('"target=/a', "invalid mount"),
    ],
)
def test_what_does_not_belong_to_a_mount_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        read_mount(text)
