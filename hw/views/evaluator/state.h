// The machine's state, what an instruction does to it, and what is remembered of both.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "structure.h"

namespace {

struct UnitState {
  Word free;               // load, drain: occupied until then; execute: its stream port
  Word release, complete;  // of its last signals
  int head, depth;
  Word left[kMaxQueue];    // cycles in which the last `depth` instructions left, from `head` on
};

struct State {
  Word clock;                            // front end: cycle of the last dispatch
  UnitState unit[kUnits];
  Word pop, preload_start, compute_start;
  bool loaded;                           // weights preloaded and not yet swapped in
  // Tokens of each channel: `pending` times from `head` on, in a ring that 8-bit indices wrap.
  std::uint8_t head[kChannels], pending[kChannels];
  Word token[kChannels][kMaxTokens + 1];
};

constexpr int kUnrolled = 32;  // nodes in an iteration whose instructions are decided once

// Which loops are in their first iteration (low half) and in their last (high half).
using Ends = std::uint64_t;
constexpr Ends first_of(Word slot) { return Ends{1} << slot; }
constexpr Ends last_of(Word slot) { return Ends{1} << (32 + slot); }
constexpr Ends kNever = Ends{1} << 63;

struct Range {  // a guard that is not about an end: words as in Guards
  Word slot, from_end, lo, hi;
};

// Guards of one row of the batch: ends that must be reached, and anything else as ranges.
struct Condition {
  Ends ends = 0;
  int first_range = 0, ranges = 0;
};

// A loop's count: `otherwise`, or the first of the cases whose ends are all reached.
struct Count {
  Word otherwise;
  int cases;
  Ends ends[4];
  Word value[4];
};

struct TokenRule {
  Condition when;
  int channel;
  Word count;
};

// What an instruction does under one choice of its cases and flag.
struct Effect {
  Word busy = 0, latency = 0;
  Word events[kEvents] = {};
};

constexpr int kEffects = 32;  // of one instruction
constexpr int kCases = 6;     // of one instruction's values

struct Site {
  int kind, next, child, slot, inside;  // copied from the node
  int op, number;
  Unit unit;
  int cases = 0;
  Condition when, flag;
  const TokenRule *waits, *waits_end, *signals, *signals_end;
  Count repeats;                 // of a loop
  Ends case_ends[kCases];        // when a case of a value applies
  int used = 0;
  unsigned last_key = ~0u;       // of the effect looked up last
  int last_effect = 0;
  unsigned char key[kEffects];   // which cases apply, and the flag
  int effect[kEffects];          // index into Workspace::effects
};

struct TokenUse {  // a wait or a signal whose guards hold
  int channel;
  Word count;
  bool operator==(const TokenUse& t) const { return channel == t.channel && count == t.count; }
};

// An instruction as issued: its guards, cases and flags decided.
struct Step {
  const Site* site;
  UnitState* unit;
  int op, effect;
  int waits, signals, end;  // its tokens: waits in [waits, signals), signals in [signals, end)
  Word busy, latency;
  bool operator==(const Step& s) const {
    return effect == s.effect && waits == s.waits && signals == s.signals && end == s.end;
  }
};

// Instructions issued in turn: the first `steps` and `tokens` of vectors that are large enough.
struct Steps {
  std::vector<Step> step;
  std::vector<TokenUse> token;
  int steps = 0, tokens = 0;
  bool operator==(const Steps& s) const {
    return steps == s.steps && tokens == s.tokens &&
           std::equal(step.begin(), step.begin() + steps, s.step.begin()) &&
           std::equal(token.begin(), token.begin() + tokens, s.token.begin());
  }
};

// A list of words that keeps its memory and never clears it.
class Words {
 public:
  const Word* begin() const { return data_.get(); }
  Word* room(std::size_t most) {  // space to write into, what is there being lost
    if (most > capacity_) data_.reset(new Word[capacity_ = 2 * most]);
    return data_.get();
  }

 private:
  std::unique_ptr<Word[]> data_;
  std::size_t capacity_ = 0;
};

struct Cuts {  // where the guards on a loop of this count change, ending with the count
  Word count = -1;
  std::vector<Word> at;
};

struct SavedState {
  Word backlog;  // as Evaluator::backlog: most states differ in it
  Words words;
};

struct Snapshot {  // what a loop remembers of the state before an iteration
  int known;       // as Evaluator::known_; -1: see `state`
  SavedState state;
  std::vector<Word> counts;
  Word iteration, time;
};

struct Transition {      // what a step of a pipeline did
  int from, to;          // known states
  std::uint64_t guards;  // as Evaluator::guards_of
  Word time;
  std::vector<Word> counts;
};

// Kept between evaluations so that their memory is reused.
struct Workspace {
  State state;
  std::vector<Site> sites;           // by node
  std::vector<Cuts> cuts;            // by Node::cuts
  std::vector<Effect> effects;
  std::vector<Word> counts;          // issues under each effect
  std::vector<TokenRule> tokens;
  std::vector<Range> ranges;
  Steps steps, next;                 // one iteration of an unrolled loop; the one at the next cut
  Snapshot snapshots[kMaxLoops];
  std::vector<SavedState> states;    // between the steps of a pipeline, all different
  std::vector<Transition> transitions;
  std::size_t states_used, transitions_used;
};

struct Trace {  // one row of six per instruction: site, unit, dispatch, start, free, complete
  Word* rows;
  Word capacity, used;
};

}  // namespace
