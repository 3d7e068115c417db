"""What the back-ends of the firewall complain of, as errors of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sampan.errors import Internal, Unsupported


@contextmanager
def firewall_errors() -> Iterator[None]:
    """Turn what the firewall's library says into errors of ours."""
    try:
        yield
    except OSError as error:
        if "libnftables" in str(error):
            raise Unsupported(
                f"the firewall cannot be programmed: {error} (Debian: libnftables1)"
            ) from error
        if isinstance(error, FileNotFoundError):
            raise Unsupported(f"the firewall cannot be programmed: {error}") from error
        raise Internal(f"failed to program the firewall: {error}") from error
