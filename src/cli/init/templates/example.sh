#!/bin/sh
# Records one call: set -a; . ./tallyd.env; sh tallyd-example.sh
tallyd record --provider claude --model claude-sonnet-5 --input-tokens 1200 --output-tokens 350
