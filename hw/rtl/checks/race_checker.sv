// Checks that the accesses to a memory keep program order.
//
// Every row remembers who wrote and who read it last, by the tags of the instructions. A read by
// instruction k is an error where the row was never written or a later instruction has written it;
// a write by k, where a later one has written or read it. A read and a write in the same cycle
// count as the read first, as in the memory.
//
// The first Updates write ports belong to accumulate ports: they write back what the read port of
// the same number has read two cycles before, and bypass what they wrote in between. Their reads
// are therefore judged when they are written back, and their writes only by other ports' reads.

module race_checker
  import isa_pkg::*;
#(
  parameter string Name = "memory",
  parameter int unsigned Rows = 1024,
  parameter int unsigned Reads = 2,
  parameter int unsigned Writes = 2,
  parameter int unsigned Updates = 0
) (
  input logic                 clk_i,
  input logic                 rst_ni,
  input access_t [Reads-1:0]  read_i,
  input access_t [Writes-1:0] write_i
);

  if (Rows < 1 || Reads < 1 || Writes < 1) begin : gen_refuse_below_1
    $error("Rows=%0d, Reads=%0d, Writes=%0d: below 1", Rows, Reads, Writes);
  end
  if (Updates > Reads || Updates > Writes) begin : gen_refuse_updates
    $error("Updates=%0d is more than there are ports", Updates);
  end

  localparam int unsigned RowBits = Rows > 1 ? $clog2(Rows) : 1;

  // Who accessed a row last; 0 for nobody, so that stamps compare as tags do.
  typedef struct packed {
    logic somebody;
    tag_t tag;
  } stamp_t;
  stamp_t writer_q [Rows];

  for (genvar r = 0; r < Reads; r++) begin : gen_read
    stamp_t             reader_q [Rows];  // by this port
    logic               judged;
    logic [RowBits-1:0] row, judged_row;
    stamp_t             stamp, judged_stamp;

    assign row   = RowBits'(read_i[r].row);
    assign stamp = {1'b1, read_i[r].tag};

    if (r < Updates) begin : gen_written_back
      logic [1:0]         read_q;
      logic [RowBits-1:0] row_q, row_q2;
      stamp_t             stamp_q, stamp_q2;
      always_ff @(posedge clk_i) begin
        read_q <= rst_ni ? {read_q[0], read_i[r].valid} : '0;
        if (read_i[r].valid) {row_q, stamp_q} <= {row, stamp};
        if (read_q[0]) {row_q2, stamp_q2} <= {row_q, stamp_q};
      end
      assign {judged, judged_row, judged_stamp} = {read_q[1], row_q2, stamp_q2};
    end else begin : gen_at_once
      assign {judged, judged_row, judged_stamp} = {read_i[r].valid, row, stamp};
    end

    always_ff @(posedge clk_i) begin
      if (!rst_ni) begin
        for (int unsigned i = 0; i < Rows; i++) reader_q[i] <= '0;
      end else begin
        if (read_i[r].valid && reader_q[row] < stamp) reader_q[row] <= stamp;
      end
    end

    always_ff @(posedge clk_i) begin
      if (rst_ni && judged) begin
        was_written : assert (writer_q[judged_row] != '0)
          else $error("instruction %0d reads %s row %0d that was never written",
                      judged_stamp.tag, Name, judged_row);
        not_overwritten : assert (writer_q[judged_row] <= judged_stamp)
          else $error("instruction %0d reads %s row %0d that instruction %0d has overwritten",
                      judged_stamp.tag, Name, judged_row, writer_q[judged_row].tag);
      end
    end

    for (genvar w = 0; w < Writes; w++) begin : gen_write
      if (w != r || w >= Updates) begin : gen_check
        logic [RowBits-1:0] written;
        stamp_t             reader;
        assign written = RowBits'(write_i[w].row);
        assign reader  = read_i[r].valid && row == written && stamp > reader_q[written] ?
                         stamp : reader_q[written];
        always_ff @(posedge clk_i) begin
          if (rst_ni && write_i[w].valid) begin
            not_yet_read : assert (reader <= {1'b1, write_i[w].tag})
              else $error("instruction %0d writes %s row %0d that instruction %0d has read",
                          write_i[w].tag, Name, written, reader.tag);
          end
        end
      end
    end
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      for (int unsigned i = 0; i < Rows; i++) writer_q[i] <= '0;
    end else begin
      for (int unsigned w = 0; w < Writes; w++) begin
        if (write_i[w].valid) begin
          in_order : assert (writer_q[RowBits'(write_i[w].row)] <= {1'b1, write_i[w].tag})
            else $error("instruction %0d writes %s row %0d that instruction %0d has written",
                        write_i[w].tag, Name, write_i[w].row,
                        writer_q[RowBits'(write_i[w].row)].tag);
          writer_q[RowBits'(write_i[w].row)] <= {1'b1, write_i[w].tag};
        end
      end
    end
  end

endmodule
