"""A spool: its format, its bounds, and an application that is killed. ROUNDS and SEED change the kills."""

import json
import os
import random
import re
import subprocess
import sys
import time
import zlib
from pathlib import Path

import msgpack
import pytest
from support import until
from test_resend import Fake

import tallyd
from tallyd import _spool, _spool_format
from tallyd._drain import Drain

HERE = Path(__file__).resolve().parent
VECTORS = json.loads((HERE.parents[1] / "vectors/spool.json").read_text())


def file_of(vector):
    data = bytearray(vector["bytes"])
    for part in vector["parts"]:
        piece = bytes.fromhex(part["hex"])
        data[part["at"] : part["at"] + len(piece)] = piece
    return bytes(data)


def test_files_are_read_as_the_vectors_say():
    assert len(VECTORS) >= 16
    for vector in VECTORS:
        if vector.get("error"):
            with pytest.raises(_spool_format.Unreadable):
                _spool_format.read(file_of(vector))
            continue
        head, entries = _spool_format.read(file_of(vector))
        assert (head.producer, head.secret) == (vector["producer"], vector["secret"]), vector["name"]
        said = [{"seq": seq, "record": record.hex()} for seq, record in entries]
        assert said == vector["entries"], vector["name"]


def test_a_file_is_written_as_the_vectors_say():
    (vector,) = (one for one in VECTORS if one["name"] == "three records")
    wanted = file_of(vector)
    salt, area = wanted[24:32], len(wanted) - _spool_format.HEAD_BYTES
    data = _spool_format.head_bytes(_spool_format.Head(vector["producer"], vector["secret"], salt, area))
    for entry in vector["entries"]:
        record = bytes.fromhex(entry["record"])
        one = _spool_format.entry_bytes(zlib.crc32(salt), entry["seq"], record)
        data += one.ljust(_spool_format.units(len(record)) * _spool_format.UNIT, b"\0")
    assert data.ljust(len(wanted), b"\0").hex() == wanted.hex()


def test_a_full_spool_takes_no_more_until_some_are_settled_and_its_file_has_one_owner(tmp_path):
    spool = _spool.Spool(tmp_path, 1, "web", "0" * 32)
    record = b"x" * (1 << 20)
    assert [spool.put(record) for _ in range(4)] == [1, 2, 3, 0]
    assert spool.settle(1)
    # The first one's room is free. The rest at the end is left empty.
    assert [spool.put(record), spool.put(record)] == [4, 0]
    assert spool.put(b"small") == 0 and not spool.has_room()
    (path,) = _spool.files(tmp_path)
    assert _spool.adopt(path) is None, "its recorder lives"
    spool.release()
    orphan = _spool.adopt(path)
    assert orphan.head.producer == "web"
    assert [seq for seq, _ in orphan.entries] == [2, 3, 4]
    assert _spool.adopt(path) is None, "it has an owner"
    orphan.remove()
    orphan.release()
    (tmp_path / "empty.spool").touch()
    assert _spool.adopt(tmp_path / "empty.spool") is None
    assert list(tmp_path.iterdir()) == []


def test_the_next_recorder_delivers_what_the_last_one_left_as_the_same_producer(tmp_path):
    fake, folder = Fake(tmp_path / "fake.sock"), tmp_path / "spool"
    nobody = tallyd.Recorder(str(tmp_path / "nobody"), spool=folder, quiet=True)
    refused = []
    nobody._on_reject = lambda *said: refused.append(said)
    for number in range(1, 1001):
        assert nobody.record("claude", model="m", input_tokens=number)
    assert nobody.record("claude", cost_usd=0.5), "it is refused in its turn"
    assert nobody.record("claude", input_tokens=1001)
    assert nobody.close(0.05) is False
    stats = nobody.stats()
    assert (stats.recorded, stats.dropped, stats.rejected, len(refused)) == (1002, 0, 1, 1)
    assert nobody.record("claude") is False, "it is closed"
    assert len(list(folder.iterdir())) == 1
    # The daemon has 500 of them already.
    fake.serve([(500, True)])
    drain = Drain(tallyd.Recorder(fake.path, quiet=True), folder)
    until("all are delivered", lambda: drain.recovered == 501)
    drain.stop(time.monotonic() + 20)
    seqs = []
    for body in fake.heard:
        message = msgpack.unpackb(body)["records"]
        for at, record in enumerate(message["records"]):
            seqs.append(message["first_seq"] + at)
            assert record[8] == seqs[-1], "its number of the spool"
    assert seqs == list(range(501, 1002))
    assert list(folder.iterdir()) == [], "nothing is left, so no file is"
    fake.thread.join()


def test_without_a_spools_file_records_are_in_memory_and_over_http_there_is_none(tmp_path, caplog):
    (tmp_path / "file").touch()
    # Nobody can make a folder in /proc, not even root.
    for place in (tmp_path / "file", "/proc/spool"):
        recorder = tallyd.Recorder(str(tmp_path / "nobody"), spool=place)
        assert recorder.record("claude")
        assert recorder.spool is None
        assert f"there is no spool in {place}, so records are in memory alone" in caplog.text
        recorder.close(0.01)
    tmp_path.chmod(0o777)
    recorder = tallyd.Recorder(str(tmp_path / "nobody"), spool=tmp_path, quiet=True)
    assert recorder.record("claude")
    assert recorder.spool is None
    recorder.close(0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(ValueError):
        tallyd.Recorder("https://localhost", spool=tmp_path)


def test_a_forked_child_has_a_spool_of_its_own(tmp_path):
    recorder = tallyd.Recorder(str(tmp_path / "nobody"), spool=tmp_path / "spool", spool_bytes=1, quiet=True)
    assert recorder.record("claude")
    child = os.fork()
    if child == 0:
        is_kept = recorder.spool is None and recorder.record("claude")
        os._exit(0 if is_kept else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    adopted = [_spool.adopt(path) for path in _spool.files(tmp_path / "spool")]
    assert [len(one.entries) for one in adopted if one] == [1], "the child's: the parent lives"
    assert len(adopted) == 2
    recorder.close(0.01)


def is_left(path):
    orphan = _spool.adopt(path)
    if orphan is not None:
        orphan.release()
    return orphan is not None


def test_what_cannot_be_delivered_stays_and_does_not_hold_up_the_rest(tmp_path):
    fake, folder, told = Fake(tmp_path / "fake.sock"), tmp_path / "spool", []
    # Two processes with one folder, which both end without a daemon.
    both = [tallyd.Recorder(str(tmp_path / "nobody"), spool=folder, quiet=True) for _ in range(2)]
    for recorder in both:
        assert all(recorder.record("claude", input_tokens=number) for number in range(10))
    assert [recorder.close(0.01) for recorder in both] == [False, False]
    until("the recorders' threads have ended", lambda: all(map(is_left, _spool.files(folder))))
    (folder / "0.spool").mkdir()
    (folder / "1.spool").write_text("not a spool")
    # The first file's producer is refused, and is good again at the next attempt.
    fake.serve([(None, "secret"), (0, True), (0, True)])
    recorder = tallyd.Recorder(fake.path, quiet=True)
    recorder.not_recovered = recorder.not_read = told.append
    drain = Drain(recorder, folder)
    until("all are delivered", lambda: drain.recovered == 20)
    drain.stop(time.monotonic() + 20)
    assert "(secret)" in told[2] and all("is left as it is" in one for one in told[:2] + told[3:])
    assert sorted(path.name for path in folder.iterdir()) == ["0.spool", "1.spool"]
    fake.thread.join()


def test_a_full_disk_ends_nothing_and_loses_nothing_that_record_has_taken(tmp_path, caplog):
    disk, fake = tmp_path / "disk", Fake(tmp_path / "fake.sock")
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)]).returncode:
        pytest.skip("mounting needs root")
    try:
        of = {"spool": disk / "spool", "spool_bytes": 1}
        (disk / "others").write_bytes(bytes(4 << 20))
        nobody = tallyd.Recorder(str(tmp_path / "nobody"), **of)
        assert nobody.record("claude") and nobody.spool is None
        assert "No space left" in caplog.text
        assert list((disk / "spool").iterdir()) == []
        nobody.close(0.01)
        (disk / "others").unlink()
        nobody = tallyd.Recorder(str(tmp_path / "nobody"), **of)
        assert nobody.record("claude", input_tokens=1) and nobody.spool is not None
        with pytest.raises(OSError), open(disk / "others", "wb") as others:
            while True:
                others.write(bytes(1 << 20))
        # The file's room was allocated before.
        assert all(nobody.record("claude", input_tokens=number) for number in range(2, 10_001))
        assert nobody.close(0.01) is False
        until("the recorder's threads have ended", lambda: all(map(is_left, _spool.files(disk / "spool"))))
        # The next one has no room for a file, and delivers the others.
        fake.serve([(0, True)])
        recorder = tallyd.Recorder(fake.path, **of)
        recorder._begin_spool(disk / "spool")
        assert recorder.spool is None
        until("all are delivered", lambda: recorder.stats().recovered == 10_000)
        recorder._drain.stop(time.monotonic() + 20)
        fake.thread.join()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_an_application_is_killed_and_each_call_that_record_took_is_there_once(daemon, tmp_path):
    rounds, seed = int(os.environ.get("ROUNDS") or 10), int(os.environ.get("SEED") or time.time())
    print(f"{rounds} rounds; SEED={seed} repeats this")
    draw, folder, taken, lives = random.Random(seed), tmp_path / "spool", {}, 0
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    for _ in range(rounds):
        applications = []
        # In some rounds two processes share the folder.
        for _ in range(2 if draw.random() < 0.25 else 1):
            lives += 1
            words = [sys.executable, str(HERE / "spooling.py"), daemon.socket, str(folder), str(lives)]
            applications.append(subprocess.Popen(words, stdout=subprocess.PIPE, env=environment))
        said = applications[0].stdout.readline() if draw.random() < 0.75 else b""
        time.sleep(draw.random() * 0.06)
        # In long runs less often: a start of the daemon takes longer than all else.
        if draw.random() < max(0.02, 2 / rounds):
            daemon.kill()
            daemon.up()
        for application in applications:
            assert application.poll() is None, "it ended by itself"
            application.kill()
        for application in applications:
            said += application.stdout.read()
            application.wait()
            # The last line may be cut short.
            for user, number in re.findall(r"^taken (\S+) (\d+)\n", said.decode(), re.MULTILINE):
                taken[user] = int(number)
            said = b""
    last = tallyd.Recorder(daemon.socket, spool=folder)
    last.ready()
    until("all spools are delivered", lambda: len(list(folder.iterdir())) == 1)
    recovered = last.stats().recovered
    assert last.close()
    daemon.until_stored(sum(taken.values()), "spooling")
    until("all is loaded", lambda: daemon.status()["wal"]["unflushed_records"] == 0)
    sql = "SELECT user_id, count(*), count(DISTINCT input_tokens), max(input_tokens) FROM api_usage_log"
    found = {}
    for line in daemon.psql(f"{sql} WHERE app = 'spooling' GROUP BY 1"):
        user, *counts = line.split("|")
        found[user] = [int(count) for count in counts]
    for user, (count, distinct, most) in found.items():
        assert count == distinct == most, f"{user}: {count} calls, {distinct} different, up to {most}"
        assert taken.get(user, 0) <= most <= taken.get(user, 0) + 1, user
    assert taken and taken.keys() <= found.keys()
    calls = f"{sum(taken.values())} calls, {recovered} of them by the last start"
    print(f"{rounds} rounds, {lives} processes, {calls}; lost 0, doubled 0; SEED={seed}")
