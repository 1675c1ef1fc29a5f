// Which guards hold and which numbers apply at the current indices of the loops.

#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "state.h"

namespace {

class Conditions {
 public:
  Conditions(const Parser& kernel, const Word* words, Workspace& space)
      : k_(kernel), w_(words), x_(space) {
    prepare();
  }

  int status = kOk;
  int failed_site = -1;

 protected:
  const Parser& k_;
  const Word* w_;
  Workspace& x_;
  Site* sites_ = nullptr;  // x_.sites, one load closer
  Word index_[kMaxLoops] = {}, count_[kMaxLoops] = {};
  Ends ends_ = 0;

  void fail(Status why, const Site& site) {  // the first failure counts
    if (status != kOk) return;
    status = why;
    failed_site = site.number;
  }

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
      site.unit = kUnitOf[n.op];
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
};

}  // namespace
