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
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "evaluator/recurrence.h"

namespace {

constexpr int kMaxChanges = 64;   // of the guards of a pipeline: bits of a word
constexpr Word kFew = 2;          // iterations that cost less than to detect that they repeat
constexpr Word kFewUnrolled = 8;  // and of unrolled loops

class Evaluator : public Recurrence {
 public:
  Evaluator(const Machine& machine, const Parser& kernel, const Word* words, bool skip,
            Trace* trace, Workspace& space)
      : Recurrence(machine, kernel, words, trace, space), skip_(skip) {
    run(k_.root);
  }

 private:
  const bool skip_;
  int depth_ = 0;
  int budget_ = 0;       // nodes that `unroll` may still visit
  int known_ = -1;       // which of x_.states the state is, relative to the clock; -1: any
  bool behind_ = false;  // s_ has yet to become that state

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
};

}  // namespace

// The digest of the tables that this was compiled from: evaluator_tables.py has that of today's.
extern "C" std::uint64_t codesign_tables_digest() { return kTablesDigest; }

// Evaluates `batch` kernels of one structure. Returns 0, or a Status with the row and instruction
// site in `failure`. `trace` may be null; else it takes up to `trace_capacity` rows of six words
// of the last kernel, and failure[2] says how many were written.
extern "C" int codesign_evaluate(const Word* machine, const Word* words, Word size, Word batch,
                                 int skip, Word* cycles, Word* events, Word* trace,
                                 Word trace_capacity, Word* failure) {
  Machine m;
  static_assert(sizeof m == kMachineWords * sizeof(Word), "fast_timing.py builds this array");
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
