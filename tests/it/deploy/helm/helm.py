"""Lints and renders a chart with helm's own code, which helm-python-sdk from PyPI brings compiled.

Standard input: {"chart": folder, "cases": [{"release": name, "values": {…}}, …]}. Standard output: {"lint": …,
"cases": [{"files": {path: text}} or {"refused": reason}, …]}.
"""

import json
import sys

from helm_python.chart import Chart, lint


def render(chart, case):
    try:
        chart.validate_schema(chart.merge_values(case["values"]))
        return {"files": chart.render(case["values"], name=case["release"], namespace="chat")}
    except Exception as error:
        return {"refused": str(error)}


asked = json.load(sys.stdin)
with Chart.load(asked["chart"]) as chart:
    cases = [render(chart, case) for case in asked["cases"]]
json.dump({"lint": lint(asked["chart"]), "cases": cases}, sys.stdout)
