/* The arithmetic, compiled once for each instruction set (LANES floats a vector, NAME of the table it exports). */
#include "thick.h"

#include "lanes.h"

#define VECTORS (COLUMNS / LANES) /* of a panel */
#define PADDED(n) (((n) + COLUMNS - 1) / COLUMNS * COLUMNS)

/* Rows of a block of a product, and panels for a block of so many rows: as many sums as registers hold. */
#if LANES == 16
#define ROWS 12
#define PANELS(rows) ((rows) == 1 ? 8 : (rows) <= 4 ? 4 : 2)
#elif LANES == 8
#define ROWS 6
#define PANELS(rows) ((rows) == 1 ? 4 : (rows) <= 3 ? 2 : 1)
#elif LANES == 4
#define ROWS 6
#define PANELS(rows) ((rows) == 1 ? 2 : 1)
#else
#define ROWS 1
#define PANELS(rows) 1
#endif

/* -- products ------------------------------------------------------------------------------------------------------- */

/* `rows` rows of `panels` panels; each sum begins with what `start` has (the biases, or y itself). */
INLINE void block(const int rows, const int panels, const Dense *d, int64_t panel, const float *x, int64_t ldx,
                  const float *start, int64_t lds, float *y, int64_t ldy, int then_elu) {
  V sum[ROWS][8 * VECTORS];
  const int vectors = panels * VECTORS;
  const float *weight = d->weight + panel * d->inputs * COLUMNS;
  const int64_t next = d->inputs * COLUMNS;
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; v++) sum[r][v] = load(start + r * lds + v * LANES);
  for (int64_t i = 0; i < d->inputs; i++) {
    V w[8 * VECTORS];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; v++)
      w[v] = load(weight + (v / VECTORS) * next + i * COLUMNS + (v % VECTORS) * LANES);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
      V one = splat(x[r * ldx + i]);
#pragma GCC unroll 16
      for (int v = 0; v < vectors; v++) sum[r][v] = fma_(one, w[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; v++) store(y + r * ldy + v * LANES, then_elu ? elu(sum[r][v]) : sum[r][v]);
}

/* All panels of `count` rows, `rows` of them at a time. A panel stays in the cache while the rows pass by. */
INLINE void sweep(const int rows, const Dense *d, int64_t count, const float *x, int64_t ldx, float *y, int64_t ldy,
                  int add, int then_elu) {
  const int64_t panels = PADDED(d->outputs) / COLUMNS, lds = add ? ldy : 0;
  const float *start = add ? y : d->bias;
  int64_t p = 0;
  for (; p + PANELS(rows) <= panels; p += PANELS(rows))
    for (int64_t r = 0; r < count; r += rows)
      block(rows, PANELS(rows), d, p, x + r * ldx, ldx, start + r * lds + p * COLUMNS, lds, y + r * ldy + p * COLUMNS,
            ldy, then_elu);
  if (PANELS(rows) > 1)
    for (; p < panels; p++)
      for (int64_t r = 0; r < count; r += rows)
        block(rows, 1, d, p, x + r * ldx, ldx, start + r * lds + p * COLUMNS, lds, y + r * ldy + p * COLUMNS, ldy,
              then_elu);
}

static void sweep_rows(int rows, const Dense *d, int64_t count, const float *x, int64_t ldx, float *y, int64_t ldy,
                       int add, int then_elu) {
  switch (rows) {
#define CASE(n) \
  case n: \
    sweep(n, d, count, x, ldx, y, ldy, add, then_elu); \
    break;
    CASE(1)
#if ROWS >= 6
    CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#endif
#if ROWS >= 12
    CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
  }
}

/* y = x W + b, or y += x W; then ELU. Writes the padded columns of y, too. Rows are divided evenly among blocks. */
static void dense(const Dense *d, int64_t rows, const float *x, int64_t ldx, float *y, int64_t ldy, int add,
                  int then_elu) {
  const int64_t blocks = (rows + ROWS - 1) / ROWS;
  if (!blocks) return;
  const int more = (int)((rows + blocks - 1) / blocks);
  const int64_t first = (rows - blocks * (more - 1)) * more;
  sweep_rows(more, d, first, x, ldx, y, ldy, add, then_elu);
  if (first < rows)
    sweep_rows(more - 1, d, rows - first, x + first * ldx, ldx, y + first * ldy, ldy, add, then_elu);
}

/* The sum of 16 partial sums, always in the same order. */
INLINE float total16(const V *sum) {
  float part[COLUMNS];
  for (int v = 0; v < VECTORS; v++) store(part + v * LANES, sum[v]);
  for (int half = COLUMNS / 2; half; half /= 2)
    for (int i = 0; i < half; i++) part[i] += part[i + half];
  return part[0];
}

/* One output a row; x has zeros in its padding. */
static void scalar(const Dense *d, int64_t rows, const float *x, int64_t ldx, float *y, int64_t ldy) {
  for (int64_t r = 0; r < rows; r++) {
    V sum[VECTORS] = {{0}};
    for (int64_t i = 0; i < PADDED(d->inputs); i += COLUMNS)
      for (int v = 0; v < VECTORS; v++)
        sum[v] = fma_(load(x + r * ldx + i + v * LANES), load(d->weight + i + v * LANES), sum[v]);
    y[r * ldy] = total16(sum) + d->bias[0];
  }
}

INLINE void gather_columns(const int vectors, const float *table, int64_t width, const int64_t *offsets, int64_t groups,
                           const int64_t *stoch, const float *bias, float *y) {
  V sum[8];
#pragma GCC unroll 8
  for (int v = 0; v < vectors; v++) sum[v] = load(bias + v * LANES);
  for (int64_t s = 0; s < groups; s++) {
    const float *row = table + (offsets[s] + stoch[s]) * width;
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) sum[v] += load(row + v * LANES);
  }
#pragma GCC unroll 8
  for (int v = 0; v < vectors; v++) store(y + v * LANES, sum[v]);
}

/* The first layer of a chain: rows of weights for classes, and the product with the rest. */
static void first_layer(const Chain *c, int64_t rows, const int64_t *stoch, const float *x, int64_t ldx, float *y,
                        int64_t ldy, int then_elu) {
  const Dense *d = &c->layer[0];
  const int64_t width = PADDED(d->outputs);
  for (int64_t r = 0; r < rows && c->groups; r++) {
    const int64_t *seen = stoch + r * c->groups, groups = seen[0] < 0 ? 0 : c->groups;
    int64_t col = 0;
    for (; col + 8 * LANES <= width; col += 8 * LANES)
      gather_columns(8, c->table + col, width, c->offsets, groups, seen, d->bias + col, y + r * ldy + col);
    for (; col < width; col += LANES)
      gather_columns(1, c->table + col, width, c->offsets, groups, seen, d->bias + col, y + r * ldy + col);
  }
  dense(d, rows, x, ldx, y, ldy, c->groups > 0, then_elu);
}

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

/* Classes: arg-max (the first of equals), or by the inverse of the distribution function. */
static void draw(int64_t groups, int64_t classes, const float *logits, const float *uniforms, int64_t *stoch) {
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
    } else {
      /* Unnormalised: the threshold is scaled by the sum instead. Below e^-60 a probability is nothing anyway. */
      V sum = splat(0.0f), below = splat(0.0f);
      for (int64_t k = 0; k < classes; k++)
        sum += exp_(at_least(at_most(load(logits + k * width + s), 60.0f), -60.0f));
      V threshold = load_some(uniforms + s, groups - s) * sum;
      for (int64_t k = 0; k + 1 < classes; k++) {
        below += exp_(at_least(at_most(load(logits + k * width + s), 60.0f), -60.0f));
        chosen += if_greater(below, threshold, splat(0.0f), splat(1.0f));
      }
    }
    float index[LANES];
    store(index, chosen);
    for (int64_t i = 0; i < LANES && s + i < groups; i++) stoch[s + i] = (int64_t)index[i];
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

/* Mean over the groups of the cosine between probabilities and a goal of unit length. */
static float similarity(int64_t groups, int64_t classes, const float *logits, const float *goal) {
  const int64_t width = PADDED(groups);
  V sum[VECTORS] = {{0}};
  for (int64_t s = 0; s < width; s += COLUMNS)
    for (int v = 0; v < VECTORS; v++) {
      V along = splat(0.0f), square = splat(0.0f);
      for (int64_t k = 0; k < classes; k++) {
        const int64_t at = k * width + s + v * LANES;
        V p = exp_(at_least(at_most(load(logits + at), 40.0f), -40.0f));
        along = fma_(p, load(goal + at), along);
        square = fma_(p, p, square);
      }
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

/* Buffers of a tile: rows of `lead` floats each. */
typedef struct {
  float *joint, *gates, *wide, *memory, *a, *b, *c;
  int64_t *stoch;
  int64_t lead;
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
                lead};
}

/* GateL0RD without noise, in place: c, and which of its gates changed something.
 * g = ReLU(tanh(gate)), c' = g · tanh(candidate) + (1 - g) · c. */
static void gatel0rd(const Low *m, const float *gate, float *context, float *opened) {
  for (int64_t i = 0; i < m->context; i += LANES) {
    const int64_t left = m->context - i;
    V c = load_some(context + i, left), zero = splat(0.0f);
    V g = at_least(tanh_(load(gate + i)), 0.0f);
    V moved = fma_(g, tanh_(load(gate + PADDED(m->context) + i)) - c, c), step = moved - c;
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
  if (m->context) {
    dense(&m->gatel0rd, rows, t->joint, lead, t->wide, lead, 0, 0);
    for (int64_t r = 0; r < rows; r++)
      gatel0rd(m, t->wide + r * lead, t->joint + r * lead + m->hidden, t->gates + r * lead);
  }
  dense(&m->gru, rows, t->joint, lead, t->wide, lead, 0, 0);
  for (int64_t r = 0; r < rows; r++) {
    const float *joint = t->joint + r * lead + m->hidden, *gru = t->wide + r * lead;
    float *memory = t->memory + r * lead;
    memcpy(memory, joint, sizeof(float) * (size_t)m->context);
    joint += m->context, memory += m->context;
    for (int64_t i = 0; i < m->deter; i += LANES) {
      V h = load(joint + i);
      V proposal = tanh_(sigmoid(load(gru + i)) * load(gru + size + i));
      V update = sigmoid(load(gru + 2 * size + i) - splat(1.0f));
      store(memory + i, fma_(update, proposal - h, h));
    }
  }
}

/* Logits in `wide`, from the fine prior. */
static void prior(const Low *m, int64_t rows, Tile *t) {
  dense(&m->img_out, rows, t->memory, t->lead, t->a, t->lead, 0, 1);
  dense(&m->img_logit, rows, t->a, t->lead, t->wide, t->lead, 0, 0);
}

/* The probability that an episode goes on, from the logit of γ · (1 - is_terminal). */
static float goes_on(float logit, float gamma) {
  const float p = one(sigmoid, logit) / gamma;
  return p > 1.0f ? 1.0f : p;
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
    if (both) dense(&m->obs_memory, count, t.memory, lead, t.a, lead, 0, 0);
    dense(&m->obs_embed, count, j->embedding + first * E, E, t.a, lead, both, 1);
    dense(&m->obs_logit, count, t.a, lead, t.wide, lead, 0, 0);
  } else {
    prior(m, count, &t);
  }
  for (int64_t r = 0; r < count; r++) {
    const int64_t row = first + r;
    draw(S, K, t.wide + r * lead, j->uniforms ? j->uniforms + row * S : 0, j->next_stoch + row * S);
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
static void objective(const SearchRows *j, int64_t parent, int64_t node, float reward, float continuation,
                      const float *logits, const float *context, const float *gates) {
  const Nodes *n = &j->nodes;
  const Low *m = j->low;
  const int32_t session = n->session[parent];
  const float before = n->alive[parent], after = before * continuation;
  n->session[node] = session;
  n->total[node] = n->total[parent] + j->weight * before * reward;
  n->alive[node] = after;
  if (!j->goal) return;
  const float near = similarity(m->stoch, m->classes, logits, j->goal + session * m->classes * PADDED(m->stoch));
  int arrived = n->arrived[parent];
  if (j->arrival && !arrived && n->near[parent]) {
    int opened = 0;
    for (int64_t i = 0; i < m->context; i++) opened |= gates[i] > 0;
    arrived = (opened && squared_distance(m->context, context, j->goal_context + session * m->context) <
                             j->distance[session]) ||
              (j->ends[session] && after < 0.5f && before >= 0.5f);
  }
  n->credit[node] = n->credit[parent] + (arrived ? 1.0f + j->bonus : before * near);
  n->near[node] = near >= j->least[session];
  n->arrived[node] = (uint8_t)arrived;
}

static void search_rows(const void *job, int64_t first, int64_t count, float *work, int64_t lead) {
  const SearchRows *j = job;
  const Low *m = j->low;
  const Nodes *n = &j->nodes;
  const int64_t S = m->stoch, size = m->context + m->deter;
  const int64_t *parent = j->parent + first, *node = j->node + first;
  Tile t = tile(work, count, lead);
  for (int64_t r = 0; r < count; r++) memcpy(t.stoch + r * S, n->stoch + parent[r] * S, sizeof(int64_t) * (size_t)S);
  first_layer(&m->img_in, count, t.stoch, j->action + first * m->action, m->action, t.joint, lead, 1);
  for (int64_t r = 0; r < count; r++)
    memcpy(t.joint + r * lead + m->hidden, n->memory + parent[r] * size, sizeof(float) * (size_t)size);
  transition(m, count, &t);
  prior(m, count, &t);
  for (int64_t r = 0; r < count; r++) {
    float *uniforms = t.a;
    if (j->keys) uniform(j->keys[n->session[parent[r]]], (uint64_t)(j->draw[first + r] * S), S, uniforms);
    draw(S, m->classes, t.wide + r * lead, j->keys ? uniforms : 0, t.stoch + r * S);
    memcpy(n->stoch + node[r] * S, t.stoch + r * S, sizeof(int64_t) * (size_t)S);
    memcpy(n->memory + node[r] * size, t.memory + r * lead, sizeof(float) * (size_t)size);
  }
  float *reward = chain(&m->reward, count, t.stoch, t.memory, lead, t.a, t.b, lead, t.c, 1);
  float *logit = t.c + count;
  if (m->discount.layers) chain(&m->discount, count, t.stoch, t.memory, lead, t.a, t.b, lead, logit, 1);
  for (int64_t r = 0; r < count; r++)
    objective(j, parent[r], node[r], reward[r], m->discount.layers ? goes_on(logit[r], m->gamma) : 1.0f,
              t.wide + r * lead, t.memory + r * lead, t.gates + r * lead);
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
    draw(S, K, t.wide + r * lead, j->uniforms ? j->uniforms + row * 2 * S : 0, j->before + row * S);
    group_major(S, K, t.wide + r * lead, j->logits + row * S * K);
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
    draw(S, K, t.wide + r * lead, j->uniforms ? j->uniforms + row * 2 * S + S : 0, j->next_stoch + row * S);
  }
  const int64_t *landed = j->next_stoch + first * S;
  const float *context = j->next_context + first * C;
  chain(&g->reward, count, landed, context, C, t.a, t.b, lead, j->reward + first, 1);
  float *on = j->continuation + first;
  if (g->discount.layers) chain(&g->discount, count, landed, context, C, t.a, t.b, lead, on, 1);
  for (int64_t r = 0; r < count; r++) on[r] = g->discount.layers ? goes_on(on[r], m->gamma) : 1.0f;
}

/* An edge is worth (R - r[t]) / γ + γ^(Δ-1) r[τ], and what follows it γ^Δ · P(goes on) (planning/jumps.py). */
static void edge_rows(const void *job, int64_t first, int64_t count, float *work, int64_t lead) {
  const EdgeRows *j = job;
  const int64_t G = j->high->actions;
  const float gamma = j->high->low->gamma, rate = j->high->log_gamma;
  (void)work, (void)lead;
  for (int64_t row = first; row < first + count; row++) {
    const float *logits = j->logits + row * G;
    float high = logits[0], sum = 0, value = 0, *prior = j->prior + row * G;
    for (int64_t i = 1; i < G; i++) high = logits[i] > high ? logits[i] : high;
    for (int64_t i = 0; i < G; i++) sum += prior[i] = one(exp_, logits[i] - high);
    for (int64_t i = 0; i < G; i++) {
      const int64_t at = row * G + i;
      prior[i] /= sum;
      j->edge[at] = (j->segment[at] - j->arrival[row]) / gamma + one(exp_, (j->elapsed[at] - 1.0f) * rate) * j->reward[at];
      j->fade[at] = one(exp_, j->elapsed[at] * rate) * j->continuation[at];
      value += prior[i] * j->edge[at];
    }
    j->value[row] = value;
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
                                     [GOAL] = goal_rows,         [JUMP] = jump_rows, [EDGE] = edge_rows,
                                     [CONVOLVE] = convolve_rows, [UNFOLD] = unfold_rows, [MAP] = map_rows};
