"""Device access of cgroup v2: an eBPF program assembled by hand and attached with bpf(2).

The kernel asks the program for every open(2) and mknod(2) of a device node; it answers 1 to
allow. Source: bpf(2), linux/bpf.h, Documentation/bpf/standardization/instruction-set.rst.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from typing import Final

from sampan.linux.cgroups.devices import DeviceList, resulting
from sampan.linux.libc import NR, syscall
from sampan.spec.runtime import LinuxDeviceCgroup

# enum bpf_cmd, linux/bpf.h
_PROG_LOAD: Final = 5
_PROG_ATTACH: Final = 8
_PROG_DETACH: Final = 9
_PROG_GET_FD_BY_ID: Final = 13
_PROG_QUERY: Final = 16

_PROG_TYPE_CGROUP_DEVICE: Final = 15
_CGROUP_DEVICE: Final = 6  # enum bpf_attach_type
_ALLOW_MULTI: Final = 1 << 1  # BPF_F_ALLOW_MULTI
_REPLACE: Final = 1 << 2  # BPF_F_REPLACE, since Linux 5.6

_DEVICE_TYPES: Final = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR
_ACCESS: Final = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_MKNOD, _READ, _WRITE

# Opcodes: class | operation | source
_LDX_W: Final = 0x61  # dst = *(u32 *)(src + off)
_MOV32_IMM: Final = 0xB4
_MOV32_REG: Final = 0xBC
_AND32_IMM: Final = 0x54
_RSH32_IMM: Final = 0x74
_JEQ32_IMM: Final = 0x16
_JNE32_IMM: Final = 0x56
_JNE32_REG: Final = 0x5E
_EXIT: Final = 0x95

_R0, _R1, _TYPE, _REQUEST, _MAJOR, _MINOR = range(6)  # R1 holds the context, later scratch


def _instruction(
    code: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0
) -> bytes:
    return struct.pack("=BBhI", code, src << 4 | dst, offset, immediate & 0xFFFFFFFF)


def device_program(devices: DeviceList) -> bytes:
    """Return the instructions that decide as `devices` says."""
    program = [
        _instruction(_LDX_W, _REQUEST, _R1, 0),  # bpf_cgroup_dev_ctx: access << 16 | type
        _instruction(_LDX_W, _MAJOR, _R1, 4),
        _instruction(_LDX_W, _MINOR, _R1, 8),
        _instruction(_MOV32_REG, _TYPE, _REQUEST),
        _instruction(_AND32_IMM, _TYPE, immediate=0xFFFF),
        _instruction(_RSH32_IMM, _REQUEST, immediate=16),
    ]
    for (kind, major, minor), access in devices.exceptions.items():
        program += _exception(kind, major, minor, access, allow=not devices.allow)
    program += _verdict(devices.allow)
    return b"".join(program)


def _exception(
    kind: str, major: int, minor: int, access: frozenset[str], *, allow: bool
) -> list[bytes]:
    """Return the test for one exception; whatever does not match jumps behind it.

    To be allowed, all that is requested must be in the exception; to be refused, any of it.
    """
    tests: list[tuple[int, int, int, int]] = [(_JNE32_IMM, _TYPE, 0, _DEVICE_TYPES[kind])]
    mask = sum(_ACCESS[letter] for letter in access)
    if mask != 7:
        tests.append((_MOV32_REG, _R1, _REQUEST, 0))
        tests.append((_AND32_IMM, _R1, 0, mask))
        tests.append((_JNE32_REG, _R1, _REQUEST, 0) if allow else (_JEQ32_IMM, _R1, 0, 0))
    if major != -1:
        tests.append((_JNE32_IMM, _MAJOR, 0, major))
    if minor != -1:
        tests.append((_JNE32_IMM, _MINOR, 0, minor))
    verdict = _verdict(allow)
    end = len(tests) + len(verdict)
    jumps = (_JNE32_IMM, _JEQ32_IMM, _JNE32_REG)
    return [
        _instruction(code, dst, src, end - place - 1 if code in jumps else 0, immediate)
        for place, (code, dst, src, immediate) in enumerate(tests)
    ] + verdict


def _verdict(allow: bool) -> list[bytes]:
    return [_instruction(_MOV32_IMM, _R0, immediate=int(allow)), _instruction(_EXIT)]


def load(program: bytes) -> int:
    """Load a device program and return its descriptor; raises OSError."""
    instructions = ctypes.create_string_buffer(program, len(program))
    license_ = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "=IIQQIIQII16s",
        _PROG_TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(license_),
        0,  # log_level, log_size, log_buf
        0,
        0,
        0,  # kern_version, prog_flags
        0,
        b"sampan_devices",
    )
    return _bpf(_PROG_LOAD, attributes)


def attach(cgroup: int, program: int, replaced: int | None = None) -> None:
    """Attach a program to the cgroup open as `cgroup`, in the place of `replaced` if given."""
    flags = _ALLOW_MULTI if replaced is None else _ALLOW_MULTI | _REPLACE
    attributes = (cgroup, program, _CGROUP_DEVICE, flags, replaced or 0)
    _bpf(_PROG_ATTACH, struct.pack("=IIIII", *attributes))


def detach(cgroup: int, program: int) -> None:
    """Detach a program."""
    _bpf(_PROG_DETACH, struct.pack("=IIII", cgroup, program, _CGROUP_DEVICE, 0))


def attached(cgroup: int) -> list[int]:
    """Return descriptors of the device programs attached to a cgroup; the caller closes them."""
    ids = (ctypes.c_uint32 * 64)()
    query = struct.pack("=IIIIQII", cgroup, _CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), 64, 0)
    buffer = ctypes.create_string_buffer(query, len(query))
    syscall(NR["bpf"], _PROG_QUERY, buffer, len(query))
    (count,) = struct.unpack_from("=I", buffer.raw, 24)
    return [
        _bpf(_PROG_GET_FD_BY_ID, struct.pack("=III", ids[place], 0, 0)) for place in range(count)
    ]


def set_device_rules(cgroup: int, rules: Sequence[LinuxDeviceCgroup]) -> None:
    """Make `rules` the only device program of a cgroup; there is no moment without one.

    Rules that allow everything need no program. Raises OSError; EINVAL for rules that are none.
    """
    devices = resulting(rules)
    old = attached(cgroup)
    try:
        if not devices.allow or devices.exceptions:
            new = load(device_program(devices))
            try:
                _attach_over(cgroup, new, old)
            finally:
                os.close(new)
        for program in old:
            detach(cgroup, program)
    finally:
        for program in old:
            os.close(program)


def _attach_over(cgroup: int, new: int, old: list[int]) -> None:
    """Attach `new`, replacing the only old one atomically where the kernel can."""
    if len(old) == 1:
        try:
            attach(cgroup, new, old[0])
        except OSError as failure:
            if failure.errno != errno.EINVAL:
                raise
        else:
            os.close(old.pop())
            return
    attach(cgroup, new)


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return syscall(NR["bpf"], command, buffer, len(attributes))
