"""Against a fake daemon that closes at bad moments: nothing is lost or doubled, and a resend has the same bytes."""

import socket
import struct
import threading

import msgpack
import pytest

import tallyd


class Fake:
    """A scripted daemon: each connection gets a `last_seq`, and an action for the first frame of records. Without a
    `last_seq` the action is the code of a refusal."""

    def __init__(self, path):
        self.path = str(path)
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(self.path)
        self.server.listen()
        self.server.settimeout(20)
        self.heard = []

    def serve(self, script):
        self.thread = threading.Thread(target=self._run, args=(script,))
        self.thread.start()

    def _run(self, script):
        for last_seq, answer in script:
            connection = self.server.accept()[0]
            with connection:
                connection.settimeout(20)
                self._frame(connection)
                if last_seq is None:
                    self._send(connection, {"error": {"code": answer, "message": "no"}})
                    continue
                welcome = {"protocol": 2, "last_seq": last_seq, "max_frame_bytes": 1 << 20, "max_records": 4096}
                self._send(connection, {"welcome": welcome})
                body = self._frame(connection)
                while body is not None:
                    self.heard.append(body)
                    if not answer:
                        break
                    message = msgpack.unpackb(body)["records"]
                    self._send(connection, {"ack": {"seq": message["first_seq"] + len(message["records"]) - 1}})
                    body = self._frame(connection)
        self.server.close()

    def _send(self, connection, message):
        body = msgpack.packb(message)
        connection.sendall(struct.pack(">I", len(body)) + body)

    def _frame(self, connection):
        head = connection.recv(4, socket.MSG_WAITALL)
        return connection.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL) if len(head) == 4 else None


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path / "fake.sock")


def run(fake, script, after_first):
    """Records a call whose connection is closed, then records another. Returns the received frames, decoded."""
    recorder = tallyd.Recorder(fake.path, backoff=(0.01, 0.05), close_timeout=10)
    recorder.record("x", endpoint="/one")
    fake.serve(script)
    after_first(recorder)
    closed = recorder.close()
    fake.thread.join()
    assert closed and recorder.stats().dropped == 0
    return [msgpack.unpackb(body)["records"] for body in fake.heard]


def test_an_unacknowledged_frame_is_sent_again_byte_for_byte(fake):
    run(fake, [(0, False), (0, True)], lambda recorder: recorder.flush(10))
    assert len(fake.heard) == 2
    assert fake.heard[0] == fake.heard[1]


def test_what_was_durable_before_the_ack_was_lost_is_not_sent_again(fake):
    def another(recorder):
        assert recorder.flush(10)  # The second welcome alone settles it.
        recorder.record("x", endpoint="/two")

    first, second = run(fake, [(0, False), (1, True)], another)
    assert [record[4] for record in first["records"]] == ["/one"]
    assert [record[4] for record in second["records"]] == ["/two"]
    assert (first["first_seq"], second["first_seq"]) == (1, 2)
