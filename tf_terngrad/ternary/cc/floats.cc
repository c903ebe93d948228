#include "floats.h"

#include <cstring>

#include "simd.h"

namespace terngrad {
namespace {

TERNGRAD_INLINE float FloatOf(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

TERNGRAD_INLINE uint32_t BitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// No float32 here is subnormal: TensorFlow's threads have processors take those for 0.
TERNGRAD_INLINE float HalfToFloat(uint16_t half) {
  const uint32_t sign = uint32_t{half} >> 15 << 31;
  const uint32_t magnitude = half & 0x7fffu;
  const uint32_t subnormal = BitsOf(static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f);
  const uint32_t normal = (magnitude << 13) + (112u << 23);
  const uint32_t infinite = (magnitude << 13) | 0x7f800000u;
  const uint32_t finite = magnitude < 0x0400u ? subnormal : normal;
  return FloatOf(sign | (magnitude >= 0x7c00u ? infinite : finite));
}

TERNGRAD_INLINE uint16_t FloatToHalf(float value) {
  const uint32_t bits = BitsOf(value);
  const uint32_t sign = bits >> 31 << 15;
  const uint32_t magnitude = bits & 0x7fffffffu;
  // Next to 1/2 a float32's last bit weighs 2^-24, as a subnormal half's does.
  const uint32_t subnormal = BitsOf(FloatOf(magnitude) + 0.5f) - BitsOf(0.5f);
  const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t infinite = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t finite = magnitude < (113u << 23) ? subnormal : normal;
  return static_cast<uint16_t>(sign | (magnitude >= (143u << 23) ? infinite : finite));
}

TERNGRAD_INLINE uint16_t FloatToBFloat16(float value) {
  const uint32_t bits = BitsOf(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

}  // namespace

TERNGRAD_SIMD void ToFloats(const Half* values, int64_t count, float* floats) {
  for (int64_t i = 0; i < count; ++i) floats[i] = HalfToFloat(values[i].bits);
}

TERNGRAD_SIMD void ToFloats(const BFloat16* values, int64_t count, float* floats) {
  for (int64_t i = 0; i < count; ++i) floats[i] = FloatOf(uint32_t{values[i].bits} << 16);
}

TERNGRAD_SIMD void ToFloats(const double* values, int64_t count, float* floats) {
  for (int64_t i = 0; i < count; ++i) floats[i] = static_cast<float>(values[i]);
}

TERNGRAD_SIMD void FromFloats(const float* floats, int64_t count, Half* values) {
  for (int64_t i = 0; i < count; ++i) values[i].bits = FloatToHalf(floats[i]);
}

TERNGRAD_SIMD void FromFloats(const float* floats, int64_t count, BFloat16* values) {
  for (int64_t i = 0; i < count; ++i) values[i].bits = FloatToBFloat16(floats[i]);
}

TERNGRAD_SIMD void FromFloats(const float* floats, int64_t count, double* values) {
  for (int64_t i = 0; i < count; ++i) values[i] = floats[i];
}

}  // namespace terngrad
