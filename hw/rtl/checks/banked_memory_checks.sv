// What accesses to a banked memory must keep: rows that there are, one access a port of a bank, and
// program order.

module banked_memory_checks
  import isa_pkg::*;
#(
  parameter string Name = "memory",
  parameter int unsigned Banks = 4,
  parameter int unsigned BankRows = 1024,
  parameter int unsigned Reads = 1,
  parameter int unsigned Writes = 1,
  parameter int unsigned Updates = 0,
  localparam int unsigned BankBits = Banks > 1 ? $clog2(Banks) : 1
) (
  input logic                            clk_i,
  input logic                            rst_ni,
  // read ports
  input access_t [Reads-1:0]             read_i,
  input logic [Reads-1:0][BankBits-1:0]  read_bank_i,
  // write ports
  input access_t [Writes-1:0]            write_i,
  input logic [Writes-1:0][BankBits-1:0] write_bank_i
);

  localparam int unsigned Rows = Banks * BankRows;

  logic unused_banks;  // of one port alone
  assign unused_banks = ^{read_bank_i, write_bank_i};

  for (genvar p = 0; p < Reads; p++) begin : gen_read
    row_in_range : assert property (@(posedge clk_i) disable iff (!rst_ni)
        read_i[p].valid |-> 32'(read_i[p].row) < Rows)
      else $error("instruction %0d reads %s row %0d of %0d", read_i[p].tag, Name, read_i[p].row,
                  Rows);
    for (genvar q = 0; q < p; q++) begin : gen_other
      one_reader_a_bank : assert property (@(posedge clk_i) disable iff (!rst_ni)
          read_i[p].valid && read_i[q].valid |-> read_bank_i[p] != read_bank_i[q])
        else $error("instruction %0d and instruction %0d read %s bank %0d in one cycle",
                    read_i[q].tag, read_i[p].tag, Name, read_bank_i[p]);
    end
  end
  for (genvar p = 0; p < Writes; p++) begin : gen_write
    row_in_range : assert property (@(posedge clk_i) disable iff (!rst_ni)
        write_i[p].valid |-> 32'(write_i[p].row) < Rows)
      else $error("instruction %0d writes %s row %0d of %0d", write_i[p].tag, Name,
                  write_i[p].row, Rows);
    for (genvar q = 0; q < p; q++) begin : gen_other
      one_writer_a_bank : assert property (@(posedge clk_i) disable iff (!rst_ni)
          write_i[p].valid && write_i[q].valid |-> write_bank_i[p] != write_bank_i[q])
        else $error("instruction %0d and instruction %0d write %s bank %0d in one cycle",
                    write_i[q].tag, write_i[p].tag, Name, write_bank_i[p]);
    end
  end

  race_checker #(
    .Name(Name), .Rows(Rows), .Reads(Reads), .Writes(Writes), .Updates(Updates)
  ) u_races (
    .clk_i, .rst_ni, .read_i, .write_i
  );

endmodule

bind banked_memory banked_memory_checks #(
  .Name(Name), .Banks(Banks), .BankRows(BankRows),
  .Reads(Reads), .Writes(Writes), .Updates(Updates)
) u_checks (
  .clk_i, .rst_ni, .read_i, .read_bank_i(read_bank), .write_i, .write_bank_i(write_bank)
);
