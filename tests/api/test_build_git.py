"""Repositories with submodules and their history in builds, on a real daemon."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.daemon import Daemon

pytestmark = [pytest.mark.privileged, pytest.mark.slow]


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main",
         "-c", "protocol.file.allow=always", "-C", str(folder), *words],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def commit(folder: Path, **files: str) -> str:
    """Make a repository, or a commit more of it, with these files; return the commit."""
    folder.mkdir(exist_ok=True)
    git(folder, "init", "-q")
    for name, content in files.items():
        (folder / name).write_text(content)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
    return git(folder, "rev-parse", "HEAD")


def module(folder: Path, path: str, of: str, url: str) -> None:
    """Give a repository a submodule, by an address that only says so."""
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{of},{path}")
    (folder / path).mkdir(parents=True)
    with (folder / ".gitmodules").open("a") as file:
        file.write(f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n')


def publish(folder: Path) -> None:
    bare = folder.with_name(f"{folder.name}.git")
    subprocess.run(["git", "clone", "-q", "--bare", folder, bare], check=True)
    git(bare, "update-server-info")


def build(daemon: Daemon, folder: Path, *lines: str, tag: str = "made") -> str:
    """Build with the command line; return what it says, also of failures."""
    place = folder / "recipe"
    place.mkdir(exist_ok=True)
    (place / "Dockerfile").write_text("FROM busybox\n" + "\n".join(lines))
    done = subprocess.run(
        [daemon.programs["sampan"], "build", "--no-cache", "-t", tag, str(place)],
        env={**os.environ, **daemon.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return re.sub(r"(?m)^#\d+ \d+\.\d+ ", "", done.stdout + done.stderr)


def test_submodules_come_along(clean: Daemon, web: str, tmp_path: Path) -> None:
    inner = commit(tmp_path / "inner", deep="deep\n")
    commit(tmp_path / "inner", deep="newer\n")
    commit(tmp_path / "middle", mid="mid\n")
    module(tmp_path / "middle", "in", inner, f"{web}/inner.git")
    middle = commit(tmp_path / "middle")
    commit(tmp_path / "outer", top="top\n")
    module(tmp_path / "outer", "sub/mod", middle, "../middle.git")
    head = commit(tmp_path / "outer")
    for name in ("inner", "middle", "outer"):
        publish(tmp_path / name)
    url = f"{web}/outer.git"
    cat = "RUN cd /src; find . -type f ! -path './.git/*' | sort | xargs cat"
    assert "deep\nmid\n" in build(clean, tmp_path, f"ADD {url} /src", f"{cat}; ls sub/mod/in")
    said = build(clean, tmp_path, f"ADD {url}#:sub /src", cat, "RUN find /src")
    assert "deep\nmid\n" in said
    assert "/src/mod/in/deep" in said
    said = build(clean, tmp_path, f"ADD {url}?submodules=false /src", "RUN find /src")
    assert "/src/sub/mod\n" in said
    assert "/src/sub/mod/mid" not in said
    said = build(clean, tmp_path, f"ADD --checksum={head} {url} /src", cat)
    assert "deep\n" in said
    wrong = "0" * 40
    said = build(clean, tmp_path, f"ADD --checksum={wrong} {url} /src")
    assert f"expected checksum to match {wrong}, got {head}" in said


def test_the_history_comes_along_if_it_is_asked_for(
    clean: Daemon, web: str, tmp_path: Path
) -> None:
    head = commit(tmp_path / "one", a="1\n", b="2\n")
    publish(tmp_path / "one")
    url = f"{web}/one.git"
    look = "RUN cd /src; cat .git/HEAD; ls .git; grep -c origin .git/config"
    said = build(clean, tmp_path, f"ADD --keep-git-dir=true {url} /src", look)
    assert f"{head}\n" in said
    assert "hooks" not in said
    assert "FETCH_HEAD" not in said
    names = said.splitlines()
    assert {"config", "index", "objects", "refs"} <= set(names)
    for line in (f"ADD {url} /src", f"ADD --keep-git-dir=false {url} /src"):
        assert "/src/a\n" in build(clean, tmp_path, line, "RUN test ! -e /src/.git; find /src")
    # What came along is a whole repository: git finds nothing that has changed.
    (tmp_path / "recipe" / "Dockerfile").write_text(
        f"FROM scratch\nADD {url}?keep-git-dir=true /src\n"
    )
    command = [clean.programs["sampan"], "build", "-q", str(tmp_path / "recipe")]
    image = subprocess.run(
        command, env={**os.environ, **clean.environment}, capture_output=True, text=True, check=True
    ).stdout.strip()
    upper = clean.request("GET", f"/images/{image}/json").json["GraphDriver"]["Data"]["UpperDir"]
    where = ["-c", f"safe.directory={upper}/src"]
    assert git(Path(upper, "src"), *where, "status", "--porcelain") == ""
    assert git(Path(upper, "src"), *where, "log", "--format=%H") == head


def test_a_password_in_an_address_is_told_to_nobody_but_its_server(
    clean: Daemon, web: str, tmp_path: Path
) -> None:
    commit(tmp_path / "one", a="1\n")
    publish(tmp_path / "one")
    url = f"{web}/one.git".replace("://", "://captain:hunter2@")
    look = "RUN grep xxxxx:xxxxx@ /src/.git/config && ! grep -r hunter[2] /src && echo $((20 + 22))"
    add = f"ADD --keep-git-dir=true {url} /src"
    page = f'ADD ["{web}/one.git/HEAD", "/page"]'.replace("://", "://captain:hunter2@")
    told = [build(clean, tmp_path, add, page, look, tag="told")]
    assert "\n42\n" in told[0]
    told += [
        build(clean, tmp_path, f"ADD {url}{wrong} /src")
        for wrong in ("#nothing", "?checksum=" + "0" * 40, "/none.git", "?what=1")
    ]
    told.append(build(clean, tmp_path, f"ADD {url}/refs/ /src/"))
    assert [text for text in told if "hunter2" in text] == []
    history = clean.request("GET", "/images/told/history").json
    assert [row for row in history if "xxxxx:xxxxx@" in row["CreatedBy"]]
    kept = clean.request("GET", "/images/told/get").body
    assert b"hunter2" not in kept + json.dumps(history).encode()
    assert "hunter2" not in clean.log


def test_cve_2019_13139_2022_39253_a_submodule_is_neither_an_option_nor_a_path_of_the_host(
    clean: Daemon, web: str, tmp_path: Path
) -> None:
    """Addresses of submodules are those of strangers: no options, local files or programs."""
    secret = commit(tmp_path / "secret", shadow="secret-content\n")
    commit(tmp_path / "outer", top="top\n")
    for number, evil in enumerate(
        (f"{tmp_path}/secret", f"file://{tmp_path}/secret", "ext::sh -c touch% /pwned",
         "--upload-pack=touch /pwned", "-x")
    ):  # fmt: skip
        module(tmp_path / "outer", f"m{number}", secret, evil)
        commit(tmp_path / "outer")
        publish(tmp_path / "outer")
        said = build(clean, tmp_path, f"ADD {web}/outer.git /src", "RUN find /src")
        assert "secret-content" not in said
        assert "invalid submodule" in said or "git fetch: " in said, said
        assert not Path("/pwned").exists()
        subprocess.run(["rm", "-r", tmp_path / "outer.git"], check=True)
        git(tmp_path / "outer", "reset", "-q", "--hard", "HEAD^")


def test_submodules_without_an_end_are_refused(clean: Daemon, web: str, tmp_path: Path) -> None:
    first = commit(tmp_path / "loop", a="1\n")
    for _ in range(12):  # each is a submodule of the next one
        module(tmp_path / "loop", "m", first, f"{web}/loop.git")
        first = commit(tmp_path / "loop")
        (tmp_path / "loop" / "m").rmdir()
    publish(tmp_path / "loop")
    said = build(clean, tmp_path, f"ADD {web}/loop.git /src")
    assert "the repository has too many submodules" in said


def test_names_of_files_need_not_be_text(clean: Daemon, tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    name = tmp_path / "recipe" / os.fsdecode(b"caf\xe9")
    name.write_text("latin\n")
    said = build(clean, tmp_path, "COPY . /c", "COPY caf* /d/", "RUN cat /c/caf* /d/*")
    assert "latin\nlatin\n" in said
