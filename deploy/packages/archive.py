"""Archives whose bytes depend on their content alone: names sorted, one time stamp, no user, no machine."""

import gzip
import hashlib
import io
import os
import tarfile
import time
import zipfile
from pathlib import Path

# Git's time of the commit, by the Makefile. A package that is built by hand is dated 1 January 2026.
EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH") or 1_767_225_600)


class Tree:
    """Files by their path in the archive: each has its bytes and its mode. Links have a target."""

    def __init__(self):
        self.files, self.links, self.folders = {}, {}, {}

    def add(self, path, content, mode=0o644):
        self.files[path] = (content.encode() if isinstance(content, str) else content, mode)

    def copy(self, path, source, mode=None):
        source = Path(source)
        executable = os.access(source, os.X_OK)
        self.add(path, source.read_bytes(), mode if mode is not None else (0o755 if executable else 0o644))

    def copy_folder(self, path, source, skip=lambda name: False):
        """Every file below a folder. A name that `skip` takes is left out."""
        source = Path(source)
        for entry in sorted(source.rglob("*")):
            name = entry.relative_to(source).as_posix()
            if skip(name):
                continue
            if entry.is_symlink():
                self.links[f"{path}/{name}"] = os.readlink(entry)
            elif entry.is_file():
                self.copy(f"{path}/{name}", entry)

    def tar(self, owners=None):
        """As a tar file. `owners` maps a path's beginning to (uid, gid); the rest is root's."""
        done, out = set(), io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted([*self.files, *self.links, *self.folders]):
                for folder in reversed(Path(path).parents):
                    if str(folder) != "." and str(folder) not in self.folders:
                        self._entry(archive, done, str(folder), tarfile.DIRTYPE, 0o755, owners)
                if path in self.folders:
                    self._entry(archive, done, path, tarfile.DIRTYPE, self.folders[path], owners)
                elif path in self.links:
                    self._entry(archive, done, path, tarfile.SYMTYPE, 0o777, owners, target=self.links[path])
                else:
                    content, mode = self.files[path]
                    self._entry(archive, done, path, tarfile.REGTYPE, mode, owners, content=content)
        return out.getvalue()

    @staticmethod
    def _entry(archive, done, path, kind, mode, owners, content=b"", target=""):
        if path in done:
            return
        done.add(path)
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode, entry.mtime, entry.size, entry.linkname = kind, mode, EPOCH, len(content), target
        for start, (uid, gid) in (owners or {}).items():
            if path == start or path.startswith(f"{start}/"):
                entry.uid, entry.gid = uid, gid
        archive.addfile(entry, io.BytesIO(content))

    def tar_gz(self, owners=None):
        return gzipped(self.tar(owners))

    def zip(self, last=()):
        """As a zip file; the paths in `last` come at its end, as a wheel wants it."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in [*sorted(set(self.files) - set(last)), *last]:
                content, mode = self.files[path]
                entry = zipfile.ZipInfo(path, time.gmtime(max(EPOCH, 315_532_800))[:6])
                entry.external_attr = (0o100000 | mode) << 16
                entry.create_system = 3
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, content)
        return out.getvalue()


def gzipped(content):
    out = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=9, mtime=EPOCH) as compressed:
        compressed.write(content)
    return out.getvalue()


def sha256(content):
    return hashlib.sha256(content).hexdigest()
