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
  const uint8_t* data;
  const float* scales;  // of INT8: of each row
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
  float* packed;                   // room for the rows of a product
};

struct Thread {
  int64_t index, count;
  int64_t begin(int64_t items) const { return items * index / count; }
  int64_t end(int64_t items) const { return items * (index + 1) / count; }
};

// ---- weights -----------------------------------------------------------------------------------
//
// A matrix lies in panels of PANEL of its rows, k by k: a product reads each panel once from front
// to end, as fast as memory gives it. Two vectors of sums for each of up to MOST_ROWS inputs stay
// in registers for the whole of k. INT4 has a scale and a minimum, in bf16, for GROUP values of k.

constexpr int PANEL = 2 * LANES, GROUP = 32;

static int64_t step_bytes(int format) {
  return format == FP32 ? 4 * PANEL : format == BF16 ? 2 * PANEL : format == INT8 ? PANEL : LANES;
}

static int64_t panel_bytes(int format, int64_t columns) {
  int64_t groups = format == INT4 ? (columns + GROUP - 1) / GROUP : 0;
  return (columns * step_bytes(format) + groups * 4 * PANEL + BYTES - 1) / BYTES * BYTES;
}

static uint16_t to_bf16(float x) {  // to nearest, ties to even
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static float from_bf16(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

static inline void widen_bf16(const uint8_t* from, V& low, V& high) {
  U bits;
  memcpy(&bits, from, BYTES);
  low = (V)(bits << 16);
  high = (V)(bits & 0xffff0000);
}

// Where the value of row n (of the panel) at k lies, in units of the format.
static int64_t place_bf16(int64_t k, int n) { return (k * LANES + n % LANES) * 2 + n / LANES; }

static void pack_panel(int format, const float* from, int64_t rows, int64_t columns, uint8_t* to,
                       float* scales) {
  memset(to, 0, panel_bytes(format, columns));
  for (int n = 0; n < rows; n++) {
    const float* row = from + n * columns;
    if (format == FP32) {
      for (int64_t k = 0; k < columns; k++) ((float*)to)[k * PANEL + n] = row[k];
    } else if (format == BF16) {
      for (int64_t k = 0; k < columns; k++) ((uint16_t*)to)[place_bf16(k, n)] = to_bf16(row[k]);
    } else if (format == INT8) {
      float most = 0;
      for (int64_t k = 0; k < columns; k++) most = fmaxf(most, fabsf(row[k]));
      scales[n] = most / 127;
      float inverse = most > 0 ? 127 / most : 0;
      for (int64_t k = 0; k < columns; k++) to[k * PANEL + n] = (int8_t)lrintf(row[k] * inverse);
    } else {
      uint8_t* group = to;
      for (int64_t first = 0; first < columns; first += GROUP) {
        int64_t last = first + GROUP < columns ? first + GROUP : columns;
        float low = row[first], high = row[first];
        for (int64_t k = first; k < last; k++) low = fminf(low, row[k]), high = fmaxf(high, row[k]);
        uint16_t* both = (uint16_t*)group;
        both[2 * n] = to_bf16((high - low) / 15), both[2 * n + 1] = to_bf16(low);
        float scale = from_bf16(both[2 * n]), start = from_bf16(both[2 * n + 1]);
        uint8_t* values = group + 4 * PANEL;
        for (int64_t k = first; k < last; k++) {
          float level = scale > 0 ? rintf((row[k] - start) / scale) : 0;
          int value = level < 0 ? 0 : level > 15 ? 15 : (int)level;
          values[(k - first) * LANES + n % LANES] |= n < LANES ? value : value << 4;
        }
        group = values + GROUP * LANES;
      }
    }
  }
}

static void unpack_row(const Matrix& m, int64_t index, float* to) {
  const uint8_t* panel = m.data + index / PANEL * panel_bytes(m.format, m.columns);
  int n = index % PANEL;
  for (int64_t k = 0; k < m.columns; k++) {
    if (m.format == FP32) to[k] = ((const float*)panel)[k * PANEL + n];
    if (m.format == BF16) to[k] = from_bf16(((const uint16_t*)panel)[place_bf16(k, n)]);
    if (m.format == INT8) to[k] = ((const int8_t*)panel)[k * PANEL + n] * m.scales[index];
    if (m.format == INT4) {
      const uint8_t* group = panel + k / GROUP * (4 * PANEL + GROUP * LANES);
      const uint16_t* both = (const uint16_t*)group + n * 2;
      int value = group[4 * PANEL + k % GROUP * LANES + n % LANES] >> (n < LANES ? 0 : 4) & 15;
      to[k] = value * from_bf16(both[0]) + from_bf16(both[1]);
    }
  }
}

// ---- products ----------------------------------------------------------------------------------

template <int FORMAT, int ROWS>
static inline void add_steps(const float* x, const uint8_t* panel, int64_t steps, V (&sum)[ROWS][2],
                             const V (&scale)[2], const V (&start)[2]) {
  for (int64_t k = 0; k < steps; k++, x += ROWS, panel += step_bytes(FORMAT)) {
    V low, high;
    if constexpr (FORMAT == FP32) {
      low = load((const float*)panel), high = load((const float*)panel + LANES);
    } else if constexpr (FORMAT == BF16) {
      widen_bf16(panel, low, high);
    } else if constexpr (FORMAT == INT8) {
      low = __builtin_convertvector(widen_signed(panel), V);
      high = __builtin_convertvector(widen_signed(panel + LANES), V);
    } else {
      I both = widen_unsigned(panel);
      low = __builtin_convertvector(both & 15, V) * scale[0] + start[0];
      high = __builtin_convertvector(both >> 4, V) * scale[1] + start[1];
    }
    for (int r = 0; r < ROWS; r++) {
      sum[r][0] += low * x[r];
      sum[r][1] += high * x[r];
    }
  }
}

template <int FORMAT, int ROWS>
static void multiply(const Op& op, int64_t panel, const float* x, float* out) {
  const Matrix& m = op.matrix;
  const uint8_t* data = m.data + panel * panel_bytes(FORMAT, m.columns);
  V sum[ROWS][2] = {}, scale[2] = {}, start[2] = {};
  if constexpr (FORMAT == INT4) {
    for (int64_t k = 0; k < m.columns; k += GROUP) {
      widen_bf16(data, scale[0], start[0]);
      widen_bf16(data + BYTES, scale[1], start[1]);
      int64_t steps = k + GROUP < m.columns ? GROUP : m.columns - k;
      add_steps<FORMAT, ROWS>(x + k * ROWS, data + 2 * BYTES, steps, sum, scale, start);
      data += 2 * BYTES + GROUP * LANES;
    }
  } else {
    add_steps<FORMAT, ROWS>(x, data, m.columns, sum, scale, start);
  }
  for (int half = 0; half < 2; half++) {
    int64_t n = panel * PANEL + half * LANES, left = m.rows - n;
    if (left <= 0) return;
    size_t bytes = left < LANES ? left * 4 : BYTES;
    V scales = splat(1), bias = {}, before = {};
    if (FORMAT == INT8) memcpy(&scales, m.scales + n, bytes);
    if (op.bias) memcpy(&bias, op.bias + n, bytes);
    for (int r = 0; r < ROWS; r++) {
      float* to = out + r * m.rows + n;
      V y = (sum[r][half] * scales + bias) * op.scale;
      if (op.add) memcpy(&before, to, bytes), y += before;
      memcpy(to, &y, bytes);
    }
  }
}

using Multiply = void (*)(const Op&, int64_t, const float*, float*);
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

// out (+)= scale · (in · matrixᵀ + bias). Up to MOST_ROWS rows go through a panel at once, packed k
// by k, so that one pointer walks through them and no two of them meet in a set of the cache. Blocks
// of rows run inside panels: the panel stays in the second cache level, and memory gives it once.
static void linear(const Op& op, const Batch& b, Thread t, int64_t rows) {
  const Matrix& m = op.matrix;
  int64_t blocks = (rows + MOST_ROWS - 1) / MOST_ROWS;
  auto first = [&](int64_t block) { return rows * block / blocks; };
  if (rows > 1) {
    for (int64_t block = 0; block < blocks; block++) {
      int64_t from = first(block), count = first(block + 1) - from;
      for (int64_t k = t.begin(m.columns); k < t.end(m.columns); k++)
        for (int64_t r = 0; r < count; r++)
          b.packed[from * m.columns + k * count + r] = op.input[(from + r) * m.columns + k];
    }
#pragma omp barrier
  }
  const float* x = rows > 1 ? b.packed : op.input;
  int64_t panels = (m.rows + PANEL - 1) / PANEL;
  for (int64_t panel = t.begin(panels); panel < t.end(panels); panel++)
    for (int64_t block = 0; block < blocks; block++) {
      int64_t from = first(block), count = first(block + 1) - from;
      multiply_of(m.format, count)(op, panel, x + from * m.columns, op.out + from * m.rows);
    }
}

// ---- row by row --------------------------------------------------------------------------------

static float total(V x) {
  float sum = 0;
  for (int i = 0; i < LANES; i++) sum += x[i];
  return sum;
}

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

static int64_t padded(int64_t width) { return (width + LANES - 1) / LANES * LANES; }

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
    return op.values + block + (head * op.block_size + tile) * padded(op.head_dim);
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
    float* to = place.values(head) + position % TILE * padded(dim);
    for (int64_t i = 0; i < padded(dim); i++) to[i] = i < dim ? value[i] : 0;
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
  int64_t dim = op.head_dim, wide = padded(dim), oldest = queries[0].oldest, newest = 0;
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
    Query queries[MOST_QUERIES > 16 ? MOST_QUERIES : 16];
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

int64_t bytes_of(int format, int64_t rows, int64_t columns) {
  return (rows + PANEL - 1) / PANEL * panel_bytes(format, columns);
}

int64_t padded_width(int64_t width) { return padded(width); }

void pack(int format, const float* from, int64_t rows, int64_t columns, uint8_t* to, float* scales,
          int threads) {
#pragma omp parallel for num_threads(threads)
  for (int64_t panel = 0; panel < (rows + PANEL - 1) / PANEL; panel++) {
    int64_t first = panel * PANEL, count = rows - first < PANEL ? rows - first : PANEL;
    pack_panel(format, from + first * columns, count, columns,
               to + panel * panel_bytes(format, columns), scales ? scales + first : nullptr);
  }
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
