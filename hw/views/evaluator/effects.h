// What instructions cost and count: see timing.py for the same in words.

#pragma once

#include <algorithm>

#include "state.h"

namespace {

Word ceil_div(Word a, Word b) { return (a + b - 1) / b; }

class Effects {
 public:
  explicit Effects(const Machine& machine) : m_(machine) {}

  // Adds the cycles and events of an operation of values `v`; `flag`: the one that changes them.
  void describe(int op, const Word* v, bool flag, Effect& e) const {
    switch (op) {
      case kMvin: return mvin(v, flag, e);
      case kPreload:
        e.busy = m_.dim;
        e.events[kScratchpadReads] = v[kPreloadRows];
        e.events[kPeWeightLoads] = m_.dim * m_.dim;
        return;
      case kCompute: return compute(v, flag, e);
      case kMvout: return mvout(v, e);
      default: e.busy = 1;
    }
  }

 private:
  const Machine& m_;

  void compute(const Word* v, bool overwrite, Effect& e) const {
    const Word rows = v[kComputeRows];
    e.busy = rows;
    e.latency = 2 * m_.dim + kExecuteLatency;
    e.events[kScratchpadReads] = e.events[kAccumulatorWrites] = rows;
    if (!overwrite) {
      e.events[kAccumulatorReads] = rows;
      e.events[kAccumulatorAdds] = rows * m_.dim;
    }
    e.events[kPeActive] = rows * m_.dim * m_.dim;
    e.events[kMacs] = rows * v[kComputeDepth] * v[kComputeWidth];
    if (v[kComputeAligned]) e.events[kAlign] = rows * m_.dim;
  }

  void mvin(const Word* v, bool accumulate, Effect& e) const {
    const Word rows = v[kMvinRows], blocks = v[kMvinBlocks], target = v[kMvinTarget];
    const Word moved = rows * blocks;
    const Word beats = ceil_div(rows * kTargetBytes[target] * m_.dim, m_.bus_bytes);
    e.busy = blocks * std::max(rows, beats);
    e.latency = m_.dram_latency_cycles + kLoadLatency;
    e.events[kDramReadBytes] = blocks * beats * m_.bus_bytes;
    if (target == kTargetScratchpad) {
      e.events[kScratchpadWrites] = moved;
    } else if (target != kTargetParameters) {
      e.events[kAccumulatorWrites] = moved;
      if (accumulate) {
        e.events[kAccumulatorReads] = moved;
        e.events[kAccumulatorAdds] = moved * m_.dim;
      }
    }
    if (target == kTargetAccumulator) e.events[kScale] = moved * m_.dim;
  }

  void mvout(const Word* v, Effect& e) const {
    const Word rows = v[kMvoutRows], blocks = v[kMvoutBlocks], destination = v[kMvoutDestination];
    const DrainFunction& function = kFunctions[v[kMvoutFunction]];
    const Word row_bytes = kDestinationBytes[destination] * m_.dim;
    const bool on_chip = destination == kDestinationScratchpad;
    Word beats = 0;  // of a block, or of a row of it where rows of several blocks take turns
    if (function.by_row) {
      const Word full = rows / kStatisticRows, rest = rows % kStatisticRows;
      beats = on_chip ? 1 : ceil_div(row_bytes, m_.bus_bytes);
      e.busy = full * row_batch(kStatisticRows, blocks, function, beats) +
               (rest ? row_batch(rest, blocks, function, beats) : 0);
    } else {
      beats = on_chip ? 0 : ceil_div(rows * row_bytes, m_.bus_bytes);
      e.busy = blocks * (rows * (function.operands - 1) + std::max(rows, beats));
    }
    e.latency = kDrainLatency + (on_chip ? 0 : m_.dram_latency_cycles);
    const Word moved = rows * blocks, elements = moved * m_.dim;
    e.events[kAccumulatorReads] = moved * (function.passes + function.operands - 1);
    if (on_chip) e.events[kScratchpadWrites] = moved;
    else e.events[kDramWriteBytes] = (function.by_row ? moved : blocks) * beats * m_.bus_bytes;
    if (destination != kDestinationDramInt32) e.events[kRequantize] = elements * function.operands;
    for (int i = 0; i < function.events; ++i) {
      const FunctionEvent& own = function.event[i];
      e.events[own.event] += elements * own.an_element + rows * own.a_row;
    }
  }

  // Cycles of one batch of rows that share the statistics registers: see timing.row_batch_cycles.
  static Word row_batch(Word rows, Word blocks, const DrainFunction& function, Word beats) {
    const Word pass = rows * blocks, out = blocks * beats;
    Word cycles = 0;
    if (function.maximum) cycles = pass + std::max<Word>(0, kMaximumLatency - (rows - 1) * blocks);
    if (!function.statistics) return cycles + rows * out;
    const Word ready = blocks + function.latency;
    const Word last = ready + (rows - 1) * (std::max<Word>(blocks, kDivideInterval) - out);
    return cycles + std::max({pass, ready, last}) + rows * out;
  }
};

}  // namespace
