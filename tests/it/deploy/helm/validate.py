"""Holds objects against the schemas of the Kubernetes API, which kubernetes-validate from PyPI brings: the oldest version
that the chart takes, and the newest that there is.

Standard input: {"oldest": "1.27", "objects": […]}. Standard output: {"checked": n, "unknown": [kinds], "faults": […]}.
"""

import json
import sys

import kubernetes_validate

asked = json.load(sys.stdin)
checked, unknown, faults = 0, set(), []
for version in (asked["oldest"], kubernetes_validate.latest_version()):
    for one in asked["objects"]:
        try:
            kubernetes_validate.validate(one, version, strict=True)
            checked += 1
        except kubernetes_validate.SchemaNotFoundError:
            unknown.add(one["kind"])
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(part) for part in error.path)
            faults.append(f"{one['kind']} {one['metadata']['name']}, {version}: {where}: {error.message}")
json.dump({"checked": checked, "unknown": sorted(unknown), "faults": faults}, sys.stdout)
