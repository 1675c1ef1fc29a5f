// Splits a row of a banked memory into the bank that holds it and the row within that bank.
//
// Combinational. Bank b holds the rows b * BankRows to (b + 1) * BankRows - 1; where BankRows is
// no power of two, the quotient comes bit by bit from comparisons against constants.

module bank_select
  import isa_pkg::*;
  import limits_pkg::*;
#(
  parameter int unsigned Banks = 4,
  parameter int unsigned BankRows = 1024,
  localparam int unsigned BankBits = Banks > 1 ? $clog2(Banks) : 1,
  localparam int unsigned LocalBits = BankRows > 1 ? $clog2(BankRows) : 1
) (
  input  local_row_t           row_i,
  output logic [BankBits-1:0]  bank_o,
  output logic [LocalBits-1:0] local_o
);

  if (!is_bank_count(Banks)) begin : gen_refuse_banks
    $error("Banks=%0d is no number of banks", Banks);
  end
  if (BankRows < 1 || Banks * BankRows > MostRows) begin : gen_refuse_bank_rows
    $error("BankRows=%0d is no number of rows of a bank", BankRows);
  end

  if (BankRows == 1 << LocalBits) begin : gen_slice
    assign bank_o  = BankBits'(row_i >> LocalBits);
    assign local_o = LocalBits'(row_i);
  end else begin : gen_divide
    always_comb begin
      automatic logic [20:0] rest;
      rest   = {1'b0, row_i};
      bank_o = '0;
      for (int unsigned i = $clog2(Banks); i > 0; i--) begin
        if (rest >= 21'(BankRows << (i - 1))) begin
          rest          = rest - 21'(BankRows << (i - 1));
          bank_o[i-1]   = 1'b1;
        end
      end
      local_o = LocalBits'(rest);
    end
  end

endmodule
