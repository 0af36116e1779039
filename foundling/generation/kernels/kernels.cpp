// What a transformer computes on a CPU, row by row in an order that depends on nothing but the row.
//
// A program is a list of operations that all threads carry out together, with a barrier after each.
// Every number is summed by one thread, over k = 0, 1, 2, … or over keys by their position, so it
// does not depend on how many rows, threads or chunks there are.

#include <cstdlib>

#include "vectors.h"

extern "C" int omp_get_thread_num();
extern "C" int omp_get_num_threads();

enum Kind { EMBED, ANGLES, NORM, LINEAR, HEADS, ATTEND, ACTIVATE, SOFTCAP, PICK };
enum Format { FP32, BF16, INT8, INT4 };
enum Activation { SILU, GELU, GELU_TANH, RELU2 };

struct Matrix {
  const uint32_t* data;
  int64_t rows, columns;
  int32_t format;
};

struct Op {
  int32_t kind;
  int32_t picked;  // of the picked rows alone
  int32_t add;     // to what is there
  int32_t activation, gated;
  int32_t heads, kv_heads, head_dim, turning, window, block_size, whole;
  float scale, eps, softcap;
  int64_t width, block_stride;
  const float *input, *other;
  float* out;
  const float *weight, *bias;
  float *keys, *values;
  Matrix matrix;
};

struct Batch {
  int64_t rows, picked;
  const int32_t *tokens, *positions, *picks;
  const int32_t *tables, *blocks;  // the row's first entry in `blocks`
  uint32_t* packed;                // room for the rows of a product, or one for each thread
};

struct Thread {
  int64_t index, count;
  int64_t begin(int64_t items) const { return items * index / count; }
  int64_t end(int64_t items) const { return items * (index + 1) / count; }
};

// ---- weights -----------------------------------------------------------------------------------
//
// A matrix lies in panels of PANEL of its rows, and each word of 32 bits holds one, two, four or
// eight neighbours of a row: a product reads a panel once from front to end, as fast as memory gives
// it. INT8 and INT4 are levels from zero up; each GROUP of a row begins with a word for its scale:
// of INT8 in fp32, its levels shifted by 128; of INT4 in bf16 with the value of level zero.

constexpr int PANEL = 2 * LANES, GROUP = 32, UNITS[] = {1, 2, 4, 8};

static int64_t padded(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// Columns with the zeros behind them.
static int64_t depth_of(int format, int64_t columns) {
  return padded(columns, format >= INT8 ? GROUP : UNITS[format]);
}

static int64_t panel_words(int format, int64_t columns) {
  int64_t depth = depth_of(format, columns);
  return (depth / UNITS[format] + (format >= INT8 ? depth / GROUP : 0)) * PANEL;
}

// Where the value of row n of a panel at column k is; the group's head is just before its values.
static int64_t word_of(int format, int64_t k, int n) {
  int64_t heads = format >= INT8 ? k / GROUP + 1 : 0;
  return (k / UNITS[format] + heads) * PANEL + n;
}

static uint32_t to_bf16(float x) {  // to nearest, ties to even
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static float from_bf16(uint32_t x) {
  uint32_t bits = x << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

struct Head {
  float scale, start;
  uint32_t word;
};

static Head head_of(int format, uint32_t word) {
  if (format == INT4) return {from_bf16(word & 0xffff), from_bf16(word >> 16), word};
  float scale;
  memcpy(&scale, &word, 4);
  return {scale, -128 * scale, word};
}

static int level_of(float x, Head head, int most) {
  float level = head.scale > 0 ? rintf((x - head.start) / head.scale) : 128 * (most == 255);
  return level < 0 ? 0 : level > most ? most : (int)level;
}

// Of INT4 the range that gives the least squared error: a little is cut off where it pays.
static Head choose_head(int format, const float* x, int64_t count) {
  float low = x[0], high = x[0];
  for (int64_t k = 0; k < count; k++) low = fminf(low, x[k]), high = fmaxf(high, x[k]);
  if (format == INT8) {
    float scale = fmaxf(-low, high) / 127;
    uint32_t word;
    memcpy(&word, &scale, 4);
    return head_of(INT8, word);
  }
  Head best{};
  float least = INFINITY;
  for (float part = 1; part > 0.7f; part -= 0.05f) {
    float middle = (low + high) / 2, half = (high - low) / 2 * part, error = 0;
    Head head = head_of(INT4, to_bf16(half / 7.5f) | to_bf16(middle - half) << 16);
    for (int64_t k = 0; k < count; k++) {
      float missed = level_of(x[k], head, 15) * head.scale + head.start - x[k];
      error += missed * missed;
    }
    if (error < least) least = error, best = head;
  }
  return best;
}

static void pack_row(int format, const float* row, int64_t columns, int n, uint32_t* panel) {
  int64_t depth = depth_of(format, columns);
  Head head{};
  for (int64_t k = 0; k < depth; k++) {
    uint32_t& word = panel[word_of(format, k, n)];
    float x = k < columns ? row[k] : 0;
    if (format >= INT8 && k % GROUP == 0) {
      head = choose_head(format, row + k, columns - k < GROUP ? columns - k : GROUP);
      (&word)[-PANEL] = head.word;
    }
    if (format == FP32) memcpy(&word, &x, 4);
    if (format == BF16) word |= to_bf16(x) << k % 2 * 16;
    if (format == INT8) word |= (uint32_t)level_of(x, head, 255) << k % 4 * 8;
    if (format == INT4) word |= (uint32_t)level_of(x, head, 15) << (k % 4 * 8 + k % 8 / 4 * 4);
  }
}

static void unpack_row(const Matrix& m, int64_t index, float* to) {
  const uint32_t* panel = m.data + index / PANEL * panel_words(m.format, m.columns);
  Head head{};
  for (int64_t k = 0; k < m.columns; k++) {
    const uint32_t* word = panel + word_of(m.format, k, index % PANEL);
    if (m.format >= INT8 && k % GROUP == 0) head = head_of(m.format, word[-PANEL]);
    int level = m.format == INT8 ? *word >> k % 4 * 8 & 255 : *word >> (k % 4 * 8 + k % 8 / 4 * 4) & 15;
    if (m.format == FP32) memcpy(to + k, word, 4);
    if (m.format == BF16) to[k] = from_bf16(*word >> k % 2 * 16 & 0xffff);
    if (m.format >= INT8) to[k] = level * head.scale + head.start;
  }
}

static float total(V x) {
  float sum = 0;
  for (int i = 0; i < LANES; i++) sum += x[i];
  return sum;
}

// ---- products ----------------------------------------------------------------------------------
//
// Inputs are packed for up to MOST_ROWS rows at once, k by k, so that one pointer walks through them
// and no two of them meet in a set of the cache. Where the machine multiplies bf16 or bytes, they
// are rounded to that, row by row; bytes have a scale for each GROUP: then INT8 and INT4 multiply
// whole numbers, which is exact, and are scaled group by group.

static bool dots(int format) {
  return format == BF16 ? DOTS_BF16 : format >= INT8 ? DOTS_BYTES : false;
}

static int most_rows(int format) {  // bytes have two kinds of sums
  return format >= INT8 && DOTS_BYTES ? MOST_ROWS / 2 : MOST_ROWS;
}

// A group of inputs as bytes: for each row its scale and its sum, then the words.
constexpr int GROUP_WORDS = 2 + GROUP / 4;

static int64_t input_words(int format, int64_t depth) {
  return !dots(format) ? depth : format == BF16 ? depth / 2 : depth / GROUP * GROUP_WORDS;
}

static void pack_group(const float* x, int64_t count, int64_t rows, uint32_t* to) {
  alignas(BYTES) float padded_group[GROUP] = {};
  alignas(BYTES) int32_t levels[GROUP];
  memcpy(padded_group, x, count * 4);
  V top = {}, unfit = {};  // not a number, where an input is none
  for (int k = 0; k < GROUP; k += LANES) {
    V v = load(padded_group + k);
    top = larger(larger(v, -v), top), unfit += v * 0.0f;
  }
  float most = 0;
  int32_t sum = 0;
  for (int i = 0; i < LANES; i++) most = top[i] > most ? top[i] : most;
  float scale = most / 127 + total(unfit), inverse = most > 0 ? 127 / most : 0;
  for (int k = 0; k < GROUP; k += LANES) {  // the last bits of 1.5 · 2^23 + n are those of n
    I level = (I)(load(padded_group + k) * inverse + 12582912.0f) - 0x4b400000;
    memcpy(levels + k, &level, BYTES);
  }
  for (int k = 0; k < GROUP; k++) sum += levels[k];
  for (int k = 0; k < GROUP; k += 4)
    to[(2 + k / 4) * rows] = (levels[k] & 255) | (levels[k + 1] & 255) << 8 |
                             (levels[k + 2] & 255) << 16 | (uint32_t)levels[k + 3] << 24;
  memcpy(to, &scale, 4);
  memcpy(to + rows, &sum, 4);
}

// Rows of inputs from k = begin to end, which are multiples of GROUP.
static void pack_inputs(int format, const float* x, int64_t columns, int64_t rows, int64_t begin,
                        int64_t end, uint32_t* to) {
  auto at = [&](int64_t r, int64_t k) { return k < columns ? x[r * columns + k] : 0; };
  for (int64_t r = 0; r < rows; r++) {
    if (!dots(format)) {
      for (int64_t k = begin; k < end; k++) ((float*)to)[k * rows + r] = at(r, k);
    } else if (format == BF16) {
      for (int64_t k = begin; k < end; k += 2)
        to[k / 2 * rows + r] = to_bf16(at(r, k)) | to_bf16(at(r, k + 1)) << 16;
    } else {
      for (int64_t k = begin; k < end; k += GROUP)
        pack_group(x + r * columns + k, columns - k < GROUP ? columns - k : GROUP, rows,
                   to + k / GROUP * GROUP_WORDS * rows + r);
    }
  }
}

// The i-th neighbour of each word.
template <int FORMAT>
static inline V widen(U words, int i, V scale, V start) {
  if constexpr (FORMAT == FP32) return (V)words;
  if constexpr (FORMAT == BF16) return (V)(i ? words & 0xffff0000 : words << 16);
  int shift = i % 4 * 8 + i / 4 * 4, most = FORMAT == INT8 ? 255 : 15;
  return __builtin_convertvector((I)(words >> shift & most), V) * scale + start;
}

template <int FORMAT, int ROWS>
static inline void add_floats(const float* x, const uint32_t* panel, int64_t depth,
                              V (&sum)[ROWS][2]) {
  constexpr int UNIT = UNITS[FORMAT];
  V scale[2] = {}, start[2] = {};
  for (int64_t k = 0; k < depth; k += UNIT, panel += PANEL, x += UNIT * ROWS) {
    if (FORMAT >= INT8 && k % GROUP == 0) {
      for (int half = 0; half < 2; half++) {
        U head = load_words(panel + half * LANES);
        scale[half] = (V)(FORMAT == INT8 ? head : head << 16);
        start[half] = FORMAT == INT8 ? scale[half] * -128.0f : (V)(head & 0xffff0000);
      }
      panel += PANEL;
    }
    U low = load_words(panel), high = load_words(panel + LANES);
    for (int i = 0; i < UNIT; i++) {
      V a = widen<FORMAT>(low, i, scale[0], start[0]), b = widen<FORMAT>(high, i, scale[1], start[1]);
      for (int r = 0; r < ROWS; r++) {
        sum[r][0] += a * x[i * ROWS + r];
        sum[r][1] += b * x[i * ROWS + r];
      }
    }
  }
}

template <int ROWS>
static inline void add_bf16(const uint32_t* x, const uint32_t* panel, int64_t depth,
                            V (&sum)[ROWS][2]) {
  for (int64_t k = 0; k < depth; k += 2, panel += PANEL, x += ROWS) {
    U low = load_words(panel), high = load_words(panel + LANES);
    for (int r = 0; r < ROWS; r++) {
      sum[r][0] = dot_bf16(sum[r][0], low, x[r]);
      sum[r][1] = dot_bf16(sum[r][1], high, x[r]);
    }
  }
}

template <int FORMAT, int ROWS>
static inline void add_bytes(const uint32_t* x, const uint32_t* panel, int64_t depth,
                             V (&sum)[ROWS][2]) {
  for (int64_t k = 0; k < depth; k += GROUP, x += GROUP_WORDS * ROWS) {
    const float* scale = (const float*)x;
    const int32_t* sums = (const int32_t*)x + ROWS;
    const uint32_t* words = x + 2 * ROWS;
    const uint32_t* head = panel;
    I dot[ROWS][2];
    for (int r = 0; r < ROWS; r++)  // of INT8, what its shift by 128 adds
      dot[r][0] = dot[r][1] = I{} - (FORMAT == INT8 ? 128 * sums[r] : 0);
    panel += PANEL;
    for (int i = 0; i < GROUP / UNITS[FORMAT]; i++, panel += PANEL) {
      U low = load_words(panel), high = load_words(panel + LANES);
      for (int part = 0; part < UNITS[FORMAT] / 4; part++, words += ROWS) {
        U a = FORMAT == INT8 ? low : low >> 4 * part & 0x0f0f0f0f;
        U b = FORMAT == INT8 ? high : high >> 4 * part & 0x0f0f0f0f;
        for (int r = 0; r < ROWS; r++) {
          dot[r][0] = dot_bytes(dot[r][0], a, words[r]);
          dot[r][1] = dot_bytes(dot[r][1], b, words[r]);
        }
      }
    }
    for (int half = 0; half < 2; half++) {
      U both = load_words(head + half * LANES);
      for (int r = 0; r < ROWS; r++) {
        V value = __builtin_convertvector(dot[r][half], V) * (V)(FORMAT == INT8 ? both : both << 16);
        if (FORMAT == INT4) value += (V)(both & 0xffff0000) * (float)sums[r];
        sum[r][half] += value * scale[r];
      }
    }
  }
}

template <int FORMAT, int ROWS>
static void multiply(const Op& op, int64_t panel, const uint32_t* x, float* out) {
  const Matrix& m = op.matrix;
  const uint32_t* data = m.data + panel * panel_words(FORMAT, m.columns);
  int64_t depth = depth_of(FORMAT, m.columns);
  V sum[ROWS][2] = {};
  if constexpr (FORMAT == BF16 && DOTS_BF16) {
    add_bf16<ROWS>(x, data, depth, sum);
  } else if constexpr (FORMAT >= INT8 && DOTS_BYTES) {
    add_bytes<FORMAT, ROWS>(x, data, depth, sum);
  } else {
    add_floats<FORMAT, ROWS>((const float*)x, data, depth, sum);
  }
  for (int half = 0; half < 2; half++) {
    int64_t n = panel * PANEL + half * LANES, left = m.rows - n;
    if (left <= 0) return;
    size_t bytes = left < LANES ? left * 4 : BYTES;
    V bias = {}, before = {};
    if (op.bias) memcpy(&bias, op.bias + n, bytes);
    for (int r = 0; r < ROWS; r++) {
      float* to = out + r * m.rows + n;
      V y = (sum[r][half] + bias) * op.scale;
      if (op.add) memcpy(&before, to, bytes), y += before;
      memcpy(to, &y, bytes);
    }
  }
}

using Multiply = void (*)(const Op&, int64_t, const uint32_t*, float*);

template <int F>
static Multiply multiply_rows(int rows) {
  static const Multiply table[] = {
      multiply<F, 1>, multiply<F, 2>, multiply<F, 3>, multiply<F, 4>, multiply<F, 5>, multiply<F, 6>,
#if defined(__AVX512F__) || defined(__aarch64__)
      multiply<F, 7>, multiply<F, 8>, multiply<F, 9>, multiply<F, 10>, multiply<F, 11>, multiply<F, 12>,
#endif
  };
  return table[rows - 1];
}

static Multiply multiply_of(int format, int rows) {
  return format == FP32   ? multiply_rows<FP32>(rows)
         : format == BF16 ? multiply_rows<BF16>(rows)
         : format == INT8 ? multiply_rows<INT8>(rows)
                          : multiply_rows<INT4>(rows);
}

// out (+)= scale · (in · matrixᵀ + bias). Blocks of rows run inside panels: the panel stays in the
// second cache level, and memory gives it once.
static void linear(const Op& op, const Batch& b, Thread t, int64_t rows) {
  const Matrix& m = op.matrix;
  int64_t depth = depth_of(m.format, m.columns), words = input_words(m.format, depth);
  int64_t most = most_rows(m.format), blocks = (rows + most - 1) / most;
  auto first = [&](int64_t block) { return rows * block / blocks; };
  bool as_they_are = rows == 1 && depth == m.columns && !dots(m.format);
  uint32_t* packed = b.packed;
  if (rows == 1 && !as_they_are) {  // each thread for itself is faster than to wait for all
    packed += t.index * words;
    pack_inputs(m.format, op.input, m.columns, 1, 0, depth, packed);
  } else if (!as_they_are) {
    int64_t groups = (depth + GROUP - 1) / GROUP, end = t.end(groups) * GROUP;
    for (int64_t block = 0; block < blocks; block++)
      pack_inputs(m.format, op.input + first(block) * m.columns, m.columns,
                  first(block + 1) - first(block), t.begin(groups) * GROUP, end < depth ? end : depth,
                  packed + first(block) * words);
#pragma omp barrier
  }
  const uint32_t* x = as_they_are ? (const uint32_t*)op.input : packed;
  int64_t panels = (m.rows + PANEL - 1) / PANEL;
  for (int64_t panel = t.begin(panels); panel < t.end(panels); panel++)
    for (int64_t block = 0; block < blocks; block++) {
      int64_t from = first(block), count = first(block + 1) - from;
      multiply_of(m.format, count)(op, panel, x + from * words, op.out + from * m.rows);
    }
}

// ---- row by row --------------------------------------------------------------------------------

// Sums in LANES chains, then lane by lane; the last few padded with zeros.
template <class Term>
static inline float sum_of(const float* x, int64_t count, Term term) {
  V sum = {};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) sum += term(load(x + i));
  float tail = 0;
  for (; i < count; i++) tail += term(splat(x[i]))[0];
  return total(sum) + tail;
}

static void norm(const float* x, float* out, int64_t width, const Op& op, const float* weight,
                 const float* bias, bool add) {
  float mean = bias ? sum_of(x, width, [](V v) { return v; }) / width : 0;
  float square = sum_of(x, width, [=](V v) { return (v - mean) * (v - mean); }) / width;
  float factor = 1 / sqrtf(square + op.eps);
  for (int64_t i = 0; i < width; i++) {
    float y = ((x[i] - mean) * factor * weight[i] + (bias ? bias[i] : 0)) * op.scale;
    out[i] = add ? out[i] + y : y;
  }
}

static void activate(const Op& op, const float* gate, const float* up, float* out) {
  auto by_name = [&](auto act) {
    each(gate, out, op.width, [&](V x, int64_t) { return act(x); });
  };
  switch (op.activation) {
    case SILU: by_name([](V x) { return x * sigmoid_of(x); }); break;
    case GELU: by_name([](V x) { return x * normal_below(x); }); break;
    case GELU_TANH:
      by_name([](V x) { return x * sigmoid_of(1.59576912f * (x + 0.044715f * x * x * x)); });
      break;
    case RELU2: by_name([](V x) { return choose(x > 0.0f, x * x, V{}); }); break;
  }
  if (op.gated)
    for (int64_t i = 0; i < op.width; i++) out[i] *= up[i];
}

// ---- attention ---------------------------------------------------------------------------------
//
// Keys lie in tiles of TILE tokens, transposed, so that a vector holds one number of many keys and
// scores need no sum across lanes; values lie token by token, padded to whole vectors.

constexpr int TILE = 16, PARTS = TILE / LANES;

// Where the keys and values of a token's tile lie: in a block, head by head.
struct Place {
  const Op& op;
  int64_t block, tile;
  Place(const Op& op, const int32_t* table, int64_t token)
      : op(op),
        block(table[token / op.block_size] * op.block_stride),
        tile(token % op.block_size / TILE * TILE) {}
  float* keys(int64_t head) const {
    return op.keys + block + (head * op.block_size + tile) * op.head_dim;
  }
  float* values(int64_t head) const {
    return op.values + block + (head * op.block_size + tile) * padded(op.head_dim, LANES);
  }
};

static void turn(float* head, const float* angles, int64_t turning) {
  int64_t half = turning / 2;
  for (int64_t i = 0; i < half; i++) {
    float cos = angles[i], sin = angles[half + i], first = head[i], second = head[half + i];
    head[i] = first * cos - second * sin;
    head[half + i] = second * cos + first * sin;
  }
}

// Norms and turns the queries and keys of a row, and writes its keys and values to their block.
static void heads(const Op& op, const Batch& b, int64_t row, float* x) {
  int64_t dim = op.head_dim, position = b.positions[row];
  int64_t widths[] = {op.heads * dim, op.kv_heads * dim};
  for (int part = 0; part < 2; part++) {
    float* start = x + part * widths[0];
    const float* weight = part ? op.bias : op.weight;
    int64_t width = op.whole ? widths[part] : dim;
    for (int64_t i = 0; weight && i < widths[part]; i += width)
      norm(start + i, start + i, width, op, weight, nullptr, false);
    for (int64_t i = 0; op.turning && i < widths[part]; i += dim)
      turn(start + i, op.other + row * op.turning, op.turning);
  }
  Place place(op, b.blocks + b.tables[row], position);
  for (int64_t head = 0; head < op.kv_heads; head++) {
    const float* key = x + widths[0] + head * dim;
    const float* value = key + widths[1];
    float* tile = place.keys(head) + position % TILE;
    for (int64_t i = 0; i < dim; i++) tile[i * TILE] = key[i];
    float* to = place.values(head) + position % TILE * padded(dim, LANES);
    for (int64_t i = 0; i < padded(dim, LANES); i++) to[i] = i < dim ? value[i] : 0;
  }
}

// What one query asks of the keys from `oldest` to `newest`.
struct Query {
  const float* vector;
  float* out;
  int64_t oldest, newest;
};

// Softmax over keys and the mean of their values, STRIP keys at a time, for N queries that share
// their keys: each number of a key or value is read once for all of them. A query's sums do not
// depend on the others: keys beyond its reach weigh nothing. Source: Milakov and Gimelshein 2018.
constexpr int STRIP = 8 * TILE, MOST_QUERIES = MOST_ROWS / 2, CHAINS = 4 / PARTS;

template <int N>
static void attend_to(const Op& op, const int32_t* table, int64_t kv_head, const Query* queries) {
  int64_t dim = op.head_dim, wide = padded(dim, LANES), oldest = queries[0].oldest, newest = 0;
  for (int n = 0; n < N; n++) {
    oldest = queries[n].oldest < oldest ? queries[n].oldest : oldest;
    newest = queries[n].newest > newest ? queries[n].newest : newest;
  }
  auto keys_of = [&](int64_t token) { return Place(op, table, token).keys(kv_head); };
  auto values_of = [&](int64_t token) { return Place(op, table, token).values(kv_head); };
  float sums[N * wide], most[N];
  V weights[N] = {}, lanes;
  memset(sums, 0, sizeof(sums));
  for (int i = 0; i < LANES; i++) lanes[i] = i;
  for (int n = 0; n < N; n++) most[n] = -INFINITY;
  for (int64_t strip = oldest / STRIP * STRIP; strip <= newest; strip += STRIP) {
    alignas(BYTES) float score[N][STRIP];
    int64_t first = oldest > strip ? oldest / TILE * TILE : strip;
    int64_t last = newest < strip + STRIP ? newest + 1 : strip + STRIP;
    for (int64_t tile = first; tile < last; tile += TILE) {
      const float* keys = keys_of(tile);
      const float* next = tile + TILE <= newest ? keys_of(tile + TILE) : keys;
      const float* values = values_of(tile);
      // Blocks lie apart: without being asked for, they would come too late.
      V sum[N][CHAINS][PARTS] = {};  // chains, so that additions need not wait for each other
      for (int64_t i = 0; i < dim; i += CHAINS)
        for (int chain = 0; chain < CHAINS && i + chain < dim; chain++)
          for (int part = 0; part < PARTS; part++) {
            __builtin_prefetch(next + (i + chain) * TILE + part * LANES, 0, 2);
            __builtin_prefetch(values + (i + chain) * TILE + part * LANES, 0, 2);
            V key = load(keys + (i + chain) * TILE + part * LANES);
            for (int n = 0; n < N; n++) sum[n][chain][part] += key * queries[n].vector[i + chain];
          }
      for (int n = 0; n < N; n++)
        for (int part = 0; part < PARTS; part++) {
          V all = sum[n][0][part];
          for (int chain = 1; chain < CHAINS; chain++) all += sum[n][chain][part];
          store(&score[n][tile - strip + part * LANES], all * op.scale);
        }
    }
    for (int n = 0; n < N; n++) {
      V top = splat(-INFINITY), added = {};
      for (int64_t at = first; at < last; at += LANES) {
        V s = load(&score[n][at - strip]), token = lanes + (float)(at - strip);
        if (op.softcap > 0) s = tanh_of(s / op.softcap) * op.softcap;
        I seen = (token >= (float)(queries[n].oldest - strip)) &
                 (token <= (float)(queries[n].newest - strip));
        s = choose(seen, s, splat(-INFINITY));
        store(&score[n][at - strip], s);
        top = larger(s, top);
      }
      float before = most[n];
      for (int i = 0; i < LANES; i++) most[n] = top[i] > most[n] ? top[i] : most[n];
      float kept = before == most[n] ? 1 : exp_of(splat(before - most[n]))[0];
      for (int64_t at = first; at < last; at += LANES) {
        V s = load(&score[n][at - strip]);
        s = choose(s > -INFINITY, exp_of(s - most[n]), V{});
        store(&score[n][at - strip], s);
        added += s;
      }
      weights[n] = weights[n] * kept + added;
      for (int64_t i = 0; kept != 1 && i < wide; i++) sums[n * wide + i] *= kept;
    }
    for (int64_t tile = first; tile < last; tile += TILE) {
      int64_t from = oldest > tile ? oldest - tile : 0, until = last - tile < TILE ? last - tile : TILE;
      const float* values = values_of(tile);
      for (int64_t i = 0; i < wide; i += LANES) {
        V mixed[N];
        for (int n = 0; n < N; n++) mixed[n] = load(sums + n * wide + i);
        for (int64_t j = from; j < until; j++) {
          V value = load(values + j * wide + i);
          for (int n = 0; n < N; n++) mixed[n] += value * score[n][tile - strip + j];
        }
        for (int n = 0; n < N; n++) store(sums + n * wide + i, mixed[n]);
      }
    }
  }
  for (int n = 0; n < N; n++) {
    float all = total(weights[n]);
    for (int64_t i = 0; i < dim; i++) queries[n].out[i] = sums[n * wide + i] / all;
  }
}

// Queries of one sequence that share keys are worked together: the heads of a group, and of many
// rows as many as make up the number. Where there is too little for the threads, head by head.
static void attend(const Op& op, const Batch& b, Thread t, int64_t rows) {
  using Attend = void (*)(const Op&, const int32_t*, int64_t, const Query*);
  static const Attend attend_n[] = {attend_to<1>, attend_to<2>, attend_to<3>,
                                    attend_to<4>, attend_to<5>, attend_to<6>};
  int64_t group = op.heads / op.kv_heads, width = op.heads * op.head_dim;
  int64_t stride = width + 2 * op.kv_heads * op.head_dim;
  int64_t parts = rows * op.kv_heads < t.count ? group : 1, heads = group / parts;
  int64_t together = heads < MOST_QUERIES ? MOST_QUERIES / heads : 1;
  auto leads = [&](int64_t row) {
    return row == 0 || b.tables[row] != b.tables[row - 1] || b.positions[row] % together == 0;
  };
#pragma omp for schedule(dynamic)
  for (int64_t item = 0; item < rows * op.kv_heads * parts; item++) {
    int64_t row = item / parts / op.kv_heads, kv_head = item / parts % op.kv_heads, count = 0;
    if (!leads(row)) continue;
    Query queries[MOST_QUERIES];
    const int32_t* table = b.blocks + b.tables[row];
    int64_t first_head = kv_head * group + item % parts * heads;
    for (int64_t r = row; r == row || (r < rows && !leads(r)); r++)
      for (int64_t head = first_head; head < first_head + heads; head++) {
        int64_t position = b.positions[r], at = head * op.head_dim;
        int64_t oldest = op.window && position >= op.window ? position - op.window + 1 : 0;
        queries[count++] = {op.input + r * stride + at, op.out + r * width + at, oldest, position};
        if (count == MOST_QUERIES || (head + 1 == first_head + heads && (r + 1 == rows || leads(r + 1)))) {
          attend_n[count - 1](op, table, kv_head, queries);
          count = 0;
        }
      }
  }
}

// ---- programs ----------------------------------------------------------------------------------

static void embed(const Op& op, const Batch& b, int64_t row) {
  int64_t token = b.tokens[row];
  float* to = op.out + row * op.width;
  if (op.matrix.data) unpack_row(op.matrix, token, to);
  const float* table = op.matrix.data ? to : op.input + token * op.width;
  const float* place = op.other ? op.other + b.positions[row] * op.width : nullptr;
  for (int64_t i = 0; i < op.width; i++) to[i] = table[i] * op.scale + (place ? place[i] : 0);
}

static void run_row(const Op& op, const Batch& b, int64_t row) {
  int64_t width = op.width;
  float* out = op.out + row * width;
  switch (op.kind) {
    case EMBED: return embed(op, b, row);
    case ANGLES:
      for (int64_t i = 0; i < width / 2; i++) {
        float angle = b.positions[row] * op.input[i];
        out[i] = cosf(angle) * op.scale, out[width / 2 + i] = sinf(angle) * op.scale;
      }
      return;
    case NORM: return norm(op.input + row * width, out, width, op, op.weight, op.bias, op.add);
    case HEADS: return heads(op, b, row, out);
    case ACTIVATE: {
      const float* gate = op.input + row * width * (op.gated ? 2 : 1);
      return activate(op, gate, gate + width, out);
    }
    case SOFTCAP:
      return each(out, out, width, [&](V x, int64_t) { return tanh_of(x / op.softcap) * op.softcap; });
    case PICK: memcpy(out, op.input + b.picks[row] * width, width * 4); return;
  }
}

extern "C" {

int64_t words_of(int format, int64_t rows, int64_t columns) {
  return padded(rows, PANEL) / PANEL * panel_words(format, columns);
}

int64_t padded_width(int64_t width) { return padded(width, LANES); }

int rounds_inputs(int format) { return dots(format); }

// `to` is zero before.
void pack(int format, const float* from, int64_t rows, int64_t columns, uint32_t* to, int threads) {
#pragma omp parallel for num_threads(threads)
  for (int64_t n = 0; n < rows; n++)
    pack_row(format, from + n * columns, columns, n % PANEL,
             to + n / PANEL * panel_words(format, columns));
}

void unpack(const Matrix* matrix, float* to) {
  for (int64_t n = 0; n < matrix->rows; n++) unpack_row(*matrix, n, to + n * matrix->columns);
}

void run(const Op* program, int64_t count, const Batch* batch, int threads) {
#pragma omp parallel num_threads(threads)
  {
    Thread t{omp_get_thread_num(), omp_get_num_threads()};
    for (const Op* op = program; op < program + count; op++) {
      int64_t rows = op->picked ? batch->picked : batch->rows;
      if (op->kind == LINEAR) {
        if (rows) linear(*op, *batch, t, rows);
      } else if (op->kind == ATTEND) {
        attend(*op, *batch, t, rows);
      } else {
        for (int64_t row = t.begin(rows); row < t.end(rows); row++) run_row(*op, *batch, row);
      }
#pragma omp barrier
    }
  }
}
}
