// The instruction set: opcodes, fields and token channels.
// Written by `python -m codesign.hw.views.generated`; hw/machine/isa.py is the source.

package isa_pkg;

  typedef logic [383:0] instruction_t;

  typedef enum logic [2:0] {
    ILLEGAL = 3'd0,
    MVIN = 3'd1,
    PRELOAD = 3'd2,
    COMPUTE = 3'd3,
    MVOUT = 3'd4,
    LOAD_SYNC = 3'd5,
    EXECUTE_SYNC = 3'd6,
    DRAIN_SYNC = 3'd7
  } opcode_e;

  typedef enum logic [1:0] {
    TARGET_SCRATCHPAD = 2'd0,
    TARGET_ACCUMULATOR = 2'd1,
    TARGET_ACCUMULATOR_INT32 = 2'd2,
    TARGET_PARAMETERS = 2'd3
  } target_e;

  typedef enum logic [2:0] {
    FUNCTION_COPY = 3'd0,
    FUNCTION_RELU = 3'd1,
    FUNCTION_GELU = 3'd2,
    FUNCTION_SOFTMAX = 3'd3,
    FUNCTION_LAYERNORM = 3'd4,
    FUNCTION_RMSNORM = 3'd5
  } function_e;

  typedef enum logic [1:0] {
    DESTINATION_DRAM = 2'd0,
    DESTINATION_DRAM_INT32 = 2'd1,
    DESTINATION_SCRATCHPAD = 2'd2
  } destination_e;

  typedef enum logic [1:0] { LOAD_WAIT_CONSUMED, LOAD_WAIT_EMPTIED, LOAD_WAIT_FINISHED }
    load_wait_e;
  typedef enum logic [1:0] { LOAD_SIGNAL_LOADED, LOAD_SIGNAL_FILLED }
    load_signal_e;
  typedef enum logic [1:0] { EXECUTE_WAIT_LOADED, EXECUTE_WAIT_DRAINED, EXECUTE_WAIT_STORED }
    execute_wait_e;
  typedef enum logic [1:0] { EXECUTE_SIGNAL_CONSUMED, EXECUTE_SIGNAL_COMPUTED, EXECUTE_SIGNAL_FINISHED }
    execute_signal_e;
  typedef enum logic [1:0] { DRAIN_WAIT_FILLED, DRAIN_WAIT_COMPUTED }
    drain_wait_e;
  typedef enum logic [1:0] { DRAIN_SIGNAL_DRAINED, DRAIN_SIGNAL_STORED, DRAIN_SIGNAL_EMPTIED }
    drain_signal_e;

  // Counts of tokens, in the order of the enumerations above.
  typedef logic [2:0][7:0] tokens_t;

  typedef struct packed {
    tokens_t signals;
    tokens_t waits;
    opcode_e opcode;
  } header_t;

  typedef struct packed {
    logic [165:0] unused;
    logic accumulate;
    logic [23:0] scale;
    logic [19:0] stride;
    logic [19:0] local_;
    logic [31:0] dram_stride;
    logic [39:0] dram;
    logic [1:0] target;
    logic [11:0] blocks;
    logic [15:0] rows;
    header_t header;
  } mvin_t;

  typedef struct packed {
    logic [303:0] unused;
    logic transposed;
    logic [19:0] local_;
    logic [7:0] rows;
    header_t header;
  } preload_t;

  typedef struct packed {
    logic [259:0] unused;
    logic overwrite;
    logic [19:0] accumulator;
    logic [19:0] local_;
    logic [7:0] width;
    logic [7:0] depth;
    logic [15:0] rows;
    header_t header;
  } compute_t;

  typedef struct packed {
    logic [14:0] unused;
    logic causal;
    logic channel_affine;
    logic channel_scale;
    logic [23:0] inverse;
    logic signed [19:0] diagonal;
    logic [15:0] columns;
    logic [5:0] out_shift;
    logic signed [23:0] out_multiplier;
    logic [5:0] shift;
    logic signed [23:0] multiplier;
    logic [9:0] parameters;
    logic [19:0] local_stride;
    logic [19:0] local_;
    logic [31:0] dram_stride;
    logic [39:0] dram;
    logic [19:0] stride;
    logic [19:0] accumulator;
    logic [1:0] destination;
    logic [2:0] function_;
    logic [11:0] blocks;
    logic [15:0] rows;
    header_t header;
  } mvout_t;

endpackage
