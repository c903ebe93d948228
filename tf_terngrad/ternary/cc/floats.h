// Any float type as float32 and back, rounded to nearest even. float32 itself is used where it lies.

#ifndef TF_TERNGRAD_TERNARY_CC_FLOATS_H_
#define TF_TERNGRAD_TERNARY_CC_FLOATS_H_

#include <cstdint>

namespace terngrad {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

void ToFloats(const Half* values, int64_t count, float* floats);
void ToFloats(const BFloat16* values, int64_t count, float* floats);
void ToFloats(const double* values, int64_t count, float* floats);

void FromFloats(const float* floats, int64_t count, Half* values);
void FromFloats(const float* floats, int64_t count, BFloat16* values);
void FromFloats(const float* floats, int64_t count, double* values);

// The values as float32: in `buffer`, or where they are.
template <class T>
const float* Read(const T* values, int64_t count, float* buffer) {
  ToFloats(values, count, buffer);
  return buffer;
}
inline const float* Read(const float* values, int64_t, float*) { return values; }

// Where to write float32 that `Flush` brings to `values`.
template <class T>
float* Target(T*, float* buffer) {
  return buffer;
}
inline float* Target(float* values, float*) { return values; }

template <class T>
void Flush(const float* buffer, int64_t count, T* values) {
  FromFloats(buffer, count, values);
}
inline void Flush(const float*, int64_t, float*) {}

}  // namespace terngrad

#endif  // TF_TERNGRAD_TERNARY_CC_FLOATS_H_
