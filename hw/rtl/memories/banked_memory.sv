// Memory of Banks x BankRows rows behind several read and write ports: the scratchpad (rows of Dim
// int8, read by the mesh, written by the load and the drain unit) and the accumulator (rows of Dim
// int32, added to by the mesh and the load unit, read by the drain).
//
// Every bank has one read and one write port, so that ports that read (or write) in one cycle must
// do so in different banks. A read presented in cycle t gives its data in cycle t + 2: the output
// of the bank, then a register behind the multiplexer; it keeps its value until the next read of
// that port. A write presented in cycle t is seen by reads presented from t + 1 on.
//
// The first Updates write ports write back rows that the read port of the same number has read two
// cycles before, with rows between the two bypassed. What accesses must keep is in checks/.

module banked_memory
  import isa_pkg::*;
#(
  parameter string Name = "memory",
  parameter int unsigned Width = 128,
  parameter int unsigned Banks = 4,
  parameter int unsigned BankRows = 1024,
  parameter int unsigned Reads = 1,
  parameter int unsigned Writes = 1,
  parameter int unsigned Updates = 0
) (
  input  logic                 clk_i,
  input  logic                 rst_ni,
  // read ports
  input  access_t [Reads-1:0]  read_i,
  output logic [Width-1:0]     read_data_o [Reads],
  // write ports
  input  access_t [Writes-1:0] write_i,
  input  logic [Width-1:0]     write_data_i [Writes]
);

  if (Width < 1 || Reads < 1) begin : gen_refuse_below_1
    $error("Width=%0d, Reads=%0d: below 1", Width, Reads);
  end
  if (Writes < 1 || Writes > 2) begin : gen_refuse_writes
    $error("Writes=%0d is no number of write ports", Writes);
  end
  if (Updates > Reads || Updates > Writes) begin : gen_refuse_updates
    $error("Updates=%0d is more than there are ports", Updates);
  end

  localparam int unsigned BankBits = Banks > 1 ? $clog2(Banks) : 1;
  localparam int unsigned LocalBits = BankRows > 1 ? $clog2(BankRows) : 1;

  logic [Reads-1:0][BankBits-1:0]   read_bank;
  logic [Reads-1:0][LocalBits-1:0]  read_local;
  logic [Writes-1:0][BankBits-1:0]  write_bank;
  logic [Writes-1:0][LocalBits-1:0] write_local;

  for (genvar p = 0; p < Reads; p++) begin : gen_read_select
    bank_select #(.Banks(Banks), .BankRows(BankRows)) u_select (
      .row_i(read_i[p].row), .bank_o(read_bank[p]), .local_o(read_local[p])
    );
  end
  for (genvar p = 0; p < Writes; p++) begin : gen_write_select
    bank_select #(.Banks(Banks), .BankRows(BankRows)) u_select (
      .row_i(write_i[p].row), .bank_o(write_bank[p]), .local_o(write_local[p])
    );
  end

  // banks

  logic [Width-1:0] bank_data [Banks];

  for (genvar b = 0; b < Banks; b++) begin : gen_bank
    logic                 read, write;
    logic [LocalBits-1:0] read_at, write_at;
    logic [Width-1:0]     write_data;

    always_comb begin
      read    = 1'b0;
      read_at = '0;
      for (int unsigned p = 0; p < Reads; p++) begin
        if (read_i[p].valid && read_bank[p] == BankBits'(b)) begin
          read    = 1'b1;
          read_at = read_local[p];
        end
      end
    end

    always_comb begin
      write    = 1'b0;
      write_at = write_local[0];
      for (int unsigned p = 0; p < Writes; p++) begin
        if (write_i[p].valid && write_bank[p] == BankBits'(b)) begin
          write    = 1'b1;
          write_at = write_local[p];
        end
      end
    end

    if (Writes == 1) begin : gen_one_writer
      assign write_data = write_data_i[0];
    end else begin : gen_two_writers
      assign write_data =
        write_i[1].valid && write_bank[1] == BankBits'(b) ? write_data_i[1] : write_data_i[0];
    end

    sram_1r1w #(.Width(Width), .Rows(BankRows)) u_sram (
      .clk_i,
      .read_i(read), .read_row_i(read_at), .read_data_o(bank_data[b]),
      .write_i(write), .write_row_i(write_at), .write_data_i(write_data)
    );
  end

  // output registers, each behind a multiplexer of the bank that was read in the cycle before

  logic [Reads-1:0] read_q;

  for (genvar p = 0; p < Reads; p++) begin : gen_output
    logic [BankBits-1:0] bank_q;
    logic [Width-1:0]    data_q;

    always_ff @(posedge clk_i) begin
      read_q[p] <= rst_ni && read_i[p].valid;
      if (read_i[p].valid) bank_q <= read_bank[p];
      if (read_q[p]) data_q <= bank_data[bank_q];
    end
    assign read_data_o[p] = data_q;
  end

  logic unused_tags;
  assign unused_tags = ^{read_i, write_i};

endmodule
