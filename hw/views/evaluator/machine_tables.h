// The tables of the machine, for the compiled evaluator.
// Written by `python -m codesign.hw.views.generated`; evaluator_tables.py says from what.

#pragma once

#include <cstdint>

namespace {

using Word = std::int64_t;

constexpr std::uint64_t kTablesDigest = 0xcd1e2a2cec982e2b;

enum Unit {
  kLoad = 0,
  kExecute = 1,
  kDrain = 2,
  kUnits = 3,
};

enum Op {
  kMvin = 1,
  kPreload = 2,
  kCompute = 3,
  kMvout = 4,
  kLoadSync = 5,
  kExecuteSync = 6,
  kDrainSync = 7,
};

enum Event {
  kInstructions = 0,
  kDramReadBytes = 1,
  kDramWriteBytes = 2,
  kScratchpadReads = 3,
  kScratchpadWrites = 4,
  kAccumulatorReads = 5,
  kAccumulatorWrites = 6,
  kAccumulatorAdds = 7,
  kMacs = 8,
  kPeActive = 9,
  kPeWeightLoads = 10,
  kScale = 11,
  kRequantize = 12,
  kGelu = 13,
  kSigmoid = 14,
  kProduct = 15,
  kCompare = 16,
  kExp = 17,
  kState = 18,
  kAlign = 19,
  kMoment = 20,
  kNormalize = 21,
  kDivide = 22,
  kSqrt = 23,
  kHostCycles = 24,
  kEvents = 25,
};

enum Status {
  kOk = 0,
  kTokenUnderflow = 1,
  kTokenOverflow = 2,
  kPreloadUnused = 3,
  kTooManyCases = 4,
};

enum NodeKind {
  kLoopNode = 1,
  kPipelineNode = 2,
  kInstructionNode = 3,
};

enum MvinValue {
  kMvinRows = 0,
  kMvinBlocks = 1,
  kMvinTarget = 2,
};

enum PreloadValue {
  kPreloadRows = 0,
};

enum ComputeValue {
  kComputeRows = 0,
  kComputeDepth = 1,
  kComputeWidth = 2,
  kComputeAligned = 3,
};

enum MvoutValue {
  kMvoutRows = 0,
  kMvoutBlocks = 1,
  kMvoutFunction = 2,
  kMvoutDestination = 3,
};

enum Target {
  kTargetScratchpad = 0,
  kTargetAccumulator = 1,
  kTargetAccumulatorInt32 = 2,
  kTargetParameters = 3,
};

enum Destination {
  kDestinationDram = 0,
  kDestinationDramInt32 = 1,
  kDestinationScratchpad = 2,
};

constexpr int kChannels = 8;
constexpr int kMaxTokens = 255;
constexpr int kMaxQueue = 256;
constexpr int kMaxLoops = 16;
constexpr int kMaxStages = 4;
constexpr int kValues = 4;
constexpr int kLoadLatency = 4;
constexpr int kExecuteLatency = 4;
constexpr int kDrainLatency = 16;
constexpr int kStatisticRows = 16;
constexpr int kMaximumLatency = 2;
constexpr int kDivideInterval = 8;
constexpr Word kUnbounded = 1099511627776;

// Whether a channel's tokens are signalled at completion (1) or at release (0).
constexpr int kChannelAtComplete[kChannels] = {1, 1, 0, 1, 0, 1, 0, 0};
// The unit of an operation, by its opcode.
constexpr Unit kUnitOf[] = {kLoad, kLoad, kExecute, kExecute, kDrain, kLoad, kExecute, kDrain};
// Bytes of an element on its way.
constexpr int kTargetBytes[] = {1, 1, 4, 8};
constexpr int kDestinationBytes[] = {1, 4, 1};

struct Machine {
  Word dim, bus_bytes, dram_latency_cycles;
  Word queue_depth[kUnits];
};
constexpr int kMachineWords = 6;

struct FunctionEvent {
  int event, an_element, a_row;
};
struct DrainFunction {
  int passes, operands;
  bool by_row, maximum, statistics;  // needs whole rows; which passes before their output
  int latency, events;
  FunctionEvent event[4];
};
constexpr DrainFunction kFunctions[] = {
    /* copy */ {1, 1, false, false, false, 0, 0, {}},
    /* relu */ {1, 1, false, false, false, 0, 0, {}},
    /* gelu */ {1, 1, false, false, false, 0, 1, {{kGelu, 1, 0}}},
    /* softmax */ {3, 1, true, true, true, 13, 4, {{kCompare, 1, 0}, {kExp, 2, 0}, {kNormalize, 1, 0}, {kDivide, 0, 1}}},
    /* layernorm */ {2, 1, true, false, true, 24, 4, {{kMoment, 1, 0}, {kNormalize, 1, 0}, {kSqrt, 0, 1}, {kDivide, 0, 1}}},
    /* rmsnorm */ {2, 1, true, false, true, 24, 4, {{kMoment, 1, 0}, {kNormalize, 1, 0}, {kSqrt, 0, 1}, {kDivide, 0, 1}}},
    /* silu */ {1, 1, false, false, false, 0, 1, {{kSigmoid, 1, 0}}},
    /* sigmoid */ {1, 1, false, false, false, 0, 1, {{kSigmoid, 1, 0}}},
    /* tanh */ {1, 1, false, false, false, 0, 1, {{kSigmoid, 1, 0}}},
    /* hard_sigmoid */ {1, 1, false, false, false, 0, 1, {{kSigmoid, 1, 0}}},
    /* hard_swish */ {1, 1, false, false, false, 0, 1, {{kSigmoid, 1, 0}}},
    /* product */ {1, 2, false, false, false, 0, 1, {{kProduct, 1, 0}}},
    /* glu */ {1, 2, false, false, false, 0, 2, {{kSigmoid, 1, 0}, {kProduct, 1, 0}}},
    /* reglu */ {1, 2, false, false, false, 0, 1, {{kProduct, 1, 0}}},
    /* geglu */ {1, 2, false, false, false, 0, 2, {{kGelu, 1, 0}, {kProduct, 1, 0}}},
    /* swiglu */ {1, 2, false, false, false, 0, 2, {{kSigmoid, 1, 0}, {kProduct, 1, 0}}},
    /* rotate */ {1, 3, false, false, false, 0, 1, {{kProduct, 2, 0}}},
    /* exponentials */ {2, 1, true, true, false, 2, 3, {{kCompare, 1, 0}, {kExp, 1, 0}, {kState, 0, 1}}},
    /* quotient */ {2, 1, true, false, true, 13, 3, {{kNormalize, 1, 0}, {kState, 0, 1}, {kDivide, 0, 1}}}
};

}  // namespace
