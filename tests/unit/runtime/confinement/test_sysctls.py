from __future__ import annotations

import pytest

from sampan.errors import InvalidArgument
from sampan.runtime.confinement.sysctls import check_sysctls

OWN = {"network", "ipc"}


def test_a_parameter_becomes_a_path() -> None:
    wanted = {"net.ipv4.ip_forward": "1", "net/ipv4/conf/eth0.1/forwarding": "0"}
    assert check_sysctls(wanted, OWN) == [
        (b"net/ipv4/ip_forward", b"1"),
        (b"net/ipv4/conf/eth0.1/forwarding", b"0"),
    ]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("kernel.panic", "is not in a separate kernel namespace"),
        ("kernel.domainname", "not allowed in host uts namespace"),
        ("user.max_mnt_namespaces", "not allowed in host user namespace"),
        ("kernel.hostname", 'conflicts with OCI field "hostname"'),
        ("net/../kernel/panic", "invalid sysctl"),
        ("", "invalid sysctl"),
    ],
)
def test_what_belongs_to_the_host_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        check_sysctls({name: "1"}, OWN)
