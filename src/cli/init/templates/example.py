"""Records one call: set -a; . ./tallyd.env; python3 tallyd_example.py"""

import tallyd

tallyd.configure(app="example")  # TALLYD_ENDPOINT, and TALLYD_TOKEN over TCP
tallyd.record("claude", model="claude-sonnet-5", input_tokens=1200, output_tokens=350)
if not tallyd.default_recorder().flush(timeout=5):
    raise SystemExit("the daemon has not acknowledged it: is it running?")
print("the call is durable")
