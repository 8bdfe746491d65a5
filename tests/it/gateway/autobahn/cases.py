"""Runs the cases of the Autobahn test suite against a WebSocket server that says back what it hears.

usage: cases.py URL CASES ...
Writes one line of JSON for each case.
"""

import asyncio
import json
import sys

from kosoku import run_fuzzingclient

try:
    from kosoku import FailureError
except ImportError:  # not exported by all versions
    FailureError = Exception


async def main(url, cases):
    try:
        results = await run_fuzzingclient(url, cases=cases, concurrency=4)
    except FailureError as failed:
        # Which cases failed, and why: the test decides.
        results = failed.results
    for case in results:
        said = {
            "case": case.case_id,
            "behavior": case.behavior.value,
            "close": case.behavior_close.value,
            "why": f"{case.result} {case.result_close}",
        }
        print(json.dumps(said))


asyncio.run(main(sys.argv[1], sys.argv[2:]))
