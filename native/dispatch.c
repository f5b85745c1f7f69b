/* What Python calls: chooses the instruction set, cuts rows into tiles, and keeps the rounding of floats as it must be. */
#include "thick.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
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

/* -- threads: tiles are taken from a shared counter, so who is held up takes fewer ------------------------------------ */

#define WORKERS 31
#define ALIKE 12 /* rows of a block of a product */

/* One call. Rows do not depend on each other, so it does not matter who computes which. */
typedef struct {
  Operation *operation;
  const void *job;
  int64_t end, lead, tile;
  atomic_int_fast64_t next;
  int wanted; /* helpers that may still join */
} Call;

static pthread_mutex_t owner = PTHREAD_MUTEX_INITIALIZER; /* one call at a time has the helpers; others go alone */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t posted = PTHREAD_COND_INITIALIZER, finished = PTHREAD_COND_INITIALIZER;
static Call *current; /* under `lock`, as all below */
static int workers, busy;

static void take_tiles(Call *call) {
  float *work = aligned_alloc(64, sizeof(float) * BUFFERS * (size_t)(call->tile * call->lead));
  if (!work) return; /* others take the tiles */
  const uint64_t floats = set_floats();
  for (;;) {
    const int64_t row = atomic_fetch_add(&call->next, call->tile);
    if (row >= call->end) break;
    call->operation(call->job, row, call->end - row < call->tile ? call->end - row : call->tile, work, call->lead);
  }
  restore_floats(floats);
  free(work);
}

static void *help(void *nothing) {
  pthread_mutex_lock(&lock);
  for (;;) {
    while (!current || !current->wanted) pthread_cond_wait(&posted, &lock);
    Call *call = current;
    call->wanted--, busy++;
    pthread_mutex_unlock(&lock);
    take_tiles(call);
    pthread_mutex_lock(&lock);
    if (!--busy) pthread_cond_signal(&finished);
  }
  return nothing;
}

/* A child has none of its parent's threads, and locks as they happened to be: start anew. */
static void after_fork(void) {
  pthread_mutex_init(&owner, 0), pthread_mutex_init(&lock, 0);
  pthread_cond_init(&posted, 0), pthread_cond_init(&finished, 0);
  current = 0, workers = busy = 0;
}

static void register_fork(void) { pthread_atfork(0, 0, after_fork); }

/* Helpers are started once, and sleep between calls; they hold nothing that the end of the process would miss. */
static void start_helpers(int wanted) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, register_fork);
  while (workers < wanted && workers < WORKERS) {
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* signals are the program's own threads' business */
    const int failed = pthread_create(&thread, 0, help, 0);
    pthread_sigmask(SIG_SETMASK, &before, 0);
    if (failed) return;
    pthread_detach(thread);
    workers++;
  }
}

/* Rows [first, first + count) of an operation, a tile at a time, by so many threads. `lead`: floats of a row of every
 * buffer. 0, or -1 where there is no memory. */
PUBLIC int thick_run(int instructions, int operation, const void *job, int64_t first, int64_t count, int64_t lead,
                     int64_t tile, int threads) {
  if (count <= 0) return 0;
  if (tile > TILE || tile < 1) tile = TILE;
  if (threads > 1) { /* a few tiles for each, so that all are done at about the same time */
    const int64_t share = (count + 3 * threads - 1) / (3 * threads);
    const int64_t least = (share + ALIKE - 1) / ALIKE * ALIKE;
    if (tile > least) tile = least;
  }
  if (tile > count) tile = count;
  Call call = {tables[instructions][operation], job, first + count, lead, tile, first, threads - 1};
  const int shared = threads > 1 && count > tile && !pthread_mutex_trylock(&owner);
  if (shared) {
    pthread_mutex_lock(&lock);
    start_helpers(threads - 1);
    current = &call;
    pthread_cond_broadcast(&posted);
    pthread_mutex_unlock(&lock);
  }
  take_tiles(&call);
  if (shared) {
    pthread_mutex_lock(&lock);
    current = 0;
    while (busy) pthread_cond_wait(&finished, &lock);
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&owner);
  }
  return atomic_load(&call.next) < first + count ? -1 : 0;
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
