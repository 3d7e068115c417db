"""Answers of a daemon about its images, and the command lines that ask for them."""

from __future__ import annotations

from typing import Any

from tests.fake_daemon import Reply, document, error, stream
from tests.side_by_side import Case

DIGEST = "sha256:" + "0" * 64


def identifier(digit: str) -> str:
    return f"sha256:{digit * 64}"


def manifest(
    kind: str, digit: str, platform: dict[str, str] | None, here: bool = True, used: bool = False
) -> dict[str, Any]:
    """Return one entry of an image's `Manifests`."""
    found: dict[str, Any] = {
        "ID": identifier(digit),
        "Descriptor": {"digest": identifier(digit), "size": 1, "mediaType": "m"},
        "Available": here,
        "Kind": kind,
        "Size": {"Total": 123456789, "Content": 5000000},
    }
    if kind == "image":
        found["ImageData"] = {
            "Platform": platform,
            "Containers": ["1" * 64] if used else [],
            "Size": {"Unpacked": 118456789},
        }
    if kind == "attestation":
        found["AttestationData"] = {"For": identifier("1")}
    return found


def image(digit: str, created: int, size: int, **fields: Any) -> dict[str, Any]:
    return {
        "Containers": -1,
        "Created": created,
        "Id": identifier(digit),
        "Labels": None,
        "ParentId": "",
        "RepoDigests": [],
        "RepoTags": [],
        "SharedSize": -1,
        "Size": size,
        **fields,
    }


NAMED = image(
    *("a", 1700000000, 123456789),
    RepoTags=["x:latest", "x:1"],
    RepoDigests=[f"x@{identifier('b')}", f"localhost:5000/y@{identifier('b')}"],
)
DANGLING = image("c", 1600000000, 12, Labels={"a": "b"})
BY_DIGEST = image("d", 0, 0, RepoTags=None, RepoDigests=[f"docker.io/library/z@{identifier('e')}"])
LISTED = {"GET /images/json": document([NAMED, DANGLING, BY_DIGEST])}
PLATFORMS = [
    manifest("image", "1", {"os": "linux", "architecture": "amd64"}, used=True),
    manifest("image", "2", {"os": "linux", "architecture": "arm64", "variant": "v8"}, here=False),
    manifest("attestation", "3", None),
    manifest("unknown", "4", None),
]
LONG = "localhost:5000/long/name:with-tag"
FOREST = {
    "GET /images/json": document(
        [
            {**NAMED, "RepoTags": ["x:1", LONG], "Containers": 2, "Manifests": PLATFORMS},
            {**DANGLING, "Created": 1800000000},
            image("d", 1500000000, 12000, RepoTags=["y:1"], Containers=0),
        ]
    )
}
LONE_TREE = {"GET /images/json": document([image("d", 1, 12000, RepoTags=["y:1"], Containers=1)])}
NOTHING = {"GET /images/json": document([])}

FOUND = {
    "GET /images/search": document(
        [
            {
                "name": "ubuntu",
                "description": "Ubuntu is a Debian-based Linux\noperating system, free, and more",
                "star_count": 17000,
                "is_official": True,
                "is_automated": False,
            },
            {
                "name": "me/x",
                "description": "",
                "star_count": 0,
                "is_official": False,
                "is_automated": True,
            },
        ]
    )
}

HISTORY = document(
    [
        {
            "Id": identifier("a"),
            "Created": 1700000000,
            "CreatedBy": '/bin/sh -c #(nop)  CMD ["sh"] and a long text that is cut somewhere',
            "Tags": ["x:latest"],
            "Size": 1234567,
            "Comment": "buildkit.dockerfile.v0",
        },
        {
            "Id": "<missing>",
            "Created": 0,
            "CreatedBy": "a\tb",
            "Tags": None,
            "Size": 0,
            "Comment": "",
        },
    ]
)
INSPECTED = document(
    {
        "Id": identifier("a"),
        "RepoTags": ["x:latest"],
        "RepoDigests": [],
        "Parent": "",
        "Created": "2023-11-14T22:13:20Z",
        "Config": {"Cmd": ["sh"], "Env": ["A=<b>&c"]},
        "Architecture": "amd64",
        "Os": "linux",
        "Size": 12,
        "GraphDriver": {"Data": None, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": [identifier("a")]},
    }
)
TAR = Reply(200, [b"tar", b"content"], {"Content-Type": "application/x-tar"})
DAEMON = {
    "GET /images/x/history": HISTORY,
    "GET /images/x/json": INSPECTED,
    "GET /images/get": TAR,
    "GET /containers/x/export": TAR,
    "DELETE /images/x": document([{"Untagged": "x:latest"}, {"Deleted": identifier("a")}]),
    "DELETE /images/y": error(404, "No such image: y"),
    "DELETE /images/z": error(409, "conflict: unable to remove repository reference"),
    "POST /images/prune": document(
        {
            "ImagesDeleted": [{"Untagged": "x"}, {"Deleted": identifier("a")}],
            "SpaceReclaimed": 1234,
        }
    ),
    "POST /images/load": stream({"stream": "Loaded image: x:latest\n"}),
    "POST /images/create": stream({"status": identifier("a")}),
    "POST /containers/prune": document({"ContainersDeleted": None, "SpaceReclaimed": 0}),
    "POST /networks/prune": document({"NetworksDeleted": ["n"]}),
    "POST /volumes/prune": document({"VolumesDeleted": ["v"], "SpaceReclaimed": 5}),
    "POST /build/prune": document({"CachesDeleted": None, "SpaceReclaimed": 0}),
    "POST /images/x/tag": Reply(201),
}


def container(digit: str, state: str, **fields: Any) -> dict[str, Any]:
    return {
        "Id": digit * 64,
        "Names": [f"/n{digit}"],
        "Image": "x",
        "ImageID": identifier("a"),
        "Command": "sh -c 'a long command that is cut'",
        "Created": 1700000000,
        "Ports": [],
        "SizeRw": 1234,
        "SizeRootFs": 99999,
        "Labels": {},
        "State": state,
        "Status": "Up 2 hours",
        "HostConfig": {"NetworkMode": "default"},
        "NetworkSettings": {"Networks": {}},
        "Mounts": [],
        **fields,
    }


def volume(name: str, size: int, users: int) -> dict[str, Any]:
    return {
        "CreatedAt": "2023-11-14T22:13:20Z",
        "Driver": "local",
        "Labels": None,
        "Mountpoint": f"/volumes/{name}",
        "Name": name,
        "Options": None,
        "Scope": "local",
        "UsageData": {"RefCount": users, "Size": size},
    }


def cached(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "ID": name,
        "Type": "regular",
        "Description": "a step",
        "InUse": False,
        "Shared": False,
        "Size": 77,
        "CreatedAt": "2023-11-14T22:13:20Z",
        "LastUsedAt": "2023-11-15T22:13:20Z",
        "UsageCount": 3,
        **fields,
    }


MOUNT = {"Type": "volume", "Driver": "local", "Name": "v"}
USAGE: dict[str, Any] = {
    "LayersSize": 1234567,
    "Images": [
        {**NAMED, "Containers": 1, "SharedSize": 1000},
        {**DANGLING, "Containers": 0, "SharedSize": 0},
        {**BY_DIGEST, "Containers": 0, "Size": -1},
    ],
    "Containers": [
        container("1", "running", Names=["/n", "/other/alias"], Mounts=[MOUNT]),
        container("2", "exited", SizeRw=0, Image=identifier("a")),
    ],
    "Volumes": [volume("v", 5000, 1), volume("w" * 64, -1, 0)],
    "BuildCache": [
        cached("abcdefghijklmnopqrstuvwxyz"),
        cached("b2", InUse=True, Shared=True, LastUsedAt=None),
    ],
}
IN_ROWS = "{{range .Images}}{{.Repository}}:{{.Tag}} {{.UniqueSize}} {{.ID}}{{println}}{{end}}"

IMAGE_CASES = {
    "search": Case(
        r"""
        search x
        search --no-trunc x
        search --limit 5 x
        search -f stars=3 -f is-official=true x
        search -f is-automated=true x
        search -f bad x
        search --format json x
        search --format '{{json .}}' x
        search --format '{{.Name}}: {{.StarCount}} {{.IsOfficial}}' x
        search --format 'table {{.Name}}\t{{.IsOfficial}}' x
        search --format table x
        search
        search localhost:5000/x
        search index.docker.io/x
        """,
        FOUND,
        {"auths": {"localhost:5000": {"auth": "bWU6cHc="}}},
    ),
    "images": Case(
        r"""
        images
        images -q
        images -a
        images --digests
        images --no-trunc
        images --digests --no-trunc
        images -q --no-trunc
        images -f dangling=true -f label=a x
        images --format json
        images --format '{{.Repository}}:{{.Tag}} {{.Digest}}'
        images --format 'table {{.ID}}\t{{.Containers}}\t{{.SharedSize}}\t{{.UniqueSize}}'
        images --format raw
        images --format raw -q
        images --format raw --digests
        images --format 'table {{.ID}}' --digests
        images --format table -q
        images --format '{{json .}}' --digests
        images --format '{{.CreatedAt}} {{.VirtualSize}}'
        image ls
        image list -q
        images a b
        """,
        LISTED,
    ),
    "images in the user's format": Case(
        """
        images
        images -q
        images --format json
        """,
        LISTED,
        {"imagesFormat": "{{.ID}} x"},
    ),
    "no images": Case(
        """
        images
        images ls
        images nosuch
        image ls ls
        images --tree
        """,
        NOTHING,
    ),
    "trees": Case(
        """
        images --tree
        images --tree -a
        images --tree x
        images --tree -q
        images --tree --no-trunc
        images --tree --digests
        images --tree --format x
        """,
        FOREST,
    ),
    "a lone tree": Case("images --tree", LONE_TREE),
    "history": Case(
        """
        history x
        history -q x
        history --no-trunc x
        history -H=false x
        history --format json x
        history --format '{{.ID}} {{.CreatedAt}}' x
        history --platform linux/arm64 x
        history --platform a/b/c/d x
        history nosuch
        """,
        DAEMON,
    ),
    "inspect": Case(
        """
        image inspect x
        image inspect --platform linux/arm64 x
        image inspect --platform a/b/c/d x
        image inspect -f '{{.Id}} {{.RepoTags}} {{.Config.Env}}' x
        image inspect x nosuch
        """,
        DAEMON,
    ),
    "save": Case(
        """
        save x
        save --platform linux/amd64 x
        save --platform a/b/c/d x
        save -o out.tar x y
        save -o nosuch/out.tar x
        save -o nosuch/ x
        save -o . x
        save -o /dev/null x
        save -o /etc/hostname/x x
        export -o nosuch/y x
        export -o /dev/tty x
        """,
        DAEMON,
    ),
    "save that fails": Case(
        """
        save -o out.tar x
        save x
        """,
        {"GET /images/get": [error(404, "reference does not exist"), Reply(200, [b"x"], cut=True)]},
    ),
    "remove": Case(
        """
        rmi x
        rmi x y
        rmi -f x y
        rmi -f y
        rmi -f z y
        rmi --no-prune x
        rmi --platform linux/amd64 --platform linux/arm64 x
        rmi --platform linux/amd64,linux/arm64 x
        rmi --platform a/b/c/d x
        image rm x
        image remove x
        """,
        DAEMON,
    ),
    "prune": Case(
        """
        image prune -f
        image prune -a -f
        image prune -f --filter until=24h --filter label=a
        image prune
        image prune -a
        container prune
        system prune -f
        system prune -af --volumes
        system prune --filter until=1h --volumes -f
        system prune --filter label=a --filter until=1h
        system prune -a --volumes
        system prune
        """,
        DAEMON,
        stdin="n\n",
    ),
    "load and import": Case(
        """
        load
        load -q
        load --platform linux/arm64
        load --platform a/b/c/d
        load -i nosuch
        import http://host/x.tgz a:1
        import -c 'ENV A=1' -c 'CMD x' -m note --platform linux/arm64 - a:1
        import nosuch.tar
        import - A
        import - a b
        tag x y:1
        tag x Y
        """,
        DAEMON,
        stdin="content",
    ),
    "disk usage": Case(
        rf"""
        system df
        system df -v
        system df --format json
        system df --format table
        system df --format raw
        system df -v --format raw
        system df --format '{{{{.Type}}}} {{{{.Size}}}} {{{{.Reclaimable}}}}'
        system df --format 'table {{{{.Type}}}}\t{{{{.Active}}}}'
        system df -v --format '{IN_ROWS}'
        system df x
        """,
        {"GET /system/df": document(USAGE)},
    ),
    "disk usage in JSON": Case(
        """
        system df -v --format json
        system df -v --format '{{json .}}'
        """,
        {"GET /system/df": document({**USAGE, "Containers": []})},
    ),
    "no disk usage": Case(
        """
        system df
        system df -v
        """,
        {
            "GET /system/df": document(
                {
                    "LayersSize": 0,
                    "Images": None,
                    "Containers": None,
                    "Volumes": None,
                    "BuildCache": None,
                }
            )
        },
    ),
}
