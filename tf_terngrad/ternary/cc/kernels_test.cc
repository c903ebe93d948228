// Tests of the kernels against plain references. Prints a checksum of all that the kernels gave, which must be the same
// for every instruction set that they are compiled for; fails with a line for each law that does not hold.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "buckets.h"
#include "bytes.h"
#include "digits.h"
#include "floats.h"
#include "huffman.h"
#include "moments.h"
#include "ternarize.h"
#include "words.h"

using namespace terngrad;

namespace {

constexpr int kLongest = 2000;
const float kInfinity = std::numeric_limits<float>::infinity();
const float kNaN = std::numeric_limits<float>::quiet_NaN();

int failures = 0;
uint64_t checksum = 14695981039346656037u;

#define CHECK(law)                                                       \
  do {                                                                   \
    if (!(law) && ++failures < 20) std::printf("%d: %s\n", __LINE__, #law); \
  } while (false)

template <class T>
void Record(const std::vector<T>& values) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  for (size_t i = 0; i < values.size() * sizeof(T); ++i) checksum = (checksum ^ bytes[i]) * 1099511628211u;
}

std::mt19937_64 engine(1);

template <class T>
std::vector<T> RandomDigits(int64_t size, int32_t most) {
  std::vector<T> digits(size);
  for (T& digit : digits) digit = static_cast<T>(static_cast<int64_t>(engine() % (2 * most + 1)) - most);
  return digits;
}

std::vector<float> RandomFloats(int64_t size) {
  std::normal_distribution<float> normal;
  std::vector<float> values(size);
  for (float& value : values) value = normal(engine);
  return values;
}

Key KeyOf(std::vector<int64_t> seeds) { return Key(seeds.data(), seeds.size()); }

// Output and power of the digit at an index, as layout.h tells.
std::pair<int64_t, int> PlaceOf(int64_t index, int64_t size, const Layout& layout) {
  const int64_t block = index / layout.block(), left = size - block * layout.block();
  const int64_t stride = left >= layout.block() ? layout.width : (left + layout.digits - 1) / layout.digits;
  const int64_t offset = index % layout.block();
  return {block * layout.width + offset % stride, static_cast<int>(offset / stride)};
}

template <class D>
std::vector<uint64_t> PackedByHand(const std::vector<D>& digits, const Layout& layout, uint64_t base, uint64_t zero) {
  std::vector<uint64_t> packed(layout.outputs(digits.size()), zero);
  for (size_t i = 0; i < digits.size(); ++i) {
    const auto [output, power] = PlaceOf(i, digits.size(), layout);
    uint64_t weight = 1;
    for (int p = 0; p < power; ++p) weight *= base;
    packed[output] += weight * static_cast<uint64_t>(static_cast<int64_t>(digits[i]));
  }
  return packed;
}

// Against a list of each element's bucket, for every part of the elements.
void TestBuckets(const std::vector<int64_t>& lengths) {
  const Buckets buckets(lengths.data(), lengths.size());
  std::vector<int64_t> owners;
  for (size_t bucket = 0; bucket < lengths.size(); ++bucket) {
    owners.insert(owners.end(), lengths[bucket], bucket);
    CHECK(buckets.length(bucket) == lengths[bucket]);
  }
  const int64_t size = owners.size();
  CHECK(buckets.count() == static_cast<int64_t>(lengths.size()));
  CHECK(buckets.size() == size);
  for (int64_t begin = 0; begin <= size; ++begin) {
    for (int64_t end = begin; end <= size; ++end) {
      int64_t next = begin, last = -1;
      buckets.Each(begin, end, [&](int64_t bucket, int64_t from, int64_t to) {
        CHECK(from == next && from < to && to <= end && bucket > last);
        CHECK(std::all_of(&owners[from], &owners[from] + (to - from), [&](int64_t owner) { return owner == bucket; }));
        next = to, last = bucket;
      });
      CHECK(next == end);
    }
  }
}

void TestBytes(int levels) {
  const ByteLayout layout(levels);
  CHECK(std::pow(layout.base, layout.digits) <= 256 && std::pow(layout.base, layout.digits + 1) > 256);
  for (int size = 0; size <= kLongest; ++size) {
    const auto digits = RandomDigits<int8_t>(size, levels);
    std::vector<uint8_t> bytes(layout.outputs(size));
    PackBytes(digits.data(), size, layout, bytes.data());
    const auto expected = PackedByHand(digits, layout, layout.base, layout.limit / 2);
    CHECK(std::equal(bytes.begin(), bytes.end(), expected.begin()));
    std::vector<int8_t> back(size);
    CHECK(UnpackBytes(bytes.data(), size, layout, back.data()) == -1);
    CHECK(back == digits);
    Record(bytes);
    if (size == 0) continue;
    const int64_t bad = engine() % bytes.size();
    bytes[bad] = layout.limit + 1;
    CHECK(UnpackBytes(bytes.data(), size, layout, back.data()) == bad);
  }
}

void TestWords(int64_t most) {
  const WordLayout layout(most);
  const long double base = layout.base;
  CHECK(std::pow(base, layout.digits) < 0x1p64L && std::pow(base, layout.digits + 1) > 0x1p64L);
  for (int size = 0; size <= kLongest; ++size) {
    const auto digits = RandomDigits<int32_t>(size, most);
    std::vector<int64_t> words(layout.outputs(size));
    PackWords(digits.data(), size, layout, words.data());
    const auto expected = PackedByHand(digits, layout, layout.base, 0);
    CHECK(std::equal(words.begin(), words.end(), expected.begin(), [](int64_t a, uint64_t b) {
      return static_cast<uint64_t>(a) == b;
    }));
    std::vector<int32_t> back(size);
    CHECK(UnpackWords(words.data(), size, layout, back.data()) == -1);
    CHECK(back == digits);
    Record(words);
    if (size == 0) continue;
    const int64_t bad = engine() % words.size();
    words[bad] = static_cast<int64_t>(size % 2 ? layout.bias + 1 : ~layout.bias);
    CHECK(UnpackWords(words.data(), size, layout, back.data()) == bad);
  }
}

void TestPadding() {
  int8_t digits[7] = {};
  const ByteLayout bytes(1);
  // Seven digits in two bytes: byte 0 has digits 0, 2, 4 and 6, byte 1 has 1, 3 and 5; what follows is padding.
  uint8_t packed[2] = {121, 121};
  CHECK(UnpackBytes(packed, 7, bytes, digits) == -1);
  packed[1] += 27;
  CHECK(UnpackBytes(packed, 7, bytes, digits) == 1);
  int32_t wide[7] = {};
  int64_t words[1] = {0};
  CHECK(UnpackWords(words, 7, WordLayout(4), wide) == -1);
  words[0] = 9 * 9 * 9 * 9 * 9 * 9 * 9;
  CHECK(UnpackWords(words, 7, WordLayout(4), wide) == 0);
}

void TestSumsNeverCarry(int workers, int levels) {
  constexpr int64_t kSize = 1001;
  const WordLayout layout(workers * levels);
  for (int digit : {levels, -levels}) {
    const std::vector<int32_t> digits(kSize, digit);
    std::vector<int64_t> words(layout.outputs(kSize)), sums(words.size());
    PackWords(digits.data(), kSize, layout, words.data());
    // Any overflow here is undefined behaviour, which the compiler's own check would report.
    for (int worker = 0; worker < workers; ++worker) {
      for (size_t i = 0; i < words.size(); ++i) CHECK(!__builtin_add_overflow(sums[i], words[i], &sums[i]));
    }
    std::vector<int32_t> back(kSize);
    CHECK(UnpackWords(sums.data(), kSize, layout, back.data()) == -1);
    CHECK(back == std::vector<int32_t>(kSize, digit * workers));
  }
}

double Correlation(const std::vector<uint32_t>& a, const std::vector<uint32_t>& b, int64_t shift) {
  double sum = 0;
  for (size_t i = shift; i < a.size(); ++i) sum += (a[i] * 0x1p-32 - 0.5) * (b[i - shift] * 0x1p-32 - 0.5);
  return 12 * sum / std::sqrt(a.size() - shift);
}

// All statistics are standard normal; 5 is one in 1.7 million.
void TestGenerator() {
  constexpr int64_t kSize = 1 << 18;
  std::vector<std::vector<uint32_t>> streams;
  const std::vector<std::vector<int64_t>> seeds = {
      {0, 0},       {0, 1},       {1, 0},       {-1, 0},      {1LL << 40, 0},
      {0, 0, 0, 0}, {0, 0, 0, 1}, {0, 0, 1, 0}, {0, 1, 0, 0}, {1, 0, 0, 0}};
  for (const auto& seed : seeds) {
    std::vector<uint32_t> bits(kSize);
    RandomBits(0, kSize, KeyOf(seed), bits.data());
    Record(bits);
    streams.push_back(bits);
    std::vector<int64_t> bins(256);
    for (uint32_t value : bits) ++bins[value >> 24];
    double chi = 0;
    for (int64_t bin : bins) chi += (bin - kSize / 256.0) * (bin - kSize / 256.0) / (kSize / 256.0);
    CHECK(std::abs(chi - 255) / std::sqrt(2 * 255) < 5);
    for (int shift : {1, 2, 3, 16, 64, 320}) CHECK(std::abs(Correlation(bits, bits, shift)) < 5);
  }
  for (size_t i = 0; i < streams.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      for (int shift : {0, 1}) CHECK(std::abs(Correlation(streams[i], streams[j], shift)) < 5);
    }
  }
}

void TestGeneratorBeyond32Bits() {
  constexpr int64_t kSize = 1000;
  constexpr uint64_t kStart = (uint64_t{1} << 32) - kSize / 2;
  std::vector<uint32_t> whole(kSize), parts(kSize), early(kSize);
  RandomBits(kStart, kSize, KeyOf({1, 2}), whole.data());
  for (int64_t i = 0; i < kSize; i += 100) RandomBits(kStart + i, 100, KeyOf({1, 2}), &parts[i]);
  RandomBits(0, kSize, KeyOf({1, 2}), early.data());
  CHECK(whole == parts);
  CHECK(!std::equal(whole.begin() + kSize / 2, whole.end(), early.begin()));
}

void TestTernarize(int levels, float threshold, float scale) {
  constexpr int64_t kSize = 4099;
  auto gradient = RandomFloats(kSize);
  gradient[7] = 0;
  gradient[8] = scale;
  std::vector<int8_t> digits(kSize), parts(kSize);
  std::vector<uint32_t> bits(kSize);
  Ternarize(gradient.data(), kSize, 0, KeyOf({3}), threshold, scale, levels, digits.data());
  for (int64_t i = 0; i < kSize; i += 41) {
    Ternarize(&gradient[i], std::min<int64_t>(41, kSize - i), i, KeyOf({3}), threshold, scale, levels, &parts[i]);
  }
  CHECK(digits == parts);
  Record(digits);
  RandomBits(0, kSize, KeyOf({3}), bits.data());
  for (int64_t i = 0; i < kSize; ++i) {
    const double limit = std::min(threshold, scale);
    const double x = std::clamp<double>(gradient[i], -limit, limit) / scale * levels;
    // Float32 and fixed point round a little before u does.
    const double sum = x + bits[i] * 0x1p-32, slack = levels * 1e-6;
    CHECK(digits[i] >= std::floor(sum - slack) && digits[i] <= std::floor(sum + slack));
    CHECK(std::abs(digits[i]) <= levels);
  }
}

void TestTernarizeExtremes() {
  const std::vector<float> gradient = {kNaN, kInfinity, -kInfinity, 3e38f, -1e-44f, 0, -0.0f, 1};
  std::vector<int8_t> digits(gradient.size());
  const auto most = [&](float threshold, float scale, int levels) {
    Ternarize(gradient.data(), gradient.size(), 0, KeyOf({1}), threshold, scale, levels, digits.data());
    int largest = 0;
    for (int digit : digits) largest = std::max(largest, std::abs(digit));
    return largest;
  };
  for (float unusable : {0.0f, 1e-44f, kInfinity, kNaN, -1.0f}) CHECK(most(kInfinity, unusable, 1) == 0);
  for (float threshold : {0.0f, 1e-30f, 1.0f, kInfinity, kNaN, -1.0f}) {
    for (float scale : {2e-38f, 1.0f, 3e38f}) {
      for (int levels : {1, 2, 127}) CHECK(most(threshold, scale, levels) <= levels);
    }
  }
}

void TestMoments(int64_t size) {
  const auto values = RandomFloats(size);
  long double sum = 0, squares = 0;
  float largest = 0;
  for (float value : values) {
    sum += value;
    squares += 1.0L * value * value;
    largest = std::max(largest, std::abs(value));
  }
  const Moments moments = MomentsOf(values.data(), size);
  CHECK(std::abs(moments.sum - sum) < 1e-9 && std::abs(moments.squares - squares) < 1e-9 * (1 + squares));
  const double sigma = size ? std::sqrt(static_cast<double>(squares / size - sum / size * sum / size)) : 0;
  const Range range = RangeOf(moments, size, 1.5f);
  const double mean = size ? std::abs(static_cast<double>(sum / size)) : 0;
  const double threshold = std::max(1.5 * sigma, mean);
  CHECK(std::abs(range.threshold - threshold) <= 1e-6 * threshold);
  CHECK(range.scale == std::min(range.threshold, largest));
  const Range unclipped = RangeOf(moments, size, kInfinity);
  CHECK(unclipped.threshold == kInfinity && unclipped.scale == largest);
  Record(std::vector<double>{moments.sum, moments.squares});
  for (int64_t place : {int64_t{0}, size / 2, size - 1}) {
    for (float bad : {kNaN, -kNaN, kInfinity, -kInfinity}) {
      auto spoilt = values;
      if (size > 0) spoilt[place] = bad;
      CHECK(size == 0 || RangeOf(MomentsOf(spoilt.data(), size), size, 1.5f).scale == kInfinity);
    }
  }
}

double HalfByHand(uint16_t half) {
  const int exponent = half >> 10 & 31, mantissa = half & 1023;
  const double magnitude = exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
  return half >> 15 ? -magnitude : magnitude;
}

void TestHalves() {
  std::vector<Half> halves(1 << 16), back(halves.size());
  std::vector<float> floats(halves.size());
  for (size_t i = 0; i < halves.size(); ++i) halves[i].bits = i;
  ToFloats(halves.data(), halves.size(), floats.data());
  FromFloats(floats.data(), floats.size(), back.data());
  for (size_t i = 0; i < halves.size(); ++i) {
    const bool finite = (i & 0x7c00) != 0x7c00, nan = !finite && (i & 0x3ff);
    CHECK(nan ? std::isnan(floats[i]) : finite ? floats[i] == HalfByHand(i) : std::isinf(floats[i]));
    CHECK(nan ? (back[i].bits & 0x7fff) > 0x7c00 : back[i].bits == i);
    if (i % 0x8000 >= 0x7bff) continue;
    // Halfway to the next half, and a little off it.
    const float middle = (HalfByHand(i) + HalfByHand(i + 1)) / 2;
    const float around[3] = {std::nextafter(middle, 0.0f), middle, std::nextafter(middle, i >> 15 ? -1e9f : 1e9f)};
    Half rounded[3];
    FromFloats(around, 3, rounded);
    CHECK(rounded[0].bits == i && rounded[1].bits == i + i % 2 && rounded[2].bits == i + 1);
  }
  const float large[4] = {65519.99f, 65520.0f, -1e30f, 3e38f};
  Half rounded[4];
  FromFloats(large, 4, rounded);
  const uint16_t expected[4] = {0x7bff, 0x7c00, 0xfc00, 0x7c00};
  CHECK(std::memcmp(rounded, expected, sizeof(expected)) == 0);
}

void TestBFloat16s() {
  const float values[6] = {1.0f, -1.00390625f, 1.01171875f, 1.004f, kInfinity, kNaN};
  BFloat16 rounded[6];
  float back[6];
  FromFloats(values, 6, rounded);
  ToFloats(rounded, 6, back);
  // The second and third lie halfway and go to the even neighbour.
  CHECK(back[0] == 1.0f && back[1] == -1.0f && back[2] == 1.015625f && back[3] == 1.0078125f && back[4] == kInfinity);
  CHECK(std::isnan(back[5]));
}

void TestDigits(int64_t size) {
  const auto digits = RandomDigits<int8_t>(size, 100);
  std::vector<int32_t> wide(size), sums(size, 5);
  std::vector<float> values(size);
  Widen(digits.data(), size, wide.data());
  AddDigits(digits.data(), size, sums.data());
  Scale(wide.data(), size, 0.5f, values.data());
  AddScaled(digits.data(), size, 0.25f, values.data());
  for (int64_t i = 0; i < size; ++i) {
    CHECK(wide[i] == digits[i] && sums[i] == digits[i] + 5 && values[i] == 0.75f * digits[i]);
  }
  CHECK(FindBeyond(wide.data(), size, 100) == -1 && FindBeyond(digits.data(), size, 100) == -1);
  if (size < 3) return;
  wide[size - 2] = wide[size - 1] = -101;
  CHECK(FindBeyond(wide.data(), size, 100) == size - 2);
}

// The bits of Huffman's code, whatever its lengths: each inner node of the tree is a bit more for what is below it.
int64_t FewestBits(const int64_t* counts) {
  std::vector<int64_t> nodes;
  for (int letter = 0; letter < kLetters; ++letter) {
    if (counts[letter] > 0) nodes.push_back(counts[letter]);
  }
  int64_t bits = 0;
  while (nodes.size() > 1) {
    std::sort(nodes.rbegin(), nodes.rend());
    const int64_t both = nodes[nodes.size() - 1] + nodes[nodes.size() - 2];
    nodes.resize(nodes.size() - 2);
    nodes.push_back(both);
    bits += both;
  }
  return bits;
}

// Letters as rare as a power of 2 of what is before them, or equally frequent if it is 0.
std::vector<uint8_t> RandomLetters(int64_t size, int kinds, double steepness) {
  std::vector<uint8_t> letters(size);
  for (uint8_t& letter : letters) {
    const double uniform = (engine() >> 11) * 0x1p-53;
    letter = steepness == 0 ? uniform * kinds : std::min<double>(kinds - 1, -std::log2(1 - uniform) / steepness);
  }
  return letters;
}

void TestCodeLengths(int kinds, double steepness) {
  const auto letters = RandomLetters(100'000, kinds, steepness);
  int64_t counts[kLetters] = {};
  CountLetters(letters.data(), letters.size(), counts);
  uint8_t lengths[kLetters];
  CodeLengths(counts, lengths);
  int64_t bits = 0, space = 0;
  int longest = 0;
  for (int letter = 0; letter < kLetters; ++letter) {
    CHECK(counts[letter] == std::count(letters.begin(), letters.end(), letter));
    CHECK(counts[letter] == 0 || lengths[letter] > 0);
    bits += counts[letter] * lengths[letter];
    space += lengths[letter] ? (1 << kLongestCode) >> lengths[letter] : 0;
    longest = std::max<int>(longest, lengths[letter]);
  }
  CHECK(space == 1 << kLongestCode);
  const int64_t fewest = std::max<int64_t>(FewestBits(counts), letters.size());
  CHECK(longest < kLongestCode ? bits == fewest : longest == kLongestCode && bits < 1.02 * fewest);
}

void TestBlocks(int64_t size, int kinds, double steepness) {
  const auto letters = RandomLetters(size, kinds, steepness);
  int64_t counts[kLetters] = {};
  CountLetters(letters.data(), size, counts);
  uint8_t lengths[kLetters];
  CodeLengths(counts, lengths);
  const HuffmanEncoder encoder(lengths);
  const LaneSizes of(size);
  CHECK(of.begin(kLanes) == size);
  std::vector<uint8_t> bytes(kLanes * kLaneBytes + kSlack), back(size);
  const uint8_t* lanes[kLanes];
  uint16_t sizes[kLanes];
  int64_t end = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    lanes[lane] = &bytes[end];
    sizes[lane] = encoder.Encode(letters.data() + of.begin(lane), of[lane], &bytes[end]);
    end += sizes[lane];
  }
  // Memory that ends where the lanes do, so that a reader behind them would be seen.
  std::vector<uint8_t> tight(bytes.begin(), bytes.begin() + end);
  for (int lane = kLanes - 1; lane >= 0; --lane) lanes[lane] = tight.data() + (lanes[lane] - bytes.data());
  HuffmanDecoder decoder;
  CHECK(decoder.Init(lengths));
  CHECK(decoder.Decode(lanes, sizes, tight.data() + end, size, back.data()));
  CHECK(back == letters);
  Record(tight);
  for (int lane = 0; lane < kLanes; ++lane) {
    int64_t bits = 0;
    for (int64_t i = of.begin(lane); i < of.begin(lane + 1); ++i) bits += lengths[letters[i]];
    if (bits % 8 == 0) continue;
    uint8_t& last = tight[lanes[lane] - tight.data() + sizes[lane] - 1];
    for (int spare = bits % 8; spare < 8; ++spare) {
      last ^= 1 << spare;
      CHECK(!decoder.Decode(lanes, sizes, tight.data() + end, size, back.data()));
      last ^= 1 << spare;
    }
  }
  if (size < kLanes) return;
  ++sizes[0];
  CHECK(!decoder.Decode(lanes, sizes, tight.data() + end, size, back.data()));
  sizes[0] = kLaneBytes + 1;
  CHECK(!decoder.Decode(lanes, sizes, tight.data() + end, size, back.data()));
}

void TestIncompleteCodes() {
  HuffmanDecoder decoder;
  uint8_t lengths[kLetters] = {};
  CHECK(!decoder.Init(lengths));
  lengths[0] = 1;
  CHECK(!decoder.Init(lengths));
  lengths[255] = 1;
  CHECK(decoder.Init(lengths));
  lengths[7] = kLongestCode;
  CHECK(!decoder.Init(lengths));
  lengths[7] = kLongestCode + 1;
  CHECK(!decoder.Init(lengths));
}

}  // namespace

int main() {
  CHECK(Buckets().count() == 0 && Buckets().size() == 0);
  for (const std::vector<int64_t>& lengths : std::vector<std::vector<int64_t>>{
           {}, {0}, {1}, {7}, {0, 0, 3}, {3, 0, 0, 4}, {2, 5, 0}, {1, 1, 1, 1, 1}, {0, 4, 0, 9, 1, 0, 0}}) {
    TestBuckets(lengths);
  }
  for (int levels : {1, 2, 3, 7, 8, 127}) TestBytes(levels);
  for (int64_t most : std::vector<int64_t>{1, 2, 4, 8, 64, 1024, kMaxSum}) TestWords(most);
  TestPadding();
  for (int workers = 1; workers <= 64; ++workers) {
    for (int levels : {1, 3}) TestSumsNeverCarry(workers, levels);
  }
  TestGenerator();
  TestGeneratorBeyond32Bits();
  for (int levels : {1, 2, 7, 127}) {
    for (float threshold : {1.0f, 2.5f, kInfinity}) {
      for (float scale : {2.5f, 4.0f}) TestTernarize(levels, threshold, scale);
    }
  }
  TestTernarizeExtremes();
  for (int64_t size : {0, 1, 63, 64, 65, 5000}) TestMoments(size);
  TestHalves();
  TestBFloat16s();
  for (int64_t size : {0, 1, 7, 1000}) TestDigits(size);
  TestIncompleteCodes();
  for (int kinds : {1, 2, 3, 81, 243, 256}) {
    for (double steepness : {0.0, 0.1, 0.5, 1.0}) {
      TestCodeLengths(kinds, steepness);
      for (int64_t size : {1, 2, 3, 4, 5, 100, kBlock - 3, kBlock}) TestBlocks(size, kinds, steepness);
    }
  }
  std::printf("%d failures, checksum %016llx\n", failures, static_cast<unsigned long long>(checksum));
  return failures != 0;
}
