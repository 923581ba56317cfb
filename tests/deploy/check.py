#!/usr/bin/env python3
"""Checks deploy/ and the Dockerfiles without a container engine: they are linted, parsed, and their settings given to the daemon.

    tests/deploy/check.py target/debug/tallyd

Exits 1 and names each fault.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import helm_python
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
# Rules that are not followed, and why.
IGNORED = {
    "DL3008": "Debian keeps no old version of a package: a pinned one would be gone after its next security update",
    "DL3006": "the image `tallyd` is one's own, built a command before",
    "DL3066": "the user has a fixed id, given where it is made",
}
faults = []


def fault(text):
    faults.append(text)


def run(*words, **more):
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False, **more)


def dockerfiles():
    """hadolint, with every rule but those above."""
    program = Path(sys.executable).with_name("hadolint")
    for file in ("Dockerfile", "deploy/railway/Dockerfile"):
        done = run(str(program), "--no-color", *(f"--ignore={rule}" for rule in IGNORED), file)
        if done.returncode:
            fault(f"{file}: {done.stdout or done.stderr}")


def compose(program):
    """The first checks of `docker compose config`: used names exist, variables are documented, images have tags."""
    path = ROOT / "deploy/compose/compose.yaml"
    text = path.read_text()
    project = yaml.safe_load(text)
    head = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    for name in sorted(set(re.findall(r"(?<!\$)\$\{(\w+)", text))):
        if name not in head:
            fault(f"{path.name}: {name} has to be set, and the head does not say so")
    services, volumes = project["services"], set(project["volumes"])
    used = set()
    for name, service in services.items():
        if "build" not in service and not re.search(r":[\w.]+$", service.get("image", "")):
            fault(f"{path.name}: {name} has neither a build nor an image with a tag")
        if "build" in service and not (path.parent / service["build"] / "Dockerfile").exists():
            fault(f"{path.name}: {name}: no Dockerfile in {service['build']}")
        for other in service.get("depends_on", []):
            if other not in services:
                fault(f"{path.name}: {name} depends on {other}, which is no service")
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                if not (path.parent / source).exists():
                    fault(f"{path.name}: {name}: {source} is not there")
            elif source not in volumes:
                fault(f"{path.name}: {name}: no volume is called {source}")
            used.add(source)
    for volume in sorted(volumes - used):
        fault(f"{path.name}: nobody uses the volume {volume}")
    values = {"POSTGRES_PASSWORD": "p", "TALLYD_TOKEN": "t" * 32}
    settings = {}
    for name, value in services["tallyd"]["environment"].items():
        settings[name] = re.sub(r"\$\{(\w+)[^}]*\}", lambda match: values[match[1]], str(value))
    settled(program, path.name, settings)
    prometheus = yaml.safe_load((path.parent / "prometheus.yml").read_text())
    targets = [target for job in prometheus["scrape_configs"] for static in job["static_configs"] for target in static["targets"]]
    for target in targets:
        if target.split(":")[0] not in services:
            fault(f"prometheus.yml scrapes {target}, which is no service")


def settled(program, where, settings):
    """The daemon takes these settings."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([program, "config", "check"], env=settings, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        fault(f"{where}: the daemon does not take its settings: {done.stderr}")


def images(program):
    """The settings in the Dockerfiles."""
    for file in ("Dockerfile", "deploy/railway/Dockerfile"):
        words = re.findall(r"\b(TALLYD_\w+)=(\S+)", (ROOT / file).read_text())
        if not words:
            fault(f"{file}: no setting was found")
        settled(program, file, dict(words))


def unit(program):
    """systemd's own check of the unit, with the program in place."""
    text = (ROOT / "deploy/systemd/tallyd.service").read_text()
    settled(program, "tallyd.service", dict(pair.split("=") for pair in re.search(r"^Environment=(.*)$", text, re.M)[1].split()))
    if not shutil.which("systemd-analyze"):
        print("tallyd.service: not looked at, there is no systemd-analyze", file=sys.stderr)
        return
    if "ExecStart=/usr/bin/tallyd " not in text:
        fault("tallyd.service: the package puts the program at /usr/bin/tallyd")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tallyd.service"
        file.write_text(text.replace("/usr/bin/tallyd", str(Path(program).resolve())))
        done = run("systemd-analyze", "verify", "--man=no", str(file))
        # systemd-analyze prints an error and continues.
        told = [line for line in done.stderr.splitlines() if "tallyd.service" in line]
        if done.returncode or told:
            fault(f"tallyd.service: {done.stderr}")
        # Of 100: the unit may talk to any address, and its group may enter its folders.
        done = run("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", str(file))
        if done.returncode:
            fault(f"tallyd.service is too exposed: {(done.stdout + done.stderr)[-300:]}")


def scripts():
    for file in ("deploy/beside", *sorted(str(path) for path in (ROOT / "deploy/debian").glob("p*"))):
        shell = (ROOT / file).read_text().splitlines()[0].split("/")[-1].split()[-1]
        done = run(shell, "-n", str(file))
        if done.returncode or not os.access(ROOT / file, os.X_OK):
            fault(f"{file}: {done.stderr or 'it cannot be executed'}")


def schema(name, file):
    """Checks a file against a schema that check-jsonschema ships."""
    program = Path(sys.executable).with_name("check-jsonschema")
    done = run(str(program), "--builtin-schema", name, file)
    if done.returncode:
        fault(f"{file}: {done.stdout or done.stderr}")


def workflows():
    """actionlint, with shellcheck for the commands of each step."""
    programs = Path(sys.executable).parent
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / ".github/workflows").glob("*.yml"))
    done = run(str(programs / "actionlint"), "-no-color", f"-shellcheck={programs / 'shellcheck'}", *files)
    if done.returncode:
        fault(f".github/workflows: {done.stdout or done.stderr}")


def chart(program):
    """Helm's own lint, each rendered object against Kubernetes' schemas, and the settings of the pod."""
    folder = ROOT / "deploy/helm"
    told = helm_python.lint(folder, strict=True)
    for message in told["errors"] + [one["error"] for one in told["messages"] if one["severity"] > 1]:
        fault(f"deploy/helm: {message}")
    full = {
        "replicas": 2,
        "env": {"TALLYD_LOG": "debug"},
        "storage": {"size": "1Gi", "className": "fast"},
        "podAnnotations": {"prometheus.io/scrape": "true"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    }
    kinds = set()
    for values in ({}, full):
        rendered = helm_python.Chart.load(folder).render(values)
        for name, text in rendered.items():
            document = yaml.safe_load(text)
            kinds.add(document["kind"])
            try:
                kubernetes_validate.validate(document, "1.37", strict=True)
            except kubernetes_validate.ValidationError as error:
                fault(f"{name}: {error.message}")
            if document["kind"] == "StatefulSet":
                pod = document["spec"]["template"]["spec"]
                settings = {pair["name"]: pair["value"] for pair in pod["containers"][0]["env"]}
                settled(program, name, {**settings, "TALLYD_LISTEN_TCP_TOKENS": "t" * 32})
                if f"UID = {pod['securityContext']['runAsUser']}\n" not in (ROOT / "deploy/packages/oci.py").read_text():
                    fault(f"{name}: the pod's user is not the image's")
    if kinds != {"Service", "StatefulSet"}:
        fault(f"deploy/helm: rendered {kinds}")
    try:
        helm_python.Chart.load(folder).validate_schema({"replicas": "many"})
        fault("deploy/helm: values.schema.json takes a replica count that is not a number")
    except helm_python.HelmError:
        pass


def templates(program):
    """The daemon's settings in the files for Render, Fly and Railway."""
    tokens = {"TALLYD_LISTEN_TCP_TOKENS": "t" * 32}
    service = yaml.safe_load((ROOT / "deploy/render/render.yaml").read_text())["services"][0]
    settled(program, "render.yaml", {**tokens, **{pair["key"]: pair["value"] for pair in service["envVars"] if "value" in pair}})
    fly = tomllib.loads((ROOT / "deploy/fly/fly.toml").read_text())
    settled(program, "fly.toml", {**tokens, **fly["env"]})
    railway = json.loads((ROOT / "deploy/railway/railway.json").read_text())
    for where, file in (("render.yaml", service["dockerfilePath"]), ("fly.toml", fly["build"]["dockerfile"]), ("railway.json", railway["build"]["dockerfilePath"])):
        if not (ROOT / file).exists():
            fault(f"{where}: {file} is not there")
    # Each mounts its volume at the image's data folder.
    image = (ROOT / "Dockerfile").read_text()
    for where, folder in (("render.yaml", service["disk"]["mountPath"]), ("fly.toml", fly["mounts"]["destination"])):
        if f"VOLUME {folder}\n" not in image:
            fault(f"{where}: {folder} is not the image's volume")


def main():
    program = str(Path(sys.argv[1]).resolve())
    dockerfiles()
    compose(program)
    schema("vendor.compose-spec", "deploy/compose/compose.yaml")
    workflows()
    chart(program)
    templates(program)
    images(program)
    unit(program)
    scripts()
    for text in faults:
        print(f"fault: {text}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
