from sampan.spec.buildkit import solver_pb2 as _solver_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PolicyAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALLOW: _ClassVar[PolicyAction]
    DENY: _ClassVar[PolicyAction]
    CONVERT: _ClassVar[PolicyAction]
ALLOW: PolicyAction
DENY: PolicyAction
CONVERT: PolicyAction

class CheckPolicyRequest(_message.Message):
    __slots__ = ("Platform", "Source")
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    Platform: _solver_pb2.Platform
    Source: KnownSource
    def __init__(self, Platform: _Optional[_Union[_solver_pb2.Platform, _Mapping]] = ..., Source: _Optional[_Union[KnownSource, _Mapping]] = ...) -> None: ...

class CheckPolicyResponse(_message.Message):
    __slots__ = ("decision", "request")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    decision: DecisionResponse
    request: WantedSource
    def __init__(self, decision: _Optional[_Union[DecisionResponse, _Mapping]] = ..., request: _Optional[_Union[WantedSource, _Mapping]] = ...) -> None: ...

class DecisionResponse(_message.Message):
    __slots__ = ("action", "denyMessages", "update")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    DENYMESSAGES_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    action: PolicyAction
    denyMessages: _containers.RepeatedCompositeFieldContainer[DenyMessage]
    update: _solver_pb2.SourceOp
    def __init__(self, action: _Optional[_Union[PolicyAction, str]] = ..., denyMessages: _Optional[_Iterable[_Union[DenyMessage, _Mapping]]] = ..., update: _Optional[_Union[_solver_pb2.SourceOp, _Mapping]] = ...) -> None: ...

class DenyMessage(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...

class KnownSource(_message.Message):
    __slots__ = ("Source", "Image")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    Source: _solver_pb2.SourceOp
    Image: KnownImage
    def __init__(self, Source: _Optional[_Union[_solver_pb2.SourceOp, _Mapping]] = ..., Image: _Optional[_Union[KnownImage, _Mapping]] = ...) -> None: ...

class KnownImage(_message.Message):
    __slots__ = ("Digest", "Config")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    Digest: str
    Config: bytes
    def __init__(self, Digest: _Optional[str] = ..., Config: _Optional[bytes] = ...) -> None: ...

class WantedSource(_message.Message):
    __slots__ = ("Source", "Platform", "Image")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    Source: _solver_pb2.SourceOp
    Platform: _solver_pb2.Platform
    Image: WantedImage
    def __init__(self, Source: _Optional[_Union[_solver_pb2.SourceOp, _Mapping]] = ..., Platform: _Optional[_Union[_solver_pb2.Platform, _Mapping]] = ..., Image: _Optional[_Union[WantedImage, _Mapping]] = ...) -> None: ...

class WantedImage(_message.Message):
    __slots__ = ("NoConfig", "AttestationChain", "ResolveAttestations")
    NOCONFIG_FIELD_NUMBER: _ClassVar[int]
    ATTESTATIONCHAIN_FIELD_NUMBER: _ClassVar[int]
    RESOLVEATTESTATIONS_FIELD_NUMBER: _ClassVar[int]
    NoConfig: bool
    AttestationChain: bool
    ResolveAttestations: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, NoConfig: _Optional[bool] = ..., AttestationChain: _Optional[bool] = ..., ResolveAttestations: _Optional[_Iterable[str]] = ...) -> None: ...
