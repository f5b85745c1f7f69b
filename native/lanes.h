/* Vectors of LANES floats: what differs between instruction sets is here and nowhere else. */
#ifndef LANES_H
#define LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#if LANES >= 8
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));
typedef float Unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE V load(const float *p) { return *(const Unaligned *)p; }
INLINE void store(float *p, V x) { *(Unaligned *)p = x; }

#if LANES == 16
INLINE V splat(float x) { return (V)_mm512_set1_ps(x); }
INLINE V fma_(V a, V b, V c) { return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
INLINE V if_greater(V a, V b, V yes, V no) {
  return (V)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ), (__m512)no, (__m512)yes);
}
INLINE V if_at_most(V a, V b, V yes, V no) {
  return (V)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LE_OQ), (__m512)no, (__m512)yes);
}
INLINE V root(V x) { return (V)_mm512_sqrt_ps((__m512)x); }
INLINE V at_most(V x, float high) { return (V)_mm512_min_ps(_mm512_set1_ps(high), (__m512)x); }
INLINE V at_least(V x, float low) { return (V)_mm512_max_ps(_mm512_set1_ps(low), (__m512)x); }
#elif LANES == 8
INLINE V splat(float x) { return (V)_mm256_set1_ps(x); }
INLINE V fma_(V a, V b, V c) { return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
INLINE V if_greater(V a, V b, V yes, V no) {
  return (V)_mm256_blendv_ps((__m256)no, (__m256)yes, _mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GT_OQ));
}
INLINE V if_at_most(V a, V b, V yes, V no) {
  return (V)_mm256_blendv_ps((__m256)no, (__m256)yes, _mm256_cmp_ps((__m256)a, (__m256)b, _CMP_LE_OQ));
}
INLINE V root(V x) { return (V)_mm256_sqrt_ps((__m256)x); }
INLINE V at_most(V x, float high) { return (V)_mm256_min_ps(_mm256_set1_ps(high), (__m256)x); }
INLINE V at_least(V x, float low) { return (V)_mm256_max_ps(_mm256_set1_ps(low), (__m256)x); }
#else
INLINE V splat(float x) {
  V v;
  for (int i = 0; i < LANES; i++) v[i] = x;
  return v;
}
INLINE V fma_(V a, V b, V c) {
#if defined(__aarch64__) && LANES == 4
  return (V)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  V v;
  for (int i = 0; i < LANES; i++) v[i] = fmaf(a[i], b[i], c[i]);
  return v;
#endif
}
INLINE V if_greater(V a, V b, V yes, V no) {
  I mask = a > b;
  return (V)((mask & (I)yes) | (~mask & (I)no));
}
INLINE V if_at_most(V a, V b, V yes, V no) {
  I mask = a <= b;
  return (V)((mask & (I)yes) | (~mask & (I)no));
}
INLINE V root(V x) {
  V v;
  for (int i = 0; i < LANES; i++) v[i] = sqrtf(x[i]);
  return v;
}
INLINE V at_most(V x, float high) { return if_greater(x, splat(high), splat(high), x); }
INLINE V at_least(V x, float low) { return if_greater(splat(low), x, splat(low), x); }
#endif
/* NaN goes through at_most and at_least, as through all of these: a comparison with it is false, and then it is kept. */

/* Functions of a few vectors at once, in step: each waits for itself, but not for the others. */
#define FEW 4
#define EACH _Pragma("GCC unroll 8") for (int v = 0; v < n; v++)

/* exp(x) for x from -87 to 88: 2^n · exp(r), |r| <= ln 2 / 2, by a polynomial (Cephes, expf). */
INLINE void exp_each(const int n, V *x) {
  const float magic = 12582912.0f; /* 1.5 · 2^23: adding it rounds to a whole number, its last bits are that number */
  V shifted[2 * FEW], r[2 * FEW], p[2 * FEW];
  EACH shifted[v] = fma_(x[v], splat(1.44269504088896341f), splat(magic));
  EACH r[v] = shifted[v] - splat(magic);
  EACH x[v] = fma_(r[v], splat(-0.693359375f), x[v]);
  EACH r[v] = fma_(r[v], splat(2.12194440e-4f), x[v]);
  EACH p[v] = fma_(splat(1.9875691500e-4f), r[v], splat(1.3981999507e-3f));
  EACH p[v] = fma_(p[v], r[v], splat(8.3334519073e-3f));
  EACH p[v] = fma_(p[v], r[v], splat(4.1665795894e-2f));
  EACH p[v] = fma_(p[v], r[v], splat(1.6666665459e-1f));
  EACH p[v] = fma_(p[v], r[v], splat(5.0000001201e-1f));
  EACH p[v] = fma_(p[v], r[v] * r[v], r[v]) + splat(1.0f);
  EACH x[v] = (V)((I)p[v] + ((I)shifted[v] << 23));
}

INLINE V exp_(V x) {
  x = at_least(at_most(x, 88.0f), -87.0f);
  exp_each(1, &x);
  return x;
}

/* tanh(x): an odd over an even polynomial (Eigen's coefficients); its sign is that of x. */
INLINE void tanh_each(const int n, V *x) {
  V s[2 * FEW], p[2 * FEW], q[2 * FEW];
  EACH x[v] = at_least(at_most(x[v], 7.90531110763549805f), -7.90531110763549805f);
  EACH s[v] = x[v] * x[v];
  EACH p[v] = fma_(splat(-2.76076847742355e-16f), s[v], splat(2.00018790482477e-13f));
  EACH p[v] = fma_(p[v], s[v], splat(-8.60467152213735e-11f));
  EACH p[v] = fma_(p[v], s[v], splat(5.12229709037114e-08f));
  EACH p[v] = fma_(p[v], s[v], splat(1.48572235717979e-05f));
  EACH p[v] = fma_(p[v], s[v], splat(6.37261928875436e-04f));
  EACH p[v] = fma_(p[v], s[v], splat(4.89352455891786e-03f));
  EACH q[v] = fma_(splat(1.19825839466702e-06f), s[v], splat(1.18534705686654e-04f));
  EACH q[v] = fma_(q[v], s[v], splat(2.26843463243900e-03f));
  EACH q[v] = fma_(q[v], s[v], splat(4.89352518554385e-03f));
  EACH x[v] = x[v] * p[v] / q[v];
}

INLINE V tanh_(V x) {
  tanh_each(1, &x);
  return x;
}

INLINE void sigmoid_each(const int n, V *x) {
  EACH x[v] = x[v] * splat(0.5f);
  tanh_each(n, x);
  EACH x[v] = fma_(x[v], splat(0.5f), splat(0.5f));
}

INLINE V sigmoid(V x) {
  sigmoid_each(1, &x);
  return x;
}

/* x, or exp(x) - 1 up to 0; NaN stays what it is, and what exp makes of numbers above 0 is not used. */
INLINE void elu_each(const int n, V *x) {
  V below[2 * FEW];
  EACH below[v] = at_least(x[v], -87.0f);
  exp_each(n, below);
  EACH x[v] = if_at_most(x[v], splat(0.0f), below[v] - splat(1.0f), x[v]);
}

INLINE V elu(V x) {
  elu_each(1, &x);
  return x;
}

/* Fewer than LANES numbers, filled up with zeros. */
INLINE V load_some(const float *p, int64_t count) {
  if (count >= LANES) return load(p);
#if LANES == 16
  return (V)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
#else
  float part[LANES] = {0};
  memcpy(part, p, sizeof(float) * (size_t)count);
  return load(part);
#endif
}
INLINE void store_some(float *p, V x, int64_t count) {
  if (count >= LANES) {
    store(p, x);
    return;
  }
  if (count <= 0) return;
#if LANES == 16
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)x);
#else
  float part[LANES];
  store(part, x);
  memcpy(p, part, sizeof(float) * (size_t)count);
#endif
}

#endif
