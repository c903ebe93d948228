// Where each digit lies in the packed bytes and words.
//
// Digits are packed in blocks of `digits * width`: output j of a block holds d[j], d[j + width], d[j + 2 width], ...,
// so that neighbouring outputs are neighbouring lanes. The last, partial block of r digits has stride
// ceil(r / digits) in place of `width` and is padded with digit 0.

#ifndef TF_TERNGRAD_TERNARY_CC_LAYOUT_H_
#define TF_TERNGRAD_TERNARY_CC_LAYOUT_H_

#include <cstdint>

namespace terngrad {

// The largest digit that an int8 holds.
constexpr int kMaxLevels = 127;
// A group of digits is a number below this, so that float32 divides it exactly (words.cc).
constexpr uint64_t kGroupLimit = uint64_t{1} << 22;
// The largest sum of digits, N * L: its base must not be above the limit of a group.
constexpr int64_t kMaxSum = (int64_t{1} << 21) - 1;

struct Layout {
  int digits;  // in one output
  int width;   // outputs in a block

  int64_t block() const { return int64_t{digits} * width; }

  // Outputs that hold `size` digits.
  int64_t outputs(int64_t size) const {
    return size / block() * width + (size % block() + digits - 1) / digits;
  }
};

// Bytes: sum (d_i + L) (2L+1)^i.
struct ByteLayout : Layout {
  static constexpr int kWidth = 64;
  int levels;
  uint16_t base;
  uint8_t limit;  // the largest byte that digits give

  explicit ByteLayout(int levels_) : levels(levels_), base(2 * levels_ + 1) {
    width = kWidth;
    digits = 0;
    int power = 1;
    for (; power * base <= 256; power *= base) ++digits;
    limit = power - 1;
  }
};

// Words: sum d_i (2M+1)^i, where M is the largest sum of digits, N * L. They are taken apart group by group of digits.
struct WordLayout : Layout {
  static constexpr int kWidth = 8;
  static constexpr int kMostDigits = 40;
  int32_t most;                  // M
  int32_t base;                  // 2M + 1
  uint64_t bias;                 // the largest word, (base^digits - 1) / 2
  int group;                     // digits in a group
  int groups;                    // in a word; the last one may hold fewer digits
  uint64_t power;                // base^group
  float inverses[kMostDigits];   // 1, 1 / base, ..., 1 / base^group

  explicit WordLayout(int64_t most_) : most(most_), base(2 * most_ + 1), group(0), power(1) {
    width = kWidth;
    digits = 0;
    uint64_t all = 1;
    for (; all <= UINT64_MAX / base; all *= base) ++digits;
    bias = (all - 1) / 2;
    inverses[0] = 1;
    for (; power * base <= kGroupLimit; inverses[group] = 1 / static_cast<float>(power)) {
      power *= base;
      ++group;
    }
    groups = (digits + group - 1) / group;
  }
};

}  // namespace terngrad

#endif  // TF_TERNGRAD_TERNARY_CC_LAYOUT_H_
