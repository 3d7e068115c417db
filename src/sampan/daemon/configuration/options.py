"""The options of the daemon: names, kinds, defaults. One table for flags, file and documentation.

The names are dockerd's. An option of dockerd that cannot do here what it says is in `REFUSED`, with
the reason: to accept it silently would be a lie.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["bool", "str", "int", "list", "map", "bytes", "ip", "pools", "registries", "builder"]
DEFAULT_CONFIG_FILE = "/etc/sampan/daemon.json"


class Option(NamedTuple):
    """One option; `key` is its name in daemon.json where that differs from the flag."""

    flag: str
    kind: Kind
    default: object
    meaning: str
    short: str = ""
    key: str = ""
    reloadable: bool = False  # SIGHUP applies it from the file

    @property
    def file_key(self) -> str:
        """The name of the option in daemon.json."""
        return self.key or self.flag


OPTIONS = (
    Option("api-cors-header", "str", "", "CORS headers: only the empty value is possible"),
    Option("bip", "str", "", "IPv4 address/prefix of the default bridge"),
    Option("bip6", "str", "", "IPv6 address/prefix of the default bridge"),
    Option("bridge", "str", "", "default bridge (made if it is missing), or none", "b"),
    Option(
        "builder-gc",
        "builder",
        {},
        'what is swept from the build cache: {"policy": [{"maxUsedSpace": "10GB"}]}',
        key="builder.gc",
    ),
    Option(
        "builder-device",
        "bool",
        True,
        "steps of builds may have devices (CDI), if their clients allow it",
        key="builder.entitlements.device",
    ),
    Option(
        "builder-network-host",
        "bool",
        True,
        "steps of builds may use the host's network, if their clients allow it",
        key="builder.entitlements.network-host",
    ),
    Option(
        "builder-security-insecure",
        "bool",
        False,
        "steps of builds may be privileged, if their clients allow it",
        key="builder.entitlements.security-insecure",
    ),
    Option(
        "cdi-spec-dir",
        "list",
        ("/etc/cdi", "/var/run/cdi"),
        "folder with specifications of devices (CDI); the later one wins",
        key="cdi-spec-dirs",
    ),
    Option(
        "cgroup-parent",
        "str",
        "",
        "parent cgroup of containers (default: /sampan, or system.slice with systemd)",
    ),
    Option("config-file", "str", DEFAULT_CONFIG_FILE, "daemon configuration file"),
    Option("data-root", "str", "/var/lib/sampan", "root directory of persistent state", "g"),
    Option("debug", "bool", False, "log what happens inside", "D", reloadable=True),
    Option(
        "default-address-pool",
        "pools",
        (),
        "base=CIDR,size=N pools for new networks",
        key="default-address-pools",
    ),
    Option(
        "default-cgroupns-mode",
        "str",
        "",
        "cgroup namespace of containers: host, private (default: private with cgroup v2)",
    ),
    Option("default-gateway", "ip", "", "IPv4 gateway of the default bridge's containers"),
    Option("default-gateway-v6", "ip", "", "IPv6 gateway of the default bridge's containers"),
    Option("default-ipc-mode", "str", "private", "IPC of containers: shareable, private"),
    Option("default-runtime", "str", "sampan", "runtime of containers: sampan"),
    Option("default-shm-size", "bytes", 64 << 20, "default size of /dev/shm"),
    Option(
        "default-ulimit",
        "map",
        {},
        "default ulimits of containers, name=soft[:hard]",
        key="default-ulimits",
    ),
    Option("dns", "list", (), "DNS servers of containers"),
    Option("dns-opt", "list", (), "DNS options of containers", key="dns-opts"),
    Option("dns-search", "list", (), "DNS search domains of containers"),
    Option("doctor", "bool", False, "say what this host lacks for containers, and exit"),
    Option(
        "exec-opt",
        "list",
        (),
        "native.cgroupdriver=cgroupfs (the default) or systemd",
        key="exec-opts",
    ),
    Option("exec-root", "str", "/run/sampan", "root directory of volatile state"),
    Option("firewall-backend", "str", "nftables", "who makes firewall rules: nftables, iptables"),
    Option("fixed-cidr", "str", "", "IPv4 addresses that the default bridge gives to containers"),
    Option("fixed-cidr-v6", "str", "", "IPv6 addresses of the default bridge's containers"),
    Option("format", "str", "text", "text or json, of --doctor"),
    Option("group", "str", "", "group that owns the Unix socket (default: the user's)", "G"),
    Option("host", "list", (), "where to listen: unix://, tcp://, fd://", "H", key="hosts"),
    Option("host-gateway-ip", "ip", "", "address that host-gateway stands for"),
    Option(
        "http-proxy",
        "str",
        "",
        "proxy for registries without TLS (default: HTTP_PROXY)",
        key="proxies.http-proxy",
    ),
    Option(
        "https-proxy",
        "str",
        "",
        "proxy for registries with TLS (default: HTTPS_PROXY)",
        key="proxies.https-proxy",
    ),
    Option("icc", "bool", True, "traffic between containers of the default bridge"),
    Option("init", "bool", False, "run an init inside containers by default"),
    Option(
        "insecure-registry",
        "list",
        (),
        "registry (name, name:port or network) that may do without TLS",
        key="insecure-registries",
        reloadable=True,
    ),
    Option("insecure-tcp", "bool", False, "allow tcp:// without TLS: whoever reaches it is root"),
    Option("ip", "ip", "0.0.0.0", "default host address of published ports"),
    Option("ip-masq", "bool", True, "masquerade for the default bridge"),
    Option("label", "list", (), "key=value labels of the daemon", key="labels", reloadable=True),
    Option("live-restore", "bool", True, "keep containers while the daemon is down"),
    Option("log-driver", "str", "json-file", "default log driver of containers"),
    Option("log-format", "str", "text", "text or json, of the daemon's own log"),
    Option("log-level", "str", "info", "debug, info, warn, error or fatal", "l", reloadable=True),
    Option("log-opt", "map", {}, "default log options of containers", key="log-opts"),
    Option(
        "max-concurrent-downloads",
        "int",
        3,
        "layers that are fetched at once; 0: no limit",
        reloadable=True,
    ),
    Option(
        "max-concurrent-uploads",
        "int",
        5,
        "layers that are pushed at once; 0: no limit",
        reloadable=True,
    ),
    Option(
        "max-download-attempts",
        "int",
        5,
        "attempts of each request to a registry",
        reloadable=True,
    ),
    Option("mtu", "int", 0, "MTU of the default bridge; 0: that of the way out"),
    Option(
        "no-new-privileges",
        "bool",
        False,
        "containers gain no privileges by set-user-ID programs, unless they say otherwise",
    ),
    Option(
        "no-proxy",
        "str",
        "",
        "hosts that are asked without the proxy (default: NO_PROXY)",
        key="proxies.no-proxy",
    ),
    Option("pidfile", "str", "/run/sampan.pid", "path of the pid file", "p"),
    Option(
        "registries",
        "registries",
        {},
        'mirrors and trust by registry: {"host": {"mirrors": [...], "insecure": true}}',
        reloadable=True,
    ),
    Option(
        "registry-certs",
        "list",
        ("/etc/sampan/certs.d", "/etc/docker/certs.d"),
        "folder with certificates of registries, in a folder for each host[:port]",
    ),
    Option(
        "registry-mirror",
        "list",
        (),
        "address of a mirror of Docker Hub",
        key="registry-mirrors",
        reloadable=True,
    ),
    Option(
        "seccomp-profile",
        "str",
        "builtin",
        "profile of containers that name none: a file, builtin or unconfined",
    ),
    Option("shutdown-timeout", "int", 15, "seconds for requests and containers at the end"),
    Option("storage-driver", "str", "", "overlay, btrfs, fuse-overlayfs, vfs; or what works", "s"),
    Option("storage-opt", "list", (), "size=BYTES for new containers", key="storage-opts"),
    Option("tls", "bool", False, "use TLS; implied by --tlsverify"),
    Option("tlscacert", "str", "", "trust client certificates signed by this CA"),
    Option("tlscert", "str", "", "path of the TLS certificate"),
    Option("tlskey", "str", "", "path of the TLS key"),
    Option("tlsverify", "bool", False, "use TLS and demand a certificate of the client"),
    Option("user", "str", "sampan", "user (name or uid:gid) that serves the API"),
    Option("userns-remap", "str", "", "user whose ids containers get: USER[:GROUP], default, auto"),
    Option("userland-proxy", "bool", False, "only false: published ports need no proxy"),
    Option("iptables", "bool", True, "firewall rules; without, processes serve published ports"),
    Option("ip6tables", "bool", True, "firewall rules for IPv6; without, that is yours"),
    Option("ip-forward", "bool", True, "switch on forwarding between interfaces"),
    Option("ipv6", "bool", False, "IPv6 on the default bridge"),
    Option("selinux-enabled", "bool", False, "SELinux labels of containers: only false"),
    Option("raw-logs", "bool", False, "full timestamps without colour: always so"),
    Option("reset", "bool", False, "remove all that the daemon has and has made, after a question"),
    Option("force", "bool", False, "with --reset: do not ask"),
    Option("validate", "bool", False, "check the configuration and exit"),
    Option("version", "bool", False, "print the version and exit", "v"),
    Option("help", "bool", False, "print this and exit", "h"),
)

BY_FLAG = {option.flag: option for option in OPTIONS}
BY_SHORT = {option.short: option for option in OPTIONS if option.short}
BY_KEY = {option.file_key: option for option in OPTIONS}
ALIASES = {"graph": "data-root"}
ONLY_IN_FILE = frozenset({"builder-gc", "registries"})
NOT_IN_FILE = frozenset(
    {"config-file", "doctor", "force", "format", "help", "reset", "validate", "version"}
)

# The only value that an option may have, and why.
FIXED: dict[str, tuple[object, str]] = {
    "api-cors-header": ("", "cross-origin requests to the API are never allowed"),
    "default-runtime": ("sampan", "containers are started by the engine's own runtime"),
    "selinux-enabled": (False, "SELinux labels are set per container, with --security-opt"),
    "userland-proxy": (False, "published ports are forwarded by the kernel"),
}

REFUSED: dict[str, str] = {
    "add-runtime": "containers are started by the engine's own runtime",
    "authorization-plugin": "plugins are not available in this version",
    "containerd": "this engine does not use containerd",
    "containerd-namespace": "this engine does not use containerd",
    "cri-containerd": "this engine does not use containerd",
    "experimental": "there are no experimental features",
    "metrics-addr": "metrics are not available in this version",
    "node-generic-resource": "there is no Swarm",
    "rootless": "rootless mode is not available in this version",
    "swarm-default-advertise-addr": "there is no Swarm",
}
