"""Two mail servers for tests/it/alerts.rs: one with STARTTLS, one with TLS from the first byte. Both want a login.

Prints their ports, writes each mail as a line of JSON to a file, and ends with standard input.
"""

import email
import email.policy
import json
import socket
import ssl
import sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

kept, certificate, key = sys.argv[1:]


class Keep:
    def __init__(self, name):
        self.name = name

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        html = mail.get_body(("html",))
        found = {
            "server": self.name,
            "to": envelope.rcpt_tos,
            "from": envelope.mail_from,
            "subject": mail["subject"],
            "id": mail["message-id"],
            "text": mail.get_body(("plain",)).get_content().replace("\r\n", "\n"),
            "html": html and html.get_content(),
            "login": session.auth_data and session.auth_data.decode(),
            "tls": session.ssl is not None or self.name == "smtps",
        }
        with open(kept, "a") as file:
            file.write(json.dumps(found) + "\n")
        return "250 OK"


def login(server, session, envelope, mechanism, data):
    is_right = data.login == b"bot@example.com" and data.password == b"a password"
    return AuthResult(success=is_right, auth_data=data.login)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate, key)
ports = {}
for name, options in {
    "smtp": {"tls_context": context, "require_starttls": True},
    "smtps": {"ssl_context": context, "auth_require_tls": False},
}.items():
    ports[name] = free_port()
    Controller(
        Keep(name), "127.0.0.1", ports[name], authenticator=login, auth_required=True, **options
    ).start()
print(json.dumps(ports), flush=True)
sys.stdin.read()
