"""APIs that bill by request: requests and httpx, sync and async, against the stub."""

import asyncio

import httpx
import pytest
import requests
from support import having

import tallyd

HIT = {"provider": "rentcast", "endpoint": "/avm/rent/long-term", "requests": 1, "status": 200}
PATH = "/v1/avm/rent/long-term?address=1+Main+St"


def test_a_requests_session(stub, caught):
    session = tallyd.meter_http(requests.Session(), "rentcast", recorder=caught)
    tallyd.meter_http(session, "rentcast", recorder=caught)
    with tallyd.context(user_id="u-1", endpoint="/not/this"):
        assert session.get(stub.url + PATH).json() == {"rent": 1850}
    having(caught.only(), user_id="u-1", **HIT)


def test_a_failed_request_is_an_error_and_free(stub, caught):
    session = tallyd.meter_http(requests.Session(), "rentcast", recorder=caught)
    assert session.get(stub.url + "/v1/missing").status_code == 404
    with pytest.raises(requests.ConnectionError):
        session.get("http://127.0.0.1:9/v1/avm")
    having(caught[0], requests=0, status=404, endpoint="/missing")
    having(caught[1], requests=0, status=599, endpoint="/avm")


def test_httpx_sync_async_and_streamed(stub, caught):
    with tallyd.meter_http(httpx.Client(base_url=stub.url), "rentcast", recorder=caught) as client:
        assert client.get(PATH).json() == {"rent": 1850}
        with client.stream("GET", PATH) as response:
            assert response.read() == b'{"rent": 1850}'

    async def call():
        async with tallyd.meter_http(httpx.AsyncClient(base_url=stub.url), "rentcast", recorder=caught) as client:
            assert (await client.get(PATH)).json() == {"rent": 1850}

    asyncio.run(call())
    for record in caught:
        having(record, **HIT)
    assert len(caught) == 3


def test_other_hosts_endpoints_and_prices(stub, caught):
    options = {"hosts": ["127.0.0.1"], "endpoint": lambda path: "/all", "billed": lambda status: True}
    session = tallyd.meter_http(requests.Session(), "rentcast", recorder=caught, **options)
    session.get(stub.url + "/v1/missing")
    session.get(stub.url.replace("127.0.0.1", "localhost") + PATH)
    having(caught.only(), endpoint="/all", requests=1, status=404)


def test_only_clients_are_metered():
    with pytest.raises(TypeError, match="httpx client"):
        tallyd.meter_http(object(), "x")
