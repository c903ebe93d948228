#include "digits.h"

#include "simd.h"

namespace terngrad {
namespace {

template <class T>
TERNGRAD_INLINE int64_t FirstBeyond(const T* digits, int64_t count, int32_t most) {
  T beyond = 0;
  for (int64_t i = 0; i < count; ++i) beyond |= (digits[i] > most) | (digits[i] < -most);
  if (!beyond) return -1;
  int64_t bad = 0;
  while (digits[bad] <= most && digits[bad] >= -most) ++bad;
  return bad;
}

}  // namespace

TERNGRAD_SIMD void Widen(const int8_t* digits, int64_t count, int32_t* wide) {
  for (int64_t i = 0; i < count; ++i) wide[i] = digits[i];
}

TERNGRAD_SIMD void Widen(const int16_t* digits, int64_t count, int32_t* wide) {
  for (int64_t i = 0; i < count; ++i) wide[i] = digits[i];
}

TERNGRAD_SIMD void AddDigits(const int8_t* digits, int64_t count, int32_t* sums) {
  for (int64_t i = 0; i < count; ++i) sums[i] += digits[i];
}

TERNGRAD_SIMD void AddDigits(const int8_t* digits, int64_t count, int8_t* sums) {
  for (int64_t i = 0; i < count; ++i) sums[i] = static_cast<int8_t>(sums[i] + digits[i]);
}

TERNGRAD_SIMD void Scale(const int8_t* digits, int64_t count, float factor, float* values) {
  for (int64_t i = 0; i < count; ++i) values[i] = factor * digits[i];
}

TERNGRAD_SIMD void Scale(const int32_t* digits, int64_t count, float factor, float* values) {
  for (int64_t i = 0; i < count; ++i) values[i] = factor * digits[i];
}

TERNGRAD_SIMD void AddScaled(const int8_t* digits, int64_t count, float factor, float* values) {
  for (int64_t i = 0; i < count; ++i) values[i] += factor * digits[i];
}

TERNGRAD_SIMD int64_t FindBeyond(const int8_t* digits, int64_t count, int32_t most) {
  return FirstBeyond(digits, count, most);
}

TERNGRAD_SIMD int64_t FindBeyond(const int32_t* digits, int64_t count, int32_t most) {
  return FirstBeyond(digits, count, most);
}

}  // namespace terngrad
