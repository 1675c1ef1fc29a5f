"""What `codesign compile` does: the Program of a model, and with weights all that a host needs."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from codesign.hw.errors import CodesignError
from codesign.hw.machine.config import to_toml
from codesign.models.zoo.families import FAMILIES
from codesign.search.commands.request import Prepared, Request, prepare, say_patches
from codesign.search.pricing import machine_tables
from codesign.search.runs import output
from codesign.search.runs.output import RunDirectory
from codesign.search.terminal import tables
from codesign.search.terminal.messages import say_where

if TYPE_CHECKING:
    from codesign.compiler.network.inference import Network
    from codesign.search.commands.network import Quantization


def run_compile(request: Request, quantization: "Quantization", weights: bool | None) -> None:
    """Write the Program of a model: its listing, its mappings and its memory map.

    With `weights` (None: if the model is a file, or there is data to calibrate on) it is quantized,
    and what a host needs to run it is written too.
    """
    from codesign.compiler.program import listing
    from codesign.compiler.program.emit import emit
    from codesign.hw.costs.energy import cost_table
    from codesign.search.api import pricing as api
    from codesign.search.pricing.evaluate import result

    assert request.out is not None
    prepared = prepare(request)
    config = prepared.machine
    if weights is False and quantization.calibration is not None:
        raise CodesignError("--no-weights calibrates nothing: drop it, or --calibration")
    if weights is None:
        weights = request.model not in FAMILIES or quantization.calibration is not None
    described = {"seed": quantization.seed, **quantization.describe()} if weights else {}
    run = prepared.describe("compile", **described)
    compiled = _quantized(prepared, quantization) if weights else None
    if compiled is None:
        priced = api.price(
            prepared.model, config, objective=request.objective, energy_table=prepared.tables
        )
        program = emit(priced.plan)
    else:
        priced = result(compiled.plan, cost_table(config, prepared.tables))
        program = compiled.program
    with output.run_directory(request.out, run) as directory:
        directory.write_text("program.txt", listing.text(program))
        directory.write_records("mapping", api.kernels(priced))
        directory.write_records("memory", program.memory)
        directory.write_text("hardware.toml", to_toml(config))
        if compiled is not None:
            _write_image(directory, compiled)
        directory.log("compiled")
    summary = {
        "kernels": len(program.kernels),
        "dram_bytes": program.dram_bytes,
        "cycles": priced.cycles,
    }
    say_patches(priced.plan.graph)
    if request.as_json:
        output.print_json({**run, **summary})
        return
    console = tables.console()
    console.print(machine_tables.machine_title(config), style="dim")
    console.print(machine_tables.mapping_table(priced, prepared.title, console.width))
    console.print(
        f"{len(program.kernels)} kernels, {priced.cycles:,} cycles, "
        f"{program.dram_bytes / 1e6:,.1f} MB of DRAM in use"
    )
    if compiled is not None:
        console.print(
            "lowered for accuracy (docs/quantization.md); sweep and --no-weights lower for cost"
        )
    say_where(request.out)


def _quantized(prepared: Prepared, quantization: "Quantization") -> "Network":
    from codesign.search.commands import network

    try:
        opened = network.open_model(prepared, quantization)
        return network.compile_calibrated(opened, prepared, quantization)
    except CodesignError as error:
        raise CodesignError(f"{error}; --no-weights writes the Program alone") from error


def _write_image(directory: RunDirectory, compiled: "Network") -> None:
    """What a host needs beside the listing: weights, instructions, and where every tensor is."""
    from codesign.compiler.network import tensor_map
    from codesign.hw.machine.encoding import encode_all
    from codesign.hw.machine.program import unroll

    words = [encode_all(unroll(kernel.body)) for kernel in compiled.program.kernels]
    kernels = [
        {"name": kernel.name, "instructions": len(part)}
        for kernel, part in zip(compiled.program.kernels, words, strict=True)
    ]
    document = {
        "layout": tensor_map.LAYOUT,
        "program": tensor_map.PROGRAM,
        "records": tensor_map.RECORDS_NOTE,
        "dim": compiled.plan.config.dim,
        "kernels": kernels,
        "tensors": [asdict(one) for one in tensor_map.tensor_map(compiled)],
        "masks": [asdict(one) for one in tensor_map.mask_map(compiled)],
        "angles_note": tensor_map.ANGLES_NOTE,
        "angles": [asdict(one) for one in tensor_map.angles_map(compiled)],
    }
    directory.write_bytes("weights.bin", compiled.image.tobytes())
    directory.write_bytes("program.bin", b"".join(part.tobytes() for part in words))
    directory.write_text("scales.json", output.json_text(document))
