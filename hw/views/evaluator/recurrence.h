// The recurrence of timing.py: the machine's state, and what one instruction makes of it.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "conditions.h"
#include "effects.h"

namespace {

class Recurrence : public Conditions {
 public:
  Recurrence(const Machine& machine, const Parser& kernel, const Word* words, Trace* trace,
             Workspace& space)
      : Conditions(kernel, words, space), m_(machine), trace_(trace), s_(space.state) {
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
    x_.effects.clear();
    x_.counts.clear();
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

 protected:
  const Machine& m_;
  Trace* trace_;
  State& s_;
  Effect* effects_ = nullptr;  // x_.effects and x_.counts, one load closer
  Word* counts_ = nullptr;
  Word skipped_ = 0;  // cycles skipped so far: the state's times leave them out

  static Word later(Word a, Word b) { return a > b ? a : b; }

  // ---- The state ---------------------------------------------------------------------------------

  Word now() const { return skipped_ + s_.clock; }

  Word relative(Word time) const { return later(time - s_.clock, 0); }

  // How far the units are behind the front end, in cycles.
  Word backlog() const {
    Word sum = relative(s_.pop);
    for (const UnitState& unit : s_.unit) sum += relative(unit.complete);
    return sum;
  }

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
    Word v[kValues];
    for (int i = 0; i < kValues; ++i) v[i] = value(k_.nodes[&site - sites_].values[i]);
    Effects(m_).describe(site.op, v, holds(site.flag), effects_[index]);
    if (site.used == kEffects) {
      fail(kTooManyCases, site);
    } else {
      site.key[site.used] = static_cast<unsigned char>(key);
      site.effect[site.used++] = index;
    }
    return index;
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
};

}  // namespace
