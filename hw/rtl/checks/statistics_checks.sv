// What accesses to the states of rows that come in parts must keep: none is joined or asked for before
// a first part has begun it.

module statistics_checks
  import isa_pkg::*;
  import limits_pkg::*;
(
  input logic       clk_i,
  input logic       rst_ni,
  input logic       joins_i,
  input logic       asks_i,
  input logic       fresh_i,
  input state_row_t state_i,
  input tag_t       tag_i
);

  access_t read, write;
  assign read  = '{valid: asks_i || (joins_i && !fresh_i), row: local_row_t'(state_i), tag: tag_i};
  assign write = '{valid: joins_i, row: local_row_t'(state_i), tag: tag_i};

  race_checker #(
    .Name("states"), .Rows(StateRows), .Reads(1), .Writes(1)
  ) u_races (
    .clk_i, .rst_ni, .read_i(read), .write_i(write)
  );

endmodule

bind statistics statistics_checks u_checks (
  .clk_i, .rst_ni, .joins_i(joins), .asks_i(asks), .fresh_i(sum_block_q.fresh),
  .state_i(sum_block_q.state), .tag_i(sum_block_q.tag)
);
