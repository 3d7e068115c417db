"""The message classes are those that the descriptions beside them give."""

from __future__ import annotations

from importlib import import_module, resources
from pathlib import Path

import google.rpc.status_pb2
import grpc_tools
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

import sampan.spec.buildkit as package

[FOLDER] = map(Path, package.__path__)
SOURCES = sorted(FOLDER.glob("*.proto"))
KNOWN = Path(google.rpc.status_pb2.__file__).parents[2]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_messages_are_up_to_date(source: Path, tmp_path: Path) -> None:
    """If not: protoc -Isrc --python_out=src --pyi_out=src, of grpcio-tools."""
    name = f"sampan/spec/buildkit/{source.name}"
    well_known = resources.files(grpc_tools) / "_proto"
    roots = [FOLDER.parents[2], KNOWN, well_known]
    arguments = ["protoc", *(f"-I{root}" for root in roots), f"-o{tmp_path / 'set'}", name]
    assert protoc.main(arguments) == 0
    made = FileDescriptorSet.FromString((tmp_path / "set").read_bytes()).file[0]
    module = import_module(f"sampan.spec.buildkit.{source.stem}_pb2")
    ours = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(ours)
    for file in (made, ours):
        for message in file.message_type:
            _without_json_names(message)
    assert ours == made


def _without_json_names(message: object) -> None:
    for field in message.field:  # type: ignore[attr-defined]
        field.ClearField("json_name")
    for nested in message.nested_type:  # type: ignore[attr-defined]
        _without_json_names(nested)
