"""When the model server is asked for what."""

import asyncio

import pytest

from serving.client.errors import UnreachableError
from tests.serving.service.recommender.fake_model import FakeClient, Version


def test_signatures_are_read_when_another_model_may_be_there() -> None:
    async def run() -> None:
        client = FakeClient(Version(3))
        server = client.server()
        for _ in range(3):
            await server.refresh(1.0)
        assert (client.described, server.signatures.version) == (1, 3)
        first = server.signatures
        client.served = Version(4)
        await server.refresh(1.0)
        await server.refresh(1.0)
        assert (client.described, server.signatures.version) == (2, 4)
        # A server that was away may come back with another model of the same number.
        client.is_down = True
        with pytest.raises(UnreachableError):
            await server.refresh(1.0)
        assert not server.reachable
        client.is_down = False
        before = server.signatures
        await server.refresh(1.0)
        assert client.described == 3
        assert server.reachable
        assert server.signatures is not before
        assert server.signatures.takes_items == first.takes_items

    asyncio.run(run())
