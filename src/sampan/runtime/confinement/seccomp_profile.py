"""Docker's default seccomp profile, as data and one pure function.

What is not named is refused with EPERM. Some calls depend on the architecture, on capabilities
or on the kernel, some on their arguments. Not there on purpose: io_uring, keyrings, userfaultfd,
kexec, swap. Source of the facts: moby profiles/seccomp v0.2.3.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator
from typing import Final

from sampan.linux.filesystems import FS_IOC_SETFLAGS
from sampan.spec.runtime import LinuxSeccomp, LinuxSeccompArg, LinuxSyscall

# Users, groups, capabilities.
_IDENTITY: Final = """
    capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32
    getresgid getresgid32 getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid
    setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid
    setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32
"""

# Sockets, but for socket(2) itself.
_NETWORK: Final = """
    accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom
    recvmmsg recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown
    socketcall socketpair
"""

# Clocks and timers; setting them needs capabilities as ever.
_TIME: Final = """
    adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64
    clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer
    gettimeofday nanosleep setitimer time timer_create timer_delete timer_getoverrun
    timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times
"""

# Signals.
_SIGNALS: Final = """
    kill pause pidfd_send_signal restart_syscall rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
    rt_tgsigqueueinfo sigaltstack signalfd signalfd4 sigprocmask sigreturn tgkill tkill
"""

# Waiting for events, asynchronous I/O of the old kind.
_WAITING: Final = """
    _newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2
    epoll_wait epoll_wait_old eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents
    io_pgetevents_time64 io_setup io_submit poll ppoll ppoll_time64 pselect6 pselect6_time64
    select
"""

# Memory.
_MEMORY: Final = """
    brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore
    mlock mlock2 mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap
    pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages
"""

# System V and POSIX messages, semaphores, shared memory, futexes.
_IPC: Final = """
    futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list ipc
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
    mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd rseq semctl semget semop
    semtimedop semtimedop_time64 set_robust_list shmat shmctl shmdt shmget
"""

# Processors and priorities.
_SCHEDULING: Final = """
    getcpu getpriority ioprio_get ioprio_set sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield setpriority
"""

# Restricting oneself.
_SANDBOXING: Final = """
    landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp
"""

# Processes and what they know of themselves and the system.
_PROCESSES: Final = """
    execve execveat exit exit_group fork get_thread_area getpgid getpgrp getpid getppid
    getrandom getrlimit getrusage getsid gettid pidfd_open prctl prlimit64 riscv_hwprobe
    set_thread_area set_tid_address setpgid setrlimit setsid sysinfo ugetrlimit umask uname
    uretprobe vfork wait4 waitid waitpid
"""

# Owners, modes, times and extended attributes.
_ATTRIBUTES: Final = """
    chmod chown chown32 fchmod fchmodat fchmodat2 fchown fchown32 fchownat fgetxattr
    flistxattr fremovexattr fsetxattr futimesat getxattr getxattrat lchown lchown32
    lgetxattr listxattr listxattrat llistxattr lremovexattr lsetxattr removexattr
    removexattrat setxattr setxattrat utime utimensat utimensat_time64 utimes
"""

# Names in the file system.
_NAMES: Final = """
    access chdir creat faccessat faccessat2 fchdir fstat fstat64 fstatat64 fstatfs fstatfs64
    getcwd getdents getdents64 link linkat listmount lstat lstat64 mkdir mkdirat mknod
    mknodat name_to_handle_at newfstatat open openat openat2 readlink readlinkat rename
    renameat renameat2 rmdir stat stat64 statfs statfs64 statmount statx symlink symlinkat
    truncate truncate64 unlink unlinkat
"""

# Bytes, through descriptors.
_DESCRIPTORS: Final = """
    _llseek close close_range copy_file_range dup dup2 dup3 fadvise64 fadvise64_64 fallocate
    fcntl fcntl64 fdatasync flock fsync ftruncate ftruncate64 ioctl lseek pipe pipe2 pread64
    preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile sendfile64 splice
    sync sync_file_range syncfs tee vmsplice write writev
"""

_ALWAYS: Final = tuple(
    sorted(
        " ".join(
            (
                _IDENTITY,
                _NETWORK,
                _TIME,
                _SIGNALS,
                _WAITING,
                _MEMORY,
                _IPC,
                _SCHEDULING,
                _SANDBOXING,
                _PROCESSES,
                _ATTRIBUTES,
                _NAMES,
                _DESCRIPTORS,
            )
        ).split()
    )
)

_ARCHITECTURES: Final = {  # GOARCH → what libseccomp filters, the native one first
    "amd64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "arm64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    "s390x": ["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
    "riscv64": ["SCMP_ARCH_RISCV64"],
    "loong64": ["SCMP_ARCH_LOONGARCH64"],
    "mips64": ["SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"],
    "mips64le": ["SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32"],
}

_ON_ARCHITECTURE: Final = {
    "amd64": "arch_prctl modify_ldt",
    "386": "modify_ldt",
    "arm": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    "arm64": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    "ppc64le": "swapcontext sync_file_range2",
    "riscv64": "riscv_flush_icache",
    "s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
}

_WITH_CAPABILITY: Final = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie
        lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount
        open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog
        umount umount2 unshare
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": """
        kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace
    """,
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}

# Before Linux 4.8 a tracer could change the number of a call after seccomp had looked at it.
_PTRACE_SINCE: Final = (4, 8)
_PTRACE: Final = ("process_vm_readv", "process_vm_writev", "ptrace")

_AF_ALG: Final = 38  # linux/socket.h; kernel crypto: CVE-2026-31431
_AF_VSOCK: Final = 40  # reaches the hypervisor around the network namespace

#: PER_LINUX, PER_LINUX32, UNAME26, both, and the question for the present one.
_PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

_CLONE_NEW: Final = 0x7E020000  # every CLONE_NEW* flag, linux/sched.h


# linux/fs.h: another project, or a directory whose files take none (FS_PROJINHERIT_FL).
_FS_IOC_FSSETXATTR: Final = 0x401C5820
_FS_IOC32_SETFLAGS: Final = 0x40046602
_OF_PROJECTS: Final = (_FS_IOC_FSSETXATTR, FS_IOC_SETFLAGS, _FS_IOC32_SETFLAGS)


def default_profile(
    architecture: str,
    capabilities: Collection[str],
    kernel: tuple[int, int],
    *,
    sized: bool = False,
) -> LinuxSeccomp:
    """Return the profile for a GOARCH, the bounding set (CAP_ names) and a kernel version.

    `sized`: files must stay in the project that limits what the container writes. Docker's profile
    lets root give its own files another project, which has no limit.
    """
    return LinuxSeccomp(
        default_action="SCMP_ACT_ERRNO",
        default_errno_ret=errno.EPERM,
        architectures=list(_ARCHITECTURES.get(architecture, [])),
        syscalls=list(_rules(architecture, frozenset(capabilities), kernel, sized)),
    )


def _rules(
    architecture: str, capabilities: frozenset[str], kernel: tuple[int, int], sized: bool
) -> Iterator[LinuxSyscall]:
    yield _allow(*(name for name in _ALWAYS if not sized or name != "ioctl"))
    if sized:
        yield from _all_but("ioctl", 1, _OF_PROJECTS)
    if kernel >= _PTRACE_SINCE:
        yield _allow(*_PTRACE)
    yield from _sockets()
    for domain in _PERSONALITIES:
        yield _allow("personality", when=_argument(0, "EQ", domain))
    if architecture in _ON_ARCHITECTURE:
        yield _allow(*_ON_ARCHITECTURE[architecture].split())
    for capability, names in _WITH_CAPABILITY.items():
        if capability in capabilities:
            yield _allow(*names.split())
    if "CAP_SYS_ADMIN" not in capabilities:
        yield from _no_namespaces(architecture)


def _sockets() -> Iterator[LinuxSyscall]:
    """Allow every family but two.

    Docker's three ranges compare 64 bits, of which the kernel reads 32: with any bit above them
    set, 38 is "greater than 40" and opens a socket of AF_ALG all the same.
    """
    yield from _all_but("socket", 0, (_AF_ALG, _AF_VSOCK))


def _all_but(name: str, index: int, values: Collection[int]) -> Iterator[LinuxSyscall]:
    """Allow a call unless the lower half of an argument, all that the kernel reads, is one of some.

    There is no such comparison, but one of the first bits: so every beginning is allowed that none
    of the values has.
    """
    for mask, beginning in _outside(values, 31, 0):
        condition = LinuxSeccompArg(
            index=index, value=mask, value_two=beginning, op="SCMP_CMP_MASKED_EQ"
        )
        yield _allow(name, when=condition)


def _outside(values: Collection[int], place: int, beginning: int) -> Iterator[tuple[int, int]]:
    """Yield (mask, value of the bits in it): together all of 32 bits but `values`."""
    for bit in (0, 1):
        begun = beginning | bit << place
        inside = [value for value in values if value >> place & 1 == bit]
        if not inside:
            yield (0xFFFFFFFF << place) & 0xFFFFFFFF, begun
        elif place:
            yield from _outside(inside, place - 1, begun)


def _no_namespaces(architecture: str) -> Iterator[LinuxSyscall]:
    """Allow clone(2) without namespaces.

    The flags of clone3(2) are in memory, where a filter cannot look: ENOSYS makes the C library
    use clone(2) instead.
    """
    flags = 1 if architecture == "s390x" else 0  # s390 has its arguments the other way round
    yield _allow("clone", when=_argument(flags, "MASKED_EQ", _CLONE_NEW))
    yield LinuxSyscall(names=["clone3"], action="SCMP_ACT_ERRNO", errno_ret=errno.ENOSYS)


def _allow(*names: str, when: LinuxSeccompArg | None = None) -> LinuxSyscall:
    arguments = [] if when is None else [when]
    return LinuxSyscall(names=list(names), action="SCMP_ACT_ALLOW", args=arguments)


def _argument(index: int, operator: str, value: int) -> LinuxSeccompArg:
    # For MASKED_EQ `value` is the mask and `value_two`, zero, what must remain.
    return LinuxSeccompArg(index=index, value=value, op=f"SCMP_CMP_{operator}")
