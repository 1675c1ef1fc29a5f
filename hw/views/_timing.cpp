// Exact timing and event counts of a kernel, fast over loops.
//
// Evaluates the recurrence that timing.py defines on the rolled form of a kernel. The machine's
// state after an iteration, taken relative to the front end's clock, determines everything that
// follows. Once the iterations of a loop that issue the same instructions come back to a relative
// state, the remaining such iterations add the same cycles and events, so they are added in one
// step; a pipeline's step is not run again from a state it has been run from. What an iteration of
// a short loop issues is decided once, not per iteration. Entries that lie at or before the front
// end's clock can bind no later instruction and compare equal. Nothing is approximated.
//
// Input is the word form that fast_timing.py writes, one row per kernel of a batch; all rows have
// the same structure, which is parsed once.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace {

using Word = std::int64_t;

enum Unit { kLoad, kExecute, kDrain, kUnits };
enum Op { kMvin = 1, kPreload, kCompute, kMvout, kLoadSync, kExecuteSync, kDrainSync };
enum Event {
  kInstructions, kDramRead, kDramWrite, kScratchpadReads, kScratchpadWrites, kAccumulatorReads,
  kAccumulatorWrites, kAccumulatorAdds, kMacs, kPeActive, kPeWeightLoads, kScale, kRequantize,
  kGelu, kCompare, kExp, kMoment, kNormalize, kDivide, kSqrt, kHostCycles, kEvents
};
enum Status { kOk, kTokenUnderflow, kTokenOverflow, kPreloadUnused, kTooManyCases };
enum NodeKind { kLoopNode = 1, kPipelineNode = 2, kInstructionNode = 3 };

constexpr int kChannels = 8;
constexpr int kMaxQueue = 256;
constexpr int kMaxTokens = 255;
constexpr int kMaxLoops = 16;
constexpr int kMaxStages = 4;
constexpr int kUnrolled = 32;       // nodes in an iteration whose instructions are decided once
constexpr int kMaxChanges = 64;     // of the guards of a pipeline: bits of a word
constexpr Word kFew = 2;            // iterations that cost less than to detect that they repeat
constexpr Word kFewUnrolled = 8;    // and of unrolled loops
constexpr Word kUnbounded = Word{1} << 40;  // program.NO_UPPER_BOUND
// Whether a channel's tokens are signalled at completion (1) or release (0).
constexpr int kChannelAtComplete[kChannels] = {1, 1, 0, 1, 0, 1, 0, 0};

// Field for field the array that fast_timing.py builds.
struct Machine {
  Word dim, bus_bytes, dram_latency;
  Word queue_depth[kUnits];
  Word load_latency, execute_latency, drain_latency;
  Word maximum_latency, softmax_latency, norm_latency, divide_interval, statistic_rows, parameter_bytes;
};

Word ceil_div(Word a, Word b) { return (a + b - 1) / b; }

// ---- The structure of a kernel: offsets into the words of any row of the batch ----------------

struct Value { int at, cases; };   // words: default, n, then n times (value, n loops, slots...)
struct Guards { int at, count; };  // words: n, then n times (slot, from_end, lo, hi)
struct Token { int channel, count_at; Guards when; };

struct Node {
  int kind = 0;
  int slot = 0;                            // loop
  Value count{};                           // loop
  int first_threshold = 0, thresholds = 0; // loop: guards that refer to it
  int cuts = 0;                            // loops: index of the first one's Cuts
  int inside = 0;                          // nodes below this one
  int child = -1, next = -1;
  int op = 0, site = 0;                    // instruction
  Value values[4]{};
  Guards flag{}, when{};
  int first_wait = 0, waits = 0, first_signal = 0, signals = 0;
  int loops = 0, stages = 0;               // pipeline
  int slots[kMaxLoops]{}, count_at[kMaxLoops]{}, stage[kMaxStages]{};
  int stage_first[kMaxStages]{}, stage_thresholds[kMaxStages]{};  // of each stage alone
  bool inner_loops = false;                                       // inside the stages
};

// Where something changes along a loop: at the word `at`, or at 1 for the cases of a value.
struct Threshold { int slot, from_end, at, value_at; };

class Parser {
 public:
  std::vector<Node> nodes;
  std::vector<Token> tokens;
  std::vector<Threshold> thresholds;

  Parser(const Word* words, int size) : words_(words) { root = body(0, size); }
  int root = -1;
  int cuts = 0;  // loops of all nodes

 private:
  const Word* words_;

  Value value(int& at) {
    Value v{at, static_cast<int>(words_[at + 1])};
    at += 2;
    for (int i = 0; i < v.cases; ++i) {
      const int loops = static_cast<int>(words_[at + 1]);
      for (int j = 0; j < loops; ++j)
        thresholds.push_back({static_cast<int>(words_[at + 2 + j]), 1, -1, v.at});
      at += 2 + loops;
    }
    return v;
  }

  Guards guards(int& at) {
    Guards g{at, static_cast<int>(words_[at])};
    at += 1;
    for (int i = 0; i < g.count; ++i, at += 4) {
      const int slot = static_cast<int>(words_[at]), end = static_cast<int>(words_[at + 1]);
      thresholds.push_back({slot, end, at + 2, -1});
      thresholds.push_back({slot, end, at + 3, -1});
    }
    return g;
  }

  int token_list(int& at, int& first) {
    const int n = static_cast<int>(words_[at++]);
    first = static_cast<int>(tokens.size());
    for (int i = 0; i < n; ++i) {
      Token token{static_cast<int>(words_[at]), at + 1, {}};
      at += 2;
      token.when = guards(at);
      tokens.push_back(token);
    }
    return n;
  }

  int body(int at, int end) {
    int head = -1, tail = -1;
    while (at < end) {
      const int size = static_cast<int>(words_[at + 1]);
      const int node = parse(at, at + size);
      (tail < 0 ? head : nodes[tail].next) = node;
      tail = node;
      at += size;
    }
    return head;
  }

  // Thresholds recorded since `mark` are kept for the enclosing loops; those on `slot` are copied
  // to the end so that the loop's own form one range.
  void own_thresholds(Node& node, const int* slots, int n, int mark) {
    const int end = static_cast<int>(thresholds.size());
    node.first_threshold = end;
    for (int i = mark; i < end; ++i) {
      const Threshold t = thresholds[i];
      if (std::find(slots, slots + n, t.slot) != slots + n) thresholds.push_back(t);
    }
    node.thresholds = static_cast<int>(thresholds.size()) - end;
  }

  int parse(int at, int end) {
    const int index = static_cast<int>(nodes.size());
    nodes.emplace_back();
    Node node;
    node.kind = static_cast<int>(words_[at]);
    at += 2;
    const int mark = static_cast<int>(thresholds.size());
    if (node.kind == kLoopNode) {
      node.slot = static_cast<int>(words_[at++]);
      node.cuts = cuts++;
      node.count = value(at);
      node.child = body(at, end);
      own_thresholds(node, &node.slot, 1, mark);
    } else if (node.kind == kPipelineNode) {
      node.loops = static_cast<int>(words_[at++]);
      node.cuts = cuts;
      cuts += node.loops;
      for (int i = 0; i < node.loops; ++i) {
        node.slots[i] = static_cast<int>(words_[at]);
        node.count_at[i] = at + 1;
        at += 2;
      }
      node.stages = static_cast<int>(words_[at++]);
      for (int i = 0; i < node.stages; ++i) {
        const int size = static_cast<int>(words_[at++]);
        const int stage_mark = static_cast<int>(thresholds.size());
        node.stage[i] = body(at, at + size);
        at += size;
        own_thresholds(node, node.slots, node.loops, stage_mark);
        node.stage_first[i] = node.first_threshold;
        node.stage_thresholds[i] = node.thresholds;
        for (int child = node.stage[i]; child >= 0; child = nodes[child].next)
          node.inner_loops = node.inner_loops || nodes[child].kind != kInstructionNode;
      }
      own_thresholds(node, node.slots, node.loops, mark);
    } else {
      node.op = static_cast<int>(words_[at++]);
      node.site = static_cast<int>(words_[at++]);
      for (Value& v : node.values) v = value(at);
      node.flag = guards(at);
      node.when = guards(at);
      node.waits = token_list(at, node.first_wait);
      node.signals = token_list(at, node.first_signal);
    }
    node.inside = static_cast<int>(nodes.size()) - index - 1;
    nodes[index] = node;
    return index;
  }
};

// ---- The machine's state ----------------------------------------------------------------------

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

class Evaluator {
 public:
  Evaluator(const Machine& machine, const Parser& kernel, const Word* words, bool skip,
            Trace* trace, Workspace& space)
      : m_(machine), k_(kernel), w_(words), skip_(skip), trace_(trace), x_(space), s_(space.state) {
    constexpr Word kPast = -1;
    s_.clock = s_.pop = s_.compute_start = kPast;
    s_.preload_start = -m_.dim;
    s_.loaded = false;
    for (int u = 0; u < kUnits; ++u) {
      UnitState& unit = s_.unit[u];
      unit.release = unit.complete = kPast;
      unit.free = 0;
      unit.head = 0;
      unit.depth = static_cast<int>(m_.queue_depth[u]);
      std::fill_n(unit.left, unit.depth, kPast);
    }
    std::fill_n(s_.head, kChannels, std::uint8_t{0});
    std::fill_n(s_.pending, kChannels, std::uint8_t{0});
    prepare();
    run(k_.root);
  }

  Word cycles() const {
    Word last = s_.unit[kLoad].complete;
    for (const UnitState& unit : s_.unit) last = later(last, unit.complete);
    return skipped_ + last + 1;
  }

  void events(Word* out) const {
    std::fill_n(out, kEvents, 0);
    for (std::size_t e = 0; e < x_.effects.size(); ++e)
      for (int i = 0; i < kEvents; ++i) out[i] += x_.counts[e] * x_.effects[e].events[i];
  }

  int status = kOk;
  int failed_site = -1;

 private:
  const Machine& m_;
  const Parser& k_;
  const Word* w_;
  const bool skip_;
  Trace* trace_;
  Workspace& x_;
  State& s_;
  Site* sites_ = nullptr;  // x_.sites and so on, one load closer
  Effect* effects_ = nullptr;
  Word* counts_ = nullptr;
  Word index_[kMaxLoops] = {}, count_[kMaxLoops] = {};
  Ends ends_ = 0;
  int depth_ = 0;
  Word skipped_ = 0;  // cycles skipped so far: the state's times leave them out
  int budget_ = 0;    // nodes that `unroll` may still visit
  int known_ = -1;    // which of x_.states the state is, relative to the clock; -1: any
  bool behind_ = false;  // s_ has yet to become that state

  // ---- Guards and values -----------------------------------------------------------------------

  Condition condition(const Guards& g) {
    Condition c;
    c.first_range = static_cast<int>(x_.ranges.size());
    const Word* guard = w_ + g.at + 1;
    for (int i = 0; i < g.count; ++i, guard += 4) {
      if (guard[2] >= guard[3]) {
        c.ends |= kNever;
      } else if (guard[2] == 0 && guard[3] == 1) {
        c.ends |= guard[1] ? last_of(guard[0]) : first_of(guard[0]);
      } else if (guard[2] > 0 || guard[3] < kUnbounded) {
        x_.ranges.push_back({guard[0], guard[1], guard[2], guard[3]});
        ++c.ranges;
      }
    }
    return c;
  }

  void prepare() {
    x_.effects.clear();
    x_.counts.clear();
    x_.ranges.clear();
    x_.sites.resize(k_.nodes.size());
    x_.cuts.resize(static_cast<std::size_t>(k_.cuts));
    for (Cuts& cuts : x_.cuts) cuts.count = -1;
    x_.tokens.resize(k_.tokens.size());
    for (Steps* steps : {&x_.steps, &x_.next}) {
      steps->step.resize(kUnrolled);
      steps->token.resize(kUnrolled * k_.tokens.size());
    }
    sites_ = x_.sites.data();
    for (std::size_t i = 0; i < k_.tokens.size(); ++i) {
      const Token& token = k_.tokens[i];
      x_.tokens[i] = {condition(token.when), token.channel, w_[token.count_at]};
    }
    for (std::size_t i = 0; i < k_.nodes.size(); ++i) prepare(k_.nodes[i], x_.sites[i]);
  }

  void prepare(const Node& n, Site& site) {
    site.kind = n.kind;
    site.next = n.next;
    site.child = n.child;
    site.slot = n.slot;
    site.inside = n.inside;
    site.op = n.op;
    site.number = n.site;
    site.waits = x_.tokens.data() + n.first_wait;
    site.waits_end = site.waits + n.waits;
    site.signals = x_.tokens.data() + n.first_signal;
    site.signals_end = site.signals + n.signals;
    if (n.kind == kLoopNode) {
      Count& c = site.repeats;
      c.otherwise = w_[n.count.at];
      c.cases = 0;
      note_cases(n.count, [&](Ends ends, Word value) {
        if (c.cases == 4) return fail(kTooManyCases, site);
        c.ends[c.cases] = ends;
        c.value[c.cases++] = value;
      });
    } else if (n.kind == kInstructionNode) {
      site.used = site.cases = 0;
      site.last_key = ~0u;
      site.unit = unit_of(n.op);
      site.when = condition(n.when);
      site.flag = condition(n.flag);
      for (const Value& v : n.values)
        note_cases(v, [&](Ends ends, Word) {
          if (site.cases == kCases) return fail(kTooManyCases, site);
          site.case_ends[site.cases++] = ends;
        });
    }
  }

  template <class Note>
  void note_cases(const Value& v, Note note) {
    if (v.cases == 0 || constant(v.at)) return;
    for (int i = 0, at = v.at + 2; i < v.cases; ++i) {
      const int loops = static_cast<int>(w_[at + 1]);
      Ends ends = 0;
      for (int j = 0; j < loops; ++j) ends |= last_of(w_[at + 2 + j]);
      note(ends, w_[at]);
      at += 2 + loops;
    }
  }

  bool reached(Ends ends) const { return (ends_ & ends) == ends; }

  bool holds(const Condition& c) const {
    return reached(c.ends) && (c.ranges == 0 || in_ranges(c));
  }

  bool in_ranges(const Condition& c) const {
    const Range* range = x_.ranges.data() + c.first_range;
    for (const Range* end = range + c.ranges; range != end; ++range) {
      const Word index = index_[range->slot];
      const Word position = range->from_end ? count_[range->slot] - 1 - index : index;
      if (position < range->lo || position >= range->hi) return false;
    }
    return true;
  }

  Word value(const Value& v) const {
    int at = v.at + 2;
    for (int i = 0; i < v.cases; ++i) {
      const int loops = static_cast<int>(w_[at + 1]);
      Ends ends = 0;
      for (int j = 0; j < loops; ++j) ends |= last_of(w_[at + 2 + j]);
      if (reached(ends)) return w_[at];
      at += 2 + loops;
    }
    return w_[v.at];
  }

  Word value(const Count& c) const {
    for (int i = 0; i < c.cases; ++i)
      if (reached(c.ends[i])) return c.value[i];
    return c.otherwise;
  }

  void set_index(int slot, Word index) {
    index_[slot] = index;
    ends_ = (ends_ & ~(first_of(slot) | last_of(slot))) | Ends{index == 0} << slot |
            Ends{index == count_[slot] - 1} << (32 + slot);
  }

  // ---- Walking the kernel ----------------------------------------------------------------------

  void run(int node) {
    for (; node >= 0 && status == kOk; node = sites_[node].next) {
      Site& site = sites_[node];
      if (site.kind == kPipelineNode) {
        pipeline(k_.nodes[node]);
      } else if (site.kind == kLoopNode) {
        loop(k_.nodes[node], site);
      } else if (holds(site.when)) {
        x_.steps.steps = x_.steps.tokens = 0;
        add_step(site, x_.steps);
        issue(x_.steps);
      }
    }
  }

  void loop(const Node& n, const Site& site) {
    const int slot = site.slot, child = site.child;
    const Word count = count_[slot] = value(site.repeats);
    const auto iteration = [&](Word i) {
      set_index(slot, i);
      run(child);
    };
    if (!skip_ || count <= 2) {
      ++depth_;
      for (Word i = 0; i < count && status == kOk; ++i) iteration(i);
      --depth_;
      return;
    }
    const std::vector<Word>& cuts = segments(n, slot, count, x_.cuts[n.cuts]);
    bool flat = unrolled(site, 0, x_.steps);
    Word begin = 0;
    for (std::size_t s = 0; s < cuts.size() && status == kOk;) {
      if (!flat) {
        repeat(begin, cuts[s], 0, kFew, iteration, [](Word) {});
        begin = cuts[s++];
        flat = s < cuts.size() && unrolled(site, begin, x_.steps);
        continue;
      }
      // Where the same is issued behind a cut, other guards rule out what changes there.
      bool next_flat = false, same = true;
      Word end = begin;
      while (same) {
        end = cuts[s++];
        next_flat = s < cuts.size() && unrolled(site, end, x_.next);
        same = next_flat && x_.next == x_.steps;
      }
      repeat(begin, end, 0, kFewUnrolled, [&](Word) { issue(x_.steps); }, [](Word) {});
      std::swap(x_.steps, x_.next);
      flat = next_flat;
      begin = end;
    }
    set_index(slot, count - 1);
  }

  // Whether iteration `i` of a loop, those inside it unrolled, is short. Its instructions are then
  // in `steps`.
  bool unrolled(const Site& site, Word i, Steps& steps) {
    steps.steps = steps.tokens = 0;
    budget_ = kUnrolled;
    set_index(site.slot, i);
    return unroll(site.child, steps);
  }

  bool unroll(int node, Steps& to) {
    for (; node >= 0; node = sites_[node].next) {
      Site& site = sites_[node];
      if (--budget_ < 0 || site.kind == kPipelineNode) return false;
      if (site.kind == kInstructionNode) {
        if (holds(site.when)) add_step(site, to);
        continue;
      }
      const Word count = count_[site.slot] = value(site.repeats);
      if (count * site.inside > budget_) return false;
      for (Word i = 0; i < count; ++i) {
        set_index(site.slot, i);
        if (!unroll(site.child, to)) return false;
      }
    }
    return true;
  }

  // Where a threshold cuts [0, count); 0 where it does not.
  Word cut(const Threshold& t, Word count) const {
    if (t.value_at >= 0 && constant(t.value_at)) return 0;
    const Word at = t.at < 0 ? 1 : w_[t.at];
    const Word position = t.from_end ? count - at : at;
    return position > 0 && position < count ? position : 0;
  }

  // Whether all cases of a value equal its default, so that it never changes.
  bool constant(int value_at) const {
    const Word n = w_[value_at + 1];
    for (int at = value_at + 2, i = 0; i < n; ++i, at += 2 + static_cast<int>(w_[at + 1]))
      if (w_[at] != w_[value_at]) return false;
    return true;
  }

  const std::vector<Word>& segments(const Node& n, int slot, Word count, Cuts& cuts) const {
    if (cuts.count == count) return cuts.at;
    cuts.count = count;
    cuts.at.assign(1, count);
    for (int i = n.first_threshold; i < n.first_threshold + n.thresholds; ++i) {
      const Threshold& t = k_.thresholds[i];
      const Word at = t.slot == slot ? cut(t, count) : 0;
      if (at && std::find(cuts.at.begin(), cuts.at.end(), at) == cuts.at.end()) cuts.at.push_back(at);
    }
    std::sort(cuts.at.begin(), cuts.at.end());
    return cuts.at;
  }

  struct Change {  // of a guard: at this index of the pipeline's loop at this level
    int level;
    Word at;
  };

  struct History {  // a pipeline that runs: where its stages are, and where its guards change
    Word entering[kMaxLoops];            // index of the step that enters
    Word index[kMaxStages][kMaxLoops];
    bool valid[kMaxStages] = {};
    Word per_iteration[kMaxLoops];       // steps in one iteration of each loop
    bool memoized = false;
    int changes[kMaxStages] = {};
    Change change[kMaxStages][kMaxChanges];
  };

  void pipeline(const Node& n) {
    History history;
    Word steps = 1;
    for (int l = n.loops - 1; l >= 0; --l) {
      history.per_iteration[l] = steps;
      count_[n.slots[l]] = w_[n.count_at[l]];
      steps *= w_[n.count_at[l]];
    }
    if (steps == 0) return;
    // Where it is inside a loop, the guards of that loop could tell two steps apart.
    history.memoized = skip_ && depth_ == 0 && n.inner_loops && find_changes(n, history);
    if (history.memoized) {
      x_.states_used = x_.transitions_used = 0;
      known_ = know_state();
    }
    nest(n, 0, history);
    ++depth_;
    for (int flush = 1; flush < n.stages; ++flush) step(n, history, false);
    --depth_;
    if (history.memoized) catch_up();
  }

  // Notes where the guards inside each stage change; false if one word cannot tell them all.
  bool find_changes(const Node& n, History& history) const {
    int total = n.stages;
    for (int s = 0; s < n.stages; ++s) {
      for (int i = n.stage_first[s]; i < n.stage_first[s] + n.stage_thresholds[s]; ++i) {
        const Threshold& t = k_.thresholds[i];
        const Word at = cut(t, count_[t.slot]);
        const int level = static_cast<int>(std::find(n.slots, n.slots + n.loops, t.slot) - n.slots);
        Change *begin = history.change[s], *end = begin + history.changes[s];
        const auto same = [&](const Change& c) { return c.level == level && c.at == at; };
        if (at == 0 || std::any_of(begin, end, same)) continue;
        if (++total > kMaxChanges) return false;
        *end = {level, at};
        ++history.changes[s];
      }
    }
    return true;
  }

  void nest(const Node& n, int level, History& history) {
    const Word lag = ceil_div(n.stages - 1, history.per_iteration[level]);
    const auto iteration = [&](Word i) {
      history.entering[level] = i;
      if (level + 1 < n.loops) nest(n, level + 1, history);
      else step(n, history, true);
    };
    const int slot = n.slots[level];
    const Word count = count_[slot];
    if (!skip_ || count <= lag + 2) {
      ++depth_;
      for (Word i = 0; i < count && status == kOk; ++i) iteration(i);
      --depth_;
      return;
    }
    Word begin = 0;
    for (const Word end : segments(n, slot, count, x_.cuts[n.cuts + level])) {
      repeat(begin, end, lag, kFew, iteration, [&](Word times) {
        for (int s = 0; s < n.stages; ++s) history.index[s][level] += times;
      });
      begin = end;
    }
  }

  void step(const Node& n, History& history, bool enter) {
    for (int s = n.stages - 1; s > 0; --s) {
      std::copy_n(history.index[s - 1], n.loops, history.index[s]);
      history.valid[s] = history.valid[s - 1];
    }
    std::copy_n(history.entering, n.loops, history.index[0]);
    history.valid[0] = enter;
    if (history.memoized) step_once(n, history);
    else run_stages(n, history);
  }

  void run_stages(const Node& n, const History& history) {
    for (int s = 0; s < n.stages; ++s) {
      if (!history.valid[s]) continue;
      for (int l = 0; l < n.loops; ++l) set_index(n.slots[l], history.index[s][l]);
      run(n.stage[s]);
    }
  }

  // Runs a step, or repeats what one did from the same state under the same guards.
  void step_once(const Node& n, const History& history) {
    const std::uint64_t guards = guards_of(n, history);
    for (std::size_t i = 0; i < x_.transitions_used; ++i) {
      const Transition& t = x_.transitions[i];
      if (t.from != known_ || t.guards != guards) continue;
      known_ = t.to;
      behind_ = true;
      skipped_ += t.time;
      for (std::size_t e = 0; e < t.counts.size(); ++e) x_.counts[e] += t.counts[e];
      return;
    }
    if (x_.transitions_used == x_.transitions.size()) x_.transitions.emplace_back();
    Transition& t = x_.transitions[x_.transitions_used++];
    t.from = known_;
    t.guards = guards;
    t.counts = x_.counts;
    catch_up();
    t.time = now();
    run_stages(n, history);
    t.time = now() - t.time;
    t.to = known_ = know_state();
    t.counts.resize(x_.counts.size());
    for (std::size_t e = 0; e < x_.counts.size(); ++e) t.counts[e] = x_.counts[e] - t.counts[e];
  }

  // Which stages run, and which of their guards have changed since the pipeline began.
  static std::uint64_t guards_of(const Node& n, const History& history) {
    std::uint64_t bits = 0;
    for (int s = 0; s < n.stages; ++s) {
      bits = 2 * bits + history.valid[s];
      const Change* change = history.change[s];
      for (int i = 0; i < history.changes[s]; ++i)
        bits = 2 * bits + (history.valid[s] && history.index[s][change[i].level] >= change[i].at);
    }
    return bits;
  }

  // Which of x_.states the state is; it is added if new.
  int know_state() {
    for (std::size_t i = 0; i < x_.states_used; ++i)
      if (in_state(x_.states[i])) return static_cast<int>(i);
    if (x_.states_used == x_.states.size()) x_.states.emplace_back();
    save_state(x_.states[x_.states_used]);
    return static_cast<int>(x_.states_used++);
  }

  // Makes s_ the known state, which may change from here on.
  void catch_up() {
    if (behind_) restore_state(x_.states[known_]);
    behind_ = false;
    known_ = -1;
  }

  // ---- Repetition ------------------------------------------------------------------------------

  // Runs `iteration` for every index in [begin, end), where no guard changes, skipping repetitions
  // of the state. Snapshots begin `lag` iterations later, since pipelined stages may still see
  // guards from before, and end with the last `few`. `advance` is told how many iterations were
  // skipped.
  template <class Iteration, class Advance>
  void repeat(Word begin, Word end, Word lag, Word few, Iteration iteration, Advance advance) {
    Snapshot& snapshot = x_.snapshots[depth_++];
    Word next = begin + lag, before = -1;
    bool taken = false;
    for (Word i = begin; i < end && status == kOk; ++i) {
      if (i >= next && end - i > few && (known_ >= 0 || settled(before))) {
        take(snapshot, i);
        taken = true;
        if (known_ < 0) next = i + 2 + (i - begin) / 4;
      }
      iteration(i);
      if (!taken || !same_state(snapshot)) continue;
      const Word period = i + 1 - snapshot.iteration, times = (end - 1 - i) / period;
      skip(times, snapshot);
      advance(times * period);
      i += times * period;
      taken = false;
      next = end;
    }
    --depth_;
  }

  // How far the units are behind the front end, in cycles.
  Word backlog() const {
    Word sum = relative(s_.pop);
    for (const UnitState& unit : s_.unit) sum += relative(unit.complete);
    return sum;
  }

  // Whether the backlog is that of the last call. Until then the state is not worth a snapshot,
  // which costs as much as several instructions.
  bool settled(Word& before) const {
    const Word last = before;
    before = backlog();
    return before == last;
  }

  void take(Snapshot& snapshot, Word iteration) {
    snapshot.known = known_;
    if (known_ < 0) save_state(snapshot.state);
    snapshot.counts = x_.counts;
    snapshot.iteration = iteration;
    snapshot.time = now();
  }

  // Repeats what happened since the snapshot. All times grow alike, so that none needs to change.
  void skip(Word times, const Snapshot& snapshot) {
    skipped_ += times * (now() - snapshot.time);
    for (std::size_t e = 0; e < x_.counts.size(); ++e) {
      const Word before = e < snapshot.counts.size() ? snapshot.counts[e] : 0;
      x_.counts[e] += times * (x_.counts[e] - before);
    }
  }

  bool same_state(const Snapshot& snapshot) const {
    return snapshot.known < 0 ? in_state(snapshot.state) : snapshot.known == known_;
  }

  Word now() const { return skipped_ + s_.clock; }

  Word relative(Word time) const { return later(time - s_.clock, 0); }

  // Gives `to` everything the future depends on, relative to the clock, until it refuses a word:
  // of lists of times those still ahead of the clock, newest first, and a 0. No sequence is the
  // beginning of another's. What is most likely to differ comes first.
  template <class To>
  bool tell_state(To to) const {
    if (!to(relative(s_.pop)) || !to(relative(s_.compute_start)) ||
        !to(relative(s_.preload_start + m_.dim)) || !to(s_.loaded))
      return false;
    Word pending;
    static_assert(sizeof pending == sizeof s_.pending, "one word holds the counts of all channels");
    std::memcpy(&pending, s_.pending, sizeof pending);
    if (!to(pending)) return false;
    for (const UnitState& unit : s_.unit) {
      if (!to(relative(unit.free)) || !to(relative(unit.release)) || !to(relative(unit.complete)))
        return false;
      for (int i = unit.depth, at = unit.head; i > 0; --i) {
        at = (at == 0 ? unit.depth : at) - 1;
        const Word time = unit.left[at] - s_.clock;
        if (time <= 0) break;
        if (!to(time)) return false;
      }
      if (!to(0)) return false;
    }
    for (int c = 0; c < kChannels; ++c) {
      if (s_.pending[c] == 0) continue;
      for (unsigned i = s_.pending[c]; i > 0; --i) {
        const Word time = s_.token[c][(s_.head[c] + i - 1) & kMaxTokens] - s_.clock;
        if (time <= 0) break;
        if (!to(time)) return false;
      }
      if (!to(0)) return false;
    }
    return true;
  }

  void save_state(SavedState& out) const {
    out.backlog = backlog();
    std::size_t most = 5 + 4 * kUnits + kChannels;
    for (const UnitState& unit : s_.unit) most += static_cast<std::size_t>(unit.depth);
    for (const std::uint8_t pending : s_.pending) most += pending;
    Word* at = out.words.room(most);
    tell_state([&](Word word) {
      *at++ = word;
      return true;
    });
  }

  bool in_state(const SavedState& saved) const {
    if (saved.backlog != backlog()) return false;
    const Word* at = saved.words.begin();
    return tell_state([&](Word word) { return word == *at++; });
  }

  // The inverse of `save_state`, up to entries that can bind nothing any more.
  void restore_state(const SavedState& saved) {
    const Word* from = saved.words.begin();
    s_.pop = s_.clock + *from++;
    s_.compute_start = s_.clock + *from++;
    s_.preload_start = s_.clock + *from++ - m_.dim;
    s_.loaded = *from++ != 0;
    std::memcpy(s_.pending, from++, sizeof s_.pending);
    for (UnitState& unit : s_.unit) {
      unit.free = s_.clock + *from++;
      unit.release = s_.clock + *from++;
      unit.complete = s_.clock + *from++;
      unit.head = 0;
      from = restore_times(from, unit.left, unit.depth);
    }
    for (int c = 0; c < kChannels; ++c) {
      s_.head[c] = 0;
      if (s_.pending[c]) from = restore_times(from, s_.token[c], s_.pending[c]);
    }
  }

  // Of `count` times, those ahead of the clock; the others become the clock.
  const Word* restore_times(const Word* from, Word* times, int count) const {
    int i = count - 1;
    for (; *from != 0; --i) times[i] = s_.clock + *from++;
    for (; i >= 0; --i) times[i] = s_.clock;
    return from + 1;
  }

  // ---- One instruction -------------------------------------------------------------------------

  static Unit unit_of(int op) {
    if (op == kMvin || op == kLoadSync) return kLoad;
    if (op == kMvout || op == kDrainSync) return kDrain;
    return kExecute;
  }

  int effect(Site& site) {
    unsigned key = holds(site.flag);
    for (int i = 0; i < site.cases; ++i) key = 2 * key + reached(site.case_ends[i]);
    if (key != site.last_key) {
      site.last_key = key;
      site.last_effect = find_effect(site, key);
    }
    return site.last_effect;
  }

  int find_effect(Site& site, unsigned key) {
    for (int i = 0; i < site.used; ++i)
      if (site.key[i] == key) return site.effect[i];
    const int index = static_cast<int>(x_.effects.size());
    x_.effects.emplace_back();
    x_.counts.push_back(0);
    effects_ = x_.effects.data();
    counts_ = x_.counts.data();
    effects_[index].events[kInstructions] = 1;
    describe(k_.nodes[&site - sites_], site, effects_[index]);
    if (site.used == kEffects) {
      fail(kTooManyCases, site);
    } else {
      site.key[site.used] = static_cast<unsigned char>(key);
      site.effect[site.used++] = index;
    }
    return index;
  }

  void describe(const Node& n, const Site& site, Effect& e) const {
    Word v[4];
    for (int i = 0; i < 4; ++i) v[i] = value(n.values[i]);
    const bool flag = holds(site.flag);
    switch (n.op) {
      case kMvin: return mvin(v, flag, e);
      case kPreload:
        e.busy = m_.dim;
        e.events[kScratchpadReads] = v[0];
        e.events[kPeWeightLoads] = m_.dim * m_.dim;
        return;
      case kCompute: return compute(v, flag, e);
      case kMvout: return mvout(v, e);
      default: e.busy = 1;
    }
  }

  // Adds what an instruction does at the current indices.
  void add_step(Site& site, Steps& to) {
    const int e = effect(site);
    Step& step = to.step[to.steps++];
    step.site = &site;
    step.unit = &s_.unit[site.unit];
    step.op = site.op;
    step.effect = e;
    step.busy = effects_[e].busy;
    step.latency = effects_[e].latency;
    step.waits = to.tokens;
    step.signals = to.tokens = add_tokens(site.waits, site.waits_end, to.token.data(), to.tokens);
    step.end = to.tokens = add_tokens(site.signals, site.signals_end, to.token.data(), to.tokens);
  }

  int add_tokens(const TokenRule* rule, const TokenRule* end, TokenUse* to, int at) const {
    for (; rule != end; ++rule)
      if (holds(rule->when)) to[at++] = {rule->channel, rule->count};
    return at;
  }

  void issue(const Steps& steps) {
    const TokenUse* tokens = steps.token.data();
    const Step* end = steps.step.data() + steps.steps;
    for (const Step* step = steps.step.data(); step != end; ++step) issue(*step, tokens);
  }

  void issue(const Step& step, const TokenUse* tokens) {
    UnitState& unit = *step.unit;
    Word& left = unit.left[unit.head];
    if (++unit.head == unit.depth) unit.head = 0;
    s_.clock = later(s_.clock, left) + 1;
    const Word bound = step.waits == step.signals ? -1 : wait(step, tokens);
    ++counts_[step.effect];
    Word start;
    if (step.op == kPreload || step.op == kCompute || step.op == kExecuteSync) {
      left = execute(step, bound, start);
    } else {
      left = start = later(later(s_.clock + 1, unit.free), bound);
      unit.free = start + step.busy;
    }
    const Word free = start + step.busy;
    unit.release = later(unit.release + 1, free);
    unit.complete = later(unit.complete + 1, free + step.latency);
    if (step.signals != step.end) signal(step, tokens);
    if (trace_) record(step, start);
  }

  void record(const Step& step, Word start) {
    if (trace_->used == trace_->capacity) return;
    const Site& site = *step.site;
    const Word free = start + step.busy, complete = step.unit->complete;
    const Word row[6] = {site.number, site.unit, s_.clock, start, free, complete};
    std::memcpy(trace_->rows + 6 * trace_->used++, row, sizeof row);
  }

  // Takes the tokens that an instruction waits for; it starts no earlier than the result.
  Word wait(const Step& step, const TokenUse* tokens) {
    Word bound = -1;
    for (int t = step.waits; t < step.signals; ++t) {
      const auto [channel, count] = tokens[t];
      for (Word i = count; i > 0; --i) {
        if (s_.pending[channel] == 0) {
          fail(kTokenUnderflow, *step.site);
          return bound;
        }
        bound = later(bound, s_.token[channel][s_.head[channel]++] + 1);
        --s_.pending[channel];
      }
    }
    return bound;
  }

  void signal(const Step& step, const TokenUse* tokens) {
    for (int t = step.signals; t < step.end; ++t) {
      const auto [channel, count] = tokens[t];
      const Word time = kChannelAtComplete[channel] ? step.unit->complete : step.unit->release;
      for (Word i = count; i > 0; --i) {
        if (s_.pending[channel] == kMaxTokens) return fail(kTokenOverflow, *step.site);
        s_.token[channel][(s_.head[channel] + s_.pending[channel]++) & kMaxTokens] = time;
      }
    }
  }

  void fail(Status why, const Site& site) {  // the first failure counts
    if (status != kOk) return;
    status = why;
    failed_site = site.number;
  }

  static Word later(Word a, Word b) { return a > b ? a : b; }

  // Returns the cycle in which the instruction leaves the queue for its port's holding register.
  Word execute(const Step& step, Word bound, Word& start) {
    Word pop = later(s_.clock, s_.pop) + 1;
    const Word ready = later(s_.preload_start + m_.dim, bound);
    if (step.op == kPreload) {
      if (s_.loaded) fail(kPreloadUnused, *step.site);
      pop = later(pop, s_.preload_start);
      start = later(later(pop + 1, ready), s_.compute_start);
      s_.preload_start = start;
      s_.loaded = true;
    } else if (step.op == kCompute) {
      pop = later(pop, s_.compute_start);
      start = later(later(pop + 1, ready), step.unit->free);
      s_.compute_start = start;
      step.unit->free = start + step.busy;
      s_.loaded = false;
    } else {  // a sync holds the queue until all before it are released
      start = pop = later(later(pop, bound), step.unit->release + 1);
    }
    return s_.pop = pop;
  }

  // ---- What instructions cost and count: see timing.py for the same in words --------------------

  void compute(const Word* v, bool overwrite, Effect& e) const {  // rows, depth, width
    const Word rows = v[0];
    e.busy = rows;
    e.latency = 2 * m_.dim + m_.execute_latency;
    e.events[kScratchpadReads] = e.events[kAccumulatorWrites] = rows;
    if (!overwrite) {
      e.events[kAccumulatorReads] = rows;
      e.events[kAccumulatorAdds] = rows * m_.dim;
    }
    e.events[kPeActive] = rows * m_.dim * m_.dim;
    e.events[kMacs] = rows * v[1] * v[2];
  }

  // rows, blocks, target: scratchpad, accumulator, accumulator_int32, parameters
  void mvin(const Word* v, bool accumulate, Effect& e) const {
    const Word bytes[] = {m_.dim, m_.dim, 4 * m_.dim, m_.parameter_bytes * m_.dim};
    const Word rows = v[0], target = v[2], moved = rows * v[1], row_bytes = bytes[target];
    const Word beats = ceil_div(rows * row_bytes, m_.bus_bytes);
    e.busy = v[1] * std::max(rows, beats);
    e.latency = m_.dram_latency + m_.load_latency;
    e.events[kDramRead] = v[1] * beats * m_.bus_bytes;
    if (target == 0) e.events[kScratchpadWrites] = moved;
    if (target == 1 || target == 2) {
      e.events[kAccumulatorWrites] = moved;
      if (accumulate) {
        e.events[kAccumulatorReads] = moved;
        e.events[kAccumulatorAdds] = moved * m_.dim;
      }
    }
    if (target == 1) e.events[kScale] = moved * m_.dim;
  }

  // rows, blocks, function: copy, relu, gelu, softmax, layernorm, rmsnorm,
  // destination: DRAM, DRAM as int32, scratchpad
  void mvout(const Word* v, Effect& e) const {
    const Word rows = v[0], blocks = v[1], function = v[2], destination = v[3];
    const Word row_bytes = destination == 1 ? 4 * m_.dim : m_.dim;
    const bool row_function = function >= 3;
    Word beats = 0;  // of a block, or of a row of it where rows of several blocks take turns
    if (row_function) {
      const Word full = rows / m_.statistic_rows, rest = rows % m_.statistic_rows;
      beats = destination == 2 ? 1 : ceil_div(row_bytes, m_.bus_bytes);
      e.busy = full * row_batch(m_.statistic_rows, blocks, function, beats) +
               (rest ? row_batch(rest, blocks, function, beats) : 0);
    } else {
      beats = destination == 2 ? 0 : ceil_div(rows * row_bytes, m_.bus_bytes);
      e.busy = blocks * std::max(rows, beats);
    }
    e.latency = m_.drain_latency + (destination == 2 ? 0 : m_.dram_latency);
    const Word moved = rows * blocks, elements = moved * m_.dim;
    e.events[kAccumulatorReads] = moved * (function == 3 ? 3 : row_function ? 2 : 1);
    if (destination == 2) e.events[kScratchpadWrites] = moved;
    else e.events[kDramWrite] = (row_function ? moved : blocks) * beats * m_.bus_bytes;
    if (destination != 1) e.events[kRequantize] = elements;
    if (function == 2) e.events[kGelu] = elements;
    if (function == 3) e.events[kCompare] = elements, e.events[kExp] = 2 * elements;
    if (function >= 4) e.events[kMoment] = elements, e.events[kSqrt] = rows;
    if (row_function) e.events[kNormalize] = elements, e.events[kDivide] = rows;
  }

  // Cycles of one batch of rows that share the statistics registers: see timing.row_batch_cycles.
  Word row_batch(Word rows, Word blocks, Word function, Word beats) const {
    const Word pass = rows * blocks, out = blocks * beats;
    Word cycles = 0;
    if (function == 3) cycles = pass + std::max<Word>(0, m_.maximum_latency - (rows - 1) * blocks);
    const Word ready = blocks + (function == 3 ? m_.softmax_latency : m_.norm_latency);
    const Word last = ready + (rows - 1) * (std::max(blocks, m_.divide_interval) - out);
    return cycles + std::max({pass, ready, last}) + rows * out;
  }
};

}  // namespace

// Evaluates `batch` kernels of one structure. Returns 0, or a Status with the row and instruction
// site in `failure`. `trace` may be null; else it takes up to `trace_capacity` rows of six words
// of the last kernel, and failure[2] says how many were written.
extern "C" int codesign_evaluate(const Word* machine, const Word* words, Word size, Word batch,
                                 int skip, Word* cycles, Word* events, Word* trace,
                                 Word trace_capacity, Word* failure) {
  Machine m;
  static_assert(sizeof m == 15 * sizeof(Word), "fast_timing.py builds this array");
  std::memcpy(&m, machine, sizeof m);
  const Parser kernel(words, static_cast<int>(size));
  static thread_local Workspace space;
  Trace record{trace, trace_capacity, 0};
  for (Word row = 0; row < batch; ++row) {
    const Evaluator run(m, kernel, words + row * size, skip != 0, trace ? &record : nullptr, space);
    if (run.status != kOk) {
      failure[0] = row;
      failure[1] = run.failed_site;
      return run.status;
    }
    cycles[row] = run.cycles();
    run.events(events + row * kEvents);
  }
  failure[2] = record.used;
  return kOk;
}
