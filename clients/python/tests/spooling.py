"""The application of test_spool.py: it writes a line after each `record()` that has returned True."""

import os
import sys
import threading
import time

import tallyd

THREADS = 2


def work(recorder, user):
    number = 0
    while True:
        number += 1
        if recorder.record("claude", model="m", input_tokens=number, user_id=user):
            os.write(1, f"taken {user} {number}\n".encode())
        if number % 16 == 0:
            time.sleep(0.001)


if __name__ == "__main__":
    socket, folder, life = sys.argv[1:]
    recorder = tallyd.Recorder(socket, app="spooling", spool=folder, spool_bytes=1, quiet=True, backoff=(0.001, 0.02))
    for thread in range(THREADS):
        threading.Thread(target=work, args=(recorder, f"{life}-{thread}")).start()
