// Operations that make digits of gradients: TerngradScale, TerngradTernarize, TerngradEncodeBytes, TerngradEncodeWords.

#include <cmath>

#include "absl/strings/str_cat.h"
#include "bytes.h"
#include "digits.h"
#include "moments.h"
#include "op_inputs.h"
#include "ternarize.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "words.h"

namespace terngrad {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

constexpr int64_t kScaleCycles = 2;
constexpr int64_t kEncodeCycles = 4;
// One piece of a bucket is summed at a time, so that the result is the same on any number of threads.
constexpr int64_t kPiece = 16384;

struct Piece {
  int64_t bucket, from, to;
  Moments moments;
};

std::vector<Piece> PiecesOf(const Buckets& buckets) {
  std::vector<Piece> pieces;
  buckets.Each(0, buckets.size(), [&](int64_t bucket, int64_t from, int64_t to) {
    for (; from < to; from += kPiece) pieces.push_back({bucket, from, std::min(to, from + kPiece), {}});
  });
  return pieces;
}

template <class T>
class ScaleOp : public OpKernel {
 public:
  explicit ScaleOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("clip", &clip_));
    OP_REQUIRES(context, clip_ > 0,
                absl::InvalidArgumentError(absl::StrCat("`clip` must be positive. Received: clip=", clip_)));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& gradient = context->input(0);
    Buckets buckets;
    OP_REQUIRES_OK(context, BucketsOf(context->input(1), gradient.NumElements(), &buckets));
    Tensor *thresholds, *scales;
    OP_REQUIRES_OK(context, Allocate(context, 0, TensorShape({buckets.count()}), &thresholds));
    OP_REQUIRES_OK(context, Allocate(context, 1, TensorShape({buckets.count()}), &scales));
    const std::vector<Moments> moments = MomentsOfBuckets(context, DataOf<T>(gradient), buckets);
    for (int64_t i = 0; i < buckets.count(); ++i) {
      const Range range = RangeOf(moments[i], buckets.length(i), clip_);
      thresholds->vec<float>()(i) = range.threshold;
      scales->vec<float>()(i) = range.scale;
    }
  }

 private:
  static std::vector<Moments> MomentsOfBuckets(OpKernelContext* context, const typename Kernel<T>::Type* gradient,
                                               const Buckets& buckets) {
    std::vector<Piece> pieces = PiecesOf(buckets);
    const int64_t cycles = kScaleCycles * buckets.size() / std::max<int64_t>(pieces.size(), 1);
    ForTiles(context, pieces.size(), 1, cycles, [&](int64_t begin, int64_t end) {
      float buffer[kPiece];
      for (Piece* piece = &pieces[begin]; piece != &pieces[0] + end; ++piece) {
        const int64_t count = piece->to - piece->from;
        piece->moments = MomentsOf(Read(gradient + piece->from, count, buffer), count);
      }
    });
    std::vector<Moments> moments(buckets.count());
    for (const Piece& piece : pieces) moments[piece.bucket].Add(piece.moments);
    return moments;
  }

  float clip_;
};

// What the encoders share: their inputs, and the digits of any range of elements.
template <class T>
class EncoderOp : public LevelsOp {
 public:
  using LevelsOp::LevelsOp;

  void Compute(OpKernelContext* context) override {
    const Tensor &gradient = context->input(0), &thresholds = context->input(2), &scales = context->input(3);
    const Tensor& seed = context->input(4);
    Buckets buckets;
    OP_REQUIRES_OK(context, BucketsOf(context->input(1), gradient.NumElements(), &buckets));
    OP_REQUIRES_OK(context, CheckShape("thresholds", thresholds, TensorShape({buckets.count()})));
    OP_REQUIRES_OK(context, CheckShape("scales", scales, TensorShape({buckets.count()})));
    OP_REQUIRES(context, seed.dims() == 1 && seed.NumElements() >= 2 && seed.NumElements() <= 4,
                absl::InvalidArgumentError(absl::StrCat("`seed` must be a vector of two to four integers. Received: ",
                                                        "shape ", seed.shape().DebugString())));
    const Key key(seed.vec<int64_t>().data(), seed.NumElements());
    const auto* values = DataOf<T>(gradient);
    const float *threshold = thresholds.vec<float>().data(), *scale = scales.vec<float>().data();
    Encode(context, gradient.shape(), [&](int64_t begin, int64_t end, int8_t* digits) {
      float buffer[kTile];
      const float* floats = Read(values + begin, end - begin, buffer);
      buckets.Each(begin, end, [&](int64_t bucket, int64_t from, int64_t to) {
        Ternarize(floats + (from - begin), to - from, from, key, threshold[bucket], scale[bucket], levels_,
                  digits + (from - begin));
      });
    });
  }

 protected:
  // Writes the digits of a range of kTile elements at most.
  using Ternarizer = std::function<void(int64_t, int64_t, int8_t*)>;
  virtual void Encode(OpKernelContext* context, const TensorShape& shape, const Ternarizer& ternarize) = 0;
};

template <class T>
class TernarizeOp : public EncoderOp<T> {
 public:
  using EncoderOp<T>::EncoderOp;

 protected:
  void Encode(OpKernelContext* context, const TensorShape& shape,
              const typename EncoderOp<T>::Ternarizer& ternarize) override {
    Tensor* output;
    OP_REQUIRES_OK(context, Allocate(context, 0, shape, &output));
    int8_t* digits = output->flat<int8_t>().data();
    ForTiles(context, shape.num_elements(), kTile, kEncodeCycles,
             [&](int64_t begin, int64_t end) { ternarize(begin, end, digits + begin); });
  }
};

template <class T>
class EncodeBytesOp : public EncoderOp<T> {
 public:
  using EncoderOp<T>::EncoderOp;

 protected:
  void Encode(OpKernelContext* context, const TensorShape& shape,
              const typename EncoderOp<T>::Ternarizer& ternarize) override {
    const ByteLayout layout(this->levels_);
    const int64_t size = shape.num_elements();
    Tensor* output;
    OP_REQUIRES_OK(context, Allocate(context, 0, TensorShape({layout.outputs(size)}), &output));
    uint8_t* bytes = output->flat<uint8_t>().data();
    ForTiles(context, size, TileOf(layout.block()), kEncodeCycles, [&](int64_t begin, int64_t end) {
      int8_t digits[kTile];
      ternarize(begin, end, digits);
      PackBytes(digits, end - begin, layout, bytes + layout.outputs(begin));
    });
  }
};

template <class T>
class EncodeWordsOp : public EncoderOp<T> {
 public:
  using EncoderOp<T>::EncoderOp;

 protected:
  void Encode(OpKernelContext* context, const TensorShape& shape,
              const typename EncoderOp<T>::Ternarizer& ternarize) override {
    WordLayout layout(1);
    int64_t workers;
    OP_REQUIRES_OK(context, WordLayoutOf(context->input(5), this->levels_, &layout, &workers));
    const int64_t size = shape.num_elements();
    Tensor* output;
    OP_REQUIRES_OK(context, Allocate(context, 0, TensorShape({layout.outputs(size)}), &output));
    int64_t* words = output->flat<int64_t>().data();
    ForTiles(context, size, TileOf(layout.block()), kEncodeCycles, [&](int64_t begin, int64_t end) {
      int8_t digits[kTile];
      int32_t wide[kTile];
      ternarize(begin, end, digits);
      Widen(digits, end - begin, wide);
      PackWords(wide, end - begin, layout, words + layout.outputs(begin));
    });
  }
};

#define REGISTER(T)                                                                                             \
  REGISTER_KERNEL_BUILDER(Name("TerngradScale").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), ScaleOp<T>); \
  REGISTER_KERNEL_BUILDER(Name("TerngradTernarize").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"),      \
                          TernarizeOp<T>);                                                                      \
  REGISTER_KERNEL_BUILDER(Name("TerngradEncodeBytes").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"),    \
                          EncodeBytesOp<T>);                                                                    \
  REGISTER_KERNEL_BUILDER(Name("TerngradEncodeWords").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"),    \
                          EncodeWordsOp<T>);
REGISTER(float)
REGISTER(double)
REGISTER(Eigen::half)
REGISTER(Eigen::bfloat16)
#undef REGISTER

absl::Status ScaleShape(InferenceContext* context) {
  ShapeHandle lengths;
  TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 1, &lengths));
  context->set_output(0, lengths);
  context->set_output(1, lengths);
  return absl::OkStatus();
}

// As many bytes as digits take, where their number is known.
absl::Status BytesShape(InferenceContext* context) {
  int levels;
  TF_RETURN_IF_ERROR(context->GetAttr("levels", &levels));
  const auto size = context->NumElements(context->input(0));
  const bool known = context->ValueKnown(size) && levels >= 1 && levels <= kMaxLevels;
  context->set_output(0, context->Vector(known ? context->MakeDim(ByteLayout(levels).outputs(context->Value(size)))
                                               : context->UnknownDim()));
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("TerngradScale")
    .Attr("T: {float, double, half, bfloat16}")
    .Attr("clip: float")
    .Input("gradient: T")
    .Input("lengths: int64")
    .Output("thresholds: float")
    .Output("scales: float")
    .SetShapeFn(ScaleShape);

REGISTER_OP("TerngradTernarize")
    .Attr("T: {float, double, half, bfloat16}")
    .Attr("levels: int >= 1 = 1")
    .Input("gradient: T")
    .Input("lengths: int64")
    .Input("thresholds: float")
    .Input("scales: float")
    .Input("seed: int64")
    .Output("digits: int8")
    .SetShapeFn([](InferenceContext* context) {
      context->set_output(0, context->input(0));
      return absl::OkStatus();
    });

REGISTER_OP("TerngradEncodeBytes")
    .Attr("T: {float, double, half, bfloat16}")
    .Attr("levels: int >= 1 = 1")
    .Input("gradient: T")
    .Input("lengths: int64")
    .Input("thresholds: float")
    .Input("scales: float")
    .Input("seed: int64")
    .Output("bytes: uint8")
    .SetShapeFn(BytesShape);

REGISTER_OP("TerngradEncodeWords")
    .Attr("T: {float, double, half, bfloat16}")
    .Attr("levels: int >= 1 = 1")
    .Input("gradient: T")
    .Input("lengths: int64")
    .Input("thresholds: float")
    .Input("scales: float")
    .Input("seed: int64")
    .Input("workers: int32")
    .Output("words: int64")
    .SetShapeFn([](InferenceContext* context) {
      context->set_output(0, context->Vector(context->UnknownDim()));
      return absl::OkStatus();
    });

}  // namespace terngrad
