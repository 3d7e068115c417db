"""The engine inside a Python process, on the kernel."""

from __future__ import annotations

import io
import os
import re
import secrets
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import sampan
from sampan.errors import CommandNotFound, Conflict, DeadlineExceeded, NotFound
from sampan.library.engine import LibraryEngine
from sampan.network.sandbox import Sandbox, inside
from tests import busybox
from tests.daemon import REPOSITORY
from tests.lying_registry import lying_registry
from tests.netns import links
from tests.session import PATIENCE, eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]


@pytest.fixture(scope="module")
def rootfs() -> bytes:
    """A small root file system, as a tar."""
    return busybox.archive()


@pytest.fixture(scope="module", autouse=True)
def _own_network() -> Iterator[None]:
    """A network namespace of their own for the threads and processes that these tests start."""
    with Sandbox.new() as own, inside(own.namespace):
        yield


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, rootfs: bytes) -> Iterator[LibraryEngine]:
    with sampan.open_engine(tmp_path_factory.mktemp("library"), network=False) as opened:
        opened.images.import_(rootfs, "busybox", changes=['CMD ["echo", "from the image"]'])
        yield opened


def test_a_program_gets_its_input_and_gives_output_and_exit_code(engine: LibraryEngine) -> None:
    result = engine.containers.run(
        "busybox", ["sh", "-c", "cat; echo complaint >&2; exit 3"], input=b"hello\n"
    )
    assert result.exit_code == 3
    assert (result.stdout, result.stderr) == (b"hello\n", b"complaint\n")
    assert result.logs == b"hello\ncomplaint\n"
    assert engine.containers.list(all=True) == []


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/library.md"])
def test_the_first_example_of_a_page_does_what_it_says(
    page: str, rootfs: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands there, but for the folder; it runs here, where networks are the test's own."""
    (tmp_path / "rootfs.tar").write_bytes(rootfs)
    text = (REPOSITORY / page).read_text().partition("```python\n")[2].partition("```")[0]
    code, changed = re.subn(r'open_engine\("[^"]+"\)', f'open_engine("{tmp_path}/engine")', text)
    assert changed == 1
    monkeypatch.chdir(tmp_path)
    printed: list[tuple[object, ...]] = []
    exec(code, {"print": lambda *words: printed.append(words)})
    assert printed == [{"README.md": (0, b"hello")}.get(page, (0, b"5\n", b""))]


def test_an_image_goes_to_a_registry_and_comes_back(engine: LibraryEngine) -> None:
    with lying_registry() as registry:
        name = f"{registry.address}/ships/box:1"
        engine.images.tag("busybox", f"{registry.address}/ships/box", "1")
        digest = engine.images.push(name)
        engine.images.remove(name)
        found = engine.images.pull(name)
        assert found.repo_digests == [f"{registry.address}/ships/box@{digest}"]
        with pytest.raises(NotFound, match=r"manifest for .* not found"):
            engine.images.pull(f"{registry.address}/ships/box:2")
        engine.images.remove(name)


def test_large_input_and_output_do_not_block_each_other(engine: LibraryEngine) -> None:
    data = secrets.token_bytes(4 << 20)
    assert engine.containers.run("busybox", ["cat"], input=data).stdout == data


def test_without_input_stdin_is_empty_and_the_image_s_command_runs(engine: LibraryEngine) -> None:
    assert engine.containers.run("busybox").stdout == b"from the image\n"
    assert engine.containers.run("busybox", ["wc", "-c"]).stdout.strip() == b"0"


def test_a_missing_program_and_a_missing_image_are_told_apart(engine: LibraryEngine) -> None:
    with pytest.raises(CommandNotFound, match="executable file not found"):
        engine.containers.run("busybox", ["no-such-program"])
    with pytest.raises(NotFound, match="No such image: no-such-image"):
        engine.containers.run("no-such-image")
    assert engine.containers.list(all=True) == []


def test_a_program_that_takes_too_long_is_killed(engine: LibraryEngine) -> None:
    with pytest.raises(DeadlineExceeded):
        engine.containers.run("busybox", ["sleep", "1000"], timeout=0.2)
    assert engine.containers.list(all=True) == []


def test_a_container_can_be_entered_and_files_moved(engine: LibraryEngine) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("note")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"text"))
    with engine.containers.create("busybox", ["sleep", "1000"], name="kept") as container:
        assert container.exec(["sh", "-c", "cat; exit 5"], input=b"in").exit_code == 5
        container.put("/tmp", archive.getvalue())
        assert container.exec("cat /tmp/note").stdout == b"text"
        with tarfile.open(fileobj=io.BytesIO(container.get("/tmp/note"))) as tar:
            member = tar.extractfile("note")
            assert member
            assert member.read() == b"text"
        assert engine.containers.get("kept").inspect().state.running
        with pytest.raises(Conflict, match="already in use"):
            engine.containers.create("busybox", name="kept")
    assert engine.containers.list(all=True) == []


def test_logs_can_be_read_after_the_end(engine: LibraryEngine) -> None:
    container = engine.containers.create("busybox", ["sh", "-c", "echo one; echo two >&2"])
    container.start()
    assert container.wait() == 0
    assert container.logs() == b"one\ntwo\n"
    assert container.logs(tail=1) == b"two\n"
    container.remove()


def test_a_commit_makes_an_image_with_the_changes(engine: LibraryEngine) -> None:
    container = engine.containers.create("busybox", ["sh", "-c", "echo new > /new"])
    assert container.run().exit_code == 0
    container.commit("changed", changes=['CMD ["cat", "/new"]'])
    container.remove()
    assert engine.containers.run("changed").stdout == b"new\n"
    engine.images.remove("changed")


def test_limits_and_other_fields_of_docker_reach_the_container(engine: LibraryEngine) -> None:
    result = engine.containers.run(
        "busybox",
        "touch /x; id -u; echo $A; pwd",
        env={"A": "set"},
        user="daemon",
        working_dir="/tmp",
        host_config={"ReadonlyRootfs": True, "CapDrop": ["ALL"]},
    )
    assert result.stdout == b"1\nset\n/tmp\n"
    assert b"Read-only file system" in result.stderr


def test_one_data_root_belongs_to_one_engine(engine: LibraryEngine, tmp_path: Path) -> None:
    with (
        sampan.open_engine(tmp_path, network=False),
        pytest.raises(Conflict, match="another engine is using the data root"),
    ):
        sampan.open_engine(tmp_path, network=False)


def test_the_end_stops_what_runs_and_leaves_no_process(tmp_path: Path, rootfs: bytes) -> None:
    with sampan.open_engine(tmp_path, network=False) as opened:
        opened.images.import_(rootfs, "busybox")
        container = opened.containers.create("busybox", ["sh", "-c", "trap 'exit 7' TERM; read x"])
        container.start()
        assert ours(tmp_path)
    eventually(lambda: not ours(tmp_path))
    with sampan.open_engine(tmp_path, network=False) as again:
        assert [each.state for each in again.containers.list(all=True)] == ["exited"]
        again.containers.get(container.id).remove()


def test_a_killed_program_s_containers_are_taken_over(tmp_path: Path, rootfs: bytes) -> None:
    program = textwrap.dedent(
        """
        import sampan, sys, time
        engine = sampan.open_engine(sys.argv[1], network=False)
        engine.images.import_(sys.stdin.buffer.read(), "busybox")
        container = engine.containers.create("busybox", ["sleep", "1000"], name="survivor")
        container.start()
        print("ready", flush=True)
        time.sleep(1000)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(rootfs)
        process.stdin.close()
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    with sampan.open_engine(tmp_path, network=False) as engine:
        survivor = engine.containers.get("survivor")
        assert survivor.inspect().state.running
        assert survivor.exec(["echo", "entered"]).stdout == b"entered\n"
        survivor.remove(force=True)
    eventually(lambda: not ours(tmp_path))


def test_an_engine_that_nobody_closed_is_closed_with_the_interpreter(tmp_path: Path) -> None:
    program = "import sampan, sys; engine = sampan.open_engine(sys.argv[1], network=False)"
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=PATIENCE)
    eventually(lambda: not ours(tmp_path))


def test_without_a_network_the_host_s_firewall_is_left_alone(engine: LibraryEngine) -> None:
    assert engine.containers.run("busybox").exit_code == 0
    assert tables() == b""


def test_with_a_network_the_end_takes_interfaces_and_rules_away(
    tmp_path: Path, rootfs: bytes
) -> None:
    before = links()
    with sampan.open_engine(tmp_path) as opened:
        opened.images.import_(rootfs, "busybox")
        shown = opened.containers.run("busybox", ["ip", "address", "show", "eth0"]).stdout
        assert b"inet " in shown
        assert tables()
        assert links() > before
    assert tables() == b""
    eventually(lambda: links() == before)  # the kernel takes namespaces apart in its own time


def tables() -> bytes:
    """Return the firewall's tables in this network namespace."""
    return subprocess.run(["nft", "list", "tables"], check=True, capture_output=True).stdout


def ours(root: Path) -> list[int]:
    """Return the processes that name the data root on their command line."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{entry}/cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(root) in line and int(entry) != os.getpid():
            found.append(int(entry))
    return found
