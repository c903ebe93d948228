#include "ternarize.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "simd.h"

namespace terngrad {
namespace {

// lowbias32 (Wellons, 2018) of a Weyl sequence, whose start and step both come from the key: no two keys' streams are
// shifts of one another. Its last xor-shift, which mends only lower bits, is left out.
TERNGRAD_INLINE uint32_t Random(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  return x * 0x846ca68bu;
}

// What one run of elements shares.
struct Rounding {
  float limit;    // |g| is clipped here
  float inverse;  // of what one digit stands for, times a power of two that keeps it from vanishing
  float one;      // of the fixed point that digits are rounded in, divided by that power
  int shift;      // its fraction bits

  Rounding(float threshold, float scale, int levels) : limit(0), inverse(0), shift(24) {
    while ((int64_t{levels} + 1) << (shift + 1) <= int64_t{1} << 31) ++shift;
    const float power = scale > 0x1p100f ? 0x1p-60f : 1.0f;
    one = power * static_cast<float>(int32_t{1} << shift);
    if (!(scale >= FLT_MIN && scale <= FLT_MAX && levels / (scale * power) <= FLT_MAX)) return;
    inverse = levels / (scale * power);
    limit = threshold < scale ? std::max(threshold, 0.0f) : scale;
    while (limit * inverse * power > levels) limit = std::nextafter(limit, 0.0f);
  }
};

// Calls visit(offset, count, key) for the runs of indices that share their upper 32 bits.
template <class Visit>
void EachRun(uint64_t start, int64_t count, Key key, Visit visit) {
  for (int64_t done = 0; done < count;) {
    const uint64_t upper = (start + done) >> 32;
    const int64_t run = std::min<int64_t>(count - done, ((upper + 1) << 32) - (start + done));
    const Key here = key.Upper(upper);
    visit(done, run, here.start() + static_cast<uint32_t>(start + done) * here.step(), here.step());
    done += run;
  }
}

TERNGRAD_SIMD void RandomRun(int64_t count, uint32_t x, uint32_t step, uint32_t* bits) {
  for (int64_t i = 0; i < count; ++i, x += step) bits[i] = Random(x);
}

TERNGRAD_SIMD void TernarizeRun(const float* gradient, int64_t count, uint32_t x, uint32_t step, Rounding rounding,
                                int8_t* digits) {
  const float limit = rounding.limit, inverse = rounding.inverse, one = rounding.one;
  const int shift = rounding.shift;
  for (int64_t i = 0; i < count; ++i, x += step) {
    const int32_t random = static_cast<int32_t>(Random(x) >> (32 - shift));
    float g = gradient[i];
    g = g > -limit ? g : -limit;
    g = g < limit ? g : limit;
    digits[i] = static_cast<int8_t>((static_cast<int32_t>(g * inverse * one) + random) >> shift);
  }
}

}  // namespace

Key::Key(const int64_t* seeds, int64_t count) {
  for (int64_t i = 0; i < count; ++i) Mix(static_cast<uint64_t>(seeds[i]));
}

Key Key::Upper(uint64_t upper) const {
  Key key = *this;
  if (upper != 0) key.Mix(upper);
  return key;
}

// SplitMix64 (Steele, Lea and Flood, 2014).
void Key::Mix(uint64_t value) {
  uint64_t x = (state_ ^ value) + 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  state_ = x ^ (x >> 31);
}

void RandomBits(uint64_t start, int64_t count, Key key, uint32_t* bits) {
  EachRun(start, count, key, [&](int64_t offset, int64_t run, uint32_t x, uint32_t step) {
    RandomRun(run, x, step, bits + offset);
  });
}

void Ternarize(const float* gradient, int64_t count, uint64_t start, Key key, float threshold, float scale, int levels,
               int8_t* digits) {
  const Rounding rounding(threshold, scale, levels);
  EachRun(start, count, key, [&](int64_t offset, int64_t run, uint32_t x, uint32_t step) {
    TernarizeRun(gradient + offset, run, x, step, rounding, digits + offset);
  });
}

}  // namespace terngrad
