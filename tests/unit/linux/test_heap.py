"""Threads share heaps once that is asked for, and what is free is given back."""

from __future__ import annotations

import subprocess
import sys

WORK = """
import ctypes, re, sys, threading
from sampan.linux import heap
if sys.argv[1] == "few":
    heap.few_arenas()
libc = ctypes.CDLL(None)
gate = threading.Barrier(9)
def work():
    libc.malloc(100)  # ours is released by nobody
    gate.wait()
    gate.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
gate.wait()
libc.fopen.restype = ctypes.c_void_p
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fclose(ctypes.c_void_p(file))
gate.wait()
"""


def _heaps(word: str, place: str) -> int:
    subprocess.run([sys.executable, "-c", WORK, word, place], check=True)
    with open(place) as file:
        return file.read().count("<heap nr=")


def test_threads_share_two_heaps(tmp_path: object) -> None:
    assert _heaps("few", f"{tmp_path}/few") <= 2
    assert _heaps("many", f"{tmp_path}/many") > 2


TRIM = """
import ctypes
from sampan.linux import heap
from sampan.registryd.memory import resident
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
places = [libc.malloc(1 << 12) for _ in range(1 << 14)]  # 64 MB, and one above all of them
for place in places: ctypes.memset(place, 1, 1 << 12)
last = libc.malloc(1 << 12)
for place in places: libc.free(place)
before = resident()
heap.trim()
assert resident() < before - (32 << 20), (before, resident())
"""


def test_what_is_free_below_what_is_needed_is_given_back() -> None:
    subprocess.run([sys.executable, "-c", TRIM], check=True)
