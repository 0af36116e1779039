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

// LANES bytes as numbers of 32 bits. GCC 12 takes the plain conversion apart.
#if defined(__AVX512F__)
static inline I widen_signed(const uint8_t* from) {
  return (I)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)from));
}
static inline I widen_unsigned(const uint8_t* from) {
  return (I)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)from));
}
#elif defined(__AVX2__)
static inline I widen_signed(const uint8_t* from) {
  return (I)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)from));
}
static inline I widen_unsigned(const uint8_t* from) {
  return (I)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)from));
}
#else
typedef int8_t Signed __attribute__((vector_size(LANES)));
typedef uint8_t Unsigned __attribute__((vector_size(LANES)));
static inline I widen_signed(const uint8_t* from) {
  Signed small;
  memcpy(&small, from, LANES);
  return __builtin_convertvector(small, I);
}
static inline I widen_unsigned(const uint8_t* from) {
  Unsigned small;
  memcpy(&small, from, LANES);
  return __builtin_convertvector(small, I);
}
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
