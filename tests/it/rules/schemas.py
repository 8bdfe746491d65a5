"""Judges examples by JSON Schemas, read from standard input; called by events.rs."""

import json
import sys

from jsonschema import Draft202012Validator

faults = []
for check in json.load(sys.stdin):
    Draft202012Validator.check_schema(check["schema"])
    validator = Draft202012Validator(check["schema"])
    for example in check["good"]:
        faults += [f"{check['name']}: {error.message} at {error.json_path}" for error in validator.iter_errors(example)]
    for example in check["bad"]:
        if validator.is_valid(example):
            faults.append(f"{check['name']}: {json.dumps(example)} passes")
print("\n".join(faults) or "all good")
