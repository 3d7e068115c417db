"""Commands about images and registries beside docker's, on a daemon of canned answers.

Not the daemon is tested here but the two command lines: with the same answers both ask the same,
print the same (on terminals too) and leave the same config.json and exit status.
"""

from __future__ import annotations

import base64
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.compat.image_cases import DIGEST, FOREST, IMAGE_CASES, LONE_TREE, NOTHING
from tests.fake_daemon import Reply, document, error, stream
from tests.side_by_side import Case, differences, is_docker_28, scene

pytestmark = [
    pytest.mark.compat,
    pytest.mark.slow,
    pytest.mark.skipif(not is_docker_28(), reason="the docker CLI is not version 28"),
]

HUB = "https://index.docker.io/v1/"


def login(name: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:{password}".encode()).decode()}


def layers(count: int, steps: int = 4) -> list[dict[str, Any]]:
    """Return the messages of a pull with this many layers."""
    names = [f"layer{number:07}" for number in range(count)]
    messages: list[dict[str, Any]] = [{"status": "Pulling from library/x", "id": "latest"}]
    messages += [row(name, "Pulling fs layer") for name in names]
    for step in range(steps + 1):
        for name in names:
            detail = {"current": 1 + 250_000 * step, "total": 1_000_000}
            messages.append(row(name, "Downloading", detail))
    messages += [row(name, "Pull complete") for name in names]
    return [
        *messages,
        {"status": f"Digest: {DIGEST}"},
        {"status": "Status: Downloaded newer image for x:latest"},
    ]


def row(name: str, status: str, detail: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"status": status, "progressDetail": detail or {}, "id": name}


PULLED = stream(*layers(3))
FAILED = stream(*layers(3)[:10], {"errorDetail": {"message": "a\nb"}, "error": "a\nb"})
PUSHED = stream(
    {"status": "The push refers to repository [docker.io/library/x]"},
    row("aaa", "Preparing"),
    row("aaa", "Pushing", {"current": 5, "total": 10}),
    row("aaa", "Pushed"),
    {"status": f"latest: digest: {DIGEST} size: 1"},
    {"progressDetail": {}, "aux": {"Tag": "latest", "Digest": DIGEST, "Size": 1}},
)
DENIED = error(404, "pull access denied for x, repository does not exist or may require login")
LOGGED_IN = document({"Status": "Login Succeeded", "IdentityToken": ""})
TOKEN = document({"Status": "Login Succeeded", "IdentityToken": "token"})
LOGINS = {"auths": {"localhost:5000": login("me", "pw"), HUB: login("hub", "pw")}}
NO_IMAGE = error(404, "No such image: x:latest")

CASES = {
    "pull": Case(
        f"""
        pull x
        pull -q x
        pull --all-tags x
        pull -a x:1
        pull X
        pull
        pull x y
        pull x@{DIGEST}
        pull x:1@{DIGEST}
        pull --platform linux/arm64 localhost:5000/a/b:tag
        pull --disable-content-trust x
        image pull docker.io/library/x:1
        """,
        {"POST /images/create": PULLED},
        LOGINS,
    ),
    "pull for a platform of the environment": Case(
        "pull x",
        {"POST /images/create": PULLED},
        environment={"DOCKER_DEFAULT_PLATFORM": "linux/riscv64"},
    ),
    "pull that fails": Case(
        """
        pull x
        pull x
        pull -q x
        pull x
        pull x
        """,
        {
            "POST /images/create": [
                FAILED,
                DENIED,
                FAILED,
                stream({"status": "a"}, cut=True),
                error(500, "Get https://host/v2/: dial tcp: lookup host: no such host"),
            ]
        },
    ),
    "messages in any pieces": Case(
        "pull x",
        {
            "POST /images/create": Reply(
                200, [b"{}", b'{"sta', b'tus":"a"}{"status":"b"}\n\n \n{"id":"c"}']
            )
        },
    ),
    "push": Case(
        """
        push x
        push -q x
        push -a x
        push --all-tags x:1
        push --platform linux/arm64 x
        push --platform linux/armel x:1
        push --platform a/b/c/d x
        push X
        image push localhost:5000/x
        """,
        {
            "POST /images/docker.io/library/x/push": PUSHED,
            "POST /images/localhost:5000/x/push": error(404, "An image does not exist locally"),
        },
        LOGINS,
    ),
    "push of one platform of an index": Case(
        "push -q x",
        {
            "POST /images/docker.io/library/x/push": stream(
                {"status": "a"}, {"errorDetail": {"message": "denied"}, "error": "denied"}
            )
        },
    ),
    "login": Case(
        """
        login
        login -u me
        login -u me -p pw localhost:5000
        login -u me -p other localhost:5000
        login localhost:5000
        login http://localhost:5000/v2/
        login -u me --password-stdin localhost:5000
        login --password-stdin x
        login -p pw --password-stdin -u me x
        login -u '' x
        login -p '' x
        login -u me -p pw
        login -u me -p pw docker.io
        login
        logout localhost:5000
        logout
        logout
        logout https://registry.example.com:443/x
        """,
        {"POST /auth": LOGGED_IN},
        stdin="secret\n",
    ),
    "login that fails": Case(
        """
        login -u me -p pw localhost:5000
        login -u me -p pw localhost:5000
        login localhost:5000
        pull localhost:5000/x
        login -u me -p pw localhost:5000
        logout localhost:5000
        """,
        {
            "POST /auth": [error(401, "Get http://x/v2/: unauthorized"), TOKEN, error(500, "oops")],
            "POST /images/create": PULLED,
        },
        {"HttpHeaders": {"X-A": "b"}, "auths": {}},
    ),
    "login with what is stored": Case(
        """
        login localhost:5000
        login localhost:5000
        login localhost:5000
        """,
        {"POST /auth": [LOGGED_IN, error(401, "no"), error(500, "oops")]},
        LOGINS,
    ),
    "a helper that is missing": Case(
        """
        login -u me -p pw x
        login x
        pull x/y
        run x/y
        """,
        {
            "POST /auth": LOGGED_IN,
            "POST /images/create": PULLED,
            "POST /containers/create": NO_IMAGE,
        },
        {"credsStore": "nosuch"},
    ),
    "keys of old versions": Case(
        """
        login x
        pull x/y
        logout x
        """,
        {"POST /auth": LOGGED_IN, "POST /images/create": PULLED},
        {"auths": {"http://x": login("me", "pw")}},
    ),
    "run without the image": Case(
        """
        run x
        run -q x
        run --pull=never x
        run --pull=always x
        create x
        create --platform linux/arm64 --pull always localhost:5000/x:1
        create --pull=missing x
        """,
        {
            "POST /containers/create": [
                NO_IMAGE,  # run x
                NO_IMAGE,  # run -q x
                NO_IMAGE,  # run --pull=never x
                NO_IMAGE,  # run --pull=always x
                NO_IMAGE,  # create x
                document({"Id": "1" * 64, "Warnings": ["a warning"]}, 201),
                document({"Id": "2" * 64, "Warnings": None}, 201),
                NO_IMAGE,  # create --pull=missing x
                error(409, "Conflict"),
            ],
            "POST /images/create": [FAILED, FAILED, PULLED],
        },
        LOGINS,
    ),
}


@pytest.mark.parametrize("name", [*CASES, *IMAGE_CASES])
def test_both_say_and_ask_the_same(name: str, tmp_path: Path) -> None:
    found = differences((CASES | IMAGE_CASES)[name], tmp_path)
    print(*found, sep="\n")
    assert not found


# Keeps logins below the user's settings: a file per server.
HELPER = """#!/bin/sh
read -r line
case $1 in
store) name=$(echo "$line" | sed 's/.*"ServerURL":"//; s/".*//') ;;
*) name=$line ;;
esac
file=$DOCKER_CONFIG/kept-$(echo "$name" | tr / _)
case $1 in
get) cat "$file" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
store) echo "$line" > "$file" ;;
erase) rm "$file" 2>/dev/null || { echo "nothing to erase"; exit 3; } ;;
esac
"""


@pytest.mark.parametrize(
    "chosen",
    [{"credsStore": "test"}, {"credHelpers": {"localhost:5000": "test"}}, {"credsStore": "broken"}],
    ids=["store", "helper", "broken"],
)
def test_both_keep_logins_with_helpers(chosen: dict[str, Any], tmp_path: Path) -> None:
    for name, script in (("test", HELPER), ("broken", "#!/bin/sh\necho 'no such thing'\nexit 2\n")):
        program = tmp_path / f"docker-credential-{name}"
        program.write_text(script)
        program.chmod(0o755)
    case = Case(
        """
        login -u me -p pw localhost:5000
        pull localhost:5000/x
        login localhost:5000
        run localhost:5000/x
        login -u token -p pw localhost:5000
        pull localhost:5000/x
        logout localhost:5000
        pull localhost:5000/x
        login -u me -p pw
        search x
        logout
        search x
        """,
        {
            "POST /auth": [LOGGED_IN, LOGGED_IN, TOKEN, LOGGED_IN],
            "POST /images/create": PULLED,
            "POST /containers/create": error(409, "Conflict"),
            "GET /images/search": document([]),
        },
        chosen,
        environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    found = differences(case, tmp_path)
    if chosen == {"credsStore": "broken"}:
        # Docker counts the host, which it tries twice, as two failures, and so says nothing.
        found = [text for text in found if not text.startswith("logout localhost:5000: err")]
    print(*found, sep="\n")
    assert not found


PULL = Case("", {"POST /images/create": PULLED})
ASKED = Case("", {"POST /auth": LOGGED_IN})
SCENES: dict[str, tuple[str, Case, tuple[int, int], dict[str, str]]] = {
    "pull": ("pull x", PULL, (24, 80), {}),
    "pull on a wide terminal": ("pull x", PULL, (24, 130), {}),
    "pull on a narrow terminal": ("pull x", PULL, (40, 48), {}),
    "pull of as many layers as there is room for": (
        "pull x",
        Case("", {"POST /images/create": stream(*layers(20))}),
        (24, 130),
        {},
    ),
    "pull that fails": (
        "pull x",
        Case("", {"POST /images/create": FAILED}),
        (24, 130),
        {},
    ),
    "two pulls after each other": (
        "pull -a x",
        Case("", {"POST /images/create": stream(*layers(3), *layers(2))}),
        (30, 130),
        {},
    ),
    "run that pulls": (
        "run x",
        Case("", {"POST /containers/create": NO_IMAGE, "POST /images/create": FAILED}),
        (24, 130),
        {},
    ),
    "import": (
        "import http://host/archive",
        Case(
            "",
            {
                "POST /images/create": stream(
                    {"status": "Downloading from http://host/archive"},
                    {"status": "Importing", "progressDetail": {"current": 10, "total": 20}},
                    {"status": "Importing", "progressDetail": {"current": 20, "total": 20}},
                    {"status": DIGEST},
                )
            },
        ),
        (24, 130),
        {},
    ),
    "load": (
        "load -i /etc/hostname",
        Case(
            "",
            {
                "POST /images/load": stream(
                    row("abc", "Loading layer", {"current": 10, "total": 20}),
                    row("abc", "Loading layer", {"current": 20, "total": 20}),
                    {"stream": "Loaded image: x:latest\n"},
                )
            },
        ),
        (24, 130),
        {},
    ),
    "push": (
        "push x",
        Case("", {"POST /images/docker.io/library/x/push": PUSHED}),
        (24, 100),
        {},
    ),
    "push of one platform of an index": (
        "push --platform linux/amd64 x",
        Case(
            "",
            {
                "POST /images/docker.io/library/x/push": stream(
                    {"status": "a"},
                    {
                        "aux": {
                            "manifestPushedInsteadOfIndex": True,
                            "originalIndex": {"digest": DIGEST, "size": 1},
                            "selectedManifest": {"digest": DIGEST, "size": 2},
                        }
                    },
                )
            },
        ),
        (24, 100),
        {},
    ),
    "login": ("login host", ASKED, (24, 200), {"Username: ": "me", "Password: ": "pw"}),
    "login again": (
        "login localhost:5000",
        Case("", {"POST /auth": [error(401, "no"), LOGGED_IN]}, LOGINS),
        (30, 200),
        {"Username (me): ": "", "Password: ": "pw"},
    ),
    "login with a name": ("login -u me", ASKED, (24, 200), {"Password: ": "pw"}),
    "login at the hub": (
        "login",
        replace(ASKED, environment={"DOCKER_CLI_DISABLE_OAUTH_LOGIN": "1"}),
        (30, 200),
        {"Username: ": "me", "Password: ": "pw"},
    ),
    "login without a name": ("login host", ASKED, (24, 200), {"Username: ": ""}),
    "login without a password": (
        "login host",
        ASKED,
        (24, 200),
        {"Username: ": "me", "Password: ": ""},
    ),
    "login before a pull": (
        "pull x",
        Case("", {"POST /images/create": [error(401, "no"), PULLED]}),
        (40, 120),
        {"Username: ": "me", "Password: ": "pw"},
    ),
}


@pytest.mark.parametrize("name", SCENES)
def test_both_show_the_same_on_a_terminal(name: str, tmp_path: Path) -> None:
    line, case, size, answers = SCENES[name]
    ours = scene("sampan", line, case, tmp_path / "sampan", size, answers)
    theirs = scene("docker", line, case, tmp_path / "docker", size, answers)
    assert ours.history + ours.screen == theirs.history + theirs.screen
    assert ours.status == theirs.status


@pytest.mark.parametrize("width", [10, 24, 40, 80, 160])
@pytest.mark.parametrize("replies", [FOREST, LONE_TREE, NOTHING], ids=["some", "one", "none"])
def test_trees_fit_into_any_terminal(width: int, replies: dict[str, Reply], tmp_path: Path) -> None:
    case = Case("", replies)
    ours = scene("sampan", "images --tree -a", case, tmp_path / "sampan", (40, width))
    theirs = scene("docker", "images --tree -a", case, tmp_path / "docker", (40, width))
    assert ours.screen == theirs.screen


def test_more_layers_than_lines_are_all_there_in_the_end(tmp_path: Path) -> None:
    """Docker's cursor cannot reach rows above the terminal: some are lost, some there twice."""
    case = Case("", {"POST /images/create": stream(*layers(60))})
    found = scene("sampan", "pull x", case, tmp_path, (24, 130))
    shown = [line for line in found.history + found.screen if line.startswith("layer")]
    assert shown == [f"layer{number:07}: Pull complete" for number in range(60)]


def test_a_hostile_registry_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x1b[H\x9b2J"
    case = Case(
        "",
        {
            "POST /images/create": stream(
                {"status": f"Pulling {evil}", "id": evil},
                row(evil, evil),
                {"stream": evil},
                {"errorDetail": {"message": evil}, "error": evil},
            ),
        },
    )
    found = scene("sampan", "pull x", case, tmp_path, (24, 130))
    assert found.status == 1
    assert "\x1b]" not in found.sent
    assert "\x1b[2J" not in found.sent
    assert "\x9b" not in found.sent
    assert found.screen[0] == "Using default tag: latest"
