/* Trees of a search over jumps, one a session: thick/planning/mcts.py and gumbel.py, number for number. What those count is
 * double here as there, made of operations that IEEE 754 defines to the last bit. */
#include "thick.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define PUBLIC __attribute__((visibility("default")))
#define SMALLEST_RANGE 0.01
#define TINY 1e-30
#define NOWHERE (-1)   /* an edge that was never taken */
#define SUPPOSED (-2)  /* an edge that is only supposed to be taken */

/* -- numbers ---------------------------------------------------------------------------------------------------------- */

/* As Python has them: the first of two where they are equal or one is no number. */
static double larger(double a, double b) { return b > a ? b : a; }
static double smaller(double a, double b) { return b < a ? b : a; }

static const double LOG2 = 0.6931471805599453;

static double horner(int count, const double *coefficients, double x) {
  double y = coefficients[0];
  for (int i = 1; i < count; i++) y = y * x + coefficients[i];
  return y;
}

/* exp_of and log_of of thick/arrays/functions.py. */
static double exponential(double x) {
  static const double series[] = {1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120,
                                  1.0 / 24,     1.0 / 6,     1.0 / 2,    1.0,       1.0};
  if (!(-700.0 < x && x < 700.0)) return x < 0 ? 0.0 : x > 0 ? INFINITY : x;
  const double twos = rint(x * (1.0 / LOG2));
  return ldexp(horner(10, series, x - twos * LOG2), (int)twos);
}

static double logarithm(double x) {
  static const double series[] = {2.0 / 15, 2.0 / 13, 2.0 / 11, 2.0 / 9, 2.0 / 7, 2.0 / 5, 2.0 / 3, 2.0};
  int twos;
  double part = frexp(x, &twos);
  if (part < 0.7071067811865476) part = 2 * part, twos--;
  const double ratio = (part - 1.0) / (part + 1.0);
  return twos * LOG2 + ratio * horner(8, series, ratio * ratio);
}

/* -- states and nodes --------------------------------------------------------------------------------------------------- */

static const int64_t *stoch_of(const Trees *t, States s, int64_t i) { return s.stoch + i * t->stoch; }
static const float *context_of(const Trees *t, States s, int64_t i) { return s.context + i * t->context; }

static int same(const Trees *t, States a, int64_t i, States b, int64_t k) {
  return !memcmp(stoch_of(t, a, i), stoch_of(t, b, k), sizeof(int64_t) * (size_t)t->stoch) &&
         !memcmp(context_of(t, a, i), context_of(t, b, k), sizeof(float) * (size_t)t->context) &&
         !memcmp(a.reward + i, b.reward + k, sizeof(float));
}

static void copy_state(const Trees *t, States to, int64_t k, States from, int64_t i) {
  memcpy(to.stoch + k * t->stoch, stoch_of(t, from, i), sizeof(int64_t) * (size_t)t->stoch);
  memcpy(to.context + k * t->context, context_of(t, from, i), sizeof(float) * (size_t)t->context);
  to.reward[k] = from.reward[i];
}

static void copy_node(const Trees *t, const Jumps *to, int64_t k, const Jumps *from, int64_t i) {
  for (int part = 0; part < PARTS; part++)
    memcpy(to->part[part] + k * t->bytes[part], from->part[part] + i * t->bytes[part], (size_t)t->bytes[part]);
}

/* The states behind all edges of all nodes; edge = place · G + action. */
static States behind(const Trees *t) {
  return (States){(int64_t *)(void *)t->nodes.part[STOCH], (float *)(void *)t->nodes.part[CONTEXT],
                  (float *)(void *)t->nodes.part[REWARD]};
}

static uint64_t hashed(const Trees *t, States s, int64_t i) {
  uint64_t hash = 0x9E3779B97F4A7C15u;
  uint32_t bits;
  for (int64_t k = 0; k < t->stoch; k++) {
    hash = (hash ^ (uint64_t)stoch_of(t, s, i)[k]) * 0xBF58476D1CE4E5B9u;
    hash ^= hash >> 29;
  }
  for (int64_t k = 0; k <= t->context; k++) {
    memcpy(&bits, k < t->context ? context_of(t, s, i) + k : s.reward + i, sizeof bits);
    hash = (hash ^ bits) * 0x94D049BB133111EBu;
    hash ^= hash >> 29;
  }
  return hash | 1;
}

/* Where a node lies that was computed before; NOWHERE if it was not. */
static int64_t known(const Trees *t, const Memo *m, States s, int64_t i, uint64_t hash) {
  const int64_t first = (int64_t)(hash % (uint64_t)m->sets) * WAYS;
  for (int64_t slot = first; slot < first + WAYS; slot++)
    if (m->hash[slot] == hash && same(t, m->states, slot, s, i)) return slot;
  return NOWHERE;
}

/* In the place of the oldest of its set. */
static void keep(const Trees *t, const Memo *m, uint64_t hash, int64_t fresh) {
  const int64_t set = (int64_t)(hash % (uint64_t)m->sets), slot = set * WAYS + m->next[set]++ % WAYS;
  m->hash[slot] = hash;
  copy_state(t, m->states, slot, t->asked, fresh);
  copy_node(t, &m->nodes, slot, &t->fresh, fresh);
}

/* -- selection and values ------------------------------------------------------------------------------------------------- */

static const float *part(const Trees *t, int which, int64_t place) {
  return (const float *)(const void *)(t->nodes.part[which] + place * t->bytes[which]);
}

static double scale(const Trees *t, int64_t session) {
  return 1.0 / larger(t->highest[session] - t->lowest[session], SMALLEST_RANGE);
}

/* PUCT's factor of a node that was visited so often (MuZero, appendix B). */
static double exploration(int64_t visits) {
  const double total = 1.0 + (double)visits, base = 19652.0;
  return (1.25 + logarithm((total + base + 1) / base)) * sqrt(total);
}

/* The action that PUCT takes; values are min-max normalised over the tree, 0 where never tried. */
static int64_t puct(const Trees *t, int64_t session, int64_t place) {
  const double lowest = t->lowest[session], factor = scale(t, session), rate = exploration(t->total[place]);
  const int64_t edge = place * t->actions;
  double best = -INFINITY;
  int64_t action = 0;
  for (int64_t at = 0; at < t->actions; at++) {
    const int64_t visits = t->visits[edge + at];
    double score = rate * t->prior[edge + at];
    if (visits) score = score / (double)(1 + visits) + (t->mean[edge + at] - lowest) * factor;
    if (score > best) best = score, action = at;
  }
  return action;
}

/* Values of all actions in units of logits; an action that was never tried has the mixed value of its state. */
static void completed(const Trees *t, int64_t place, double *values) {
  const int64_t *visits = t->visits + place * t->actions, total = t->total[place];
  const double *prior = t->prior + place * t->actions, *mean = t->mean + place * t->actions;
  double value = *part(t, VALUE, place), weighted = 0.0, whole = 0.0;
  int64_t most = 0;
  for (int64_t at = 0; at < t->actions; at++) {
    const double share = visits[at] ? larger(prior[at], TINY) : 0.0;
    weighted += share * mean[at], whole += share;
    if (visits[at] > most) most = visits[at];
  }
  if (total) value = (value + (double)total * weighted / whole) / (double)(1 + total);
  double low = 0.0, high = 0.0;
  for (int64_t at = 0; at < t->actions; at++) {
    values[at] = visits[at] ? mean[at] : value;
    low = at ? smaller(low, values[at]) : values[at], high = at ? larger(high, values[at]) : values[at];
  }
  const double factor = (50.0 + (double)most) * 0.1 / larger(high - low, SMALLEST_RANGE);
  for (int64_t at = 0; at < t->actions; at++) values[at] = (values[at] - low) * factor;
}

/* The root: the best of the actions whose turn it is. Below: the action furthest behind its share. */
static int64_t gumbel(const Trees *t, int64_t session, int64_t place, int root) {
  const int64_t *visits = t->visits + place * t->actions, total = t->total[place];
  const double *logits = t->logits + place * t->actions;
  double *score = t->score, best = -INFINITY, most = 0.0, whole = 0.0;
  int64_t action = 0;
  completed(t, place, score);
  if (root) {
    for (int64_t at = 0; at < t->actions; at++) {
      const double each = t->noise[session * t->actions + at] + logits[at] + score[at];
      if (visits[at] == t->schedule[total] && each > best) best = each, action = at;
    }
    return action;
  }
  for (int64_t at = 0; at < t->actions; at++) {
    score[at] = logits[at] + score[at];
    most = at ? larger(most, score[at]) : score[at];
  }
  for (int64_t at = 0; at < t->actions; at++) whole += score[at] = exponential(score[at] - most);
  for (int64_t at = 0; at < t->actions; at++) {
    const double late = score[at] / whole - (double)visits[at] / (double)(1 + total);
    if (!at || late > best) best = late, action = at;
  }
  return action;
}

/* The edges down to one that was never taken, or to the greatest depth: how many, and where the last one leads. */
static int64_t descend(const Trees *t, int64_t session, int64_t *way, int64_t *end) {
  int64_t node = 0, length = 0;
  while (node >= 0 && length < t->depth) {
    const int64_t place = session * t->room + node;
    way[length] = place * t->actions + (t->schedule ? gumbel(t, session, place, !length) : puct(t, session, place));
    node = t->child[way[length++]];
  }
  *end = node;
  return length;
}

/* Update the edges of a way with the value of its end; `before` gets what their means were. */
static void carry_back(const Trees *t, int64_t session, const int64_t *way, int64_t length, double value, double *before) {
  while (length--) {
    const int64_t edge = way[length], place = edge / t->actions, at = edge % t->actions;
    double *mean = t->mean + edge;
    value = part(t, EDGE, place)[at] + part(t, FADE, place)[at] * value;
    if (before) before[length] = *mean;
    t->total[place]++;
    *mean += (value - *mean) / (double)++t->visits[edge];
    t->lowest[session] = smaller(t->lowest[session], *mean), t->highest[session] = larger(t->highest[session], *mean);
  }
}

/* A node that was just evaluated, without visits. */
static void grow(const Trees *t, int64_t place) {
  t->total[place] = 0;
  for (int64_t at = 0; at < t->actions; at++) {
    const int64_t edge = place * t->actions + at;
    t->prior[edge] = part(t, PRIOR, place)[at];
    t->visits[edge] = 0, t->mean[edge] = 0.0, t->child[edge] = NOWHERE;
    if (t->schedule) t->logits[edge] = logarithm(larger(t->prior[edge], TINY));
  }
}

/* -- simulations ------------------------------------------------------------------------------------------------------------ */

/* The states that wait for their jumps are `asked`; each once. Which of them a state is. */
static int64_t ask(const Trees *t, States s, int64_t i, uint64_t hash, int64_t *waiting) {
  for (int64_t k = 0; k < *waiting; k++)
    if (t->hash[k] == hash && same(t, t->asked, k, s, i)) return k;
  copy_state(t, t->asked, *waiting, s, i);
  t->hash[*waiting] = hash;
  return (*waiting)++;
}

/* Ask also for what the next simulations of a session will probably ask for, as if each value were that of the node
 * before: a call that reads all weights for one state costs as much as for a few. Leaves the tree as it was. */
static void look_ahead(const Trees *t, const Memo *m, int64_t session, const int64_t *way, int64_t length, int64_t left,
                       int64_t ahead, int64_t *waiting) {
  const double lowest = t->lowest[session], highest = t->highest[session];
  const int64_t until = *waiting + ahead, most = left < t->guesses ? left : t->guesses;
  int64_t *ways = t->guess, end = NOWHERE, made = 0;
  memcpy(ways, way, sizeof(int64_t) * (size_t)length);
  for (;;) {
    int64_t *now = ways + made * t->depth, edge = now[length - 1];
    if (end == NOWHERE) t->child[edge] = SUPPOSED;
    t->lengths[made] = length;
    carry_back(t, session, now, length, end >= 0 ? *part(t, VALUE, session * t->room + end) : *part(t, VALUE, edge / t->actions),
               t->before + made * t->depth);
    if (++made >= most || *waiting >= until) break;
    length = descend(t, session, ways + made * t->depth, &end);
    edge = ways[made * t->depth + length - 1];
    if (end == NOWHERE) {
      const uint64_t hash = hashed(t, behind(t), edge);
      if (known(t, m, behind(t), edge, hash) < 0) ask(t, behind(t), edge, hash, waiting);
    }
  }
  while (made--) {
    const int64_t *then = ways + made * t->depth;
    for (int64_t i = 0; i < t->lengths[made]; i++) {
      t->mean[then[i]] = t->before[made * t->depth + i];
      t->visits[then[i]]--, t->total[then[i] / t->actions]--;
    }
    if (t->child[then[t->lengths[made] - 1]] == SUPPOSED) t->child[then[t->lengths[made] - 1]] = NOWHERE;
  }
  t->lowest[session] = lowest, t->highest[session] = highest;
}

/* The jumps of all states that wait, which are remembered. */
static int expand(const Trees *t, const Memo *m, int instructions, int threads, int64_t waiting) {
  if (!waiting) return 0;
  int failed = thick_run(instructions, EXPAND, t->expand, 0, waiting, t->lead * t->actions, t->tile, threads, 0);
  if (t->critic.chain) failed |= thick_run(instructions, CHAIN, &t->critic, 0, waiting, t->lead, 0, threads, 0);
  for (int64_t k = 0; k < waiting && !failed; k++) keep(t, m, t->hash[k], k);
  return failed;
}

/* Node `place` of the session: of those known, or of those that wait (then its number is noted). */
static void find(const Trees *t, const Memo *m, int64_t session, int64_t place, States s, int64_t i, int64_t *waiting) {
  const uint64_t hash = hashed(t, s, i);
  const int64_t slot = known(t, m, s, i, hash);
  t->origin[session] = slot < 0 ? ask(t, s, i, hash, waiting) : NOWHERE;
  if (slot >= 0) copy_node(t, &t->nodes, session * t->room + place, &m->nodes, slot);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

enum { DONE, LATER, FAILED };

/* One simulation of all trees: select, evaluate, carry back. LATER, and nothing was done, if it would have to expand
 * states, which takes as long as `longest` says, and that would not end by `until`. */
static int simulate(const Trees *t, const Memo *m, int instructions, int threads, int64_t done, double until,
                    double *longest) {
  const int64_t place = done + 1, ahead = t->ahead / t->sessions;
  int64_t waiting = 0;
  for (int64_t session = 0; session < t->sessions; session++) {
    int64_t *way = t->way + session * t->depth;
    const int64_t length = t->length[session] = descend(t, session, way, t->end + session);
    t->came[session * t->room + place] = way[length - 1];
    if (t->end[session] < 0) find(t, m, session, place, behind(t), way[length - 1], &waiting);
  }
  if (waiting) {
    const double began = now();
    if (began + *longest > until) return LATER;
    for (int64_t session = 0; session < t->sessions && ahead > 1; session++)
      if (t->end[session] < 0 && t->origin[session] >= 0)
        look_ahead(t, m, session, t->way + session * t->depth, t->length[session], t->room - 1 - done, ahead - 1, &waiting);
    if (expand(t, m, instructions, threads, waiting)) return FAILED;
    *longest = larger(*longest, now() - began);
  }
  for (int64_t session = 0; session < t->sessions; session++) {
    const int64_t first = session * t->room, *way = t->way + session * t->depth, length = t->length[session];
    int64_t end = t->end[session]; /* a path as deep as is allowed ends at a node that is there: its value counts again */
    if (end < 0) {
      if (t->origin[session] >= 0) copy_node(t, &t->nodes, first + place, &t->fresh, t->origin[session]);
      grow(t, first + place);
      end = t->child[way[length - 1]] = place;
    }
    carry_back(t, session, way, length, *part(t, VALUE, first + end), 0);
  }
  return DONE;
}

/* The roots of all trees, of states [sessions]. 0, or -1 where there is no memory. */
PUBLIC int thick_plant(const Trees *t, const Memo *m, int instructions, int threads, const States *roots) {
  const uint64_t floats = thick_set_floats();
  int64_t waiting = 0;
  for (int64_t session = 0; session < t->sessions; session++) find(t, m, session, 0, *roots, session, &waiting);
  const int failed = expand(t, m, instructions, threads, waiting);
  for (int64_t session = 0; session < t->sessions && !failed; session++) {
    if (t->origin[session] >= 0) copy_node(t, &t->nodes, session * t->room, &t->fresh, t->origin[session]);
    grow(t, session * t->room);
    t->lowest[session] = INFINITY, t->highest[session] = -INFINITY;
  }
  thick_restore_floats(floats);
  return failed;
}

/* Simulations of all trees from `done` on, until `asked` were made or `seconds` have passed; one at least. How many were
 * made in all, or -1 where there is no memory. */
PUBLIC int64_t thick_simulate(const Trees *t, const Memo *m, int instructions, int threads, int64_t done, int64_t asked,
                              double seconds) {
  const uint64_t floats = thick_set_floats();
  const double until = now() + seconds;
  double longest = -INFINITY; /* so that the first states are expanded in any case */
  int what = DONE;
  while (done < asked && what == DONE) {
    what = simulate(t, m, instructions, threads, done, until, &longest);
    if (what == DONE && (++done, now() > until)) break;
  }
  thick_restore_floats(floats);
  return what == FAILED ? -1 : done;
}
