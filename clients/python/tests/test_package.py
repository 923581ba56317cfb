"""The package as published: built from a fresh copy, with its licences, readme and metadata."""

import email
import shutil
import subprocess
import sys
import venv
import zipfile

from support import ROOT

PACKAGE = ROOT / "clients/python"


def test_a_fresh_copy_installs_with_its_metadata(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(
        PACKAGE, copy, ignore=shutil.ignore_patterns("build", "dist", "*.egg-info", "__pycache__", ".*_cache")
    )
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "wheel",
        "--quiet",
        "--no-deps",
        "-w",
        str(tmp_path),
    ]
    subprocess.run([*pip, str(copy)], check=True, timeout=300)
    (wheel,) = tmp_path.glob("tallyd-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        about = next(name for name in names if name.endswith("dist-info/METADATA"))
        metadata = email.message_from_bytes(packed.read(about))
        licences = [packed.read(name).decode() for name in sorted(names) if "/LICENSE-" in name]
    assert licences == [(ROOT / name).read_text() for name in ("LICENSE-APACHE", "LICENSE-MIT")]
    assert {name.split("/")[0] for name in names} == {"tallyd", about.split("/")[0]}, "no tests"
    assert "tallyd/py.typed" in names
    assert metadata["License-Expression"] == "MIT OR Apache-2.0" and metadata["Keywords"] and metadata["Summary"]
    assert any("github.com/tallyd/tallyd" in url for url in metadata.get_all("Project-URL"))
    assert "# tallyd for Python" in metadata.get_payload()
    # As imported in an environment that has only msgpack besides.
    venv.create(tmp_path / "venv", with_pip=False)
    folder = next((tmp_path / "venv/lib").glob("python*/site-packages"))
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder)
    import msgpack

    shutil.copytree(next(iter(msgpack.__path__)), folder / "msgpack")
    code = "import tallyd; print(tallyd.Recorder(disabled=True).record('x'))"
    done = subprocess.run([tmp_path / "venv/bin/python", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done.stderr
