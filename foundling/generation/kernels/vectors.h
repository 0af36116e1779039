// Vectors of the machine's own width, and the functions of them that libm has for numbers alone.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int BYTES = 64, MOST_ROWS = 12;  // 32 registers: 2 · 12 sums, 2 of weights, 1 of inputs
#elif defined(__AVX__)
constexpr int BYTES = 32, MOST_ROWS = 6;  // 16 registers: 2 · 6 sums, 2 of weights, 1 of inputs
#elif defined(__aarch64__)
constexpr int BYTES = 16, MOST_ROWS = 12;  // 32 registers
#else
constexpr int BYTES = 16, MOST_ROWS = 6;
#endif
constexpr int LANES = BYTES / 4;

typedef float V __attribute__((vector_size(BYTES)));
typedef int32_t I __attribute__((vector_size(BYTES)));
typedef uint32_t U __attribute__((vector_size(BYTES)));
typedef float Unaligned __attribute__((vector_size(BYTES), aligned(4), may_alias));

static inline V load(const float* from) { return *(const Unaligned*)from; }
static inline void store(float* to, V x) { *(Unaligned*)to = x; }
static inline V splat(float x) { return x - V{}; }
static inline V choose(I which, V yes, V no) { return (V)((which & (I)yes) | (~which & (I)no)); }
static inline V smaller(V a, V b) { return choose(a < b, a, b); }
static inline V larger(V a, V b) { return choose(a > b, a, b); }

static inline U load_words(const uint32_t* from) { return (U)load((const float*)from); }

// What machines that multiply pairs of bf16, or fours of bytes, add to each lane's sum.
#if defined(__AVX512BF16__)
constexpr bool DOTS_BF16 = true;
static inline V dot_bf16(V sum, U a, uint32_t b) {
  return (V)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)_mm512_set1_epi32(b));
}
#else
constexpr bool DOTS_BF16 = false;
static inline V dot_bf16(V sum, U, uint32_t) { return sum; }
#endif
#if defined(__AVX512VNNI__)
constexpr bool DOTS_BYTES = true;
static inline I dot_bytes(I sum, U a, uint32_t b) {
  return (I)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, _mm512_set1_epi32(b));
}
#elif defined(__AVXVNNI__)
constexpr bool DOTS_BYTES = true;
static inline I dot_bytes(I sum, U a, uint32_t b) {
  return (I)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)a, _mm256_set1_epi32(b));
}
#else
constexpr bool DOTS_BYTES = false;
static inline I dot_bytes(I sum, U, uint32_t) { return sum; }
#endif

// e^x to 2 units in the last place. Source: Cephes, expf.
static inline V exp_of(V x) {
  x = larger(smaller(x, splat(88.0f)), splat(-87.0f));
  V turned = x * 1.44269504f + choose(x < 0.0f, splat(-0.5f), splat(0.5f));
  I power = __builtin_convertvector(turned, I);
  V whole = __builtin_convertvector(power, V);
  V rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
  V sum = rest * 1.9875691500e-4f + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  return (sum * rest * rest + rest + 1.0f) * (V)((power + 127) << 23);
}

static inline V sigmoid_of(V x) { return 1.0f / (1.0f + exp_of(-x)); }

// tanh to 1e-7: by its series where the quotient would cancel.
static inline V tanh_of(V x) {
  V square = x * x;
  V series = x + x * square * (-1.0f / 3 + square * (2.0f / 15 - square * (17.0f / 315)));
  return choose(square < 0.02f, series, 1.0f - 2.0f / (exp_of(2.0f * x) + 1.0f));
}

// The standard normal distribution function, to 1e-7. Source: Abramowitz and Stegun, 7.1.26.
static inline V normal_below(V x) {
  V size = larger(x, -x) * 0.70710678f;
  V t = 1.0f / (1.0f + 0.3275911f * size);
  V sum = t * 1.061405429f - 1.453152027f;
  sum = sum * t + 1.421413741f;
  sum = sum * t - 0.284496736f;
  sum = sum * t + 0.254829592f;
  V tail = 0.5f * sum * t * exp_of(-size * size);
  return choose(x < 0.0f, tail, 1.0f - tail);
}

// Calls act(vector, index) on all numbers of `from`, and writes what it gives; the last few padded.
template <class Act>
static inline void each(const float* from, float* to, int64_t count, Act act) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) store(to + i, act(load(from + i), i));
  if (i == count) return;
  float rest[LANES] = {};
  memcpy(rest, from + i, (count - i) * 4);
  store(rest, act(load(rest), i));
  memcpy(to + i, rest, (count - i) * 4);
}
