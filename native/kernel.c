/* The arithmetic, compiled once for each instruction set (LANES floats a vector, NAME of the table it exports). */
#include "dense.h"

/* -- chains --------------------------------------------------------------------------------------------------------- */

/* All layers; the result is in `y`, or in one of two buffers (whichever is returned) if there is no y. */
static float *chain(const Chain *c, int64_t rows, const int64_t *stoch, const float *x, int64_t ldx, float *a, float *b,
                    int64_t lead, float *y, int64_t ldy) {
  for (int64_t i = 0; i < c->layers; i++) {
    const int last = i == c->layers - 1, then_elu = !(last && c->linear);
    float *out = last && y ? y : a;
    const int64_t ldo = last && y ? ldy : lead;
    if (i == 0)
      first_layer(c, rows, stoch, x, ldx, out, ldo, then_elu);
    else if (last && c->linear && c->layer[i].outputs == 1)
      scalar(&c->layer[i], rows, x, ldx, out, ldo);
    else
      dense(&c->layer[i], rows, x, ldx, out, ldo, 0, then_elu);
    x = out, ldx = ldo;
    float *swap = a;
    a = b, b = swap;
  }
  return (float *)x;
}

/* -- categoricals, class-major: lanes are groups ---------------------------------------------------------------------- */

/* exp of the logits of n classes of LANES groups; within bounds, beyond which a probability is nothing anyway. */
INLINE void unnormalised(const int n, const float *logits, int64_t width, float bound, V *p) {
  EACH p[v] = at_least(at_most(load(logits + v * width), bound), -bound);
  exp_each(n, p);
}

INLINE V drawn_from(const int n, const float *logits, int64_t width, float *scratch, V sum) {
  V p[FEW];
  unnormalised(n, logits, width, 60.0f, p);
  EACH store(scratch + v * LANES, p[v]);
  EACH sum += p[v];
  return sum;
}

/* Classes: arg-max (the first of equals), or by the inverse of the distribution function. */
static void draw(int64_t groups, int64_t classes, const float *logits, const float *uniforms, float *scratch,
                 int64_t *stoch) {
  const int64_t width = PADDED(groups);
  for (int64_t s = 0; s < groups; s += LANES) {
    V chosen = splat(0.0f);
    if (!uniforms) {
      V best = load(logits + s);
      for (int64_t k = 1; k < classes; k++) {
        V l = load(logits + k * width + s);
        chosen = if_greater(l, best, splat((float)k), chosen);
        best = if_greater(l, best, l, best);
      }
    } else { /* the threshold is scaled by the sum, instead of the probabilities */
      V sum = splat(0.0f), below = splat(0.0f);
      int64_t k = 0;
      for (; k + FEW <= classes; k += FEW) sum = drawn_from(FEW, logits + k * width + s, width, scratch + k * LANES, sum);
      for (; k < classes; k++) sum = drawn_from(1, logits + k * width + s, width, scratch + k * LANES, sum);
      V threshold = load_some(uniforms + s, groups - s) * sum;
      for (k = 0; k + 1 < classes; k++) {
        below += load(scratch + k * LANES);
        chosen += if_greater(below, threshold, splat(0.0f), splat(1.0f));
      }
    }
    float index[LANES];
    store(index, chosen);
    if (groups - s >= LANES)
      for (int64_t i = 0; i < LANES; i++) stoch[s + i] = (int64_t)index[i];
    else
      for (int64_t i = 0; s + i < groups; i++) stoch[s + i] = (int64_t)index[i];
  }
}

static void class_major(int64_t groups, int64_t classes, const float *logits, float *out) {
  const int64_t width = PADDED(groups);
  memset(out, 0, sizeof(float) * (size_t)(classes * width));
  for (int64_t s = 0; s < groups; s++)
    for (int64_t k = 0; k < classes; k++) out[k * width + s] = logits[s * classes + k];
}

static void group_major(int64_t groups, int64_t classes, const float *logits, float *out) {
  const int64_t width = PADDED(groups);
  for (int64_t s = 0; s < groups; s++)
    for (int64_t k = 0; k < classes; k++) out[s * classes + k] = logits[k * width + s];
}

INLINE void cosine(const int n, const float *logits, const float *goal, int64_t width, V *along, V *square) {
  V p[FEW];
  unnormalised(n, logits, width, 40.0f, p);
  EACH *along = fma_(p[v], load(goal + v * width), *along), *square = fma_(p[v], p[v], *square);
}

/* Mean over the groups of the cosine between probabilities and a goal of unit length. */
static float similarity(int64_t groups, int64_t classes, const float *logits, const float *goal) {
  const int64_t width = PADDED(groups);
  V sum[VECTORS] = {{0}};
  for (int64_t s = 0; s < width; s += COLUMNS)
    for (int v = 0; v < VECTORS; v++) {
      V along = splat(0.0f), square = splat(0.0f);
      int64_t k = 0, at = s + v * LANES;
      for (; k + FEW <= classes; k += FEW, at += FEW * width) cosine(FEW, logits + at, goal + at, width, &along, &square);
      for (; k < classes; k++, at += width) cosine(1, logits + at, goal + at, width, &along, &square);
      sum[v] += along / root(square);
    }
  return total16(sum) / (float)groups;
}

/* Squared distance of two short vectors. */
static float squared_distance(int64_t size, const float *x, const float *y) {
  V sum[VECTORS] = {{0}};
  for (int64_t i = 0; i < size; i += COLUMNS)
    for (int v = 0; v < VECTORS && i + v * LANES < size; v++) {
      const int64_t at = i + v * LANES;
      V difference = load_some(x + at, size - at) - load_some(y + at, size - at);
      sum[v] = fma_(difference, difference, sum[v]);
    }
  return total16(sum);
}

INLINE float one(V (*function)(V), float x) {
  float part[LANES];
  store(part, function(splat(x)));
  return part[0];
}

/* -- one step of the dynamics ------------------------------------------------------------------------------------------ */

/* Buffers of a tile: rows of `lead` floats each; of `width` in memory, which may lie elsewhere. */
typedef struct {
  float *joint, *gates, *wide, *memory, *a, *b, *c;
  int64_t *stoch;
  int64_t lead, width;
} Tile;

static Tile tile(float *work, int64_t rows, int64_t lead) {
  const int64_t size = rows * lead;
  return (Tile){work,
                work + size,
                work + 2 * size,
                work + 3 * size,
                work + 4 * size,
                work + 5 * size,
                work + 6 * size,
                (int64_t *)(void *)(work + 7 * size),
                lead,
                lead};
}

/* GateL0RD without noise, in place: c, and which of its gates changed something.
 * g = ReLU(tanh(gate)), c' = g · tanh(candidate) + (1 - g) · c. */
static void gatel0rd(const Low *m, const float *gate, float *context, float *opened) {
  for (int64_t i = 0; i < m->context; i += LANES) {
    const int64_t left = m->context - i;
    V c = load_some(context + i, left), zero = splat(0.0f);
    V both[2] = {load(gate + i), load(gate + PADDED(m->context) + i)};
    tanh_each(2, both);
    V g = at_least(both[0], 0.0f), moved = fma_(g, both[1] - c, c), step = moved - c;
    V open = if_greater(g, zero, splat(1.0f), zero);
    if (m->threshold > 0) {
      step = if_greater(zero, step, zero - step, step);
      open = if_greater(splat(m->threshold), step, zero, open);
    }
    store_some(context + i, moved, left);
    store_some(opened + i, open, left);
  }
}

/* joint = [x, c, h] -> memory = [c', h'] and the gates.
 * r, n, u = split(gru [x, c', h]); u = sigmoid(u - 1); h' = u · tanh(sigmoid(r) · n) + (1 - u) · h. */
static void transition(const Low *m, int64_t rows, Tile *t) {
  const int64_t lead = t->lead, size = PADDED(m->deter);
  const int n = VECTORS < 2 ? 1 : 2; /* vectors at once */
  if (m->context) {
    dense(&m->gatel0rd, rows, t->joint, lead, t->wide, lead, 0, 0);
    for (int64_t r = 0; r < rows; r++)
      gatel0rd(m, t->wide + r * lead, t->joint + r * lead + m->hidden, t->gates + r * lead);
  }
  dense(&m->gru, rows, t->joint, lead, t->wide, lead, 0, 0);
  for (int64_t r = 0; r < rows; r++) {
    const float *joint = t->joint + r * lead + m->hidden, *gru = t->wide + r * lead;
    float *memory = t->memory + r * t->width;
    for (int64_t i = 0; i < m->context; i++) memory[i] = joint[i];
    joint += m->context, memory += m->context;
    for (int64_t i = 0; i < m->deter; i += n * LANES) {
      V h[2], gate[4], proposal[2];
      EACH h[v] = load(joint + i + v * LANES);
      EACH gate[v] = load(gru + i + v * LANES);
      EACH gate[n + v] = load(gru + 2 * size + i + v * LANES) - splat(1.0f);
      sigmoid_each(2 * n, gate);
      EACH proposal[v] = gate[v] * load(gru + size + i + v * LANES);
      tanh_each(n, proposal);
      EACH store_some(memory + i + v * LANES, fma_(gate[n + v], proposal[v] - h[v], h[v]), m->deter - i - v * LANES);
    }
  }
}

/* Logits in `wide`, from the fine prior. */
static void prior(const Low *m, int64_t rows, Tile *t) {
  dense(&m->img_out, rows, t->memory, t->width, t->a, t->lead, 0, 1);
  dense(&m->img_logit, rows, t->a, t->lead, t->wide, t->lead, 0, 0);
}

/* The probability that an episode goes on, from the logit of γ · (1 - is_terminal); 1 without such a head. */
static void goes_on(const Chain *head, int64_t rows, float gamma, float *logit) {
  for (int64_t r = 0; r < rows; r += LANES) {
    V p = head->layers ? sigmoid(load_some(logit + r, rows - r)) / splat(gamma) : splat(1.0f);
    store_some(logit + r, at_most(p, 1.0f), rows - r);
  }
}

static void step_rows(const void *job, int64_t first, int64_t count, float *work, int64_t lead) {
  const StepRows *j = job;
  const Low *m = j->low;
  const int64_t S = m->stoch, K = m->classes, H = m->deter, C = m->context, E = m->obs_embed.inputs;
  Tile t = tile(work, count, lead);
  first_layer(&m->img_in, count, j->stoch + first * S, j->action + first * m->action, m->action, t.joint, lead, 1);
  for (int64_t r = 0; r < count; r++) {
    float *joint = t.joint + r * lead + m->hidden;
    memcpy(joint, j->context + (first + r) * C, sizeof(float) * (size_t)C);
    memcpy(joint + C, j->deter + (first + r) * H, sizeof(float) * (size_t)H);
  }
  transition(m, count, &t);
  if (j->embedding) {
    const int both = m->obs_memory.inputs > 0;
    if (both) dense(&m->obs_memory, count, t.memory, t.width, t.a, lead, 0, 0);
    dense(&m->obs_embed, count, j->embedding + first * E, E, t.a, lead, both, 1);
    dense(&m->obs_logit, count, t.a, lead, t.wide, lead, 0, 0);
  } else {
    prior(m, count, &t);
  }
  for (int64_t r = 0; r < count; r++) {
    const int64_t row = first + r;
    draw(S, K, t.wide + r * lead, j->uniforms ? j->uniforms + row * S : 0, t.b, j->next_stoch + row * S);
    group_major(S, K, t.wide + r * lead, j->logits + row * S * K);
    memcpy(j->next_context + row * C, t.memory + r * lead, sizeof(float) * (size_t)C);
    memcpy(j->next_deter + row * H, t.memory + r * lead + C, sizeof(float) * (size_t)H);
    memcpy(j->gates + row * C, t.gates + r * lead, sizeof(float) * (size_t)C);
  }
}

/* -- candidates of a search ---------------------------------------------------------------------------------------------- */

/* Numbers `first` to `first + count` of a key: SplitMix64 at a position, multiples of 2^-24 (planning/randomness.py). */
static void uniform(uint64_t key, uint64_t first, int64_t count, float *out) {
  for (int64_t i = 0; i < count; i++) {
    uint64_t x = key + (first + (uint64_t)i + 1) * 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    out[i] = (float)(x >> 40) * 0x1p-24f;
  }
}

/* What the objective carries over a step (planning/objectives.py). */
static void objective(const SearchRows *j, float weight, int64_t parent, int64_t node, float reward, float continuation,
                      const float *logits, const float *context, const float *gates) {
  const Nodes *n = &j->nodes;
  const Low *m = j->low;
  const int32_t session = n->session[parent];
  const float before = n->alive[parent], after = before * continuation;
  n->session[node] = session;
  n->total[node] = n->total[parent] + weight * before * reward;
  n->alive[node] = after;
  if (!j->goal) return;
  const float near = similarity(m->stoch, m->classes, logits, j->goal + session * m->classes * PADDED(m->stoch));
  int arrived = n->arrived[parent];
  if (j->arrival && !arrived && n->near[parent]) {
    int opened = 0;
    for (int64_t i = 0; i < m->context; i++) opened |= gates[i] > 0;
    arrived = (opened && squared_distance(m->context, context, j->goal_context + session * m->context) <
                             j->distance[session]) ||
              (j->ends_there[session] && after < 0.5f && before >= 0.5f);
  }
  const float won = j->ending > 0 && reward > j->ending ? before - after : 0.0f;
  n->won[node] = n->won[parent] + won;
  n->credit[node] =
      n->credit[parent] + (arrived ? 1.0f + j->bonus : (before - won) * near + (1.0f + j->bonus) * n->won[node]);
  n->near[node] = near >= j->least[session];
  n->arrived[node] = (uint8_t)arrived;
}

/* A first step as it was made for all that take the same action: memory, gates, and logits in `wide`. */
static void recall_rows(const SearchRows *j, int64_t first, int64_t count, const Tile *t) {
  const Low *m = j->low;
  const StepRows *seen = j->begun;
  const int64_t C = m->context, H = m->deter, size = m->stoch * m->classes;
  for (int64_t r = 0; r < count; r++) {
    const int64_t at = j->nodes.session[j->parent[first + r]] * m->action + j->chosen[first + r];
    memcpy(t->memory + r * t->width, seen->next_context + at * C, sizeof(float) * (size_t)C);
    memcpy(t->memory + r * t->width + C, seen->next_deter + at * H, sizeof(float) * (size_t)H);
    memcpy(t->gates + r * t->lead, seen->gates + at * C, sizeof(float) * (size_t)C);
    class_major(m->stoch, m->classes, seen->logits + at * size, t->wide + r * t->lead);
  }
}

/* Rows of one step: memory, gates, and logits in `wide`. */
static void imagine_rows(const SearchRows *j, int64_t first, int64_t count, int64_t step, Tile *t, int64_t *stoch) {
  const Low *m = j->low;
  const int64_t S = m->stoch, A = m->action, size = m->context + m->deter, lead = t->lead, *parent = j->parent + first;
  const int64_t begin = step ? j->ends[step - 1] : 0;
  for (int64_t r = 0; r < count; r++)
    memcpy(stoch + r * S, j->nodes.stoch + parent[r] * S, sizeof(int64_t) * (size_t)S);
  if (j->chosen) {
    gather(&m->img_in, count, stoch, j->chosen + first, t->joint, lead);
    elu_rows(count, t->joint, lead, PADDED(m->hidden));
  } else {
    for (int64_t r = 0; r < count; r++)
      memcpy(t->c + r * A, j->candidates + ((first + r - begin) * j->steps + step) * A, sizeof(float) * (size_t)A);
    first_layer(&m->img_in, count, stoch, t->c, A, t->joint, lead, 1);
  }
  for (int64_t r = 0; r < count; r++)
    memcpy(t->joint + r * lead + m->hidden, j->nodes.memory + parent[r] * size, sizeof(float) * (size_t)size);
  transition(m, count, t);
  prior(m, count, t);
}

static void search_rows(const void *job, int64_t first, int64_t count, float *work, int64_t lead) {
  const SearchRows *j = job;
  const Low *m = j->low;
  const Nodes *n = &j->nodes;
  const int64_t S = m->stoch, size = m->context + m->deter, *parent = j->parent + first, *node = j->node + first;
  int64_t step = 0;
  while (first >= j->ends[step]) step++;
  const int64_t begin = step ? j->ends[step - 1] : 0, each = (j->ends[step] - begin) / j->sessions;
  Tile t = tile(work, count, lead);
  int64_t *before = t.stoch;
  t.stoch = n->stoch + *node * S, t.memory = n->memory + *node * size, t.width = size; /* nodes of rows are one behind the other */
  if (j->begun && !step)
    recall_rows(j, first, count, &t);
  else
    imagine_rows(j, first, count, step, &t, before);
  for (int64_t r = 0; r < count; r++) {
    float *uniforms = t.a;
    if (j->keys) {
      const int64_t place = j->draw + (first + r - begin) % each;
      uniform(j->keys[step * j->sessions + n->session[parent[r]]], (uint64_t)(place * S), S, uniforms);
    }
    draw(S, m->classes, t.wide + r * lead, j->keys ? uniforms : 0, t.b, t.stoch + r * S);
  }
  float *reward = chain(&m->reward, count, t.stoch, t.memory, size, t.a, t.b, lead, t.c, 1);
  float *on = t.c + count;
  if (m->discount.layers) chain(&m->discount, count, t.stoch, t.memory, size, t.a, t.b, lead, on, 1);
  goes_on(&m->discount, count, m->gamma, on);
  for (int64_t r = 0; r < count; r++)
    objective(j, j->weight[step], parent[r], node[r], reward[r], on[r], t.wide + r * lead, t.memory + r * size,
              t.gates + r * lead);
}

static void goal_rows(const void *job, int64_t first, int64_t count, float *work, int64_t lead) {
  const GoalRows *j = job;
  const Low *m = j->low;
  const int64_t S = m->stoch, K = m->classes, size = K * PADDED(S);
  (void)lead;
  for (int64_t row = first; row < first + count; row++) {
    class_major(S, K, j->goal + row * S * K, j->class_major + row * size);
    class_major(S, K, j->logits + row * S * K, work);
    j->similarity[row] = similarity(S, K, work, j->class_major + row * size);
  }
}

/* -- the high level -------------------------------------------------------------------------------------------------------- */

static void jump_rows(const void *job, int64_t first, int64_t count, float *work, int64_t lead) {
  const JumpRows *j = job;
  const High *g = j->high;
  const Low *m = g->low;
  const int64_t S = m->stoch, K = m->classes, C = m->context, A = m->action, G = g->actions;
  Tile t = tile(work, count, lead);
  for (int64_t r = 0; r < count; r++) { /* [c, A] */
    const int64_t row = first + r, state = row / j->each, action = j->actions ? j->actions[row] : row % j->each;
    float *x = t.joint + r * lead;
    memcpy(t.stoch + r * S, j->stoch + state * S, sizeof(int64_t) * (size_t)S);
    memcpy(x, j->context + state * C, sizeof(float) * (size_t)C);
    for (int64_t i = 0; i < G; i++) x[C + i] = i == action;
  }
  const float *body = chain(&g->body, count, t.stoch, t.joint, lead, t.a, t.b, lead, t.c, lead);
  chain(&g->state, count, 0, body, lead, t.a, t.b, lead, t.wide, lead);
  for (int64_t r = 0; r < count; r++) {
    const int64_t row = first + r;
    draw(S, K, t.wide + r * lead, j->uniforms ? j->uniforms + row * 2 * S : 0, t.b, j->before + row * S);
    if (j->logits) group_major(S, K, t.wide + r * lead, j->logits + row * S * K);
  }
  chain(&g->time, count, 0, body, lead, t.a, t.b, lead, j->elapsed + first, 1);
  chain(&g->segment, count, 0, body, lead, t.a, t.b, lead, j->segment + first, 1);
  const float *act = chain(&g->act, count, 0, body, lead, t.a, t.b, lead, 0, 0);
  for (int64_t r = 0; r < count; r++) { /* [a, c], and h = 0 has no part in what follows */
    const int64_t row = first + r;
    const float *output = act + r * lead;
    float *action = j->action + row * A, steps = j->elapsed[row];
    int64_t best = 0;
    for (int64_t i = 0; i < A; i++) {
      if (output[i] > output[best]) best = i;
      action[i] = g->continuous ? one(tanh_, output[i]) : 0.0f;
    }
    if (!g->continuous) action[best] = 1.0f;
    if (steps < 0.0f) steps = 0.0f;
    j->elapsed[row] = (steps > g->max_time ? g->max_time : steps) + 1.0f;
  }
  const int64_t *before = j->before + first * S;
  first_layer(&m->img_in, count, before, j->action + first * A, A, t.joint, lead, 1);
  for (int64_t r = 0; r < count; r++)
    memcpy(t.joint + r * lead + m->hidden, j->context + (first + r) / j->each * C, sizeof(float) * (size_t)C);
  dense(&m->gatel0rd, count, t.joint, lead, t.wide, lead, 0, 0);
  for (int64_t r = 0; r < count; r++) {
    float *context = j->next_context + (first + r) * C, *x = t.memory + r * lead;
    memcpy(context, t.joint + r * lead + m->hidden, sizeof(float) * (size_t)C);
    gatel0rd(m, t.wide + r * lead, context, j->gates + (first + r) * C);
    memcpy(x, j->action + (first + r) * A, sizeof(float) * (size_t)A);
    memcpy(x + A, context, sizeof(float) * (size_t)C);
  }
  const float *summary = chain(&g->summary, count, before, t.memory, lead, t.a, t.b, lead, t.c, lead);
  chain(&g->coarse, count, before, summary, lead, t.a, t.b, lead, t.wide, lead);
  for (int64_t r = 0; r < count; r++) {
    const int64_t row = first + r;
    draw(S, K, t.wide + r * lead, j->uniforms ? j->uniforms + row * 2 * S + S : 0, t.b, j->next_stoch + row * S);
  }
  const int64_t *landed = j->next_stoch + first * S;
  const float *context = j->next_context + first * C;
  chain(&g->reward, count, landed, context, C, t.a, t.b, lead, j->reward + first, 1);
  float *on = j->continuation + first;
  if (g->discount.layers) chain(&g->discount, count, landed, context, C, t.a, t.b, lead, on, 1);
  goes_on(&g->discount, count, m->gamma, on);
}

/* An edge is worth (R - r[t]) / γ + γ^(Δ-1) r[τ], and what follows it γ^Δ · P(goes on) (planning/jumps.py). */
static void expand_rows(const void *job, int64_t first, int64_t count, float *work, int64_t lead) {
  const ExpandRows *j = job;
  const JumpRows *to = &j->jump;
  const int64_t G = to->high->actions, S = to->high->low->stoch, C = to->high->low->context;
  const float gamma = to->high->low->gamma, rate = to->high->log_gamma;
  lead /= G;
  jump_rows(to, first * G, count * G, work, lead);
  Tile t = tile(work, count * G, lead);
  const float *all = chain(j->prior, count, to->stoch + first * S, to->context + first * C, C, t.a, t.b, lead, 0, 0);
  for (int64_t r = 0; r < count; r++) {
    const float *logits = all + r * lead;
    float high = logits[0], sum = 0, value = 0, *prior = j->probability + (first + r) * G;
    for (int64_t i = 1; i < G; i++) high = logits[i] > high ? logits[i] : high;
    for (int64_t i = 0; i < G; i++) sum += prior[i] = one(exp_, logits[i] - high);
    for (int64_t i = 0; i < G; i++) {
      const int64_t at = (first + r) * G + i;
      const float fades = one(exp_, (to->elapsed[at] - 1.0f) * rate);
      prior[i] /= sum;
      j->edge[at] = (to->segment[at] - j->arrival[first + r]) / gamma + fades * to->reward[at];
      j->fade[at] = one(exp_, to->elapsed[at] * rate) * to->continuation[at];
      value += prior[i] * j->edge[at];
    }
    j->value[first + r] = value;
  }
}

/* -- images ------------------------------------------------------------------------------------------------------------------ */

static void convolve_rows(const void *job, int64_t first, int64_t count, float *work, int64_t lead) {
  const ConvolveRows *j = job;
  const int64_t side = (j->size - j->kernel) / 2 + 1, line = j->kernel * j->channels;
  for (int64_t r = 0; r < count; r++) {
    const int64_t pixel = (first + r) % (side * side), image = (first + r) / (side * side);
    const float *corner =
        j->x + ((image * j->size + pixel / side * 2) * j->size + pixel % side * 2) * j->channels;
    for (int64_t y = 0; y < j->kernel; y++)
      memcpy(work + r * lead + y * line, corner + y * j->size * j->channels, sizeof(float) * (size_t)line);
  }
  const int64_t width = PADDED(j->dense->outputs);
  dense(j->dense, count, work, lead, j->y + first * width, width, 0, 1);
}

static void unfold_rows(const void *job, int64_t first, int64_t count, float *work, int64_t lead) {
  const UnfoldRows *j = job;
  const int64_t side = 2 * j->size + j->kernel - 2, line = j->kernel * j->channels, all = side * side * j->channels;
  (void)work, (void)lead;
  for (int64_t image = first; image < first + count; image++) {
    float *y = j->y + image * all;
    for (int64_t i = 0; i < all; i++) y[i] = j->bias[i % j->channels];
    for (int64_t pixel = 0; pixel < j->size * j->size; pixel++) {
      const float *x = j->x + (image * j->size * j->size + pixel) * j->lead;
      float *corner = y + (pixel / j->size * 2 * side + pixel % j->size * 2) * j->channels;
      for (int64_t k = 0; k < j->kernel; k++)
        for (int64_t i = 0; i < line; i++) corner[k * side * j->channels + i] += x[k * line + i];
    }
    for (int64_t i = 0; i < all && j->elu; i += LANES) store_some(y + i, elu(load_some(y + i, all - i)), all - i);
  }
}

/* -- the rest ---------------------------------------------------------------------------------------------------------------- */

static void chain_rows(const void *job, int64_t first, int64_t count, float *work, int64_t lead) {
  const ChainRows *j = job;
  const Chain *c = j->chain;
  const Dense *last = &c->layer[c->layers - 1];
  const int64_t ldx = c->layer[0].inputs, width = PADDED(last->outputs),
                ldy = c->layers > 1 && c->linear && last->outputs == 1 ? 1 : width;
  Tile t = tile(work, count, lead);
  chain(c, count, j->stoch + first * c->groups, j->x + first * ldx, ldx, t.a, t.b, lead, j->y + first * ldy, ldy);
}

static void map_rows(const void *job, int64_t first, int64_t count, float *work, int64_t lead) {
  const MapRows *j = job;
  (void)work, (void)lead;
  for (int64_t i = first * j->width; i < (first + count) * j->width; i += LANES) {
    const int64_t left = (first + count) * j->width - i;
    V x = load_some(j->x + i, left);
    store_some(j->y + i,
               j->function == EXP ? exp_(x) : j->function == TANH ? tanh_(x) : j->function == SIGMOID ? sigmoid(x) : elu(x),
               left);
  }
}

Operation *const NAME[OPERATIONS] = {[CHAIN] = chain_rows,       [STEP] = step_rows, [SEARCH] = search_rows,
                                     [GOAL] = goal_rows,         [JUMP] = jump_rows, [EXPAND] = expand_rows,
                                     [CONVOLVE] = convolve_rows, [UNFOLD] = unfold_rows, [MAP] = map_rows};
