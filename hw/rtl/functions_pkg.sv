// The drain's functions: their passes over the rows, and what a lane does.
// Written by `python -m codesign.hw.views.generated`; hw/machine/functions.py is the source.

package functions_pkg;

  import isa_pkg::*;

  localparam int unsigned Functions = 19;
  localparam int unsigned StatisticRows = 16;  // whose statistics are held at once

  typedef enum logic [1:0] { PASS_MAXIMUM, PASS_STATISTICS, PASS_OUTPUT, PASS_HOLD } pass_e;
  typedef logic [1:0] operand_t;

  // How a lane treats its values. MODE_WORD leaves the accumulator untouched.
  typedef enum logic [4:0] {
    MODE_COPY, MODE_RELU, MODE_WORD, MODE_GELU, MODE_SOFTMAX, MODE_NORM,
    MODE_SILU, MODE_SIGMOID, MODE_TANH, MODE_HARD_SIGMOID, MODE_HARD_SWISH, MODE_LINEAR,
    MODE_PRODUCT, MODE_RECTIFIED, MODE_ROTATE, MODE_EXPONENTIALS, MODE_QUOTIENT
  } mode_e;

  // It needs whole rows.
  function automatic logic is_row_function(input function_t code);
    return code inside {
      FUNCTION_SOFTMAX, FUNCTION_LAYERNORM, FUNCTION_RMSNORM, FUNCTION_EXPONENTIALS, FUNCTION_QUOTIENT
    };
  endfunction

  // It may hide columns.
  function automatic logic is_masked(input function_t code);
    return code inside { FUNCTION_SOFTMAX, FUNCTION_EXPONENTIALS };
  endfunction

  // It takes the mean away.
  function automatic logic is_centered(input function_t code);
    return code inside { FUNCTION_LAYERNORM };
  endfunction

  // A pass over its rows gathers sums for a division.
  function automatic logic has_statistics(input function_t code);
    return code inside {
      FUNCTION_SOFTMAX, FUNCTION_LAYERNORM, FUNCTION_RMSNORM, FUNCTION_QUOTIENT
    };
  endfunction

  // Rows come in parts, and have a state between them.
  function automatic logic has_states(input function_t code);
    return code inside { FUNCTION_EXPONENTIALS, FUNCTION_QUOTIENT };
  endfunction

  // Values pass by all behind the first requantizer.
  function automatic logic is_direct(input mode_e mode);
    return mode inside { MODE_COPY, MODE_RELU, MODE_WORD };
  endfunction

  // Only the valid columns count.
  function automatic logic is_by_row(input mode_e mode);
    return mode inside { MODE_SOFTMAX, MODE_NORM, MODE_EXPONENTIALS, MODE_QUOTIENT };
  endfunction

  // The first pass over its rows.
  function automatic pass_e first_pass(input function_t code);
    unique case (code)
      FUNCTION_SOFTMAX: return PASS_MAXIMUM;
      FUNCTION_LAYERNORM: return PASS_STATISTICS;
      FUNCTION_RMSNORM: return PASS_STATISTICS;
      FUNCTION_EXPONENTIALS: return PASS_MAXIMUM;
      FUNCTION_QUOTIENT: return PASS_STATISTICS;
      default: return PASS_OUTPUT;
    endcase
  endfunction

  // What a lane does for it.
  function automatic mode_e mode_of(input function_t code);
    unique case (code)
      FUNCTION_COPY: return MODE_COPY;
      FUNCTION_RELU: return MODE_RELU;
      FUNCTION_GELU: return MODE_GELU;
      FUNCTION_SOFTMAX: return MODE_SOFTMAX;
      FUNCTION_LAYERNORM: return MODE_NORM;
      FUNCTION_RMSNORM: return MODE_NORM;
      FUNCTION_SILU: return MODE_SILU;
      FUNCTION_SIGMOID: return MODE_SIGMOID;
      FUNCTION_TANH: return MODE_TANH;
      FUNCTION_HARD_SIGMOID: return MODE_HARD_SIGMOID;
      FUNCTION_HARD_SWISH: return MODE_HARD_SWISH;
      FUNCTION_PRODUCT: return MODE_LINEAR;
      FUNCTION_GLU: return MODE_SIGMOID;
      FUNCTION_REGLU: return MODE_RECTIFIED;
      FUNCTION_GEGLU: return MODE_GELU;
      FUNCTION_SWIGLU: return MODE_SILU;
      FUNCTION_ROTATE: return MODE_LINEAR;
      FUNCTION_EXPONENTIALS: return MODE_EXPONENTIALS;
      FUNCTION_QUOTIENT: return MODE_QUOTIENT;
      default: return MODE_COPY;
    endcase
  endfunction

  // Rows of the accumulator that a row of results is made of.
  function automatic operand_t operands_of(input function_t code);
    unique case (code)
      FUNCTION_PRODUCT: return operand_t'(2);
      FUNCTION_GLU: return operand_t'(2);
      FUNCTION_REGLU: return operand_t'(2);
      FUNCTION_GEGLU: return operand_t'(2);
      FUNCTION_SWIGLU: return operand_t'(2);
      FUNCTION_ROTATE: return operand_t'(3);
      default: return operand_t'(1);
    endcase
  endfunction

  // What a lane does with an operand, the first being 0.
  function automatic mode_e operand_mode(input function_t code, input operand_t operand);
    unique case ({code, operand})
      {FUNCTION_PRODUCT, operand_t'(1)}: return MODE_PRODUCT;
      {FUNCTION_GLU, operand_t'(1)}: return MODE_PRODUCT;
      {FUNCTION_REGLU, operand_t'(1)}: return MODE_PRODUCT;
      {FUNCTION_GEGLU, operand_t'(1)}: return MODE_PRODUCT;
      {FUNCTION_SWIGLU, operand_t'(1)}: return MODE_PRODUCT;
      {FUNCTION_ROTATE, operand_t'(1)}: return MODE_PRODUCT;
      {FUNCTION_ROTATE, operand_t'(2)}: return MODE_ROTATE;
      default: return mode_of(code);
    endcase
  endfunction

endpackage
