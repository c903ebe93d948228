#include "words.h"

#include <algorithm>
#include <cstring>

#include "simd.h"

namespace terngrad {
namespace {

constexpr int kWidth = WordLayout::kWidth;
constexpr int kMostDigits = WordLayout::kMostDigits;
constexpr int kMostGroups = 5;

// Division by a number that is no power of 2, without a division; exact for every x.
class Divider {
 public:
  explicit Divider(uint64_t divisor) : divisor_(divisor), inverse_(UINT64_MAX / divisor) {}

  TERNGRAD_INLINE uint64_t Divide(uint64_t x, int32_t* remainder) const {
    const uint64_t quotient = static_cast<uint64_t>((static_cast<unsigned __int128>(x) * inverse_) >> 64);
    const uint64_t rest = x - quotient * divisor_;
    const bool one_less = rest >= divisor_;
    *remainder = static_cast<int32_t>(one_less ? rest - divisor_ : rest);
    return quotient + one_less;
  }

 private:
  uint64_t divisor_, inverse_;
};

TERNGRAD_INLINE void PackBlock(const int32_t* digits, int stride, const WordLayout& layout, int64_t* words) {
  uint64_t packed[kWidth] = {};
  for (int group = layout.groups - 1; group >= 0; --group) {
    const int first = group * layout.group, end = std::min(first + layout.group, layout.digits);
    int32_t part[kWidth] = {};
    for (int digit = end - 1; digit >= first; --digit) {
      for (int j = 0; j < stride; ++j) part[j] = part[j] * layout.base + digits[digit * stride + j];
    }
    for (int j = 0; j < stride; ++j) packed[j] = packed[j] * layout.power + static_cast<int64_t>(part[j]);
  }
  std::memcpy(words, packed, stride * sizeof(int64_t));
}

// Every word as its groups of digits, each a number below base^group. False if a word is out of range.
TERNGRAD_INLINE bool Split(const int64_t* words, int stride, const WordLayout& layout, const Divider& by_power,
                           float (*groups)[kWidth]) {
  bool in_range = true;
  for (int j = 0; j < stride; ++j) {
    uint64_t left = static_cast<uint64_t>(words[j]) + layout.bias;
    in_range &= left <= 2 * layout.bias;
    for (int group = 0; group < layout.groups - 1; ++group) {
      int32_t number;
      left = by_power.Divide(left, &number);
      groups[group][j] = number;
    }
    groups[layout.groups - 1][j] = static_cast<int32_t>(left);
  }
  return in_range;
}

// floor((x + 1/2) / base^i) in float32 is exact for integers x < 2^22: the two roundings are off by less than
// (1/2) / base^i. All quotients come from x itself, so that none waits for another.
TERNGRAD_INLINE bool UnpackBlock(const int64_t* words, int stride, const WordLayout& layout, const Divider& by_power,
                                 int32_t* digits) {
  float groups[kMostGroups][kWidth] = {};
  const bool in_range = Split(words, stride, layout, by_power, groups);
  const float base = layout.base, most = layout.most;
  for (int group = 0; group < layout.groups; ++group) {
    const int first = group * layout.group, end = std::min(first + layout.group, layout.digits);
    const float* x = groups[group];
    float quotient[kWidth];
    std::memcpy(quotient, x, sizeof(quotient));
    for (int digit = first; digit < end; ++digit) {
      const float inverse = layout.inverses[digit - first + 1];
      for (int j = 0; j < stride; ++j) {
        const float next = static_cast<int32_t>((x[j] + 0.5f) * inverse);
        digits[digit * stride + j] = static_cast<int32_t>(quotient[j] - next * base - most);
        quotient[j] = next;
      }
    }
  }
  return in_range;
}

TERNGRAD_SIMD void PackBlocks(const int32_t* digits, int64_t blocks, const WordLayout& layout, int64_t* words) {
  for (int64_t i = 0; i < blocks; ++i) PackBlock(digits + i * layout.block(), kWidth, layout, words + i * kWidth);
}

TERNGRAD_SIMD bool UnpackBlocks(const int64_t* words, int64_t blocks, const WordLayout& layout, int32_t* digits) {
  const Divider by_power(layout.power);
  bool in_range = true;
  for (int64_t i = 0; i < blocks; ++i) {
    in_range &= UnpackBlock(words + i * kWidth, kWidth, layout, by_power, digits + i * layout.block());
  }
  return in_range;
}

}  // namespace

void PackWords(const int32_t* digits, int64_t size, const WordLayout& layout, int64_t* words) {
  const int64_t blocks = size / layout.block(), rest = size % layout.block();
  PackBlocks(digits, blocks, layout, words);
  if (rest == 0) return;
  int32_t last[kMostDigits * kWidth] = {};
  std::memcpy(last, digits + blocks * layout.block(), rest * sizeof(int32_t));
  PackBlock(last, layout.outputs(rest), layout, words + blocks * kWidth);
}

int64_t UnpackWords(const int64_t* words, int64_t size, const WordLayout& layout, int32_t* digits) {
  const int64_t blocks = size / layout.block(), rest = size % layout.block();
  int32_t last[kMostDigits * kWidth];
  const int stride = layout.outputs(rest);
  bool in_range = UnpackBlocks(words, blocks, layout, digits);
  in_range &= UnpackBlock(words + blocks * kWidth, stride, layout, Divider(layout.power), last);
  if (!in_range) {
    int64_t bad = 0;
    while (static_cast<uint64_t>(words[bad]) + layout.bias <= 2 * layout.bias) ++bad;
    return bad;
  }
  if (rest == 0) return -1;
  std::memcpy(digits + blocks * layout.block(), last, rest * sizeof(int32_t));
  for (int i = rest; i < stride * layout.digits; ++i) {
    if (last[i] != 0) return blocks * kWidth + i % stride;
  }
  return -1;
}

}  // namespace terngrad
