// Refuses, at elaboration, memories that a mesh cannot work on. It holds nothing: see `legal_sizes`.

module legal_memories
  import limits_pkg::*;
#(
  parameter int unsigned Dim               = 16,
  parameter int unsigned ScratchpadBytes   = 65536,
  parameter int unsigned ScratchpadBanks   = 16,
  parameter int unsigned AccumulatorBytes  = 262144,
  parameter int unsigned AccumulatorBanks  = 8,
  parameter int unsigned ParameterChannels = 2048
);

  legal_sizes #(.Dim(Dim)) u_legal ();
  if (!is_memory(ScratchpadBytes, ScratchpadBanks, Dim, Dim)) begin : gen_refuse_scratchpad
    $error("ScratchpadBytes=%0d, ScratchpadBanks=%0d: no memory for Dim=%0d", ScratchpadBytes,
           ScratchpadBanks, Dim);
  end
  if (!is_memory(AccumulatorBytes, AccumulatorBanks, 4 * Dim, Dim)) begin : gen_refuse_accumulator
    $error("AccumulatorBytes=%0d, AccumulatorBanks=%0d: no memory for Dim=%0d", AccumulatorBytes,
           AccumulatorBanks, Dim);
  end
  if (ParameterChannels % Dim != 0 || ParameterChannels == 0
      || ParameterChannels / Dim > MostParameterRows) begin : gen_refuse_parameter_channels
    $error("ParameterChannels=%0d are no rows of Dim", ParameterChannels);
  end

endmodule
