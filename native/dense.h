/* Products, and sums of rows of weights: what nearly all time goes into.
 *
 * A sum begins with the bias and goes through the inputs in their order, whatever is computed together with it: that is
 * what keeps its bits. Everything else here is about where numbers lie when they are wanted.
 */
#ifndef DENSE_H
#define DENSE_H

#include "lanes.h"
#include "thick.h"

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

/* Inputs that rows go through before the next: a panel of so many (16 KB) and a block's inputs fit the nearest cache. */
#define DEPTH 272

/* A part of a product: inputs [from, from + depth) of a layer. */
typedef struct {
  const float *weight; /* of the first panel, from its first input on */
  int64_t depth, next; /* floats from a panel to the next */
  const float *x, *start;
  float *y;
  int64_t ldx, lds, ldy;
} Part;

/* `rows` rows of `panels` panels; each sum begins with what `start` has (the biases, or y itself). Meanwhile the weights
 * from `ahead` on are called for, `stride` bytes for each input: those that come next. */
INLINE void block(const int rows, const int panels, const Part *p, const float *weight, const float *x,
                  const float *start, float *y, const char *ahead, int64_t stride) {
  V sum[ROWS][8 * VECTORS];
  const int vectors = panels * VECTORS;
  const int64_t ldx = p->ldx, lds = p->lds, ldy = p->ldy, next = p->next, depth = p->depth;
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; v++) sum[r][v] = load(start + r * lds + v * LANES);
#pragma GCC unroll 2
  for (int64_t i = 0; i < depth; i++) {
    V w[8 * VECTORS];
    __builtin_prefetch(ahead, 0, 2);
    ahead += stride;
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
    for (int v = 0; v < vectors; v++) store(y + r * ldy + v * LANES, sum[r][v]);
}

/* All panels of `count` rows, `rows` of them at a time. */
INLINE void sweep(const int rows, const Dense *d, int64_t first, int64_t end, int64_t count, const float *x, int64_t ldx,
                  float *y, int64_t ldy, int add) {
  const int64_t blocks = count / rows, K = d->inputs, next = K * COLUMNS;
  const int64_t parts = blocks > 2 ? (K + DEPTH - 1) / DEPTH : 1, depth = parts ? (K + parts - 1) / parts : 0;
  Part p = {0, 0, next, 0, 0, 0, ldx, 0, ldy};
  for (int64_t panel = first; panel < end;) {
    const int together = PANELS(rows) <= end - panel ? PANELS(rows) : 1;
    const int64_t stride = (COLUMNS * (int64_t)sizeof(float) * together + blocks - 1) / blocks;
    int64_t from = 0;
    do { /* once for a layer without inputs */
      const int more = from > 0 || add;
      p.depth = K - from < depth ? K - from : depth, p.lds = more ? ldy : 0;
      const float *weight = d->weight + panel * next + from * COLUMNS;
      const float *start = more ? y + panel * COLUMNS : d->bias + panel * COLUMNS;
      const char *ahead = (const char *)(weight + together * p.depth * COLUMNS);
      for (int64_t b = 0; b < blocks; b++) {
        const int64_t r = b * rows;
        const float *from_x = x + r * ldx + from, *from_start = start + r * p.lds;
        float *to = y + r * ldy + panel * COLUMNS;
        if (together == 1)
          block(rows, 1, &p, weight, from_x, from_start, to, ahead, stride);
        else
          block(rows, PANELS(rows), &p, weight, from_x, from_start, to, ahead, stride);
        ahead += stride * p.depth;
      }
      from += p.depth;
    } while (from < K);
    panel += together;
  }
}

static void sweep_rows(int rows, const Dense *d, int64_t first, int64_t end, int64_t count, const float *x, int64_t ldx,
                       float *y, int64_t ldy, int add) {
  switch (rows) {
#define CASE(n) \
  case n: \
    sweep(n, d, first, end, count, x, ldx, y, ldy, add); \
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

/* Apart from the products: here vectors do not wait for each other. */
static void elu_rows(int64_t rows, float *y, int64_t ldy, int64_t width) {
  enum { MANY = LANES == 16 ? 2 * FEW : FEW }; /* as many as registers hold */
  for (int64_t r = 0; r < rows; r++) {
    float *at = y + r * ldy;
    const float *end = at + width;
    for (; at + MANY * LANES <= end; at += MANY * LANES) {
      V many[MANY];
      for (int v = 0; v < MANY; v++) many[v] = load(at + v * LANES);
      elu_each(MANY, many);
      for (int v = 0; v < MANY; v++) store(at + v * LANES, many[v]);
    }
    for (; at < end; at += LANES) store(at, elu(load(at)));
  }
}

typedef struct {
  const Dense *dense;
  int64_t rows, ldx, ldy;
  const float *x;
  float *y;
  int add, then_elu;
} Product;

/* Some panels. Rows are divided evenly among blocks. */
static void panels(const void *job, int64_t first, int64_t count, float *work, int64_t lead) {
  const Product *p = job;
  const int64_t blocks = (p->rows + ROWS - 1) / ROWS, end = first + count;
  const int more = (int)((p->rows + blocks - 1) / blocks);
  const int64_t rows = (p->rows - blocks * (more - 1)) * more;
  (void)work, (void)lead;
  sweep_rows(more, p->dense, first, end, rows, p->x, p->ldx, p->y, p->ldy, p->add);
  if (rows < p->rows)
    sweep_rows(more - 1, p->dense, first, end, p->rows - rows, p->x + rows * p->ldx, p->ldx, p->y + rows * p->ldy,
               p->ldy, p->add);
  if (p->then_elu) elu_rows(p->rows, p->y + first * COLUMNS, p->ldy, count * COLUMNS);
}

#define WORTH 100000 /* multiplications that are worth dividing */

/* y = x W + b, or y += x W; then ELU. Writes the padded columns of y, too. */
static void dense(const Dense *d, int64_t rows, const float *x, int64_t ldx, float *y, int64_t ldy, int add,
                  int then_elu) {
  const Product p = {d, rows, ldx, ldy, x, y, add, then_elu};
  const int64_t all = PADDED(d->outputs) / COLUMNS;
  if (!rows) return;
  if (rows * d->inputs * d->outputs >= WORTH && thick_split() > 1)
    thick_share(panels, &p, all);
  else
    panels(&p, 0, all, 0, 0);
}

/* The sum of 16 partial sums, always in the same order: those that lie farthest apart first. */
INLINE float total16(const V *sum) {
  typedef float Half __attribute__((vector_size(32)));
  typedef float Quarter __attribute__((vector_size(16)));
  Half half[2];
  Quarter quarter[2];
  memcpy(half, sum, sizeof half);
  half[0] += half[1];
  memcpy(quarter, half, sizeof quarter);
  quarter[0] += quarter[1];
  return (quarter[0][0] + quarter[0][2]) + (quarter[0][1] + quarter[0][3]);
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

/* -- rows of weights for classes ---------------------------------------------------------------------------------------- */

#define GATHERED 4 /* vectors that are summed together */

/* Columns of `vectors` vectors of a slice, for one row. */
INLINE void gather_columns(const int vectors, const Chain *c, const float *table, int64_t width, int64_t column,
                           const int64_t *stoch, int64_t input, float *y) {
  const Dense *d = &c->layer[0];
  const int64_t groups = stoch[0] < 0 ? 0 : c->groups, panel = d->inputs * COLUMNS, *offsets = c->offsets;
  const float *more = d->weight + column / COLUMNS * panel + input * COLUMNS + column % COLUMNS;
  V sum[8];
#pragma GCC unroll 8
  for (int v = 0; v < vectors; v++) sum[v] = load(d->bias + column + v * LANES);
#pragma GCC unroll 4
  for (int64_t s = 0; s < groups; s++) {
    const float *row = table + (offsets[s] + stoch[s]) * width;
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) sum[v] += load(row + v * LANES);
  }
  if (input >= 0)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) sum[v] += load(more + v / VECTORS * panel + v % VECTORS * LANES);
#pragma GCC unroll 8
  for (int v = 0; v < vectors; v++) store(y + column + v * LANES, sum[v]);
}

/* The biases and a row of weights for each class, and for the one input of each row that is 1 where there are `inputs`. A
 * slice of the table stays in the cache while the rows pass by. */
static void gather(const Chain *c, int64_t rows, const int64_t *stoch, const int64_t *inputs, float *y, int64_t ldy) {
  const int64_t all = PADDED(c->layer[0].outputs);
  for (int64_t from = 0; from < all; from += SLICE) {
    const int64_t width = all - from < SLICE ? all - from : SLICE;
    const float *table = c->table + from * c->classes;
    for (int64_t r = 0; r < rows; r++) {
      const int64_t *seen = stoch + r * c->groups, input = inputs ? inputs[r] : -1;
      if (width == SLICE)
        for (int64_t col = 0; col < SLICE; col += GATHERED * LANES)
          gather_columns(GATHERED, c, table + col, SLICE, from + col, seen, input, y + r * ldy);
      else
        for (int64_t col = 0; col < width; col += LANES)
          gather_columns(1, c, table + col, width, from + col, seen, input, y + r * ldy);
    }
  }
}

/* The first layer of a chain: rows of weights for classes, and the product with the rest. */
static void first_layer(const Chain *c, int64_t rows, const int64_t *stoch, const float *x, int64_t ldx, float *y,
                        int64_t ldy, int then_elu) {
  if (c->groups) gather(c, rows, stoch, 0, y, ldy);
  dense(&c->layer[0], rows, x, ldx, y, ldy, c->groups > 0, then_elu);
}

#endif
