"""``python -m benchmarks``: measure, print Markdown, keep the numbers."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks import (
    cluster,
    end_to_end,
    memory,
    meter,
    preview,
    reading,
    recovery,
    robustness,
    scaling,
    search_core,
    utilisation,
)
from benchmarks.dashboard import report as dashboard
from benchmarks.frameworks import report as frameworks
from benchmarks.quality import report as quality
from benchmarks.tables import Options, Table, machine

BENCHMARKS = {
    "search_core": search_core.tables,
    "end_to_end": end_to_end.tables,
    "utilisation": utilisation.tables,
    "memory": memory.tables,
    "recovery": recovery.tables,
    "reading": reading.tables,
    "meter": meter.tables,
    "cluster": cluster.tables,
    "scaling": scaling.tables,
    "robustness": robustness.tables,
    "quality": quality.tables,
    "preview": preview.tables,
    "dashboard": dashboard.tables,
    "frameworks": frameworks.tables,
}


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed, side by side.")
    parser.add_argument("which", nargs="*", metavar="BENCHMARK", help=f"{', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--peers", action="store_true", help="other systems too, installed once (1 GB)")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works, not to compare")
    parser.add_argument("--lcbench", type=Path, metavar="DIR", help="quality: where the LCBench surrogate is")
    parser.add_argument("--confirm", action="store_true", help="quality: on the tasks that nobody tunes to")
    parser.add_argument("--out", type=Path, help="keep the numbers in this JSON file")
    parser.add_argument("--render", type=Path, help="measure nothing; print what such a file holds as Markdown")
    options = parser.parse_args()
    if unknown := set(options.which) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    if options.render:
        kept = json.loads(options.render.read_text())
        print(markdown(kept["machine"], [Table(*table) for table in kept["tables"]]))
        return
    asked = Options(options.peers, options.quick, options.lcbench, options.confirm)
    where, tables = machine(), []
    for name in options.which or BENCHMARKS:
        print(name, file=sys.stderr)
        for table in BENCHMARKS[name](asked):
            tables.append(table)
            print(table.markdown())
            # After each table, so that what was measured outlives what fails.
            if options.out:
                options.out.write_text(json.dumps({"machine": where, "tables": tables}, indent=1) + "\n")
    print(where)


def markdown(where: str, tables: list[Table]) -> str:
    """Everything measured, for the README."""
    return "\n".join([where, "", *(table.markdown() for table in tables)])


if __name__ == "__main__":
    main()
