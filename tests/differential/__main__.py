"""Run the net by hand: statistics, and the graphs that fail."""

import argparse
import time
from pathlib import Path

from .harness import Statistics, judged, keep


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m differential", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=100, help="how many")
    parser.add_argument("--keep", type=Path, help="a folder for the graphs that fail")
    parser.add_argument("--refused", action="store_true", help="list what is refused, too")
    asked = parser.parse_args()
    began, statistics = time.monotonic(), Statistics()
    for verdict in judged(range(asked.first, asked.first + asked.count)):
        statistics.verdicts.append(verdict)
        if verdict.bad or asked.refused and verdict.outcome == "refused":
            where = f" {keep(verdict, asked.keep)}" if asked.keep else ""
            print(f"{verdict}{where}", flush=True)
    print("\n".join(statistics.lines()))
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
