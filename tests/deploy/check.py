#!/usr/bin/env python3
"""What is said in deploy/ and in the Dockerfiles, as far as it can be told without a container engine: linted, parsed, and held to the daemon.

    tests/deploy/check.py target/debug/tallyd

Exits 1 and names each fault.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
# What is not followed, and why.
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
    """What `docker compose config` looks at first: names that are used are there, variables are told, images have tags."""
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
    """The settings that the Dockerfiles make."""
    for file in ("Dockerfile", "deploy/railway/Dockerfile"):
        words = re.findall(r"\b(TALLYD_\w+)=(\S+)", (ROOT / file).read_text())
        if not words:
            fault(f"{file}: no setting was found")
        settled(program, file, dict(words))


def unit(program):
    """systemd's own look at the unit, with the program where it is."""
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
        # It says what it does not understand, and goes on.
        told = [line for line in done.stderr.splitlines() if "tallyd.service" in line]
        if done.returncode or told:
            fault(f"tallyd.service: {done.stderr}")


def scripts():
    for file in ("deploy/beside", *sorted(str(path) for path in (ROOT / "deploy/debian").glob("p*"))):
        shell = (ROOT / file).read_text().splitlines()[0].split("/")[-1].split()[-1]
        done = run(shell, "-n", str(file))
        if done.returncode or not os.access(ROOT / file, os.X_OK):
            fault(f"{file}: {done.stderr or 'it cannot be executed'}")


def main():
    program = str(Path(sys.argv[1]).resolve())
    dockerfiles()
    compose(program)
    images(program)
    unit(program)
    scripts()
    for text in faults:
        print(f"fault: {text}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
