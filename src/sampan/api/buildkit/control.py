"""BuildKit's Control service: results of builds, their progress, the build cache.

Source: buildkit control/control.go, api/services/control/control.proto; moby
daemon/internal/builder-next (worker labels, the exporter `moby`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

from grpclib.server import Stream

from sampan.api.buildkit.attesting import attested, remember
from sampan.api.buildkit.caching import Caching, exports_of, with_steps
from sampan.api.buildkit.calls import Metadata, Service, both_ways, streaming, unary
from sampan.api.buildkit.exporting import EXPORTERS, HandingOut
from sampan.api.buildkit.history import Chronicle
from sampan.api.buildkit.jobs import Job, Jobs
from sampan.api.buildkit.options import foreign, is_ours, wish_of
from sampan.api.buildkit.policy import ClientPolicy
from sampan.api.buildkit.sessions import Session, Tunnel
from sampan.build.attesting.wishes import attestations_of
from sampan.build.caching.conditions import read_conditions
from sampan.build.caching.pruning import PruneWish, Usage, selected
from sampan.build.exporting.outputs import Outputs, Result
from sampan.engine.undisturbed import waited_for
from sampan.errors import InvalidArgument, SampanError, Unsupported
from sampan.spec.buildkit import control_pb2 as pb
from sampan.spec.buildkit import solver_pb2
from sampan.spec.platform import Platform

_SERVICE: Final = "/moby.buildkit.v1.Control/"
_EXPOSED: Final = "x-docker-expose-session-"
_CLOCK: Final = "buildkit-current-timestamp"
_HOST_GATEWAY: Final = "org.mobyproject.buildkit.worker.moby.host-gateway-ip"
_VERSION: Final = "v0.25.0"  # of BuildKit's protocol: what clients may expect of us


class Control:
    """Answers the calls of the service."""

    def __init__(self, jobs: Jobs, host_gateway: str) -> None:
        self._jobs, self._host_gateway = jobs, host_gateway
        self.chronicle = Chronicle(jobs, jobs.builder.history)

    def service(self) -> Service:
        """Return the table of its methods."""
        return Service(
            {
                f"{_SERVICE}Info": unary(self.info, pb.InfoRequest, pb.InfoResponse),
                f"{_SERVICE}ListWorkers": unary(
                    self.list_workers, pb.ListWorkersRequest, pb.ListWorkersResponse
                ),
                f"{_SERVICE}Solve": unary(self.solve, pb.SolveRequest, pb.SolveResponse),
                f"{_SERVICE}Status": streaming(self.status, pb.StatusRequest, pb.StatusResponse),
                f"{_SERVICE}Session": both_ways(self.session, pb.BytesMessage, pb.BytesMessage),
                f"{_SERVICE}DiskUsage": unary(
                    self.disk_usage, pb.DiskUsageRequest, pb.DiskUsageResponse
                ),
                f"{_SERVICE}ListenBuildHistory": streaming(
                    self.listen_build_history,
                    pb.BuildHistoryRequest,
                    pb.BuildHistoryEvent,
                    _now,
                ),
                f"{_SERVICE}UpdateBuildHistory": unary(
                    self.update_build_history,
                    pb.UpdateBuildHistoryRequest,
                    pb.UpdateBuildHistoryResponse,
                ),
                f"{_SERVICE}Prune": streaming(self.prune, pb.PruneRequest, pb.UsageRecord),
            }
        )

    # --- what we are -----------------------------------------------------------------------

    async def info(self, _: pb.InfoRequest, __: Metadata) -> pb.InfoResponse:
        """Return our version."""
        return pb.InfoResponse(buildkitVersion=_version())

    async def list_workers(self, _: pb.ListWorkersRequest, __: Metadata) -> pb.ListWorkersResponse:
        """Return the one worker that we are."""
        return pb.ListWorkersResponse(record=[self.worker()])

    def worker(self) -> pb.WorkerRecord:
        """Return what we can build for."""
        host = Platform.host()
        platform = solver_pb2.Platform(
            Architecture=host.architecture, OS=host.os, Variant=host.variant
        )
        labels = {
            "org.mobyproject.buildkit.worker.executor": "sampan",
            "org.mobyproject.buildkit.worker.moby": "true",
            # Clients look for it before they ask for indexes, pushes and archives of images.
            "org.mobyproject.buildkit.worker.snapshotter": "overlay",
        }
        if self._host_gateway:
            labels[_HOST_GATEWAY] = self._host_gateway
        return pb.WorkerRecord(
            ID="sampan", Labels=labels, platforms=[platform], BuildkitVersion=_version()
        )

    # --- builds ----------------------------------------------------------------------------

    async def solve(self, request: pb.SolveRequest, _: Metadata) -> pb.SolveResponse:
        """Wait for a build, hand its result out, and say what it is."""
        async with self._jobs.open(request.Ref) as job, self._jobs.builder.intake():
            try:
                return await self._remembered(job, request)
            finally:
                await job.end()  # before anything that its workers use may go

    async def _remembered(self, job: Job, request: pb.SolveRequest) -> pb.SolveResponse:
        if request.Internal:
            return await self._result(job, request)
        self.chronicle.begin(request)
        error: BaseException | None = None
        response = pb.SolveResponse()
        try:
            response = await self._result(job, request)
        except BaseException as fault:
            error = fault
            raise
        finally:
            await waited_for(self.chronicle.end(job, response.ExporterResponse, error))
        return response

    async def _result(self, job: Job, request: pb.SolveRequest) -> pb.SolveResponse:
        job.imports = list(request.Cache.Imports)
        job.entitlements = list(request.Entitlements)
        try:
            session = await self._session(request)
            if request.SourcePolicySession:
                deciding = await self._jobs.sessions.find(request.SourcePolicySession)
                job.policy = ClientPolicy(deciding)
            job.session.set_result(session)
        except SampanError as error:
            job.session.set_exception(error)
            job.session.exception()  # seen, also if nobody drives the build
            raise
        result = await self._built(job, request)
        return await self._export(job, request, result)

    async def _session(self, request: pb.SolveRequest) -> Session:
        _check(request)
        self._jobs.builder.entitlements(request.Entitlements)
        return await self._jobs.sessions.find(request.Session)

    async def _built(self, job: Job, request: pb.SolveRequest) -> Result:
        """Build, or return what the client that drives the build has decided on."""
        if request.Frontend:
            inputs = request.FrontendInputs
            made = await self._jobs.build(job, request.FrontendAttrs, inputs)
            return Result(made, is_index=wish_of(request.FrontendAttrs, inputs).is_index)
        returned = await job.returned
        for name in returned.names:
            if name not in job.results:
                raise InvalidArgument(f"no such result: {name}")
        built = [built for name, built in job.results.items() if name in returned.names]
        return Result(built, is_index=returned.is_index)

    async def _export(self, job: Job, request: pb.SolveRequest, result: Result) -> pb.SolveResponse:
        response: dict[str, str] = {}
        if result.built:
            caches = exports_of(request.Cache.Exports)
            builder, attributes = self._jobs.builder, request.FrontendAttrs
            wishes = attestations_of(attributes)
            result = with_steps(result, caches)
            remember(job, result, attributes)
            if request.Exporters:
                result = await attested(builder, job, result, wishes, attributes)
            outputs = Outputs(self._jobs.builder, self._jobs.outlet)
            for number, exporter in enumerate(request.Exporters):
                handing = HandingOut(outputs, job, number, exporter.Attrs)
                response |= await handing.run(exporter.Type, result)
            caching = Caching(self._jobs.outlet, await job.client(), job.progress)
            response |= await caching.store(result, caches)
        return pb.SolveResponse(ExporterResponse=response)

    async def status(
        self, request: pb.StatusRequest, _: Metadata
    ) -> AsyncIterator[pb.StatusResponse]:
        """Tell how a build goes, from its beginning to its end."""
        if self._jobs.running(request.Ref) is None and await self.chronicle.knows(request.Ref):
            async for batch in self.chronicle.replay(request.Ref):
                yield batch
            return
        job = await self._jobs.find(request.Ref)
        async for batch in job.progress.follow():
            yield batch

    async def session(self, stream: Stream[pb.BytesMessage, pb.BytesMessage]) -> None:
        """Keep a client at hand whose session comes inside of this call."""
        fields = stream.metadata
        named = str(fields.get(f"{_EXPOSED}uuid", "")) if fields else ""
        methods = map(str, fields.getall(f"{_EXPOSED}grpc-method", [])) if fields else ()
        shared_key = str(fields.get(f"{_EXPOSED}sharedkey", "")) if fields else ""
        await self._jobs.sessions.keep(named, methods, Tunnel(stream), shared_key)

    async def listen_build_history(
        self, request: pb.BuildHistoryRequest, _: Metadata
    ) -> AsyncIterator[pb.BuildHistoryEvent]:
        """Tell of builds that run and that have ended."""
        async for event in self.chronicle.listen(request):
            yield event

    async def update_build_history(
        self, request: pb.UpdateBuildHistoryRequest, _: Metadata
    ) -> pb.UpdateBuildHistoryResponse:
        """Forget a build, or pin it."""
        await self.chronicle.update(request)
        return pb.UpdateBuildHistoryResponse()

    # --- the cache -------------------------------------------------------------------------

    async def disk_usage(self, request: pb.DiskUsageRequest, _: Metadata) -> pb.DiskUsageResponse:
        """Return the records of the build cache."""
        conditions = read_conditions(request.filter)
        found = selected(
            await self._jobs.builder.housekeeping.usages(), conditions, request.ageLimit
        )
        return pb.DiskUsageResponse(record=[_usage(one) for one in found])

    async def prune(self, request: pb.PruneRequest, _: Metadata) -> AsyncIterator[pb.UsageRecord]:
        """Forget records; tell which."""
        wish = PruneWish(
            request.all,
            read_conditions(request.filter),
            request.keepDuration,
            request.reservedSpace,
            request.maxUsedSpace,
            request.minFreeSpace,
        )
        gone, _freed = await self._jobs.builder.housekeeping.prune(wish)
        for one in gone:
            yield _usage(one)


def _check(request: pb.SolveRequest) -> None:
    if request.Frontend and not is_ours(request.Frontend, request.FrontendAttrs):
        raise Unsupported(foreign(request.Frontend, request.FrontendAttrs))
    if request.HasField("Definition") and getattr(request.Definition, "def"):
        raise Unsupported("builds from LLB are not supported: send a Dockerfile")
    if request.SourcePolicy:
        raise Unsupported("source policies are not supported")
    if request.ProxyNetwork:
        raise Unsupported("builds behind a proxy of their own are not supported")
    for exporter in request.Exporters:
        if exporter.Type not in EXPORTERS:
            raise Unsupported(f'exporter "{exporter.Type}" could not be found')
    exports_of(request.Cache.Exports)
    attestations_of(request.FrontendAttrs)


def _now() -> Metadata:
    return {_CLOCK: datetime.now(UTC).isoformat().replace("+00:00", "Z")}


def _version() -> pb.BuildkitVersion:
    return pb.BuildkitVersion(package="sampan", version=_VERSION)


def _usage(one: Usage) -> pb.UsageRecord:
    return pb.UsageRecord(
        ID=one.id,
        Size=one.size,
        Mutable=one.record.is_mount,
        InUse=one.in_use,
        CreatedAt=_moment(one.record.created),
        LastUsedAt=_moment(one.record.used),
        UsageCount=one.record.uses,
        Description=one.record.description,
        RecordType=one.type,
        Shared=one.shared,
        Parents=one.parents,
    )


def _moment(nanos: int) -> datetime:
    return datetime.fromtimestamp(nanos / 10**9, UTC)
