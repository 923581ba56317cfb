#!/usr/bin/env python3
"""Builds every package into a folder, from a built program and a clean checkout. Nothing is published.

    deploy/packages/build.py target/dist/tallyd target/packages [npm pypi cargo deb oci helm]

The same commit, program and SOURCE_DATE_EPOCH give the same bytes. SHA256SUMS has the sums of all. A kind that cannot be built is named at
the end with the reason, and the exit code is 1.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import bill
import npm
import oci
import pypi
from archive import EPOCH, Tree, sha256
from program import Program

ROOT = Path(__file__).resolve().parents[2]


def main():
    program, out, kinds = Program(sys.argv[1]), Path(sys.argv[2]).resolve(), sys.argv[3:] or list(KINDS)
    if unknown := set(kinds) - set(KINDS):
        raise SystemExit(f"error: {', '.join(unknown)} is not one of {', '.join(KINDS)}")
    crates = bill.Crates(ROOT, program.target)
    linked = crates.of("tallyd")
    parts = [bill.crate_component(package, crates.sums.get((package["name"], package["version"]))) for package in linked]
    page = ROOT / "page/node_modules"
    names = ["preact", "uplot"] if "no page" not in program.told["features"] else []
    parts += bill.npm_components(ROOT / "page", names)
    more = [(name, "MIT", (page / name / "LICENSE").read_text()) for name in names]
    if "documentation" in program.told["features"]:
        more.append(("the pages at /docs/", "MPL-2.0, BSD-3-Clause and MIT", (ROOT / "docs/site/licences.txt").read_text()))
    notices = bill.third_party([package for package in linked if package["source"]], more)
    not_built = {}
    for kind in kinds:
        folder = out / kind
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            for name, content in KINDS[kind](program, parts, notices):
                (folder / name).write_bytes(content)
                print(f"{len(content) / 1_000_000:8.1f} MB  {(folder / name).relative_to(out)}", flush=True)
        except (OSError, subprocess.CalledProcessError, SystemExit) as error:
            # Half a kind is not left behind.
            shutil.rmtree(folder)
            said = getattr(error, "stderr", None) or b""
            said = said.decode(errors="replace") if isinstance(said, bytes) else said
            not_built[kind] = f"{str(error).removeprefix('error: ')} {said.strip()[-500:]}".strip()
    (out / "tallyd.cdx.json").write_text(bill.sbom("tallyd", program.version, parts, program.commit))
    (out / "THIRD-PARTY.txt").write_text(notices)
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    sums = [f"{sha256(path.read_bytes())}  {path.relative_to(out)}\n" for path in files]
    (out / "SHA256SUMS").write_text("".join(sums))
    for kind, reason in not_built.items():
        print(f"NOT BUILT: {kind}: {reason}", file=sys.stderr)
    return 1 if not_built else 0


def of_npm(program, parts, notices):
    subprocess.run(["npm", "run", "--silent", "build"], cwd=ROOT / "clients/typescript", check=True)
    yield npm.client(ROOT, program)
    yield npm.daemon(ROOT, program, parts, notices)


def of_pypi(program, parts, notices):
    yield from pypi.client(ROOT, program)
    yield pypi.daemon(ROOT, program, parts, notices)


def of_cargo(program, _parts, _notices):
    """Every crate, in one go: those that need another one find it among them."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["cargo", "package", "--quiet", "--workspace", "--exclude=tallyd-fuzz-readers", "--no-verify", "--allow-dirty"]
        subprocess.run([*words, f"--target-dir={folder}"], cwd=ROOT, check=True, capture_output=True)
        for path in sorted(Path(folder).glob("package/*.crate")):
            yield path.name, path.read_bytes()


def of_deb(program, _parts, _notices):
    subprocess.run([ROOT / "scripts/need-cargo-deb"], check=True)
    # cargo-deb takes the program of a profile.
    place = ROOT / "target/dist/tallyd"
    if program.path != place:
        raise SystemExit(f"error: the Debian package is made of {place}, not of {program.path}")
    subprocess.run([ROOT / "scripts/shell-files", place, ROOT / "target/shell"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
        subprocess.run(["cargo", "deb", "--quiet", "--no-build", "--profile", "dist", "--output", folder], cwd=ROOT, check=True, env=environment)
        for path in sorted(Path(folder).glob("*.deb")):
            yield path.name, path.read_bytes()


def of_helm(program, _parts, _notices):
    """The chart, with the program's version as its own."""
    tree, folder = Tree(), ROOT / "deploy/helm"
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        text = path.read_text()
        if path.name == "Chart.yaml":
            text = text.replace("0.0.0", program.version)
        tree.add(f"tallyd/{path.relative_to(folder).as_posix()}", text)
    yield f"tallyd-{program.version}.tgz", tree.tar_gz()


KINDS = {
    "npm": of_npm,
    "pypi": of_pypi,
    "cargo": of_cargo,
    "deb": of_deb,
    "oci": lambda program, parts, notices: oci.images(ROOT, program, parts, notices),
    "helm": of_helm,
}


if __name__ == "__main__":
    sys.exit(main())
