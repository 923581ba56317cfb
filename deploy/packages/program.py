"""The packaged programs: each one's machine, its own description, and the systems that it runs on."""

import functools
import os
import re
import subprocess
import tempfile
from pathlib import Path

# By the machine's number in an ELF file: its name, and as npm and Debian call it.
MACHINES = {62: ("x86_64", "x64", "amd64"), 183: ("aarch64", "arm64", "arm64")}


class Program:
    """A built tallyd, stripped of its debug information. One for another machine is described by `here`, the same build for this one."""

    def __init__(self, path, here=None):
        self.path = Path(path).resolve()
        self.here = here or self
        with open(self.path, "rb") as file:
            head = file.read(20)
        self.machine, self.npm_machine, self.deb_machine = MACHINES[int.from_bytes(head[18:], "little")]
        told = self.here.run("--version").splitlines()
        self.version = told[0].split()[1]
        self.told = dict(line.split(": ", 1) for line in told[1:])
        self.commit = self.told["commit"]
        self.target = self.told["build"].split(", ")[1].replace(self.here.machine, self.machine)
        self.content = self._copied("--strip-all")
        self.glibc = self._glibc()

    def run(self, *words):
        return subprocess.run([self.path, *words], check=True, capture_output=True, text=True).stdout

    def symbols(self):
        """The debug information alone, for debuggers and crash reports."""
        return self._copied("--only-keep-debug", "--compress-debug-sections=zlib")

    def _copied(self, *words):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "tallyd"
            program, environment = objcopy()
            subprocess.run([program, *words, self.path, copy], check=True, env=environment)
            return copy.read_bytes()

    def _glibc(self):
        """The oldest version of the C library that it runs with: (2, 28)."""
        needed = subprocess.run(["readelf", "--version-info", self.path], check=True, capture_output=True, text=True).stdout
        versions = re.findall(r"GLIBC_(\d+)\.(\d+)", needed)
        return max((int(major), int(minor)) for major, minor in versions)

    @functools.cache
    def shell_files(self, root):
        """Man pages and completions, by their name."""
        if self.here is not self:
            return self.here.shell_files(root)
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([Path(root) / "scripts/shell-files", self.path, folder], check=True)
            files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
            return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@functools.cache
def objcopy():
    """LLVM's, of the Rust toolchain: it knows every machine. The program, and the environment in which it finds its library."""
    told = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    host = re.search(r"^host: (.*)$", told, re.M)[1]
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], check=True, capture_output=True, text=True).stdout.strip()
    return Path(sysroot) / "lib/rustlib" / host / "bin/rust-objcopy", {**os.environ, "LD_LIBRARY_PATH": f"{sysroot}/lib"}
