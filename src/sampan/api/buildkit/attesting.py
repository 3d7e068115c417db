"""What a client wants to be said of a result: its provenance, and what is in it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import msgspec

from sampan.api.buildkit.clients import SessionClient
from sampan.api.buildkit.jobs import Job
from sampan.build.attesting.materials import Witness
from sampan.build.attesting.provenance import Request, provenance
from sampan.build.attesting.scanning import Scanner
from sampan.build.attesting.statements import Attestation
from sampan.build.attesting.wishes import AttestationWishes, ProvenanceWish
from sampan.build.builder import Builder
from sampan.build.built import Built
from sampan.build.exporting.outputs import Result
from sampan.build.policed import policed
from sampan.build.worker import Worker


async def attested(
    builder: Builder,
    job: Job,
    result: Result,
    wishes: AttestationWishes,
    attributes: Mapping[str, str],
) -> Result:
    """Return a result with what is to be said of it."""
    told = [await _of(builder, job, built, wishes, attributes) for built in result.built]
    return replace(result, attestations=told)


def remember(job: Job, result: Result, attributes: Mapping[str, str]) -> None:
    """Note how results were made, for the history of builds."""
    wish = ProvenanceWish(version="v0.2")
    for built in result.built:
        request = Request(job.ref, attributes, job.started, time.time_ns())
        told = provenance(wish, request, built).predicate
        job.provenance[str(built.platform)] = msgspec.json.encode(told)


async def _of(
    builder: Builder,
    job: Job,
    built: Built,
    wishes: AttestationWishes,
    attributes: Mapping[str, str],
) -> list[Attestation]:
    found: list[Attestation] = []
    if wishes.sbom is not None:
        allowed = policed(builder.worker, job.policy)
        worker = cast("Worker", Witness(allowed, built.materials))  # it is a material
        scanner = Scanner(worker, wishes.sbom, SessionClient(await job.client()))
        name = f"[{built.platform}] generating sbom using {wishes.sbom.generator}"
        with job.progress.during(name) as vertex:
            found += await scanner.scan(
                built, lambda _: None, lambda stream, data: vertex.log(data, stream)
            )
    if wishes.provenance is not None:
        request = Request(job.ref, attributes, job.started, time.time_ns())
        found.append(provenance(wishes.provenance, request, built))
    return found
