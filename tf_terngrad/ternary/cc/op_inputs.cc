#include "op_inputs.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "absl/strings/str_cat.h"

namespace terngrad {
namespace {

using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::TensorShapeUtils;

constexpr size_t kPage = 4096;
constexpr size_t kHugePage = size_t{2} << 20;

// A large tensor's memory is new at every step, and most of the time of writing it would go into its page faults.
void AdviseHugePages(const Tensor& tensor) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (tensor.TotalBytes() < 2 * kHugePage) return;
  const uintptr_t start = reinterpret_cast<uintptr_t>(tensor.data());
  const uintptr_t from = (start + kPage - 1) / kPage * kPage;
  const uintptr_t to = (start + tensor.TotalBytes()) / kPage * kPage;
  madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);  // A hint: it may fail.
#endif
}

absl::Status CheckLevels(int levels) {
  if (levels >= 1 && levels <= kMaxLevels) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("`levels` must be from 1 to ", kMaxLevels, ". Received: levels=", levels));
}

std::string Digits(int levels) { return absl::StrCat("digits from -", levels, " to ", levels); }

}  // namespace

absl::Status LevelsOf(tensorflow::OpKernelConstruction* context, int* levels) {
  TF_RETURN_IF_ERROR(context->GetAttr("levels", levels));
  return CheckLevels(*levels);
}

absl::Status LevelsOf(const Tensor& levels, int* value) {
  if (!TensorShapeUtils::IsScalar(levels.shape())) {
    return absl::InvalidArgumentError(absl::StrCat("`levels` must be a scalar. Received: ", levels.DebugString()));
  }
  *value = levels.scalar<int32_t>()();
  return CheckLevels(*value);
}

absl::Status BucketsOf(const Tensor& lengths, int64_t size, Buckets* buckets) {
  if (!TensorShapeUtils::IsVector(lengths.shape())) {
    return absl::InvalidArgumentError(
        absl::StrCat("`lengths` must be a vector. Received: shape ", lengths.shape().DebugString()));
  }
  const auto values = lengths.vec<int64_t>();
  const int64_t most = size < 0 ? std::numeric_limits<int64_t>::max() : size;
  int64_t sum = 0;
  for (int64_t i = 0; i < values.size(); ++i) {
    if (values(i) < 0 || values(i) > most - sum) {
      return absl::InvalidArgumentError(absl::StrCat(
          "`lengths` must not be negative and must add up to ", size < 0 ? "an int64" : absl::StrCat(size, " elements"),
          ". Received: lengths[", i, "]=", values(i), " after ", sum, " elements."));
    }
    sum += values(i);
  }
  if (size >= 0 && sum != size) {
    return absl::InvalidArgumentError(
        absl::StrCat("`lengths` must add up to the gradient's ", size, " elements. Received: a sum of ", sum));
  }
  *buckets = Buckets(values.data(), values.size());
  return absl::OkStatus();
}

absl::Status SizeOf(const Tensor& size, int64_t* value) {
  if (!TensorShapeUtils::IsScalar(size.shape()) || size.scalar<int64_t>()() < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("`size` must be a scalar, 0 or more. Received: ", size.DebugString()));
  }
  *value = size.scalar<int64_t>()();
  return absl::OkStatus();
}

absl::Status WordLayoutOf(const Tensor& workers, int levels, WordLayout* layout, int64_t* value) {
  if (!TensorShapeUtils::IsScalar(workers.shape())) {
    return absl::InvalidArgumentError(absl::StrCat("`workers` must be a scalar. Received: ", workers.DebugString()));
  }
  *value = workers.scalar<int32_t>()();
  return WordLayoutOf(*value, levels, layout);
}

absl::Status WordLayoutOf(int64_t workers, int levels, WordLayout* layout) {
  const int64_t most = kMaxSum / levels;
  if (workers < 1 || workers > most) {
    return absl::InvalidArgumentError(absl::StrCat("Words hold sums of ", Digits(levels), " of 1 to ", most,
                                                   " workers. Received: workers=", workers));
  }
  *layout = WordLayout(workers * levels);
  return absl::OkStatus();
}

absl::Status CheckRows(const Tensor& bytes) {
  if (bytes.dims() == 2 && bytes.dim_size(0) > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("`bytes` must have a row for every worker. Received: shape ", bytes.shape().DebugString()));
}

absl::Status CheckShape(const char* name, const Tensor& tensor, const TensorShape& shape) {
  if (tensor.shape() == shape) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("`", name, "` must have a value for every bucket, shape ",
                                                 shape.DebugString(), ". Received: shape ",
                                                 tensor.shape().DebugString()));
}

absl::Status CheckOutputs(const char* what, int64_t count, int64_t size, const Layout& layout) {
  if (count == layout.outputs(size)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(size, " digits take ", layout.outputs(size), " ", what, ", ",
                                                 layout.digits, " in each. Received: ", count, " ", what,
                                                 ". Pass the size and the levels that they were packed with."));
}

absl::Status MalformedByte(int64_t index, int value, const ByteLayout& layout, int levels) {
  const std::string wrong = value > layout.limit
                                ? absl::StrCat("is above ", int{layout.limit}, ", the largest that ", layout.digits,
                                               " ", Digits(levels), " give")
                                : std::string("has other digits than 0 behind the last one");
  return absl::InvalidArgumentError(absl::StrCat("Malformed bytes: byte ", index, ", ", value, ", ", wrong,
                                                 ". Pass the size and the levels that they were packed with."));
}

absl::Status MalformedWord(int64_t index, int64_t value, int64_t workers, int levels) {
  return absl::InvalidArgumentError(
      absl::StrCat("Malformed words: word ", index, ", ", value, ", is out of range for sums of ", Digits(levels),
                   " of ", workers, " workers, or has other digits than 0 behind the last one. ",
                   "Pass the size, the levels and the workers that they were packed with."));
}

absl::Status Allocate(tensorflow::OpKernelContext* context, int index, const TensorShape& shape, Tensor** tensor) {
  TF_RETURN_IF_ERROR(context->allocate_output(index, shape, tensor));
  AdviseHugePages(**tensor);
  return absl::OkStatus();
}

}  // namespace terngrad
