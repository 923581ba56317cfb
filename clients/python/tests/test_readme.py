"""Every sample of the README runs unchanged, against the stub and a real daemon."""

import itertools
import os
import re
import subprocess
import sys

import pytest
from support import ROOT

PACKAGE = ROOT / "clients/python"
SAMPLES = re.findall(r"^## ([^\n]+)|^```python\n(.*?)^```", (PACKAGE / "README.md").read_text(), re.M | re.S)
# Code around a sample: the vendor's address, or a request to the sample's application.
FLASK = "\nassert app.test_client().get('/report/7').text == 'done'\n"
FASTAPI = "\nfrom starlette.testclient import TestClient\nassert TestClient(app).get('/report/7').json() == 'done'\n"
DJANGO = """
import sys, types
import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path
import tallyd
def view(request, number):
    tallyd.record("rentcast", endpoint="/avm/value")
    return HttpResponse("done")
urls = types.ModuleType("urls")
urls.urlpatterns = [path("report/<int:number>", view)]
sys.modules["urls"] = urls
settings.configure(ROOT_URLCONF="urls", ALLOWED_HOSTS=["*"], SECRET_KEY="k")
"""
DJANGO_CALL = """
from wsgiref.util import setup_testing_defaults
environ = {"PATH_INFO": "/report/7", "HTTP_X_USER": "u-42"}
setup_testing_defaults(environ)
assert b"".join(application(environ, lambda *_: None)) == b"done"
"""
RENTCAST = """
import requests
original = requests.Session.get_adapter
class Adapter(requests.adapters.HTTPAdapter):
    def send(self, request, **options):
        answer = requests.Response()
        answer.status_code, answer.request, answer.url = 200, request, request.url
        return answer
requests.Session.get_adapter = lambda self, url: Adapter()
"""
AFTER = "\nimport time\nassert recorder.flush(10)\n"


def samples():
    heading, number = "", itertools.count(1)
    for title, code in SAMPLES:
        heading = title or heading
        if code:
            yield pytest.param(code, id=f"{next(number)} {heading}")


@pytest.mark.parametrize("code", samples())
def test_a_sample_runs(code, daemon, stub, tmp_path):
    before = after = ""
    if "django" in code:
        before, after = DJANGO, DJANGO_CALL
    elif "flask" in code:
        after = FLASK
    elif "fastapi" in code:
        after = FASTAPI
    elif "api.rentcast.io" in code:
        before = RENTCAST
    if "Costs(" in code:
        code = code.replace("http://127.0.0.1:7420", daemon.url).replace("tallyd_1_…", daemon.token())
    records = not ("Costs(" in code or "configure(" in code)
    name = f"readme-{tmp_path.name}"
    tracker = re.search(r"\b(cost_)?tracker\b", code)
    recorder = f"{tracker[0]}.recorder" if tracker else "tallyd.default_recorder()"
    code = f"{before}\n{code}\n{after}\nimport tallyd\nrecorder = {recorder}\n{AFTER if records else ''}"
    if "litellm" in code:  # LiteLLM runs callbacks in the background.
        code += "while not recorder.stats().settled: time.sleep(0.02)\n"
    environment = {
        **os.environ,
        "PYTHONPATH": str(PACKAGE),
        "TALLYD_ENDPOINT": "unix:" + daemon.socket,
        **({"TALLYD_HTTP": daemon.url, "TALLYD_HTTP_TOKEN": daemon.token("admin")} if tracker else {}),
        "ANTHROPIC_BASE_URL": stub.url,
        "ANTHROPIC_API_KEY": "k",
        "OPENAI_BASE_URL": stub.url + "/v1",
        "OPENAI_API_KEY": "k",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "ANTHROPIC_API_BASE": stub.url,
    }
    code += f"\nprint({name!r}, recorder.stats().settled)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    settled = int(done.stdout.split()[-1])
    assert settled > 0 if records else settled == 0


def test_there_are_samples():
    assert len(list(samples())) >= 10
