#!/usr/bin/env python3
"""Builds every package into a folder, from built programs and a clean checkout. Nothing is published.

    deploy/packages/build.py PROGRAM[,PROGRAM] target/packages [npm pypi cargo deb oci helm symbols]

The first program is this machine's. Others are the same build for other machines, which npm and PyPI have as well. The same commit, programs
and SOURCE_DATE_EPOCH give the same bytes. SHA256SUMS has the sums of all. A kind that cannot be built is named at the end with the reason, and
the exit code is 1.
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
    paths, out, kinds = sys.argv[1].split(","), Path(sys.argv[2]).resolve(), sys.argv[3:] or list(KINDS)
    if unknown := set(kinds) - set(KINDS):
        raise SystemExit(f"error: {', '.join(unknown)} is not one of {', '.join(KINDS)}")
    program = Program(paths[0])
    programs = [program, *(Program(path, here=program) for path in paths[1:])]
    for one in programs:
        one.parts, one.notices = parts_of(one)
    not_built = {}
    for kind in kinds:
        folder = out / kind
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            for name, content in KINDS[kind](programs):
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(content)
                print(f"{len(content) / 1_000_000:8.1f} MB  {(folder / name).relative_to(out)}", flush=True)
        except (OSError, subprocess.CalledProcessError, SystemExit) as error:
            # Half a kind is not left behind.
            shutil.rmtree(folder)
            said = getattr(error, "stderr", None) or b""
            said = said.decode(errors="replace") if isinstance(said, bytes) else said
            not_built[kind] = f"{str(error).removeprefix('error: ')} {said.strip()[-500:]}".strip()
    (out / "tallyd.cdx.json").write_text(bill.sbom("tallyd", program.version, program.parts, program.commit))
    (out / "THIRD-PARTY.txt").write_text(program.notices)
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    sums = [f"{sha256(path.read_bytes())}  {path.relative_to(out)}\n" for path in files]
    (out / "SHA256SUMS").write_text("".join(sums))
    for kind, reason in not_built.items():
        print(f"NOT BUILT: {kind}: {reason}", file=sys.stderr)
    return 1 if not_built else 0


def parts_of(program):
    """The program's parts for the bill of materials, and their licences."""
    crates = bill.Crates(ROOT, program.target)
    linked = crates.of("tallyd")
    parts = [bill.crate_component(package, crates.sums.get((package["name"], package["version"]))) for package in linked]
    page = ROOT / "page/node_modules"
    names = ["preact", "uplot"] if "no page" not in program.told["features"] else []
    parts += bill.npm_components(ROOT / "page", names)
    more = [(name, "MIT", (page / name / "LICENSE").read_text()) for name in names]
    if "documentation" in program.told["features"]:
        more.append(("the pages at /docs/", "MPL-2.0, BSD-3-Clause and MIT", (ROOT / "docs/site/licences.txt").read_text()))
    return parts, bill.third_party([package for package in linked if package["source"]], more)


def of_npm(programs):
    subprocess.run(["npm", "run", "--silent", "build"], cwd=ROOT / "clients/typescript", check=True)
    yield npm.client(ROOT, programs)
    for program in programs:
        name, content = npm.daemon(ROOT, program)
        # npm refuses to install a file for another machine, so `npm install …/npm/*.tgz` must not find any.
        yield name if program.here is program else f"{program.npm_machine}/{name}", content


def of_pypi(programs):
    yield from pypi.client(ROOT, programs[0])
    for program in programs:
        yield pypi.daemon(ROOT, program)


def of_cargo(_programs):
    """Every crate, in one go: those that need another one find it among them."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["cargo", "package", "--quiet", "--workspace", "--exclude=tallyd-fuzz-readers", "--no-verify", "--allow-dirty"]
        subprocess.run([*words, f"--target-dir={folder}"], cwd=ROOT, check=True, capture_output=True)
        for path in sorted(Path(folder).glob("package/*.crate")):
            yield path.name, path.read_bytes()


def of_deb(programs):
    """Of this machine's program. cargo-deb takes it from where Cargo would have built it."""
    subprocess.run([ROOT / "scripts/need-cargo-deb"], check=True)
    program = programs[0]
    subprocess.run([ROOT / "scripts/shell-files", program.path, ROOT / "target/shell"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / program.target / "dist/tallyd"
        built.parent.mkdir(parents=True)
        built.write_bytes(program.content)
        built.chmod(0o755)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), "CARGO_TARGET_DIR": folder}
        words = ["cargo", "deb", "--quiet", "--no-build", "--no-strip", "--profile", "dist", "--target", program.target, "--output", f"{folder}/made"]
        subprocess.run(words, cwd=ROOT, check=True, env=environment, capture_output=True)
        for path in sorted(Path(folder).glob("made/*.deb")):
            yield path.name, path.read_bytes()


def of_helm(programs):
    """The chart, with the program's version as its own."""
    tree, folder, version = Tree(), ROOT / "deploy/helm", programs[0].version
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        text = path.read_text()
        if path.name == "Chart.yaml":
            text = text.replace("0.0.0", version)
        tree.add(f"tallyd/{path.relative_to(folder).as_posix()}", text)
    yield f"tallyd-{version}.tgz", tree.tar_gz()


def of_symbols(programs):
    """The programs' debug information, which the packages do not have."""
    for program in programs:
        yield f"tallyd-{program.version}-{program.machine}.debug", program.symbols()


KINDS = {
    "npm": of_npm,
    "pypi": of_pypi,
    "cargo": of_cargo,
    "deb": of_deb,
    "oci": lambda programs: oci.images(ROOT, programs[0]),
    "helm": of_helm,
    "symbols": of_symbols,
}


if __name__ == "__main__":
    sys.exit(main())
