# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m boards.study.fit``: the analytic model's LUT coefficients from docs/reports/packing.json, by least squares.

The fit uses units that were packed by themselves and the units of whole cores.  The fit does not use the judged presets; these
are only compared with the result.  Writes sw/tellme/spec/lut_table.py.
"""

import json
import sys

import numpy as np

from boards.flow.build import ROOT
from boards.study.packing import REPORT, config_of
from tellme.spec.config import preset

__all__ = ["fit", "main"]

TABLE = ROOT / "sw" / "tellme" / "spec" / "lut_table.py"
HEAD = '''# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""LUT of each unit's terms (:func:`tellme.spec.sizing.lut_terms`); written by ``python -m boards.study.fit``."""

__all__ = ["LUT"]

#: Unit -> term -> LUT a unit of the term.
'''


def fit(report: dict) -> dict[str, dict[str, float]]:
    """Coefficients by unit and term, with the least squared error over the report's parts, the differences of
    its pairs, and its cores.

    A core may lack a unit that was changed after the core was packed.
    """
    from tellme.spec.sizing import lut_terms

    rows: dict[str, list[tuple[dict[str, float], int]]] = {}
    for unit, parts in report["parts"].items():
        for part in parts:
            rows.setdefault(unit, []).append((lut_terms(config_of(part["changes"]))[unit], part["comb"]))
    for unit, pairs in report["pairs"].items():
        for one, other in pairs:
            before, after = (lut_terms(config_of(part["changes"]))[unit] for part in (one, other))
            rows.setdefault(unit, []).append(({name: after.get(name, 0) - before.get(name, 0) for name in after},
                                              other["comb"] - one["comb"]))
    for core in report["cores"].values():
        for unit, terms in lut_terms(config_of(core["changes"])).items():
            if unit in core["units"]:
                rows.setdefault(unit, []).append((terms, core["units"][unit]["comb"]))
    table = {}
    for unit, equations in rows.items():
        names = list(dict.fromkeys(name for terms, _ in equations for name in terms))
        left = np.array([[terms.get(name, 0) for name in names] for terms, _ in equations], float)
        right = np.array([comb for _, comb in equations], float)
        found, _, rank, _ = np.linalg.lstsq(left, right, rcond=None)
        if rank < len(names):
            raise ValueError(f"{unit}: {len(equations)} packings do not tell {', '.join(names)} apart")
        table[unit] = {name: round(float(value), 1) for name, value in zip(names, found, strict=True)}
    return table


def main() -> int:
    report = json.loads(REPORT.read_text())
    table = fit(report)
    lines = [f'    "{unit}": {{\n' + "".join(f'        "{name}": {value},\n' for name, value in terms.items()) + "    },\n"
             for unit, terms in table.items()]
    TABLE.write_text(HEAD + "LUT: dict[str, dict[str, float]] = {\n" + "".join(lines) + "}\n")
    from tellme.spec import lut_table
    from tellme.spec.sizing import dsp, ebr, lut

    lut_table.LUT.clear()
    lut_table.LUT.update(table)
    packed = dict(report["judged"])
    for path in sorted(REPORT.parent.glob("*-*f.json")):
        build = json.loads(path.read_text())
        packed[f"{path.stem}: {build['preset']}"] = {key: build[key]["used"] for key in ("comb", "ebr", "dsp")}
    for name, cells in packed.items():
        config = preset(name.split(": ")[-1])
        models = {"comb": lut(config), "ebr": ebr(config), "dsp": dsp(config)}
        print(f"{name:<32}" + "".join(f"{key} {sum(model.values())} of {cells[key]} "
                                      f"({sum(model.values()) / cells[key] - 1:+.1%})   " for key, model in models.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
