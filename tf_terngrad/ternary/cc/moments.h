// The statistics of a gradient that its threshold and scale come from, in one pass.

#ifndef TF_TERNGRAD_TERNARY_CC_MOMENTS_H_
#define TF_TERNGRAD_TERNARY_CC_MOMENTS_H_

#include <cstdint>

namespace terngrad {

struct Moments {
  double sum = 0;
  double squares = 0;
  uint32_t largest = 0;  // bits of max|x|, above those of infinity where there is a NaN

  void Add(const Moments& other);
};

// Adds in the same order whatever the instruction set.
Moments MomentsOf(const float* values, int64_t count);

// t = max(clip * sigma, |mean|) and min(t, max|x|). An infinite clip does not clip. A NaN or an infinity among the values
// gives the scale infinity.
struct Range {
  float threshold;
  float scale;
};
Range RangeOf(const Moments& moments, int64_t count, float clip);

}  // namespace terngrad

#endif  // TF_TERNGRAD_TERNARY_CC_MOMENTS_H_
