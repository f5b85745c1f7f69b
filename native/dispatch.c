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
  const int64_t sizes[] = {sizeof(Dense), sizeof(Chain), sizeof(Low), sizeof(High),
                           sizeof(Trees), sizeof(Memo),  TILE,        OPERATIONS};
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
uint64_t thick_set_floats(void) {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(0x1F80);
  return before;
}
void thick_restore_floats(uint64_t before) { _mm_setcsr((unsigned)before); }
#elif defined(__aarch64__)
uint64_t thick_set_floats(void) {
  uint64_t before;
  __asm__ volatile("mrs %0, fpcr" : "=r"(before));
  __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
  return before;
}
void thick_restore_floats(uint64_t before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }
#else
uint64_t thick_set_floats(void) { return 0; }
void thick_restore_floats(uint64_t before) { (void)before; }
#endif

/* -- threads: tiles are taken from a shared counter, so who is held up takes fewer ------------------------------------ */

#define WORKERS 31
#define ALIKE 12  /* rows of a block of a product */
#define NARROW 24 /* rows that are not worth dividing: the columns of their products are divided instead */
#define SPINS 2000 /* looks for something before the thread sleeps: some 50 microseconds */

/* One call. Rows of a stage do not depend on each other, so it does not matter who computes which. */
typedef struct {
  Operation *operation;
  const void *job;
  const int64_t *ends; /* of stages; the last is not before `end` */
  int64_t first, end, lead, tile;
  int threads;
  atomic_int_fast64_t next, done;
  int wanted; /* helpers that may still join */
  atomic_int asleep; /* who waits for the end of a stage */
} Call;

static pthread_mutex_t owner = PTHREAD_MUTEX_INITIALIZER; /* one call at a time has the helpers; others go alone */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t posted = PTHREAD_COND_INITIALIZER, finished = PTHREAD_COND_INITIALIZER;
static pthread_cond_t complete = PTHREAD_COND_INITIALIZER; /* a stage */
static Call *current; /* under `lock`, as all below */
static int workers;
static atomic_int busy, calls; /* helpers at work, calls posted: written under `lock`, watched without */
static _Thread_local int splitting; /* threads among which this one divides the columns of products */

static void relax(void) {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

/* Until so many rows are done. Who sleeps leaves its processor to the thread that is waited for. */
static void wait_for(Call *call, int64_t rows) {
  for (int64_t spin = 0; spin < SPINS && atomic_load(&call->done) < rows; spin++) relax();
  if (atomic_load(&call->done) >= rows) return;
  pthread_mutex_lock(&lock);
  call->asleep++;
  while (atomic_load(&call->done) < rows) pthread_cond_wait(&complete, &lock);
  call->asleep--;
  pthread_mutex_unlock(&lock);
}

/* The buffers of the calling thread, kept from call to call. */
static pthread_key_t kept;
static void make_key(void) { pthread_key_create(&kept, free); }

typedef struct {
  size_t size;
  float *data; /* behind it, at the beginning of a cache line */
} Room;

static float *buffers(size_t floats) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, make_key);
  Room *room = pthread_getspecific(kept);
  if (!room || room->size < floats) {
    free(room);
    const size_t bytes = (sizeof(float) * floats + 2 * 64 - 1) / 64 * 64;
    room = aligned_alloc(64, bytes);
    pthread_setspecific(kept, room);
    if (!room) return 0;
    *room = (Room){floats, (float *)(void *)((char *)room + 64)};
  }
  return room->data;
}

/* How many of the rows that are left of a stage to take: even parts for one thread; for several smaller and smaller
 * ones, so that all are done at about the same time. */
static int64_t part_of(const Call *call, int64_t left) {
  const int64_t tiles = (left + call->tile - 1) / call->tile;
  int64_t share = (left + tiles - 1) / tiles;
  if (call->threads > 1 && share > left / (2 * call->threads)) share = left / (2 * call->threads) + 1;
  if (call->tile >= ALIKE) share = (share + ALIKE - 1) / ALIKE * ALIKE;
  return share < left ? share : left;
}

static void take_tiles(Call *call) {
  float *work = buffers(BUFFERS * (size_t)((call->tile + ALIKE) * call->lead));
  if (!work) return; /* others take the tiles */
  const uint64_t floats = thick_set_floats();
  for (const int64_t *end = call->ends;; end++) {
    const int64_t stage = *end < call->end ? *end : call->end;
    int_fast64_t row = atomic_load(&call->next);
    while (row < stage) {
      const int64_t count = part_of(call, stage - row);
      if (!atomic_compare_exchange_weak(&call->next, &row, row + count)) continue;
      call->operation(call->job, row, count, work, call->lead);
      atomic_fetch_add(&call->done, count);
      if (atomic_load(&call->asleep)) {
        pthread_mutex_lock(&lock);
        pthread_cond_broadcast(&complete);
        pthread_mutex_unlock(&lock);
      }
      row = atomic_load(&call->next);
    }
    if (stage == call->end) break;
    wait_for(call, stage - call->first);
  }
  thick_restore_floats(floats);
}

static void *help(void *nothing) {
  pthread_mutex_lock(&lock);
  for (;;) {
    while (!current || !current->wanted) pthread_cond_wait(&posted, &lock);
    Call *call = current;
    call->wanted--, busy++;
    const int seen = calls;
    pthread_mutex_unlock(&lock);
    take_tiles(call);
    pthread_mutex_lock(&lock);
    if (!--busy) pthread_cond_signal(&finished);
    pthread_mutex_unlock(&lock);
    for (int64_t spin = 0; spin < SPINS && atomic_load(&calls) == seen; spin++) relax();
    pthread_mutex_lock(&lock);
  }
  return nothing;
}

/* A child has none of its parent's threads, and locks as they happened to be: start anew. */
static void after_fork(void) {
  pthread_mutex_init(&owner, 0), pthread_mutex_init(&lock, 0);
  pthread_cond_init(&posted, 0), pthread_cond_init(&finished, 0), pthread_cond_init(&complete, 0);
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

/* A call by this thread and its helpers. */
static void share(Call *call) {
  pthread_mutex_lock(&lock);
  start_helpers(call->wanted);
  current = call;
  calls++;
  pthread_cond_broadcast(&posted);
  pthread_mutex_unlock(&lock);
  take_tiles(call);
  pthread_mutex_lock(&lock);
  current = 0;
  pthread_mutex_unlock(&lock);
  for (int64_t spin = 0; spin < SPINS && atomic_load(&busy); spin++) relax();
  pthread_mutex_lock(&lock);
  while (busy) pthread_cond_wait(&finished, &lock);
  pthread_mutex_unlock(&lock);
}

int thick_split(void) { return splitting; }

void thick_share(Operation *operation, const void *job, int64_t count) {
  const int64_t part = count / (3 * splitting);
  Call call = {operation, job, &count, 0, count, 0, part ? part : 1, 1, 0, 0, splitting - 1, 0};
  share(&call);
}

/* Rows [first, first + count) of an operation, a tile at a time, by so many threads. `lead`: floats of a row of every
 * buffer. `ends` (or NULL): of stages, of which each begins when the one before is complete. 0, or -1 where there is no
 * memory. */
PUBLIC int thick_run(int instructions, int operation, const void *job, int64_t first, int64_t count, int64_t lead,
                     int64_t tile, int threads, const int64_t *ends) {
  if (count <= 0) return 0;
  if (tile > TILE || tile < 1) tile = TILE;
  const int64_t end = first + count;
  const int narrow = !ends && count <= NARROW;
  Call call = {tables[instructions][operation], job, ends ? ends : &end, first, end, lead, tile < count ? tile : count,
               narrow ? 1 : threads, first, 0, threads - 1, 0};
  const int shared = threads > 1 && !pthread_mutex_trylock(&owner);
  if (!shared || narrow) {
    call.threads = 1, splitting = shared ? threads : 1;
    take_tiles(&call);
    splitting = 1;
  } else {
    share(&call);
  }
  if (shared) pthread_mutex_unlock(&owner);
  return atomic_load(&call.done) < count ? -1 : 0;
}

/* The steps that candidates [candidates][steps][actions] (one-hot) take in a tree of actions: `child` [room][actions] is
 * where each action leads, -1 where none was yet. New nodes are numbered from `*nodes` on. Rows of steps are written one
 * after the other: their parents, nodes and actions, `ends` of each step; and where the candidates are: `path`
 * [1 + steps][candidates], of which the first is given. */
PUBLIC void thick_walk(int64_t candidates, int64_t steps, int64_t actions, const float *candidate, int64_t *child,
                       int64_t *nodes, int64_t *parent, int64_t *node, int64_t *chosen, int64_t *ends, int64_t *path) {
  int64_t rows = 0;
  for (int64_t step = 0; step < steps; step++, path += candidates) {
    for (int64_t i = 0; i < candidates; i++) {
      const float *hot = candidate + (i * steps + step) * actions;
      int64_t best = 0;
      for (int64_t a = 1; a < actions; a++)
        if (hot[a] > hot[best]) best = a;
      int64_t *to = child + path[i] * actions + best;
      if (*to < 0) {
        *to = (*nodes)++;
        for (int64_t a = 0; a < actions; a++) child[*to * actions + a] = -1;
        parent[rows] = path[i], node[rows] = *to, chosen[rows] = best;
        rows++;
      }
      path[candidates + i] = *to;
    }
    ends[step] = rows;
  }
}
