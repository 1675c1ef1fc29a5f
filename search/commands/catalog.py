"""What is built in: the models and machines, listed or printed to start from."""

import sys
from dataclasses import asdict
from typing import Any

from codesign.hw.errors import CodesignError
from codesign.hw.machine.config import PRESETS, HardwareConfig, to_toml
from codesign.search.api.inputs import load_model, machine
from codesign.search.pricing import machine_tables
from codesign.search.runs.output import print_json
from codesign.search.terminal import tables


def show_models(as_json: bool) -> None:
    """List the built-in families with their sizes, and their MACs at sequence length 128."""
    from codesign.models.zoo.families import FAMILIES
    from codesign.models.zoo.weights import parameter_count

    rows = []
    for name, config in FAMILIES.items():
        fields = vars(config)
        layers = fields.get("layers", getattr(config, "layers", None))
        rows.append(
            {
                "model": name,
                "kind": type(config).__name__.removesuffix("Config"),
                "layers": layers,
                "d_model": fields.get("d_model"),
                "heads": _one_or_all(fields.get("heads")),
                "d_ff": _one_or_all(fields.get("d_ff")),
                "parameters": parameter_count(config),
                "macs": load_model(name).graph.macs,
            }
        )
    if as_json:
        print_json(rows)
        return
    headers = [
        *((name, "") for name in ("model", "kind", "layers", "d_model", "heads", "d_ff")),
        ("parameters", "M"),
        ("MACs", "G"),
    ]
    cells = [
        [
            *("" if row[key] is None else str(row[key]) for key, _ in headers[:6]),
            f"{row['parameters'] / 1e6:.1f}",
            f"{row['macs'] / 1e9:.2f}",
        ]
        for row in rows
    ]
    console = tables.console()
    title = "Built-in models (MACs at sequence length 128, batch 1)"
    console.print(tables.plain_table(headers, cells, title, console.width))


def show_hardware(name: str | None, template: str | None, as_json: bool) -> None:
    """List the preset machines, or print one: as the TOML that `--hw` reads, or as a `template`.

    A template is its costs ("ert") or areas ("art") in Accelergy's form, to edit and to give to
    `--energy-table` or `--area-table`. Raises CodesignError without a name or for an unknown one.
    """
    if template is not None and (name is None or as_json):
        remedy = "drop --json" if name is not None else f"name one of {', '.join(PRESETS)}"
        raise CodesignError(f"--{template} prints the table of one machine as YAML: {remedy}")
    if name is not None:
        config = machine(name)
        if as_json:
            print_json(config)
        else:
            sys.stdout.write(_template(config, template) if template else to_toml(config))
        return
    from codesign.hw.costs.area import area_mm2

    areas = {preset: area_mm2(config).total for preset, config in PRESETS.items()}
    if as_json:
        rows = [{**asdict(c), "area_mm2": areas[preset][1]} for preset, c in PRESETS.items()]
        print_json(rows)
        return
    console = tables.console()
    console.print(machine_tables.hardware_table(PRESETS, areas, console.width))


def _template(config: HardwareConfig, kind: str) -> str:
    """Our nominal numbers for one machine, with a line that says what they are."""
    from codesign.hw.costs import accelergy
    from codesign.hw.costs.area import area_mm2
    from codesign.hw.costs.energy import cost_table

    whose = f"{config.name}, {config.technology_nm} nm, {config.clock_hz / 1e6:g} MHz"
    if kind == "ert":
        text, units = accelergy.dump_ert(cost_table(config), config), "pJ an action"
    else:
        text, units = accelergy.dump_art(area_mm2(config), config), "um2 an instance"
    return f"# {whose}: {units}. What is left out keeps its shipped cost.\n{text}"


def _one_or_all(values: Any) -> Any:
    """12 for twelve twelves, 12-8-6 for a list of different ones."""
    if not isinstance(values, tuple | list):
        return values
    distinct = list(dict.fromkeys(values))
    return distinct[0] if len(distinct) == 1 else "-".join(map(str, values))
