// Refuses, at elaboration, sizes that no unit can be built for. It holds nothing: an instance in a
// module stands for the module's own refusal, and names what the module has of these.

module legal_sizes
  import limits_pkg::*;
#(
  parameter int unsigned Dim               = 32,
  parameter int unsigned BusBytes          = 1,
  parameter int unsigned DramLatencyCycles = 1,
  parameter int unsigned ScratchpadRows    = 1,
  parameter int unsigned AccumulatorRows   = 1,
  parameter int unsigned ParameterRows     = 1
);

  if (!is_dim(Dim)) begin : gen_refuse_dim
    $error("Dim=%0d is no size of a mesh", Dim);
  end
  if (!is_bus_of(BusBytes, Dim)) begin : gen_refuse_bus_bytes
    $error("BusBytes=%0d is no width of a bus", BusBytes);
  end
  if (!is_latency(DramLatencyCycles)) begin : gen_refuse_dram_latency_cycles
    $error("DramLatencyCycles=%0d is no latency of DRAM", DramLatencyCycles);
  end
  if (ScratchpadRows < 1 || ScratchpadRows > MostRows) begin : gen_refuse_scratchpad_rows
    $error("ScratchpadRows=%0d is no number of rows", ScratchpadRows);
  end
  if (AccumulatorRows < 1 || AccumulatorRows > MostRows) begin : gen_refuse_accumulator_rows
    $error("AccumulatorRows=%0d is no number of rows", AccumulatorRows);
  end
  if (ParameterRows < 1 || ParameterRows > MostParameterRows) begin : gen_refuse_parameter_rows
    $error("ParameterRows=%0d is no number of rows", ParameterRows);
  end

endmodule
