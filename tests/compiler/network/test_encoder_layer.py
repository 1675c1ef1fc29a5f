"""One whole encoder layer of BERT-base on the RTL of `ibert`: every operator on chip, every cycle."""

import pytest
from encoder_kernels import MOST_CYCLES, layer_kernels
from rtl_agreement import check_agreement, legal_dram

from codesign.hw.machine.config import preset


@pytest.mark.long
def test_an_encoder_layer_on_the_rtl() -> None:
    config = preset("ibert")
    layer, dram_bytes = layer_kernels(config)
    dram = legal_dram(-(-dram_bytes // 8) * 8, config, seed=1)
    result = check_agreement(layer, config, dram)
    print(f"{len(layer)} kernels, {result.cycles:,} cycles")
    assert result.cycles <= MOST_CYCLES
