// Which parameters modules may have; they refuse others when they are elaborated.
// Written by `python -m codesign.hw.views.generated`; hw/machine/limits.py is the source.

package limits_pkg;

  localparam int unsigned MostRows = 1048576;
  localparam int unsigned MostParameterRows = 1024;
  localparam int unsigned StateRows = 512;

  function automatic bit is_power_of_two(input int unsigned number);
    return number != 0 && (number & (number - 1)) == 0;
  endfunction

  function automatic bit is_dim(input int unsigned dim);
    return is_power_of_two(dim) && dim >= 4 && dim <= 32;
  endfunction

  function automatic bit is_bus(input int unsigned bytes);
    return is_power_of_two(bytes) && bytes >= 1 && bytes <= 128;
  endfunction

  // A beat holds no more than a tile.
  function automatic bit is_bus_of(input int unsigned bytes, input int unsigned dim);
    return is_bus(bytes) && bytes <= dim * dim;
  endfunction

  function automatic bit is_bank_count(input int unsigned banks);
    return is_power_of_two(banks) && banks >= 2 && banks <= 64;
  endfunction

  // A bank holds a tile at least, and addresses reach all rows.
  function automatic bit is_memory(
    input int unsigned bytes, input int unsigned banks, input int unsigned row_bytes,
    input int unsigned dim
  );
    return is_bank_count(banks) && bytes % (banks * row_bytes) == 0
           && bytes / (banks * row_bytes) >= dim && bytes / row_bytes <= MostRows;
  endfunction

  function automatic bit is_queue_depth(input int unsigned depth);
    return depth >= 2 && depth <= 256;
  endfunction

  function automatic bit is_latency(input int unsigned cycles);
    return cycles >= 1 && cycles <= 10000;
  endfunction

endpackage
