"""BuildKit's gateway: a client that drives a build by itself, as buildx does.

Source: buildkit control/gateway/gateway.go, frontend/gateway/pb/gateway.proto and caps.go.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

import msgspec
from google.protobuf.message import Message
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from sampan.api.buildkit.calls import Metadata, Service, unary
from sampan.api.buildkit.control import Control
from sampan.api.buildkit.jobs import Job, Jobs, Returned
from sampan.api.buildkit.llb import CAPABILITIES, definition_of
from sampan.api.buildkit.options import foreign, is_ours, wish_of
from sampan.api.buildkit.views import View
from sampan.build.built import Built
from sampan.errors import InvalidArgument, NotFound, Unsupported
from sampan.spec.buildkit import gateway_pb2 as pb

_SERVICE: Final = "/moby.buildkit.v1.frontend.LLBBridge/"
_BUILD: Final = "buildkit-controlapi-buildid"
_ABLE: Final = (
    "solve.base",
    "return",
    "returnmap",
    "proto.refarray",
    "reference.output",
    "frontend.inputs",
    "gateway.solve.metadata",
    "gateway.solve.evaluate",
    "gateway.evaluate",
    "readfile",
    "statfile",
)


class Gateway:
    """Answers the calls of the service."""

    def __init__(self, jobs: Jobs, control: Control) -> None:
        self._jobs, self._control = jobs, control

    def service(self) -> Service:
        """Return the table of its methods."""
        return Service(
            {
                f"{_SERVICE}Ping": unary(self.ping, pb.PingRequest, pb.PongResponse),
                f"{_SERVICE}Solve": unary(self.solve, pb.SolveRequest, pb.SolveResponse),
                f"{_SERVICE}Evaluate": unary(
                    self.evaluate, pb.EvaluateRequest, pb.EvaluateResponse
                ),
                f"{_SERVICE}StatFile": unary(
                    self.stat_file, pb.StatFileRequest, pb.StatFileResponse
                ),
                f"{_SERVICE}ReadFile": unary(
                    self.read_file, pb.ReadFileRequest, pb.ReadFileResponse
                ),
                f"{_SERVICE}Inputs": unary(self.inputs, pb.InputsRequest, pb.InputsResponse),
                f"{_SERVICE}Return": unary(self.finish, pb.ReturnRequest, pb.ReturnResponse),
            }
        )

    async def _job(self, metadata: Metadata) -> Job:
        ref = metadata.get(_BUILD, "")
        if not ref:
            raise InvalidArgument("no buildid found in context")
        job = await self._jobs.find(ref)
        await job.client()  # why the build cannot begin is told here, too
        if job.ended:
            raise NotFound(f"no such job {ref}")
        return job

    async def ping(self, _: pb.PingRequest, metadata: Metadata) -> pb.PongResponse:
        """Say what the gateway can do."""
        await self._job(metadata)
        able = [pb.APICap(ID=name, Enabled=True) for name in _ABLE]
        return pb.PongResponse(
            FrontendAPICaps=able,
            LLBCaps=[pb.APICap(ID=name, Enabled=True) for name in CAPABILITIES],
            Workers=[self._control.worker()],
        )

    async def solve(self, request: pb.SolveRequest, metadata: Metadata) -> pb.SolveResponse:
        """Build what a front end makes of its attributes; return a name for the result."""
        job = await self._job(metadata)
        if not is_ours(request.Frontend, request.FrontendOpt):
            if request.Frontend:
                raise Unsupported(foreign(request.Frontend, request.FrontendOpt))
            if not getattr(request.Definition, "def"):
                return pb.SolveResponse(result=pb.Result(ref=pb.Ref()))
            async with job.working():
                name = await self._jobs.look(job, request.Definition)
            return pb.SolveResponse(ref=name, result=pb.Result(ref=pb.Ref(id=name)))
        async with job.working():
            if request.FrontendOpt.get("requestid"):
                told = await self._jobs.ask(job, request.FrontendOpt)
                return pb.SolveResponse(result=pb.Result(ref=pb.Ref(), metadata=told))
            wish = wish_of(request.FrontendOpt, request.FrontendInputs)
            made = await self._jobs.build(job, request.FrontendOpt, request.FrontendInputs)
        names = {secrets.token_hex(16): built for built in made}
        job.results |= names
        if wish.is_index:
            return pb.SolveResponse(result=_of_platforms(names))
        [(name, built)] = names.items()
        known = {"containerimage.config": built.state.encoded()}
        return pb.SolveResponse(ref=name, result=pb.Result(ref=_ref(name), metadata=known))

    async def evaluate(
        self, request: pb.EvaluateRequest, metadata: Metadata
    ) -> pb.EvaluateResponse:
        """Nothing: results are there when they have a name."""
        job = await self._job(metadata)
        if request.Ref not in job.results and request.Ref not in job.views:
            raise InvalidArgument(f"no such ref: {request.Ref}")
        return pb.EvaluateResponse()

    async def stat_file(self, request: pb.StatFileRequest, metadata: Metadata) -> Message:
        """Tell what a file of a source is."""
        view = _view(await self._job(metadata), request.Ref)
        return pb.StatFileResponse(stat=view.stat(request.Path))

    async def read_file(self, request: pb.ReadFileRequest, metadata: Metadata) -> Message:
        """Give a file of a source, or a part of it."""
        view = _view(await self._job(metadata), request.Ref)
        return pb.ReadFileResponse(Data=view.read(request.FilePath, request.Range))

    async def inputs(self, _: pb.InputsRequest, metadata: Metadata) -> pb.InputsResponse:
        """Nothing: there are no inputs but the client's folders."""
        await self._job(metadata)
        return pb.InputsResponse()

    async def finish(self, request: pb.ReturnRequest, metadata: Metadata) -> pb.ReturnResponse:
        """Take the client's decision: which result to hand out, or why there is none."""
        job = await self._job(metadata)
        if job.returned.done():
            raise InvalidArgument("the build has returned already")
        if request.HasField("error"):
            error = request.error
            fault = GRPCError(_status(error.code), error.message, list(error.details) or None)
            job.returned.set_exception(fault)
            job.returned.exception()  # seen, also if nobody waits for it
        else:
            job.returned.set_result(_returned(request.result))
        return pb.ReturnResponse()


def _view(job: Job, ref: str) -> View:
    if ref not in job.views:
        raise NotFound(f"no such ref: {ref}")
    return job.views[ref]


def _status(code: int) -> Status:
    try:
        return Status(code)
    except ValueError:
        return Status.UNKNOWN


def _ref(name: str) -> pb.Ref:
    """Return a result as clients hand it on, also to other builds."""
    return pb.Ref(id=name, **{"def": definition_of(name)})


def _of_platforms(results: Mapping[str, Built]) -> pb.Result:
    """Return results by platform. Source: buildkit exporter/containerimage/exptypes/parse.go."""
    platforms, known = [], {}
    for built in results.values():
        body = msgspec.to_builtins(built.state.config.platform_body)
        platforms.append({"ID": str(built.platform), "Platform": body})
        known[f"containerimage.config/{built.platform}"] = built.state.encoded()
    known["refs.platforms"] = msgspec.json.encode({"Platforms": platforms})
    refs = {str(built.platform): _ref(name) for name, built in results.items()}
    return pb.Result(refs=pb.RefMap(refs=refs), metadata=known)


def _returned(result: pb.Result) -> Returned:
    kind = result.WhichOneof("result")
    if kind == "ref":
        return Returned([result.ref.id] if result.ref.id else [])
    if kind == "refDeprecated":
        return Returned([result.refDeprecated] if result.refDeprecated else [])
    if kind == "refs":
        return Returned([ref.id for ref in result.refs.refs.values()], is_index=True)
    return Returned(list(result.refsDeprecated.refs.values()), is_index=True)
