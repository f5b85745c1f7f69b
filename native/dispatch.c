/* What Python calls: chooses the instruction set, cuts rows into tiles, and keeps the rounding of floats as it must be. */
#include "thick.h"

#include <stdlib.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define PUBLIC __attribute__((visibility("default")))

/* Instruction sets, best last; Python knows them by these numbers. */
enum { SCALAR, AVX2, AVX512, SETS };

static Operation *const *const tables[SETS] = {
    thick_scalar,
#if defined(__x86_64__)
    thick_avx2,
    thick_avx512,
#endif
};

#ifndef THICK_SOURCES
#error "THICK_SOURCES: the digest of the sources; build with python -m thick.runtimes.native.build"
#endif

/* The digest of the sources that this library was built from. */
PUBLIC const char *thick_sources(void) { return THICK_SOURCES; }

/* Sizes of the records that both sides must agree on. */
PUBLIC int64_t thick_sizes(int64_t which) {
  const int64_t sizes[] = {sizeof(Dense), sizeof(Chain), sizeof(Low), sizeof(High), TILE, OPERATIONS};
  return sizes[which];
}

/* Whether this processor has an instruction set. */
PUBLIC int thick_has(int instructions) {
  if (instructions == SCALAR) return 1;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (instructions == AVX2) return avx2;
  if (instructions == AVX512)
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#endif
  return 0;
}

/* Round to nearest, keep denormals, raise nothing: whatever the caller's thread has set, and given back afterwards. */
#if defined(__x86_64__)
static uint64_t set_floats(void) {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(0x1F80);
  return before;
}
static void restore_floats(uint64_t before) { _mm_setcsr((unsigned)before); }
#elif defined(__aarch64__)
static uint64_t set_floats(void) {
  uint64_t before;
  __asm__ volatile("mrs %0, fpcr" : "=r"(before));
  __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
  return before;
}
static void restore_floats(uint64_t before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }
#else
static uint64_t set_floats(void) { return 0; }
static void restore_floats(uint64_t before) { (void)before; }
#endif

/* Rows [first, first + count) of an operation, a tile at a time. `lead`: floats of a row of every buffer. 0, or -1 where
 * there is no memory. */
PUBLIC int thick_run(int instructions, int operation, const void *job, int64_t first, int64_t count, int64_t lead,
                     int64_t tile) {
  if (count <= 0) return 0;
  if (tile > TILE || tile < 1) tile = TILE;
  if (tile > count) tile = count;
  float *work = aligned_alloc(64, sizeof(float) * BUFFERS * (size_t)(tile * lead));
  if (!work) return -1;
  const uint64_t floats = set_floats();
  for (int64_t row = first; row < first + count; row += tile)
    tables[instructions][operation](job, row, first + count - row < tile ? first + count - row : tile, work, lead);
  restore_floats(floats);
  free(work);
  return 0;
}

/* Nodes of a tree of actions: where candidates go from `at` by action `action`. New nodes are numbered from `*nodes` on;
 * returns how many there are, or -1 where there is no room for so many. */
PUBLIC int64_t thick_walk(int64_t candidates, int64_t actions, const int64_t *action, int64_t *at, int64_t *child,
                          int64_t *nodes, int64_t room, int64_t *parent, int64_t *node, int64_t *chosen) {
  int64_t count = 0;
  for (int64_t i = 0; i < candidates; i++) {
    int64_t *to = child + at[i] * actions + action[i];
    if (*to < 0) {
      if (*nodes == room) return -1;
      *to = (*nodes)++;
      parent[count] = at[i], node[count] = *to, chosen[count] = action[i];
      count++;
    }
    at[i] = *to;
  }
  return count;
}
