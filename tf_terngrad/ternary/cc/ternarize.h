// Stochastic ternarization with a counter-based generator: a digit depends on the key and its element's index alone.

#ifndef TF_TERNGRAD_TERNARY_CC_TERNARIZE_H_
#define TF_TERNGRAD_TERNARY_CC_TERNARIZE_H_

#include <cstdint>

namespace terngrad {

// The generator's key, mixed from any number of seeds.
class Key {
 public:
  Key(const int64_t* seeds, int64_t count);
  // The key of the elements whose index has these upper 32 bits.
  Key Upper(uint64_t upper) const;

  uint32_t start() const { return static_cast<uint32_t>(state_ >> 32); }
  uint32_t step() const { return static_cast<uint32_t>(state_) | 1; }

 private:
  void Mix(uint64_t value);
  uint64_t state_ = 0;
};

// The random bits of `count` elements from index `start` on; the upper ones are the best.
void RandomBits(uint64_t start, int64_t count, Key key, uint32_t* bits);

// digit = floor(x + u), x = g / scale * levels with |g| clipped at the threshold, u uniform in [0, 1): the same as
// sign(x) (floor(|x|) + [u < frac(|x|)]) in distribution, and |digit| <= levels. With a scale that is 0, subnormal,
// infinite or NaN all digits are 0. `start` is the first element's index.
void Ternarize(const float* gradient, int64_t count, uint64_t start, Key key, float threshold, float scale, int levels,
               int8_t* digits);

}  // namespace terngrad

#endif  // TF_TERNGRAD_TERNARY_CC_TERNARIZE_H_
