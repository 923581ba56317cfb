"""The archive in a bucket: moto answers as S3, and DuckDB reads the objects."""

import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request

import duckdb
import s3fs

NAME = "calls"
KEY = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
PATIENCE = 240


class Service:
    """A server of moto, with a bucket."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        program = pathlib.Path(sys.executable).with_name("moto_server")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], **quiet)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                request = urllib.request.Request(f"{self.url}/{NAME}", method="PUT")
                urllib.request.urlopen(request).close()
                return
            except OSError:
                if time.monotonic() > end:
                    sys.exit(f"error: moto does not answer within {PATIENCE} s")
                time.sleep(0.1)

    def settings(self, prefix):
        """The settings with which a command archives into the bucket."""
        return {**KEY, "AWS_ENDPOINT_URL": self.url, "TALLYD_RETENTION_ARCHIVE": f"s3://{NAME}/{prefix}"}

    def files(self):
        return s3fs.S3FileSystem(key="test", secret="test", client_kwargs={"endpoint_url": self.url}, use_listings_cache=False)

    def duckdb(self):
        """A DuckDB that reads `s3://`."""
        duck = duckdb.connect()
        duck.register_filesystem(self.files())
        return duck

    def end(self):
        self.process.terminate()
        self.process.wait(PATIENCE)
