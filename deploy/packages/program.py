"""The packaged program: its own description, and the systems that it runs on."""

import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

MACHINES = {"x86_64": ("x64", "amd64"), "aarch64": ("arm64", "arm64")}


class Program:
    """A built tallyd, stripped of its debug information."""

    def __init__(self, path):
        self.path = Path(path).resolve()
        told = self.run("--version").splitlines()
        self.version = told[0].split()[1]
        self.told = dict(line.split(": ", 1) for line in told[1:])
        self.commit = self.told["commit"]
        self.target = self.told["build"].split(", ")[1]
        self.machine = self.target.split("-")[0]
        # As npm and as Debian call it.
        self.npm_machine, self.deb_machine = MACHINES[self.machine]
        self.content = self._stripped()
        self.glibc = self._glibc()

    def run(self, *words):
        return subprocess.run([self.path, *words], check=True, capture_output=True, text=True).stdout

    def _stripped(self):
        with tempfile.TemporaryDirectory() as folder:
            stripped = Path(folder) / "tallyd"
            shutil.copy(self.path, stripped)
            subprocess.run(["strip", "--strip-all", stripped], check=True)
            return stripped.read_bytes()

    def _glibc(self):
        """The oldest version of the C library that it runs with: (2, 34)."""
        symbols = subprocess.run(["objdump", "-T", self.path], check=True, capture_output=True, text=True).stdout
        versions = re.findall(r"GLIBC_(\d+)\.(\d+)", symbols)
        return max((int(major), int(minor)) for major, minor in versions)

    @functools.cache
    def shell_files(self, root):
        """Man pages and completions, by their name."""
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([Path(root) / "scripts/shell-files", self.path, folder], check=True)
            files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
            return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
