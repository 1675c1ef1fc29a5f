// Performance counters: how often each event happened since reset.
//
// Every input is a pulse a cycle and event; vectors hold one bit for each port on which the event
// may happen in the same cycle. Counters wrap. `value_o` is the counter that `select_i` names in
// the same cycle (its number below), 0 where there is none; an event in cycle t is counted in t + 1.

module counters #(
  parameter int unsigned Width = 48
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  // read port
  input  logic [4:0]       select_i,
  output logic [Width-1:0] value_o,
  // events
  input  logic             busy_i,               //  0 cycles in which the machine is not idle
  input  logic             dispatch_i,           //  1 instructions dispatched
  input  logic             mvin_beat_i,          //  2 R handshakes
  input  logic             mvout_beat_i,         //  3 W handshakes
  input  logic [1:0]       scratchpad_read_i,    //  4 rows read, by port
  input  logic [1:0]       scratchpad_write_i,   //  5 rows written, by port
  input  logic [2:0]       accumulator_read_i,   //  6 rows read, by port
  input  logic [1:0]       accumulator_write_i,  //  7 rows written, by port
  input  logic             mesh_row_i,           //  8 rows of A that enter the mesh
  input  logic             weight_row_i,         //  9 rows of weights that enter the mesh
  input  logic             load_busy_i,          // 10 cycles in which the load unit is not idle
  input  logic             execute_busy_i,       // 11 and the execute unit
  input  logic             drain_busy_i,         // 12 and the drain unit
  input  logic             load_wait_i,          // 13 cycles in which a load waits for tokens only
  input  logic             execute_wait_i,       // 14 and an instruction of the execute unit
  input  logic             drain_wait_i,         // 15 and one of the drain unit
  input  logic             dispatch_stall_i      // 16 cycles in which an instruction waits for room
);

  localparam int unsigned Counters = 17;

  logic [Counters-1:0][1:0] add;
  logic [Width-1:0]         counts_q [Counters];

  assign add[0]  = 2'(busy_i);
  assign add[1]  = 2'(dispatch_i);
  assign add[2]  = 2'(mvin_beat_i);
  assign add[3]  = 2'(mvout_beat_i);
  assign add[4]  = 2'(scratchpad_read_i[0]) + 2'(scratchpad_read_i[1]);
  assign add[5]  = 2'(scratchpad_write_i[0]) + 2'(scratchpad_write_i[1]);
  assign add[6]  = 2'(accumulator_read_i[0]) + 2'(accumulator_read_i[1])
                 + 2'(accumulator_read_i[2]);
  assign add[7]  = 2'(accumulator_write_i[0]) + 2'(accumulator_write_i[1]);
  assign add[8]  = 2'(mesh_row_i);
  assign add[9]  = 2'(weight_row_i);
  assign add[10] = 2'(load_busy_i);
  assign add[11] = 2'(execute_busy_i);
  assign add[12] = 2'(drain_busy_i);
  assign add[13] = 2'(load_wait_i);
  assign add[14] = 2'(execute_wait_i);
  assign add[15] = 2'(drain_wait_i);
  assign add[16] = 2'(dispatch_stall_i);

  for (genvar i = 0; i < Counters; i++) begin : gen_counter
    always_ff @(posedge clk_i) begin
      if (!rst_ni) counts_q[i] <= '0;
      else if (add[i] != '0) counts_q[i] <= counts_q[i] + Width'(add[i]);
    end
  end

  assign value_o = 32'(select_i) < Counters ? counts_q[select_i] : '0;

endmodule
