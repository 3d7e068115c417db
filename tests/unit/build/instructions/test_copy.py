"""COPY and ADD: what goes where, with which owner and mode."""

from __future__ import annotations

import gzip
import os

import pytest
from msgspec.structs import replace

from sampan.errors import InvalidArgument
from sampan.spec.build import Repository
from tests import tarballs
from tests.build_worker import Yard

FILES = (
    tarballs.file("a.txt", b"a"),
    tarballs.file("b.txt", b"b", mode=0o600),
    tarballs.folder("dir", mode=0o700),
    tarballs.file("dir/c", b"c"),
    tarballs.file("dir/d.log", b"d"),
    tarballs.folder("dir/sub"),
    tarballs.file("dir/sub/e", b"e", mode=0o755),
    tarballs.symlink("link", "dir"),
    tarballs.symlink("file-link", "/dir/c"),
    tarballs.symlink("out", "../../../../etc/shadow"),
)
BASE = (
    tarballs.folder("usr"),
    tarballs.folder("usr/lib"),
    tarballs.symlink("lib", "usr/lib"),
    tarballs.folder("home"),
    tarballs.file("etc/passwd", b"root:x:0:0::/:\nweb:x:33:44::/:\n"),
    tarballs.file("etc/group", b"root:x:0:\nstaff:x:50:\n"),
)


@pytest.fixture
def yard() -> Yard:
    yard = Yard()
    yard.worker.have("box", *BASE)
    return yard


def layer(yard: Yard, *lines: str, base: str = "box") -> dict[str, bytes]:
    """Build with these lines; return the files of the last layer, folders as None."""
    yard.built(f"FROM {base}\n" + "\n".join(lines), *FILES)
    return {
        info.name.rstrip("/"): b"/" if info.isdir() else content or info.linkname.encode()
        for info, content in yard.worker.layers[list(yard.worker.layers)[-1]]
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("COPY a.txt /x", {"x": b"a"}),
        ("COPY a.txt /x/", {"x": b"/", "x/a.txt": b"a"}),
        ("COPY a.txt /home", {"home/a.txt": b"a"}),
        ("COPY a.txt /", {"a.txt": b"a"}),
        ("COPY a.txt .", {"a.txt": b"a"}),
        ("COPY ./a.txt /x", {"x": b"a"}),
        ("COPY /a.txt /x", {"x": b"a"}),
        ("COPY a.txt /lib/x", {"usr/lib/x": b"a"}),
        ("COPY a.txt /lib", {"usr/lib/a.txt": b"a"}),
        ("COPY a.txt /m/n/x", {"m": b"/", "m/n": b"/", "m/n/x": b"a"}),
        ("COPY *.txt /x/", {"x": b"/", "x/a.txt": b"a", "x/b.txt": b"b"}),
        ("COPY [ab].txt /x/", {"x": b"/", "x/a.txt": b"a", "x/b.txt": b"b"}),
        ("COPY a.txt dir/c /home/", {"home/a.txt": b"a", "home/c": b"c"}),
        ('COPY ["a.txt", "/x y"]', {"x y": b"a"}),
        (
            "COPY dir /x",
            {"x": b"/", "x/c": b"c", "x/d.log": b"d", "x/sub": b"/", "x/sub/e": b"e"},
        ),
        ("COPY dir/sub /home", {"home/e": b"e"}),
        ("COPY dir/*/e /x", {"x": b"e"}),
        ("COPY link/c /x", {"x": b"c"}),
        ("COPY link /home", {"home/c": b"c", "home/d.log": b"d", "home/sub": b"/",
                             "home/sub/e": b"e"}),
        ("COPY file-link /x", {"x": b"c"}),
        ("COPY --exclude=*.log --exclude=sub dir /home", {"home/c": b"c"}),
        ("COPY --exclude=* --exclude=!c dir /home", {"home/c": b"c"}),
        ("COPY --parents dir/sub/e /x/", {"x": b"/", "x/dir": b"/", "x/dir/sub": b"/",
                                           "x/dir/sub/e": b"e"}),
        ("COPY --parents dir/./sub/e /home/", {"home/sub": b"/", "home/sub/e": b"e"}),
        ("COPY --parents **/e /", {"dir": b"/", "dir/sub": b"/", "dir/sub/e": b"e"}),
        ("COPY --parents ./dir/**/c /", {"dir": b"/", "dir/c": b"c"}),
        ("COPY --parents dir/./**/[ce] /", {"c": b"c", "sub": b"/", "sub/e": b"e"}),
        ("COPY --parents d*/./sub/** /", {"sub": b"/", "sub/e": b"e"}),
        ("COPY --parents a.txt ./b.txt /home/", {"home/a.txt": b"a", "home/b.txt": b"b"}),
        ("COPY --parents --exclude=dir/*.log dir /", {
            "dir": b"/", "dir/c": b"c", "dir/sub": b"/", "dir/sub/e": b"e"}),
        ("COPY --parents --exclude=*.log dir/d.log a.txt /", {
            "dir": b"/", "dir/d.log": b"d", "a.txt": b"a"}),
        ("COPY --exclude=a* *.txt /home/", {"home/b.txt": b"b"}),
        ("COPY a.txt none* /home/", {"home/a.txt": b"a"}),
        ("COPY --link a.txt /lib/x", {"lib": b"/", "lib/x": b"a"}),
        ("COPY --link a.txt /home/", {"home": b"/", "home/a.txt": b"a"}),
        ("COPY --link=false a.txt /lib/x", {"usr/lib/x": b"a"}),
        ("COPY --link --chmod=600 a.txt /lib/x", {"usr/lib/x": b"a"}),
        ("COPY <<EOF /x\nhello\nEOF", {"x": b"hello\n"}),
        ("COPY <<one <<two /home/\n1\none\n2\ntwo", {"home/one": b"1\n", "home/two": b"2\n"}),
        ("COPY a.txt <<one /home/\n1\none", {"home/a.txt": b"a", "home/one": b"1\n"}),
    ],
)  # fmt: skip
def test_files_go_where_docker_puts_them(yard: Yard, line: str, expected: dict[str, bytes]) -> None:
    assert layer(yard, line) == expected


def test_relative_destinations_are_below_the_working_folder(yard: Yard) -> None:
    assert layer(yard, "WORKDIR /home", "COPY a.txt x/") == {"home/x": b"/", "home/x/a.txt": b"a"}


def test_variables_are_replaced_in_paths_and_documents(yard: Yard) -> None:
    lines = "ENV N=a D=/home", "COPY $N.txt ${D}/x"
    assert layer(yard, *lines) == {"home/x": b"a"}
    assert layer(yard, "ENV N=a", "COPY <<EOF /x\n$N '$N' \\$N\nEOF") == {"x": b"a '$N' \\$N\n"}
    assert layer(yard, "ENV N=a", "COPY <<'EOF' /y\n$N\nEOF") == {"y": b"$N\n"}


def test_a_link_that_leads_out_of_the_context_leads_nowhere(yard: Yard) -> None:
    with pytest.raises(InvalidArgument, match="stat out: file does not exist"):
        layer(yard, "COPY out /x")


def test_links_inside_of_folders_stay_links(yard: Yard) -> None:
    assert layer(yard, "COPY . /x/")["x/link"] == b"dir"


@pytest.mark.parametrize(
    ("flags", "owner", "mode"),
    [
        ("", (0, 0), 0o600),
        ("--chown=1:2", (1, 2), 0o600),
        ("--chown=7", (7, 7), 0o600),
        ("--chown=web", (33, 44), 0o600),
        ("--chown=web:staff", (33, 50), 0o600),
        ("--chown=5:staff", (5, 50), 0o600),
        ("--chmod=755", (0, 0), 0o755),
        ("--chmod=u=rwX,go=rX", (0, 0), 0o644),
        ("--chmod=+x,o-r", (0, 0), 0o711),
        ("--chmod=g=u", (0, 0), 0o660),
        ("--chmod=go=u,o-w", (0, 0), 0o664),
        ("--chmod=u+x-w,g+r+w", (0, 0), 0o560),
        ("--chmod=000644", (0, 0), 0o644),
        ("--chmod=4755", (0, 0), 0o4755),
        ("--chmod=u+s,g+s,+t", (0, 0), 0o7600),
        ("--chmod=a=", (0, 0), 0),
    ],
)
def test_owners_and_modes(yard: Yard, flags: str, owner: tuple[int, int], mode: int) -> None:
    yard.built(f"FROM box\nCOPY {flags} b.txt /x", *FILES)
    info, _ = yard.files()["/x"]
    assert ((info.uid, info.gid), info.mode) == (owner, mode)


@pytest.mark.parametrize("mode", ["10000", "8", "rw", "u~x", "u=q", "", "+x,", "=", "u=gx"])
def test_what_is_no_mode_is_said(yard: Yard, mode: str) -> None:
    if mode in ("", "="):  # nothing is asked for, and nobody may do anything
        yard.built(f"FROM box\nCOPY --chmod={mode} b.txt /x", *FILES)
        return
    with pytest.raises(InvalidArgument, match="should be octal string and between 0 and 07777"):
        yard.built(f"FROM box\nCOPY --chmod={mode} b.txt /x", *FILES)


def test_a_linked_copy_looks_at_nothing_below(yard: Yard) -> None:
    before = "FROM box\nRUN write /other 1\n"
    yard.built(f"{before}COPY --link a.txt /lib/x", *FILES)
    first = yard.made.diff_ids[-1]
    yard.built("FROM scratch\nCOPY --link a.txt /lib/x", *FILES)
    assert yard.made.diff_ids[-1] == first
    yard.built(f"{before}COPY a.txt /lib/x", *FILES)
    assert yard.made.diff_ids[-1] != first


def test_folders_that_are_made_belong_to_the_owner(yard: Yard) -> None:
    yard.built("FROM box\nCOPY --chown=web b.txt /m/n/x", *FILES)
    assert {(yard.files()[path][0].uid) for path in ("/m", "/m/n", "/m/n/x")} == {33}


def test_files_of_other_stages_keep_their_owners(yard: Yard) -> None:
    text = "FROM box AS a\nCOPY --chown=web a.txt /a\nFROM scratch\nCOPY --from=a /a /a"
    yard.built(text, *FILES)
    assert yard.files()["/a"][0].uid == 33


def test_archives_are_unpacked_by_add_alone(yard: Yard) -> None:
    inner = tarballs.archive(tarballs.file("x/y", b"inner"), tarballs.symlink("z", "x"))
    files = (
        tarballs.file("plain.tar", inner),
        tarballs.file("packed.tgz", gzip.compress(inner)),
        tarballs.file("text.gz", gzip.compress(b"no archive", mtime=0)),
    )
    yard.built("FROM scratch\nADD plain.tar /1\nADD packed.tgz text.gz /2/\nCOPY plain.tar /3\n"
               "ADD --unpack=false plain.tar /4", *files)  # fmt: skip
    assert yard.content("/1/x/y") == yard.content("/2/x/y") == b"inner"
    assert yard.files()["/1/z"][0].linkname == "x"
    assert yard.content("/2/text.gz") == gzip.compress(b"no archive", mtime=0)
    assert yard.content("/3") == yard.content("/4") == inner


def test_archives_that_lead_out_are_refused(yard: Yard) -> None:
    evil = tarballs.archive(tarballs.file("../../etc/passwd", b"root"))
    with pytest.raises(InvalidArgument, match="invalid path in archive"):
        yard.built("FROM box\nADD evil.tar /x", tarballs.file("evil.tar", evil))


def test_names_that_mean_removed_files_are_refused(yard: Yard) -> None:
    with pytest.raises(InvalidArgument, match="mean removed files"):
        yard.built("FROM box\nCOPY . /x/", tarballs.file(".wh.passwd"))


def test_pages_of_the_web_are_added_whole(yard: Yard) -> None:
    page = tarballs.archive(tarballs.file("y"))
    yard.worker.pages["http://host/p/x.tar?q=1"] = page
    yard.built("FROM scratch\nADD http://host/p/x.tar?q=1 /1/\nADD http://host/p/x.tar?q=1 /2")
    assert yard.content("/1/x.tar") == yard.content("/2") == page
    assert yard.files()["/2"][0].mode == 0o600


def test_a_page_must_have_the_digest_that_is_asked_for(yard: Yard) -> None:
    yard.worker.pages["http://host/x"] = b"content"
    good = tarballs.digest(b"content")
    yard.built(f"FROM scratch\nADD --checksum={good} http://host/x /x")
    with pytest.raises(InvalidArgument, match="digest mismatch http://host/x"):
        yard.built(f"FROM scratch\nADD --checksum={tarballs.digest(b'')} http://host/x /x")


def test_repositories_are_added_as_folders(yard: Yard) -> None:
    place = Repository(url="https://host/x.git", ref="v1", folder="sub")
    yard.worker.repositories[place] = tarballs.archive(tarballs.file("a/b", b"1"))
    yard.built("FROM scratch\nADD https://host/x.git#v1:sub /src")
    assert yard.content("/src/a/b") == b"1"
    with_git = replace(place, keep_git=True, checksum="1234567", submodules=False)
    yard.worker.repositories[with_git] = tarballs.archive(tarballs.file(".git/HEAD"))
    flags = "--keep-git-dir --checksum=1234567"
    yard.built(f"FROM scratch\nADD {flags} https://host/x.git?submodules=0#v1:sub /src")
    assert "/src/.git/HEAD" in yard.files()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ADD --checksum=sha256:1 http://host/x /x", "invalid checksum digest length"),
        ("ADD --checksum=x http://host/x /x", "invalid checksum digest format"),
        (f"ADD --checksum=sha512:{'0' * 128} http://host/x /x", "unsupported digest algorithm"),
        (f"ADD --checksum=sha256:{'0' * 64} http://host/x http://host/x /x/",
         "checksum can't be specified for multiple sources"),
        ("ADD --checksum=sha256:1 a.txt /x", r"checksum requires HTTP\(S\) or Git sources"),
        ("COPY --checksum=sha256:1 a.txt /x", "unknown flag: --checksum"),
        ("ADD --checksum=x https://host/x.git /x", "invalid checksum of a repository"),
        ("ADD --checksum=1234567 https://host/x.git?checksum=7654321 /x",
         'checksum mismatch "1234567" != "7654321"'),
        ("ADD --keep-git-dir=false https://host/x.git?keep-git-dir=1 /x",
         "inconsistent keep-git-dir configuration"),
        ("COPY https://host/x.git /x", "source can't be a git ref for COPY"),
        ("COPY http://host/x /x", "source can't be a URL for COPY"),
        ("COPY --keep-git-dir a.txt /x", "unknown flag: --keep-git-dir"),
        ("COPY --parents none/x /", "file does not exist"),
        ("COPY --exclude a.txt /x", "missing a value on flag: --exclude"),
    ],
)  # fmt: skip
def test_flags_that_do_not_fit_are_said(yard: Yard, line: str, message: str) -> None:
    yard.worker.pages["http://host/x"] = b""
    with pytest.raises(InvalidArgument, match=message):
        yard.built(f"FROM box\n{line}", *FILES)


def test_a_folder_may_be_called_like_a_repository(yard: Yard) -> None:
    yard.built("FROM scratch\nCOPY github.com/a/b /x", tarballs.file("github.com/a/b", b"1"))
    assert yard.content("/x") == b"1"


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\xe9 b", b"new\nline", b"tab\t"])
def test_names_of_any_bytes_are_copied(yard: Yard, name: bytes) -> None:
    text = os.fsdecode(name)
    yard.built("FROM scratch\nCOPY d /x/\nCOPY d/* /y/", tarballs.raw(b"d/" + name, b"0", b"1"))
    assert yard.content(f"/x/{text}") == yard.content(f"/y/{text}") == b"1"


def test_sparse_and_large_files_arrive_whole(yard: Yard) -> None:
    large = bytes(range(256)) * 3000
    yard.built("FROM scratch\nCOPY . /", tarballs.file("large", large), tarballs.file("empty"))
    assert yard.content("/large") == large
    assert yard.content("/empty") == b""
