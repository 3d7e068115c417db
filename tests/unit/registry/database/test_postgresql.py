from __future__ import annotations

import pytest

from sampan.errors import InvalidArgument
from sampan.registry.database.postgresql import PostgresMetadata


@pytest.mark.parametrize(
    "address",
    ["postgresql//user:secret@host/db", "postgresql://u:se%zzcret@host/db", "password=secret x"],
)
def test_an_address_that_is_none_is_not_shown(address: str) -> None:
    with pytest.raises(InvalidArgument, match="no address of a database") as caught:
        PostgresMetadata(address, "storage")
    assert "cret" not in str(caught.value)
