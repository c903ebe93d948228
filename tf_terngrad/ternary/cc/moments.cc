#include "moments.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>

#include "simd.h"

namespace terngrad {
namespace {

constexpr int kLanes = 64;

TERNGRAD_INLINE uint32_t Magnitude(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits & 0x7fffffffu;
}

}  // namespace

void Moments::Add(const Moments& other) {
  sum += other.sum;
  squares += other.squares;
  largest = std::max(largest, other.largest);
}

TERNGRAD_SIMD Moments MomentsOf(const float* values, int64_t count) {
  double sum[kLanes] = {};
  double squares[kLanes] = {};
  uint32_t largest[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const double x = values[i + lane];
      const uint32_t magnitude = Magnitude(values[i + lane]);
      sum[lane] += x;
      squares[lane] += x * x;
      largest[lane] = magnitude > largest[lane] ? magnitude : largest[lane];
    }
  }
  Moments all;
  for (int lane = 0; lane < kLanes; ++lane) all.Add({sum[lane], squares[lane], largest[lane]});
  for (; i < count; ++i) {
    const double x = values[i];
    all.Add({x, x * x, Magnitude(values[i])});
  }
  return all;
}

Range RangeOf(const Moments& moments, int64_t count, float clip) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  float largest;
  std::memcpy(&largest, &moments.largest, sizeof(largest));
  if (!(largest <= FLT_MAX)) return {kInfinity, kInfinity};
  // Processors may read subnormal numbers as 0, so they are 0 everywhere.
  if (largest < FLT_MIN) largest = 0;
  if (!(clip <= FLT_MAX)) return {kInfinity, largest};
  const double mean = count ? moments.sum / count : 0;
  const double variance = count ? moments.squares / count - mean * mean : 0;
  // Not below the mean: values that hardly differ have no outliers, and would be clipped away.
  const float threshold = std::max(clip * std::sqrt(std::max(variance, 0.0)), std::abs(mean));
  return {threshold, std::min(threshold, largest)};
}

}  // namespace terngrad
