// What the operations share: checked inputs, outputs, and work in tiles over the device's threads.

#ifndef TF_TERNGRAD_TERNARY_CC_OP_INPUTS_H_
#define TF_TERNGRAD_TERNARY_CC_OP_INPUTS_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>

#include "buckets.h"
#include "floats.h"
#include "layout.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/register_types.h"
#include "tensorflow/core/util/work_sharder.h"

namespace terngrad {

// Kernels work on so many elements at most before they write them out: the digits in between stay in the cache.
constexpr int64_t kTile = 2560;
// Bytes and words have a common tile of lcm(64 * 5, 8 * 39) digits at most.
constexpr int64_t kMostTile = 12800;

// TensorFlow's types as the kernels know them.
template <class T>
struct Kernel {
  using Type = T;
};
template <>
struct Kernel<Eigen::half> {
  using Type = Half;
};
template <>
struct Kernel<Eigen::bfloat16> {
  using Type = BFloat16;
};

template <class T>
const typename Kernel<T>::Type* DataOf(const tensorflow::Tensor& tensor) {
  return reinterpret_cast<const typename Kernel<T>::Type*>(tensor.flat<T>().data());
}
template <class T>
typename Kernel<T>::Type* DataOf(tensorflow::Tensor* tensor) {
  return reinterpret_cast<typename Kernel<T>::Type*>(tensor->flat<T>().data());
}

// The attribute or the input `levels`, checked.
absl::Status LevelsOf(tensorflow::OpKernelConstruction* context, int* levels);
absl::Status LevelsOf(const tensorflow::Tensor& levels, int* value);

// An operation with the attribute `levels`.
class LevelsOp : public tensorflow::OpKernel {
 public:
  explicit LevelsOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, LevelsOf(context, &levels_));
  }

 protected:
  int levels_;
};

// The buckets of `size` elements; with size -1, of as many as the lengths add up to.
absl::Status BucketsOf(const tensorflow::Tensor& lengths, int64_t size, Buckets* buckets);

absl::Status SizeOf(const tensorflow::Tensor& size, int64_t* value);

// The layout of words for so many workers.
absl::Status WordLayoutOf(const tensorflow::Tensor& workers, int levels, WordLayout* layout, int64_t* value);
absl::Status WordLayoutOf(int64_t workers, int levels, WordLayout* layout);

// That bytes come as a matrix, a row for every worker.
absl::Status CheckRows(const tensorflow::Tensor& bytes);

// That a float input has the wanted shape.
absl::Status CheckShape(const char* name, const tensorflow::Tensor& tensor, const tensorflow::TensorShape& shape);

// That `what`, "bytes" or "words", are as many as the digits take.
absl::Status CheckOutputs(const char* what, int64_t count, int64_t size, const Layout& layout);

absl::Status MalformedByte(int64_t index, int value, const ByteLayout& layout, int levels);
absl::Status MalformedWord(int64_t index, int64_t value, int64_t workers, int levels);

// An output to be written once, from its beginning to its end.
absl::Status Allocate(tensorflow::OpKernelContext* context, int index, const tensorflow::TensorShape& shape,
                      tensorflow::Tensor** tensor);

// The first of what is wrong, whichever thread sees it first.
class Fault {
 public:
  void Note(int64_t index) {
    int64_t seen = first_.load();
    while (index < seen && !first_.compare_exchange_weak(seen, index)) {
    }
  }
  bool found() const { return first_.load() != kNone; }
  int64_t index() const { return first_.load(); }

 private:
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  std::atomic<int64_t> first_{kNone};
};

// The largest multiple of `block` that is a tile.
inline int64_t TileOf(int64_t block) { return std::max(kTile / block, int64_t{1}) * block; }

// Calls work(begin, end) for every tile of `size` elements, on the device's threads.
template <class Work>
void ForTiles(tensorflow::OpKernelContext* context, int64_t size, int64_t tile, int64_t cycles_per_element, Work work) {
  const auto& threads = *context->device()->tensorflow_cpu_worker_threads();
  tensorflow::Shard(threads.num_threads, threads.workers, (size + tile - 1) / tile, tile * cycles_per_element,
                    [&](int64_t first, int64_t last) {
                      for (int64_t i = first; i < last; ++i) work(i * tile, std::min(size, (i + 1) * tile));
                    });
}

}  // namespace terngrad

#endif  // TF_TERNGRAD_TERNARY_CC_OP_INPUTS_H_
