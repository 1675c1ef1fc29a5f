// Exact timing and event counts of a kernel, fast over loops.
//
// Evaluates the recurrence that timing.py defines on the rolled form of a kernel. The machine's
// state after an iteration, taken relative to the front end's clock, determines everything that
// follows; once two consecutive iterations of a loop that issue the same instructions leave the
// same relative state, the remaining such iterations add the same cycles and events, so they are
// added in one step. Entries that lie at or before the front end's clock can bind no later
// instruction and compare equal. Nothing is approximated.
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
constexpr int kStride = 4;
constexpr Word kUnbounded = Word{1} << 40;  // program.NO_UPPER_BOUND
// Whether a channel's tokens are signalled at completion (1) or release (0).
constexpr int kChannelAtComplete[kChannels] = {1, 1, 0, 1, 0, 1, 0, 0};

// Field for field the array that fast_timing.py builds.
struct Machine {
  Word dim, bus_bytes, dram_latency;
  Word queue_depth[kUnits];
  Word load_latency, execute_latency, drain_latency;
  Word pass_latency, divide_latency, divide_interval, statistic_rows, parameter_bytes;
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
  int child = -1, next = -1;
  int op = 0, site = 0;                    // instruction
  Value values[4]{};
  Guards flag{}, when{};
  int first_wait = 0, waits = 0, first_signal = 0, signals = 0;
  int loops = 0, stages = 0;               // pipeline
  int slots[kMaxLoops]{}, count_at[kMaxLoops]{}, stage[kMaxStages]{};
  int stage_first[kMaxStages]{}, stage_thresholds[kMaxStages]{};  // of each stage alone
  bool stage_loops[kMaxStages]{};                                 // whether it has loops inside
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
      node.count = value(at);
      node.child = body(at, end);
      own_thresholds(node, &node.slot, 1, mark);
    } else if (node.kind == kPipelineNode) {
      node.loops = static_cast<int>(words_[at++]);
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
          node.stage_loops[i] = node.stage_loops[i] || nodes[child].kind != kInstructionNode;
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
    nodes[index] = node;
    return index;
  }
};

// ---- The machine's state ----------------------------------------------------------------------

struct Channel {
  Word time[kMaxTokens + 1];
  unsigned head, pending;
  Word& at(unsigned i) { return time[(head + i) & kMaxTokens]; }
};

struct State {
  Word clock;                     // front end: cycle of the last dispatch
  Word queue[kUnits][kMaxQueue];  // cycles in which the last `depth` instructions left the queue
  int queue_head[kUnits];
  Word bound[kUnits];             // tokens waited for by the next instruction
  Word free[kUnits];              // load, drain: occupied until; execute: stream port
  Word release[kUnits], complete[kUnits];
  Word pop, preload_start, compute_start;
  bool loaded;                    // weights preloaded and not yet swapped in
  Channel channel[kChannels];
};

// Which loops are in their first iteration (low half) and in their last (high half).
using Ends = std::uint64_t;
constexpr Ends first_of(Word slot) { return Ends{1} << slot; }
constexpr Ends last_of(Word slot) { return Ends{1} << (32 + slot); }
constexpr Ends kNever = Ends{1} << 63;

// Guards of one row of the batch: ends that must be reached, and anything else as ranges.
struct Condition {
  Ends ends = 0;
  int at = 0, ranges = 0;  // general guards: words as in Guards
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
  int kind, next, child, slot;   // copied from the node
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

// A list of words that keeps its memory and never clears it.
class Words {
 public:
  Words() = default;
  Words(Words&&) = default;
  Words& operator=(Words&&) = default;
  Words& operator=(const Words& other) {
    std::memcpy(room(other.size_), other.data_.get(), other.size_ * sizeof(Word));
    size_ = other.size_;
    return *this;
  }
  bool operator==(const Words& other) const {
    return size_ == other.size_ && std::memcmp(begin(), other.begin(), size_ * sizeof(Word)) == 0;
  }
  const Word* begin() const { return data_.get(); }
  const Word* end() const { return data_.get() + size_; }
  Word* room(std::size_t most) {  // space to write into, what is there being lost
    if (most > capacity_) data_.reset(new Word[capacity_ = 2 * most]);
    return data_.get();
  }
  void ends_at(const Word* end) { size_ = static_cast<std::size_t>(end - data_.get()); }

 private:
  std::unique_ptr<Word[]> data_;
  std::size_t size_ = 0, capacity_ = 0;
};

struct Cuts {  // where the guards on a loop of this count change, ending with the count
  Word count = -1;
  std::vector<Word> at;
};

struct Level {  // what one loop remembers of the state before its last iterations
  std::vector<Word> counts;
  Words signature;
  Word clock;
};

struct Replay {  // what a pipeline stage did from one state
  std::uint64_t hash;
  Words key, state;
  std::vector<Word> counts;
  Word clock;
};

// Kept between evaluations so that their memory is reused.
struct Workspace {
  State state;
  std::vector<Site> sites;           // by node
  std::vector<Cuts> loop_cuts;       // by node
  std::vector<Effect> effects;
  std::vector<Word> counts;          // issues under each effect
  std::vector<TokenRule> tokens;
  Level levels[kMaxLoops];
  Words scratch, key;
  std::vector<Replay> replays;
  std::size_t replays_used;
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
      std::fill_n(s_.queue[u], m_.queue_depth[u], kPast);
      s_.queue_head[u] = 0;
      s_.bound[u] = s_.release[u] = s_.complete[u] = kPast;
      s_.free[u] = 0;
    }
    for (Channel& c : s_.channel) c.head = c.pending = 0;
    prepare();
    run(k_.root);
  }

  Word cycles() const { return 1 + *std::max_element(s_.complete, s_.complete + kUnits); }

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

  // ---- Guards and values -----------------------------------------------------------------------

  Condition condition(const Guards& g) const {
    Condition c;
    c.at = g.at;
    const Word* guard = w_ + g.at + 1;
    for (int i = 0; i < g.count; ++i, guard += 4) {
      if (guard[2] >= guard[3]) c.ends |= kNever;
      else if (guard[2] == 0 && guard[3] == 1) c.ends |= guard[1] ? last_of(guard[0]) : first_of(guard[0]);
      else if (guard[2] > 0 || guard[3] < kUnbounded) ++c.ranges;
    }
    return c;
  }

  void prepare() {
    x_.effects.clear();
    x_.counts.clear();
    x_.replays_used = 0;
    x_.sites.resize(k_.nodes.size());
    x_.loop_cuts.resize(k_.nodes.size());
    for (Cuts& cuts : x_.loop_cuts) cuts.count = -1;
    x_.tokens.resize(k_.tokens.size());
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
    const Word* guard = w_ + c.at + 1;
    for (Word i = w_[c.at]; i > 0; --i, guard += 4) {
      const Word slot = guard[0];
      const Word position = guard[1] ? count_[slot] - 1 - index_[slot] : index_[slot];
      if (position < guard[2] || position >= guard[3]) return false;
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
    ends_ &= ~(first_of(slot) | last_of(slot));
    if (index == 0) ends_ |= first_of(slot);
    if (index == count_[slot] - 1) ends_ |= last_of(slot);
  }

  // ---- Walking the kernel ----------------------------------------------------------------------

  void run(int node) {
    while (node >= 0 && status == kOk) {
      Site& site = sites_[node];
      if (site.kind == kInstructionNode) {
        if (holds(site.when)) issue(site);
      } else if (site.kind == kLoopNode) {
        const int slot = site.slot, child = site.child;
        const Word count = count_[slot] = value(site.repeats);
        if (count == 1) {
          ++depth_;
          set_index(slot, 0);
          run(child);
          --depth_;
        } else {
          repeat(k_.nodes[node], slot, count, 0, kStride, x_.loop_cuts[node],
                 [&](Word) { run(child); }, [](Word) {});
        }
      } else {
        pipeline(k_.nodes[node]);
      }
      node = site.next;
    }
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

  // Runs `iteration` for every index of a loop, skipping repetitions. `lag` is for how many
  // iterations pipelined stages still see what came before a change of guards; `advance` is told
  // how many iterations were skipped. States are compared every `stride` iterations: comparing costs
  // as much as a few instructions.
  template <class Iteration, class Advance>
  void repeat(const Node& n, int slot, Word count, Word lag, Word stride, Cuts& cuts,
              Iteration iteration, Advance advance) {
    if (!skip_ || count <= lag + stride + 1) {
      ++depth_;
      for (Word i = 0; i < count && status == kOk; ++i) {
        set_index(slot, i);
        iteration(i);
      }
      --depth_;
      return;
    }
    Level& level = x_.levels[depth_++];
    Word i = 0;
    for (const Word end : segments(n, slot, count, cuts)) {
      const Word watch_from = i + lag;
      const bool watched = end - watch_from > stride + 1;
      Word next = watch_from + stride - 1;
      for (; i < end && status == kOk; ++i) {
        if (watched && i == watch_from) {
          signature(level.signature);
          remember(level);
        }
        set_index(slot, i);
        iteration(i);
        if (!watched || i != next || end - 1 - i < stride) continue;
        next += stride;
        signature(x_.scratch);
        if (x_.scratch == level.signature) {
          const Word times = (end - 1 - i) / stride;
          skip(times, level);
          advance(times * stride);
          i += times * stride;
          next += times * stride;
        } else {
          std::swap(x_.scratch, level.signature);
          remember(level);
        }
      }
    }
    --depth_;
  }

  struct History {  // a pipeline that runs: where its stages are, and where its loops change
    Word index[kMaxStages][kMaxLoops];
    bool valid[kMaxStages] = {};
    Word per_iteration[kMaxLoops];  // steps in one iteration of each loop
    bool outermost;                 // no loop around the pipeline, whose guards could differ
    Cuts cuts[kMaxLoops];
    std::vector<std::pair<int, Word>> stage_cuts[kMaxStages];  // loop and index
  };

  void pipeline(const Node& n) {
    History history;
    history.outermost = depth_ == 0;
    Word steps = 1;
    for (int l = n.loops - 1; l >= 0; --l) {
      history.per_iteration[l] = steps;
      count_[n.slots[l]] = w_[n.count_at[l]];
      steps *= w_[n.count_at[l]];
    }
    if (steps == 0) return;
    for (int s = 0; s < n.stages; ++s) {
      for (int i = n.stage_first[s]; i < n.stage_first[s] + n.stage_thresholds[s]; ++i) {
        const Threshold& t = k_.thresholds[i];
        const std::pair<int, Word> change(t.slot, cut(t, count_[t.slot]));
        auto& cuts = history.stage_cuts[s];
        if (change.second && std::find(cuts.begin(), cuts.end(), change) == cuts.end())
          cuts.push_back(change);
      }
    }
    nest(n, 0, history);
    for (int flush = 1; flush < n.stages; ++flush) step(n, history, false);
  }

  void step(const Node& n, History& history, bool enter) {
    for (int s = n.stages - 1; s > 0; --s) {
      std::copy_n(history.index[s - 1], n.loops, history.index[s]);
      history.valid[s] = history.valid[s - 1];
    }
    for (int l = 0; l < n.loops; ++l) history.index[0][l] = index_[n.slots[l]];
    history.valid[0] = enter;
    for (int s = 0; s < n.stages; ++s) {
      if (!history.valid[s]) continue;
      for (int l = 0; l < n.loops; ++l) set_index(n.slots[l], history.index[s][l]);
      if (skip_ && history.outermost && n.stage_loops[s]) run_once(n, s, history);
      else run(n.stage[s]);
    }
  }

  // Runs a stage, or replays what it did from the same state under the same guards.
  void run_once(const Node& n, int s, const History& history) {
    Words& key = x_.key;
    Word* to = signature(key, history.stage_cuts[s].size() + 1);
    *to++ = n.stage[s];
    for (const auto& [slot, at] : history.stage_cuts[s]) *to++ = index_[slot] >= at;
    key.ends_at(to);
    std::uint64_t hash = 0;
    for (Word word : key) hash = (hash ^ static_cast<std::uint64_t>(word)) * 0x9E3779B97F4A7C15u;
    for (std::size_t i = 0; i < x_.replays_used; ++i)
      if (x_.replays[i].hash == hash && x_.replays[i].key == key) return replay(x_.replays[i]);
    if (x_.replays_used == x_.replays.size()) x_.replays.emplace_back();
    const std::size_t mine = x_.replays_used++;
    x_.replays[mine].hash = hash;
    x_.replays[mine].key = key;
    x_.replays[mine].counts = x_.counts;
    const Word clock = s_.clock;
    run(n.stage[s]);
    Replay& record = x_.replays[mine];
    record.clock = s_.clock - clock;
    signature(record.state);
    for (std::size_t e = 0; e < record.counts.size(); ++e)
      record.counts[e] = x_.counts[e] - record.counts[e];
    record.counts.insert(record.counts.end(), x_.counts.begin() + record.counts.size(), x_.counts.end());
  }

  void replay(const Replay& record) {
    s_.clock += record.clock;
    restore(record.state);
    for (std::size_t e = 0; e < record.counts.size(); ++e) x_.counts[e] += record.counts[e];
  }

  void nest(const Node& n, int level, History& history) {
    const Word lag = ceil_div(n.stages - 1, history.per_iteration[level]);
    Word outer[kMaxLoops];
    for (int l = 0; l < level; ++l) outer[l] = index_[n.slots[l]];
    const auto iteration = [&](Word i) {
      for (int l = 0; l < level; ++l) set_index(n.slots[l], outer[l]);
      set_index(n.slots[level], i);
      if (level + 1 < n.loops) nest(n, level + 1, history);
      else step(n, history, true);
    };
    const int slot = n.slots[level];
    repeat(n, slot, count_[slot], lag, 1, history.cuts[level], iteration, [&](Word times) {
      for (int s = 0; s < n.stages; ++s) history.index[s][level] += times;
    });
  }

  // ---- Repetition ------------------------------------------------------------------------------

  Word relative(Word time) const { return std::max<Word>(time - s_.clock, 0); }

  // Times still ahead of the clock, newest first; those before them are past, and a 0 ends the list.
  template <class At>
  Word* ahead(Word* to, int count, At at) const {
    for (int i = count - 1; i >= 0; --i) {
      const Word time = at(i) - s_.clock;
      if (time <= 0) break;
      *to++ = time;
    }
    *to++ = 0;
    return to;
  }

  // Everything the future depends on, relative to the clock. Leaves `extra` words of room behind.
  Word* signature(Words& out, std::size_t extra = 0) {
    std::size_t most = 4 + extra;
    for (int u = 0; u < kUnits; ++u) most += static_cast<std::size_t>(m_.queue_depth[u]) + 5;
    for (const Channel& c : s_.channel) most += 2 + c.pending;
    Word* to = out.room(most);
    for (int u = 0; u < kUnits; ++u) {
      const int depth = static_cast<int>(m_.queue_depth[u]), head = s_.queue_head[u];
      const Word* queue = s_.queue[u];
      to = ahead(to, depth, [&](int i) { return queue[head + i < depth ? head + i : head + i - depth]; });
      *to++ = relative(s_.bound[u]);
      *to++ = relative(s_.free[u]);
      *to++ = relative(s_.release[u]);
      *to++ = relative(s_.complete[u]);
    }
    *to++ = relative(s_.pop);
    *to++ = relative(s_.preload_start + m_.dim);
    *to++ = relative(s_.compute_start);
    *to++ = s_.loaded;
    for (Channel& c : s_.channel) {
      *to++ = c.pending;
      to = ahead(to, static_cast<int>(c.pending), [&](int i) { return c.at(static_cast<unsigned>(i)); });
    }
    out.ends_at(to);
    return to;
  }

  // The inverse of `ahead`: the newest of `count` times; the rest are set to the clock.
  template <class At>
  const Word* behind(const Word* from, int count, At at) const {
    int i = count - 1;
    for (; *from != 0; --i) at(i) = s_.clock + *from++;
    for (; i >= 0; --i) at(i) = s_.clock;
    return from + 1;
  }

  // The inverse of `signature`, up to entries that can bind nothing any more.
  void restore(const Words& state) {
    const Word* from = state.begin();
    for (int u = 0; u < kUnits; ++u) {
      s_.queue_head[u] = 0;
      Word* queue = s_.queue[u];
      from = behind(from, static_cast<int>(m_.queue_depth[u]), [&](int i) -> Word& { return queue[i]; });
      s_.bound[u] = s_.clock + *from++;
      s_.free[u] = s_.clock + *from++;
      s_.release[u] = s_.clock + *from++;
      s_.complete[u] = s_.clock + *from++;
    }
    s_.pop = s_.clock + *from++;
    s_.preload_start = s_.clock + *from++ - m_.dim;
    s_.compute_start = s_.clock + *from++;
    s_.loaded = *from++ != 0;
    for (Channel& c : s_.channel) {
      c.head = 0;
      c.pending = static_cast<unsigned>(*from++);
      from = behind(from, static_cast<int>(c.pending), [&](int i) -> Word& { return c.time[i]; });
    }
  }

  void remember(Level& level) {
    level.clock = s_.clock;
    level.counts = x_.counts;
  }

  void skip(Word times, const Level& level) {
    const Word by = times * (s_.clock - level.clock);
    s_.clock += by;
    for (int u = 0; u < kUnits; ++u) {
      for (int i = 0; i < m_.queue_depth[u]; ++i) s_.queue[u][i] += by;
      s_.bound[u] += by;
      s_.free[u] += by;
      s_.release[u] += by;
      s_.complete[u] += by;
    }
    s_.pop += by;
    s_.preload_start += by;
    s_.compute_start += by;
    for (Channel& c : s_.channel)
      for (unsigned i = 0; i < c.pending; ++i) c.at(i) += by;
    for (std::size_t e = 0; e < x_.counts.size(); ++e)
      x_.counts[e] += times * (x_.counts[e] - (e < level.counts.size() ? level.counts[e] : 0));
  }

  // ---- One instruction -------------------------------------------------------------------------

  static Unit unit_of(int op) {
    if (op == kMvin || op == kLoadSync) return kLoad;
    if (op == kMvout || op == kDrainSync) return kDrain;
    return kExecute;
  }

  const Effect& effect(Site& site) {
    unsigned key = holds(site.flag);
    for (int i = 0; i < site.cases; ++i) key = 2 * key + reached(site.case_ends[i]);
    if (key != site.last_key) {
      site.last_key = key;
      site.last_effect = find_effect(site, key);
    }
    ++counts_[site.last_effect];
    return effects_[site.last_effect];
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

  void issue(Site& site) {
    const Unit unit = site.unit;
    Word* slot = &s_.queue[unit][s_.queue_head[unit]];
    s_.clock = later(s_.clock, *slot) + 1;
    if (++s_.queue_head[unit] == m_.queue_depth[unit]) s_.queue_head[unit] = 0;
    for (const TokenRule* token = site.waits; token != site.waits_end; ++token)
      if (holds(token->when)) wait(site, *token, unit);
    if (status != kOk) return;
    const Effect& e = effect(site);
    Word start;
    if (unit == kExecute) {
      *slot = execute(site, e, start);
    } else {
      start = *slot = later(later(s_.clock + 1, s_.free[unit]), s_.bound[unit]);
      s_.free[unit] = start + e.busy;
    }
    s_.bound[unit] = -1;
    s_.release[unit] = later(s_.release[unit], start + e.busy);
    s_.complete[unit] = later(s_.complete[unit], start + e.busy + e.latency);
    for (const TokenRule* token = site.signals; token != site.signals_end; ++token)
      if (holds(token->when)) signal(site, *token, unit);
    if (trace_ && trace_->used < trace_->capacity) {
      const Word row[6] = {site.number, unit, s_.clock, start, start + e.busy, s_.complete[unit]};
      std::memcpy(trace_->rows + 6 * trace_->used++, row, sizeof row);
    }
  }

  void wait(const Site& site, const TokenRule& token, Unit unit) {
    Channel& c = s_.channel[token.channel];
    for (Word i = token.count; i > 0; --i) {
      if (c.pending == 0) return fail(kTokenUnderflow, site);
      s_.bound[unit] = later(s_.bound[unit], c.time[c.head] + 1);
      c.head = (c.head + 1) & kMaxTokens;
      --c.pending;
    }
  }

  void signal(const Site& site, const TokenRule& token, Unit unit) {
    Channel& c = s_.channel[token.channel];
    const Word time = kChannelAtComplete[token.channel] ? s_.complete[unit] : s_.release[unit];
    for (Word i = token.count; i > 0; --i) {
      if (c.pending == kMaxTokens) return fail(kTokenOverflow, site);
      c.at(c.pending++) = time;
    }
  }

  void fail(Status why, const Site& site) {
    status = why;
    failed_site = site.number;
  }

  static Word later(Word a, Word b) { return a > b ? a : b; }

  // Returns the cycle in which the instruction leaves the queue for its port's holding register.
  Word execute(const Site& site, const Effect& e, Word& start) {
    Word pop = later(s_.clock, s_.pop) + 1;
    const Word ready = later(s_.preload_start + m_.dim, s_.bound[kExecute]);
    if (site.op == kPreload) {
      if (s_.loaded) fail(kPreloadUnused, site);
      pop = later(pop, s_.preload_start);
      start = later(later(pop + 1, ready), s_.compute_start);
      s_.preload_start = start;
      s_.loaded = true;
    } else if (site.op == kCompute) {
      pop = later(pop, s_.compute_start);
      start = later(later(pop + 1, ready), s_.free[kExecute]);
      s_.compute_start = start;
      s_.free[kExecute] = start + e.busy;
      s_.loaded = false;
    } else {  // a sync holds the queue until it starts
      start = pop = later(later(pop, s_.bound[kExecute]), later(s_.preload_start, s_.compute_start));
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
    e.busy = v[1] * std::max(rows, ceil_div(rows * row_bytes, m_.bus_bytes));
    e.latency = m_.dram_latency + m_.load_latency;
    e.events[kDramRead] = moved * row_bytes;
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
    if (row_function) {
      const Word full = rows / m_.statistic_rows, rest = rows % m_.statistic_rows;
      const Word beats = destination == 2 ? 1 : ceil_div(row_bytes, m_.bus_bytes);
      e.busy = full * row_batch(m_.statistic_rows, blocks, function, beats) +
               (rest ? row_batch(rest, blocks, function, beats) : 0);
    } else {
      const Word beats = destination == 2 ? 0 : ceil_div(rows * row_bytes, m_.bus_bytes);
      e.busy = blocks * std::max(rows, beats);
    }
    e.latency = m_.drain_latency + (destination == 2 ? 0 : m_.dram_latency);
    const Word moved = rows * blocks, elements = moved * m_.dim;
    e.events[kAccumulatorReads] = moved * (function == 3 ? 3 : row_function ? 2 : 1);
    if (destination == 2) e.events[kScratchpadWrites] = moved;
    else e.events[kDramWrite] = moved * row_bytes;
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
    if (function == 3) cycles = pass + std::max<Word>(0, m_.pass_latency - (rows - 1) * blocks);
    const Word ready = blocks + m_.pass_latency + m_.divide_latency * (function == 3 ? 1 : 2);
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
  static_assert(sizeof m == 14 * sizeof(Word), "fast_timing.py builds this array");
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
