// The instruction set: opcodes, fields and token channels.
// Written by `python -m codesign.hw.views.generated`; hw/machine/isa.py is the source.

package isa_pkg;

  typedef logic [383:0] instruction_t;  // an instruction as a word
  typedef logic [31:0] tag_t;  // number of an instruction in dispatch order
  typedef logic [19:0] local_row_t;  // row of a local memory, or a step between rows
  typedef logic [9:0] parameter_row_t;  // row of the parameter memory
  typedef logic [39:0] dram_address_t;  // byte of DRAM
  typedef logic [31:0] dram_stride_t;  // bytes from one block to the next in DRAM
  typedef logic [15:0] row_count_t;  // rows of a block
  typedef logic [11:0] block_count_t;  // blocks of Dim columns
  typedef logic [15:0] column_count_t;  // columns of all blocks together
  typedef logic [27:0] beat_count_t;  // beats of all rows and blocks together
  typedef logic [7:0] tile_size_t;  // rows or columns of a weight tile
  typedef logic [23:0] scale_t;  // factor of int8 values
  typedef logic signed [23:0] multiplier_t;  // factor of a requantizer
  typedef logic [5:0] shift_t;  // shift of a requantizer, rounding half up
  typedef logic [23:0] inverse_t;  // reciprocal of a count of columns
  typedef logic [29:0] epsilon_t;  // what is added to the mean square of a row
  typedef logic [4:0] function_t;  // number of a function of the drain
  typedef logic signed [19:0] diagonal_t;  // last column that row 0 sees
  typedef logic [8:0] state_row_t;  // row of the states, or of the alignments
  typedef logic [4:0] align_shift_t;  // octaves by which sums are shifted, rounding half up

  // The instruction at the head of a unit's queue, if there is one.
  typedef struct packed {
    logic valid;
    instruction_t instr;
    tag_t tag;
  } head_t;

  // An access of a port of a local memory in a cycle, and the instruction it is of.
  typedef struct packed {
    logic valid;
    local_row_t row;
    tag_t tag;
  } access_t;

  // Where a row of sums goes: added or written, whether it is the last of its instruction, and by how much it is shifted, or what it is added to.
  typedef struct packed {
    logic align_old;
    align_shift_t align;
    local_row_t row;
    logic accumulate;
    logic last;
    tag_t tag;
  } sums_t;

  // A row of a weight tile on its way into the mesh: the first, one of zeros, of the transpose.
  typedef struct packed {
    logic transposed;
    logic zero;
    logic first;
  } weights_t;

  // By how many octaves products are shifted before they are added, or the sums so far (old).
  typedef struct packed {
    logic old;
    align_shift_t shift;
  } alignment_t;

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

  typedef enum logic [4:0] {
    FUNCTION_COPY = 5'd0,
    FUNCTION_RELU = 5'd1,
    FUNCTION_GELU = 5'd2,
    FUNCTION_SOFTMAX = 5'd3,
    FUNCTION_LAYERNORM = 5'd4,
    FUNCTION_RMSNORM = 5'd5,
    FUNCTION_SILU = 5'd6,
    FUNCTION_SIGMOID = 5'd7,
    FUNCTION_TANH = 5'd8,
    FUNCTION_HARD_SIGMOID = 5'd9,
    FUNCTION_HARD_SWISH = 5'd10,
    FUNCTION_PRODUCT = 5'd11,
    FUNCTION_GLU = 5'd12,
    FUNCTION_REGLU = 5'd13,
    FUNCTION_GEGLU = 5'd14,
    FUNCTION_SWIGLU = 5'd15,
    FUNCTION_ROTATE = 5'd16,
    FUNCTION_EXPONENTIALS = 5'd17,
    FUNCTION_QUOTIENT = 5'd18
  } function_e;

  typedef enum logic [1:0] {
    DESTINATION_DRAM = 2'd0,
    DESTINATION_DRAM_INT32 = 2'd1,
    DESTINATION_SCRATCHPAD = 2'd2
  } destination_e;

  localparam int unsigned Channels = 8;
  localparam int unsigned MaxTokens = 255;
  typedef enum logic [2:0] {
    LOADED, FILLED, CONSUMED, COMPUTED, DRAINED, STORED, EMPTIED, FINISHED
  } channel_e;

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
  typedef logic [7:0] token_count_t;
  typedef token_count_t [2:0] tokens_t;

  typedef struct packed {
    tokens_t signals;
    tokens_t waits;
    opcode_e opcode;
  } header_t;

  typedef struct packed {
    logic [165:0] unused;
    logic accumulate;
    scale_t scale;
    local_row_t stride;
    local_row_t local_;
    dram_stride_t dram_stride;
    dram_address_t dram;
    logic [1:0] target;
    block_count_t blocks;
    row_count_t rows;
    header_t header;
  } mvin_t;

  typedef struct packed {
    logic [303:0] unused;
    logic transposed;
    local_row_t local_;
    tile_size_t rows;
    header_t header;
  } preload_t;

  typedef struct packed {
    logic [248:0] unused;
    logic rescale;
    logic overwrite;
    state_row_t alignment;
    local_row_t accumulator;
    local_row_t local_;
    logic aligned;
    tile_size_t width;
    tile_size_t depth;
    row_count_t rows;
    header_t header;
  } compute_t;

  typedef struct packed {
    state_row_t alignment;
    state_row_t state;
    column_count_t window;
    diagonal_t diagonal;
  } mvout_mask_t;

  typedef struct packed {
    epsilon_t epsilon;
    inverse_t inverse;
  } mvout_norm_t;

  typedef struct packed {
    logic [3:0] unused;
    shift_t second_shift;
    multiplier_t second_multiplier;
    local_row_t second;
  } mvout_operands_t;

  // What only some functions have.
  typedef union packed {
    mvout_mask_t mask;
    mvout_norm_t norm;
    mvout_operands_t operands;
  } mvout_variant_t;

  typedef struct packed {
    logic unused;
    mvout_variant_t variant;
    logic fresh;
    logic second_channel_scale;
    logic causal;
    logic channel_affine;
    logic channel_scale;
    column_count_t columns;
    shift_t out_shift;
    multiplier_t out_multiplier;
    shift_t shift;
    multiplier_t multiplier;
    parameter_row_t parameters;
    local_row_t local_stride;
    local_row_t local_;
    dram_stride_t dram_stride;
    dram_address_t dram;
    local_row_t stride;
    local_row_t accumulator;
    logic [1:0] destination;
    function_t function_;
    block_count_t blocks;
    row_count_t rows;
    header_t header;
  } mvout_t;

endpackage
