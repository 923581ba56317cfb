"""Middleware: the user and the endpoint that each framework reports, streamed bodies included."""

import asyncio
from types import SimpleNamespace

import fastapi
import flask
from starlette.testclient import TestClient

import tallyd
from tallyd import _context
from tallyd.web import AsgiMiddleware, WsgiMiddleware, shorten


def test_ids_are_taken_out_of_paths():
    uuid = "0190f3a4-5b6c-7d8e-9f01-23456789abcd"
    assert shorten(f"/users/42/files/{uuid}/0123456789abcdef01") == "/users/{id}/files/{id}/{id}"
    assert shorten("/v1/avm/value") == "/v1/avm/value" and shorten("/") == "/"


def flask_app(seen):
    app = flask.Flask("tested")

    @app.get("/report/<int:number>")
    def report(number):
        flask.g.user = f"u-{number}"
        seen.append(_context.current())

        def body():
            seen.append(_context.current())
            yield "done"

        return flask.Response(flask.stream_with_context(body()))

    return app


def test_flask():
    seen = []
    app = flask_app(seen)
    app.wsgi_app = WsgiMiddleware(
        app.wsgi_app,
        user=lambda _: flask.g.user,
        endpoint=lambda _: flask.request.url_rule.rule,
    )
    assert app.test_client().get("/report/7").text == "done"
    assert seen == [{"user_id": "u-7", "endpoint": "/report/<int:number>"}] * 2
    assert _context.current() == {}


def test_plain_wsgi_has_defaults():
    seen = []

    def app(environ, start_response):
        seen.append(_context.current())
        start_response("200 OK", [])
        return [b"x"]

    assert WsgiMiddleware(app)({"REMOTE_USER": "ann", "PATH_INFO": "/a/42"}, lambda *_: None) == [b"x"]
    assert seen == [{"user_id": "ann", "endpoint": "/a/{id}"}] and _context.current() == {}


def test_fastapi():
    app, seen = fastapi.FastAPI(), []

    @app.get("/report/{number}")
    async def report(number: int):
        seen.append(_context.current())
        return await asyncio.to_thread(lambda: seen.append(_context.current()))

    @app.get("/sync/{number}")
    def in_a_thread(number: int):
        seen.append(_context.current())

    app.add_middleware(AsgiMiddleware, user=lambda scope: dict(scope["headers"])[b"x-user"].decode())
    client = TestClient(app)
    for path in ("/report/7", "/sync/7"):
        assert client.get(path, headers={"x-user": "u-7"}).status_code == 200
    assert [record["user_id"] for record in seen] == ["u-7"] * 3
    assert [record["endpoint"] for record in seen] == ["/report/{number}"] * 2 + ["/sync/{number}"]


def test_asgi_defaults_and_other_scopes():
    seen = []

    async def app(scope, receive, send):
        seen.append(_context.current())

    asgi = AsgiMiddleware(app)
    user = SimpleNamespace(identity="u-9")
    asyncio.run(asgi({"type": "http", "path": "/x/42", "user": user}, None, None))
    asyncio.run(asgi({"type": "lifespan"}, None, None))
    assert seen == [{"user_id": "u-9", "endpoint": "/x/{id}"}, {}]


def test_a_context_that_fails_costs_nothing():
    with tallyd.context(user_id=lambda: 1 / 0, app="web"):
        assert _context.current() == {"app": "web"}
