/* Prints a hash of what a small model computes, for machines that run no Python: weights and inputs are made by
 * whole-number arithmetic, so that the same text comes out wherever the kernels give the same bits. */
#include "thick.h"

#include <stdio.h>
#include <stdlib.h>

enum { S = 5, K = 7, H = 21, X = 19, C = 3, A = 4, ROWS = 37 };

static uint64_t seed;
static float *numbers(int64_t count) {
  float *out = aligned_alloc(64, (size_t)(count + 16) / 16 * 64);
  for (int64_t i = 0; i < count; i++) {
    seed += 0x9E3779B97F4A7C15u;
    out[i] = (float)(seed * 0xBF58476D1CE4E5B9u >> 40) * 0x1p-23f - 1.0f;
  }
  return out;
}

static Dense dense(int64_t inputs, int64_t outputs) {
  const int64_t width = (outputs + 15) / 16 * 16;
  return (Dense){numbers(width * inputs), numbers(width), inputs, outputs};
}

static uint64_t hash(uint64_t h, const void *data, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) h = (h ^ ((const unsigned char *)data)[i]) * 0x100000001B3u;
  return h;
}

int thick_run(int instructions, int operation, const void *job, int64_t first, int64_t count, int64_t lead, int64_t tile,
              int threads, const int64_t *ends);

int main(int argc, char **argv) {
  int64_t offsets[S], *stoch = malloc(sizeof(int64_t) * ROWS * S), *next = malloc(sizeof(int64_t) * ROWS * S);
  for (int i = 0; i < S; i++) offsets[i] = i * K;
  for (int i = 0; i < ROWS * S; i++) stoch[i] = i * 5 % K;
  Low m = {.stoch = S, .classes = K, .deter = H, .hidden = X, .context = C, .action = A, .threshold = 0.01f, .gamma = 0.99f};
  m.img_in = (Chain){.table = numbers(S * K * 32), .offsets = offsets, .classes = S * K, .groups = S, .layers = 1};
  m.img_in.layer[0] = dense(A, X);
  m.gatel0rd = dense(X + C, 32), m.gru = dense(X + C + H, 96);
  m.img_out = dense(C + H, X), m.img_logit = dense(X, K * 16);
  float *logits = numbers(ROWS * S * K), *deter = numbers(ROWS * H), *context = numbers(ROWS * C), *gates = numbers(ROWS * C);
  StepRows job = {&m, stoch, numbers(ROWS * H), numbers(ROWS * C), numbers(ROWS * A), 0, 0, next, logits, deter, context, gates};
  if (thick_run(argc > 1 ? atoi(argv[1]) : 0, STEP, &job, 0, ROWS, 160, 12, 2, 0)) return 1;
  uint64_t h = hash(0xCBF29CE484222325u, next, sizeof(int64_t) * ROWS * S);
  h = hash(hash(h, logits, 4 * ROWS * S * K), deter, 4 * ROWS * H);
  printf("%016llx\n", (unsigned long long)hash(hash(h, context, 4 * ROWS * C), gates, 4 * ROWS * C));
  return 0;
}
