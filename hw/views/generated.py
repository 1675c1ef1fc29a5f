"""Files that are written from the tables of the machine, so that nothing is declared twice.

`python -m codesign.hw.views.generated` writes them; a test holds them against the tables.
"""

from collections.abc import Callable
from pathlib import Path

from codesign.hw.machine import encoding, events, functions, limits, sigmoid
from codesign.hw.platform.files import write_atomic
from codesign.hw.views import evaluator_tables

_HW = Path(__file__).parents[1]

GENERATED: dict[Path, Callable[[], str]] = {
    _HW / "rtl" / "isa_pkg.sv": encoding.package,
    _HW / "rtl" / "functions_pkg.sv": functions.package,
    _HW / "rtl" / "sigmoid_pkg.sv": sigmoid.package,
    _HW / "rtl" / "trace_pkg.sv": events.package,
    _HW / "rtl" / "limits_pkg.sv": limits.package,
    _HW / "views" / "evaluator" / "machine_tables.h": evaluator_tables.header,
}


def write() -> None:
    """Write every file anew that is not what its table says."""
    for path, text in GENERATED.items():
        content = text().encode()
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, content)


if __name__ == "__main__":
    write()
