// What the machine tells of itself: the trace of its instructions, and what it counts.
// Written by `python -m codesign.hw.views.generated`; hw/machine/events.py is the source.

package trace_pkg;

  // What happens to instructions in a cycle.
  typedef struct packed {
    logic drain_complete;
    logic execute_complete;
    logic load_complete;
    logic drain_release;
    logic execute_release;
    logic load_release;
    logic drain_start;
    logic execute_sync_start;
    logic compute_start;
    logic preload_start;
    logic load_start;
    logic dispatch;
  } trace_t;

  // What happens in a cycle that is counted, one bit for each port on which it may.
  typedef struct packed {
    logic dispatch_stall;  // cycles in which an instruction waits for room
    logic drain_wait;  // cycles in which one of the drain unit does
    logic execute_wait;  // cycles in which an instruction of the execute unit does
    logic load_wait;  // cycles in which a load waits for tokens only
    logic drain_busy;  // cycles in which the drain unit is not idle
    logic execute_busy;  // cycles in which the execute unit is not idle
    logic load_busy;  // cycles in which the load unit is not idle
    logic weight_row;  // rows of weights that enter the mesh
    logic mesh_row;  // rows of A that enter the mesh
    logic [1:0] accumulator_write;  // rows written, by port
    logic [2:0] accumulator_read;  // rows read, by port
    logic [1:0] scratchpad_write;  // rows written, by port
    logic [1:0] scratchpad_read;  // rows read, by port
    logic mvout_beat;  // W handshakes
    logic mvin_beat;  // R handshakes
    logic dispatch;  // instructions dispatched
    logic busy;  // cycles in which the machine is not idle
  } counted_t;

  // By how much each counter grows, in the order of their numbers.
  localparam int unsigned Counters = 17;
  typedef logic [Counters-1:0][1:0] increments_t;

  function automatic increments_t increments(input counted_t counted);
    increments[0] = 2'(counted.busy);
    increments[1] = 2'(counted.dispatch);
    increments[2] = 2'(counted.mvin_beat);
    increments[3] = 2'(counted.mvout_beat);
    increments[4] = 2'(counted.scratchpad_read[0]) + 2'(counted.scratchpad_read[1]);
    increments[5] = 2'(counted.scratchpad_write[0]) + 2'(counted.scratchpad_write[1]);
    increments[6] = 2'(counted.accumulator_read[0]) + 2'(counted.accumulator_read[1]) + 2'(counted.accumulator_read[2]);
    increments[7] = 2'(counted.accumulator_write[0]) + 2'(counted.accumulator_write[1]);
    increments[8] = 2'(counted.mesh_row);
    increments[9] = 2'(counted.weight_row);
    increments[10] = 2'(counted.load_busy);
    increments[11] = 2'(counted.execute_busy);
    increments[12] = 2'(counted.drain_busy);
    increments[13] = 2'(counted.load_wait);
    increments[14] = 2'(counted.execute_wait);
    increments[15] = 2'(counted.drain_wait);
    increments[16] = 2'(counted.dispatch_stall);
  endfunction

endpackage
