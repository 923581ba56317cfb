"""The packages of Node, Python and Rust, by the commands that README.md and docs/guide/install.md show."""

import os
import re
import subprocess
import tarfile
import time
from pathlib import Path

from user import CALL, PATIENCE, User, give, megabytes, seen, wait

ROOT = Path(__file__).resolve().parents[2]


def blocks(document, section):
    """The commands of a section: those of shell blocks, and those of examples with their output."""
    text = (ROOT / document).read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = re.findall(r"^```(sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    shell = [block for kind, block in found if kind == "sh"]
    return shell, [line[2:] for kind, block in found if kind == "console" for line in block.splitlines() if line.startswith("$ ")]


def with_clone(user):
    """The built packages are where a clone has them."""
    (user.folder / "tallyd/target").mkdir(parents=True)
    (user.folder / "tallyd/target/packages").symlink_to(user.packages)
    give(user.folder)


def first_screen(user, start, tallyd, prompt, sql=None):
    """Runs README's commands: `start` installs and starts, those of `prompt` come from a second shell. Returns the seconds from the
    first command to the durable call."""
    with_clone(user)
    shell = lambda commands: user.run("bash", "-euo", "pipefail", "-c", commands)
    sql = sql or (lambda text: user.run(*tallyd, "psql", "-Atc", text))
    record, *others = prompt
    begun = time.time()
    user.launch("bash", "-euo", "pipefail", "-c", start)
    wait("the daemon accepts records", lambda: user.alive() and user.get("/readyz"), PATIENCE)
    answer = shell(record)
    seconds = time.time() - begun
    if '"cost_usd":"0.0054"' not in answer:
        raise SystemExit(f"error: the answer is not README's: {answer}")
    for again in (False, True):
        if again:
            user.start(*tallyd)
        seen(user, tallyd, sql)
        if not again:
            user.stop()
    for command in [*others, *blocks("README.md", "Record")[0]]:
        shell(command)
    user.stop()
    return seconds


def guide(user, section):
    """Runs a section of docs/guide/install.md, whose daemon is in the background, in an empty folder."""
    folder = user.folder / "guide"
    folder.mkdir()
    other = User(folder, user.packages)
    with_clone(other)
    [commands] = blocks("docs/guide/install.md", section)[0]
    *commands, costs = commands.splitlines()
    # The daemon may still be making the tables: the guide says to ask again.
    script = "\n".join(["set -m", "trap 'kill %1; wait' EXIT", *commands, f"until {costs} | grep -q claude; do sleep 0.2; done"])
    # With job control, as in a terminal: the signal reaches each process of the job, of which npx is only the first.
    other.run("bash", "-euo", "pipefail", "-c", script)
    wait("the daemon has ended", other.is_free)


def npm(user):
    # PostgreSQL's package has no psql; this driver of npm's is installed outside of the measured time.
    query = (
        "import('pg').then(async ({ default: { Client } }) => { const client = new Client({ host: process.argv[1], user: 'tallyd', database: 'tallyd' });"
        "await client.connect(); console.log((await client.query({ text: process.argv[2], rowMode: 'array' })).rows[0][0]); await client.end(); })"
    )
    beside = user.folder / "sql"

    def sql(text):
        if not beside.exists():
            beside.mkdir()
            give(beside)
            user.run("npm", "install", "--no-audit", "--no-fund", "--prefix", beside, "pg")
        return user.run("node", "-e", query, user.folder / "tallyd-data/postgres", text, cwd=beside)

    [node, _], prompt = blocks("README.md", "Install and start")
    seconds = first_screen(user, node, ["npx", "--no-install", "tallyd"], prompt, sql)
    guide(user, "Node")
    return seconds, megabytes(user.folder / "node_modules")


def pip(user):
    [_, python], prompt = blocks("README.md", "Install and start")
    prompt = [f". venv/bin/activate\n{command.removeprefix('npx ')}" for command in prompt]
    seconds = first_screen(user, python, ["venv/bin/tallyd"], prompt)
    guide(user, "Python")
    return seconds, megabytes(user.folder / "venv")


def cargo(user):
    """Installs the daemon as `cargo install tallyd` will, with the built crates in the registry's place. The compiler is the developer's own."""
    subprocess.run([ROOT / "scripts/need-postgresql"], check=True)
    crates = user.folder / "crates"
    for path in sorted(user.packages.glob("cargo/*.crate")):
        with tarfile.open(path) as crate:
            crate.extractall(crates, filter="data")
    names = {folder: folder.name.rsplit("-", 1)[0] for folder in crates.iterdir()}
    places = [f'--config=patch.crates-io.{name}.path="{folder}"' for folder, name in names.items() if name != "tallyd"]
    tallyd = next(folder for folder, name in names.items() if name == "tallyd")
    environment = {**os.environ, "CARGO_TARGET_DIR": str(user.cache / "cargo")}
    begun = time.monotonic()
    # Without optimisation: the table's seconds are not of a user, and the question is whether the crates are whole.
    words = ["cargo", "install", "--quiet", "--debug", f"--root={user.folder}/installed", f"--path={tallyd}", *places]
    subprocess.run(words, env=environment, cwd=user.folder, check=True)
    give(user.folder)
    program = [user.folder / "installed/bin/tallyd"]
    if "page" not in user.run(*program, "--version").splitlines()[-1].split(": ")[1].split(", "):
        raise SystemExit("error: the crate was built without its page")
    user.start(*program)
    user.run(*program, *CALL)
    seconds = time.monotonic() - begun
    for again in (False, True):
        if again:
            user.start(*program)
        seen(user, program, lambda text: user.run(*program, "psql", "-Atc", text))
        user.stop()
    return seconds, megabytes(user.folder / "installed")
