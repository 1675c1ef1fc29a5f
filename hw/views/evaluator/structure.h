// The structure of a kernel: offsets into the words of any row of a batch, which all have the same.

#pragma once

#include <algorithm>
#include <vector>

#include "machine_tables.h"

namespace {

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
  Value values[kValues]{};
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

}  // namespace
