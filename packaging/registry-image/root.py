"""Make the root folder of the registry's image out of the Debian that this runs in.

Use: python3 root.py FOLDER, where /opt/sampan is. It makes FOLDER/debian, which has what Python
needs and the tools of a shell, and FOLDER/libraries, which has what lies beside the package
`sampan` in /opt/sampan.

Of Python's code there is the compiled form: an error's traceback has files and lines of all, and
the text of the lines where it is our own.
"""

from __future__ import annotations

import py_compile
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import cache_from_source
from pathlib import Path

PYTHON = Path(f"/usr/lib/python{sys.version_info.major}.{sys.version_info.minor}")
APPLICATION = Path("/opt/sampan")
OURS = APPLICATION / "sampan"
READ_BY_ITSELF = APPLICATION / "anyio"  # imports all of itself at once where it finds no source

# Of Python's library: tests, graphics, the text of its help, and modules in C that want a terminal,
# a sound card, Sun's directory or Berkeley's database, with 4.5 MB of shared libraries.
UNUSED = shutil.ignore_patterns(
    *("test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "config-*"),
    *("turtle*", "pydoc_data", "dist-packages", "sitecustomize*"),
    *("_curses*", "readline*", "_dbm*", "nis.*", "ossaudiodev*", "_tkinter*"),
    *("_test*", "_ctypes_test*", "_xxtest*", "xxlimited*"),
)
TOOLS = PYTHON.name, "busybox", "setpriv"
TRUST = Path("/etc/ssl/certs/ca-certificates.crt")
FILES = TRUST, *map(Path, ("/etc/nsswitch.conf", "/etc/debian_version", "/usr/lib/os-release"))
# Files of the packages that Python's library and TRUST come from.
OWNED = {PYTHON / "os.py", PYTHON / "sqlite3/__init__.py", Path("/usr/sbin/update-ca-certificates")}
LINKS = {
    "/etc/os-release": "../usr/lib/os-release",
    "/usr/bin/python3": PYTHON.name,
    "/usr/sbin": "bin",
    "/usr/lib/ssl/certs": "/etc/ssl/certs",
    "/usr/lib/ssl/cert.pem": str(TRUST),
    "/var/run": "/run",
}
EMPTY = {
    **dict.fromkeys(("dev", "proc", "sys", "run", "mnt", "home", "var/lib"), 0o755),
    **dict.fromkeys(("tmp", "var/tmp"), 0o1777),
    "root": 0o700,
}
USERS = {"root": (0, "/root", "/bin/sh"), "registry": (5000, "/var/lib/registry", "/bin/false")}
NOBODY = 65534


def main(folder: Path) -> None:
    """Make the two folders."""
    debian, libraries = folder / "debian", folder / "libraries"
    _lay_out(debian)
    shutil.copytree(PYTHON, _below(debian, PYTHON), symlinks=True, ignore=UNUSED)
    _leave_sources_out(_below(debian, PYTHON))
    _compile_libraries(libraries)
    programs = [Path("/usr/bin", name) for name in TOOLS]
    used = {_copy(debian, path) for path in [*programs, *FILES]}
    for name in subprocess.check_output(["busybox", "--list"], text=True).split():
        link = debian / "usr/bin" / name
        if not link.exists():
            link.symlink_to("busybox")
    modules = [path for place in (debian, libraries) for path in place.rglob("*.so*")]
    for path in shared_libraries([*programs, *modules]):
        if folder not in path.parents:  # some libraries bring their own
            used.add(_copy(debian, path))
    _tell_of_packages(debian, used | OWNED)


def _lay_out(root: Path) -> None:
    for name in ("bin", "sbin", "lib", "lib64"):
        if Path("/", name).is_symlink():
            root.mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(f"usr/{name}")
    for name, mode in EMPTY.items():
        (root / name).mkdir(parents=True)
        (root / name).chmod(mode)
    for name, target in LINKS.items():
        link = _below(root, Path(name))
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    ids = [(name, number) for name, (number, _, _) in USERS.items()]
    users = [f"{name}:x:{uid}:{uid}::{home}:{shell}" for name, (uid, home, shell) in USERS.items()]
    users.append(f"nobody:x:{NOBODY}:{NOBODY}::/nonexistent:/bin/false")
    groups = [f"{name}:x:{number}:" for name, number in [*ids, ("nogroup", NOBODY)]]
    for file, lines in (("passwd", users), ("group", groups)):
        (root / "etc" / file).write_text("\n".join(lines) + "\n")


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _copy(root: Path, path: Path) -> Path:
    """Copy what `path` leads to, under its name, and return the real path."""
    real = path.resolve()
    target = _below(root, path.parent.resolve() / path.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copy2(real, target)
    return real


def _leave_sources_out(folder: Path) -> None:
    """Put the compiled form that Debian has made of every module in the place of its source."""
    for compiled in list(folder.rglob("__pycache__/*.pyc")):
        source = compiled.parent.parent / f"{compiled.name.partition('.')[0]}.py"
        compiled.rename(source.with_suffix(".pyc"))
        source.unlink()
    for cache in list(folder.rglob("__pycache__")):
        cache.rmdir()


def _compile_libraries(target: Path) -> None:
    """Copy what others have written, its code in compiled form."""
    shutil.copytree(APPLICATION, target, symlinks=True, ignore=_sources_and_ours)
    sources = [path for path in APPLICATION.rglob("*.py") if OURS not in path.parents]
    with ProcessPoolExecutor() as pool:
        for _ in pool.map(partial(_compile, target), sources, chunksize=50):
            pass  # what one raises is raised here


def _sources_and_ours(folder: str, names: list[str]) -> list[str]:
    place = Path(folder)
    if place.is_relative_to(READ_BY_ITSELF):
        return []
    ours = [OURS.name] if place == APPLICATION else []
    return [*ours, *(name for name in names if name.endswith(".py"))]


def _compile(target: Path, source: Path) -> None:
    copy = target / source.relative_to(APPLICATION)
    compiled = cache_from_source(copy) if copy.exists() else copy.with_suffix(".pyc")
    py_compile.compile(
        *(str(source), str(compiled)),
        doraise=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def shared_libraries(files: Iterable[Path]) -> Iterator[Path]:
    """Find what the loader would load for these files; raise LookupError for what is missing."""
    done = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False)
    if missing := re.findall(r"\S+ => not found", done.stdout):
        raise LookupError(", ".join(sorted(set(missing))))
    yield from sorted({Path(path) for path in re.findall(r"(/\S+) \(0x", done.stdout)})


def _tell_of_packages(root: Path, used: Iterable[Path]) -> None:
    """Write what scanners read: the state of the packages of which something is here."""
    names = [str(path) for path in used]
    names += [name.removeprefix("/usr") for name in names]  # as it is in the package
    found = subprocess.run(
        ["dpkg-query", "-S", *names], capture_output=True, text=True, check=False
    )
    packages = sorted({line.partition(": ")[0] for line in found.stdout.splitlines()})
    state = subprocess.run(["dpkg-query", "-s", *packages], capture_output=True, check=True).stdout
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_bytes(state)
    for package in packages:
        licence = Path("/usr/share/doc", package.partition(":")[0], "copyright")
        if licence.exists():  # some images of Debian have no documentation at all
            _copy(root, licence)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
