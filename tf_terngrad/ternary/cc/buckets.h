// Buckets: consecutive elements that share a threshold and a scale.

#ifndef TF_TERNGRAD_TERNARY_CC_BUCKETS_H_
#define TF_TERNGRAD_TERNARY_CC_BUCKETS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

namespace terngrad {

class Buckets {
 public:
  Buckets() = default;
  // None of the lengths is negative.
  Buckets(const int64_t* lengths, int64_t count) : ends_(count) {
    int64_t end = 0;
    for (int64_t i = 0; i < count; ++i) ends_[i] = end += lengths[i];
  }

  int64_t count() const { return ends_.size(); }
  int64_t size() const { return ends_.empty() ? 0 : ends_.back(); }
  int64_t length(int64_t bucket) const { return ends_[bucket] - (bucket ? ends_[bucket - 1] : 0); }

  // Calls visit(bucket, from, to) for what each bucket has of the elements begin, ..., end - 1.
  template <class Visit>
  void Each(int64_t begin, int64_t end, Visit visit) const {
    int64_t bucket = std::upper_bound(ends_.begin(), ends_.end(), begin) - ends_.begin();
    while (begin < end) {
      const int64_t to = std::min(end, ends_[bucket]);
      if (begin < to) visit(bucket, begin, to);
      begin = to;
      ++bucket;
    }
  }

 private:
  std::vector<int64_t> ends_;
};

}  // namespace terngrad

#endif  // TF_TERNGRAD_TERNARY_CC_BUCKETS_H_
