"""One RPC for every privileged helper: a Protocol class is the whole contract.

A call is one SOCK_SEQPACKET packet: a msgpack body and, beside it, its descriptors. The first
descriptor is a private reply socket, so calls carry no ids, may overlap, and end when either
side closes. Requests lend their descriptors; replies give them away.
"""

from sampan.rpc.client import connect, was_sent
from sampan.rpc.contract import Contract, Fd
from sampan.rpc.process import start
from sampan.rpc.server import Connection, Pending, serve

__all__ = ["Connection", "Contract", "Fd", "Pending", "connect", "serve", "start", "was_sent"]
