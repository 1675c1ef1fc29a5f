// The drain's functions: their passes over the rows, and what a lane does.
// Written by `python -m codesign.hw.views.generated`; hw/machine/functions.py is the source.

package functions_pkg;

  import isa_pkg::*;

  localparam int unsigned Functions = 6;
  localparam int unsigned StatisticRows = 16;  // whose statistics are held at once

  typedef enum logic [1:0] { PASS_MAXIMUM, PASS_STATISTICS, PASS_OUTPUT } pass_e;

  // How a lane treats its values. MODE_WORD leaves the accumulator untouched.
  typedef enum logic [2:0] {
    MODE_COPY, MODE_RELU, MODE_WORD, MODE_GELU, MODE_SOFTMAX, MODE_NORM
  } mode_e;

  // It needs whole rows.
  function automatic logic is_row_function(input logic [2:0] code);
    return code inside { FUNCTION_SOFTMAX, FUNCTION_LAYERNORM, FUNCTION_RMSNORM };
  endfunction

  // It may hide columns.
  function automatic logic is_masked(input logic [2:0] code);
    return code inside { FUNCTION_SOFTMAX };
  endfunction

  // It takes the mean away.
  function automatic logic is_centered(input logic [2:0] code);
    return code inside { FUNCTION_LAYERNORM };
  endfunction

  // Values pass by all behind the first requantizer.
  function automatic logic is_direct(input mode_e mode);
    return mode inside { MODE_COPY, MODE_RELU, MODE_WORD };
  endfunction

  // Only the valid columns count.
  function automatic logic is_by_row(input mode_e mode);
    return mode inside { MODE_SOFTMAX, MODE_NORM };
  endfunction

  // The first pass over its rows.
  function automatic pass_e first_pass(input logic [2:0] code);
    unique case (code)
      FUNCTION_SOFTMAX: return PASS_MAXIMUM;
      FUNCTION_LAYERNORM: return PASS_STATISTICS;
      FUNCTION_RMSNORM: return PASS_STATISTICS;
      default: return PASS_OUTPUT;
    endcase
  endfunction

  // What a lane does for it.
  function automatic mode_e mode_of(input logic [2:0] code);
    unique case (code)
      FUNCTION_COPY: return MODE_COPY;
      FUNCTION_RELU: return MODE_RELU;
      FUNCTION_GELU: return MODE_GELU;
      FUNCTION_SOFTMAX: return MODE_SOFTMAX;
      FUNCTION_LAYERNORM: return MODE_NORM;
      FUNCTION_RMSNORM: return MODE_NORM;
      default: return MODE_COPY;
    endcase
  endfunction

endpackage
