"""The packages' third-party parts: a CycloneDX bill of materials, and the licences' texts."""

import json
import subprocess
import tomllib
import uuid
from datetime import datetime, timezone
from pathlib import Path

from archive import EPOCH, sha256

# The names under which crates keep a licence's text.
LICENCES = ("license", "licence", "copying", "notice", "unlicense", "copyright")


class Crates:
    """The crates that are linked into the program, from Cargo's own resolution."""

    def __init__(self, root, target):
        words = ["cargo", "metadata", "--format-version=1", "--locked", "--offline", f"--filter-platform={target}"]
        self.metadata = json.loads(subprocess.run(words, cwd=root, check=True, capture_output=True, text=True).stdout)
        lock = tomllib.loads((Path(root) / "Cargo.lock").read_text())
        self.sums = {(entry["name"], entry["version"]): entry.get("checksum") for entry in lock["package"]}
        self.by_id = {package["id"]: package for package in self.metadata["packages"]}

    def of(self, name):
        """The crates that `name` is built from, itself left out; nothing that only tests or build scripts need."""
        nodes = {node["id"]: node for node in self.metadata["resolve"]["nodes"]}
        first = next(id for id in self.metadata["workspace_members"] if self.by_id[id]["name"] == name)
        found, waiting = set(), [first]
        while waiting:
            for dependency in nodes[waiting.pop()]["deps"]:
                kinds = [kind["kind"] for kind in dependency["dep_kinds"]]
                if None in kinds and dependency["pkg"] not in found:
                    found.add(dependency["pkg"])
                    waiting.append(dependency["pkg"])
        packages = [self.by_id[id] for id in found]
        return sorted(packages, key=lambda package: (package["name"], package["version"]))


def crate_component(package, checksum):
    name, version = package["name"], package["version"]
    component = {
        "type": "library",
        "bom-ref": f"pkg:cargo/{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:cargo/{name}@{version}",
    }
    if package["license"]:
        component["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum:
        component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return component


def npm_components(folder, names):
    """Packages of npm that the build of `folder` includes."""
    lock = json.loads((Path(folder) / "package-lock.json").read_text())
    components = []
    for name in names:
        entry = lock["packages"][f"node_modules/{name}"]
        purl = f"pkg:npm/{name.replace('@', '%40')}@{entry['version']}"
        component = {"type": "library", "bom-ref": purl, "name": name, "version": entry["version"], "purl": purl}
        if entry.get("license"):
            component["licenses"] = [{"expression": entry["license"]}]
        components.append(component)
    return components


def sbom(name, version, components, commit):
    """A CycloneDX document, version 1.6."""
    parts = sorted(components, key=lambda part: part["bom-ref"])
    body = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(EPOCH, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": name,
                "name": name,
                "version": version,
                "licenses": [{"expression": "MIT OR Apache-2.0"}],
                "properties": [{"name": "tallyd:commit", "value": commit}],
            },
        },
        "components": parts,
        "dependencies": [{"ref": name, "dependsOn": [part["bom-ref"] for part in parts]}],
    }
    # The same parts have the same number, wherever they are put together.
    body["serialNumber"] = f"urn:uuid:{uuid.UUID(sha256(json.dumps(body, sort_keys=True).encode())[:32])}"
    return json.dumps(body, indent=1) + "\n"


def licence_files(package):
    folder = Path(package["manifest_path"]).parent
    names = [entry for entry in folder.iterdir() if entry.is_file() and entry.name.lower().startswith(LICENCES)]
    return sorted(names)


def third_party(packages, more=()):
    """The licences of all parts: each text once, after the names of the parts that it is of. `more` are (name, licence, text)."""
    texts, named, without = {}, [], []
    for package in packages:
        label = f"{package['name']} {package['version']}"
        named.append(f"{label}: {package['license'] or 'see its text'}")
        files = licence_files(package)
        if not files:
            without.append(label)
        for file in files:
            text = file.read_text(errors="replace").strip()
            texts.setdefault(text, []).append(label)
    for label, licence, text in more:
        named.append(f"{label}: {licence}")
        texts.setdefault(text.strip(), []).append(label)
    lines = ["Parts of this package that are not tallyd's own, and their licences.", "", *sorted(named), ""]
    if without:
        lines += ["These parts have no licence's text in their packages; their licences' names are above:", ", ".join(without), ""]
    for text, labels in sorted(texts.items(), key=lambda pair: pair[1]):
        lines += ["=" * 100, ", ".join(sorted(set(labels))), "-" * 100, text, ""]
    return "\n".join(lines)
