#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "nn/plan/tensor.h"

namespace dcs3gd::nn {

/// The unit that a program executes: one primitive or kernel over a range of images. Everything is decided before the
/// first run; a run allocates nothing.
class Operation {
 public:
  /// `name`: the layer and what is done, "layer1.0.conv1 backward data"; `kind`: the row it is timed under.
  Operation(std::string name, std::string kind, std::vector<Tensor*> tensors)
      : name_(std::move(name)), kind_(std::move(kind)), tensors_(std::move(tensors)) {}
  virtual ~Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  const std::string& name() const { return name_; }
  const std::string& kind() const { return kind_; }
  /// All tensors that are read or written: from the first operation that touches it to the last, a tensor lives.
  const std::vector<Tensor*>& tensors() const { return tensors_; }

  /// How many images a run takes; 0: any number, as its neighbours do.
  int images() const { return images_; }
  void take(int images) { images_ = images; }
  void take_any_images() { images_ = 0; }
  /// For an operation that has to do with no images: it runs once, whatever ranges its neighbours run over.
  enum class Once { with_first_range, with_last_range };
  void run_once(Once once) {
    take_any_images();
    once_ = once;
  }
  bool runs_for(bool first_range, bool last_range) const {
    return !once_ || (*once_ == Once::with_first_range ? first_range : last_range);
  }

  /// Called once, when the tensors have been placed.
  virtual void bind() {}
  virtual void run(const ImageRange& images) = 0;
  /// The name of a primitive's kernel; empty for other operations.
  virtual std::string implementation() const { return {}; }

 private:
  std::string name_;
  std::string kind_;
  std::vector<Tensor*> tensors_;
  int images_ = 0;
  std::optional<Once> once_;
};

/// A oneDNN primitive, or a kernel of ours in its place, with its arguments, its scratchpad (if it needs one) among
/// them.
class PrimitiveOperation final : public Operation {
 public:
  struct Argument {
    int index;  ///< DNNL_ARG_…
    Tensor* tensor;
    onednn::Descriptor desc = tensor->desc();  ///< how the primitive sees the tensor
  };

  PrimitiveOperation(std::string name, std::string kind, const onednn::Device& device, onednn::Planned planned,
                     std::vector<Argument> arguments);

  void bind() override;
  void run(const ImageRange& images) override;
  std::string implementation() const override { return planned_.implementation; }

 private:
  struct BoundArgument {
    Tensor* tensor;
    dnnl::memory memory;
    void* address;
  };

  const onednn::Device& device_;
  onednn::Planned planned_;
  std::vector<Argument> arguments_;
  std::vector<BoundArgument> bound_;
  std::vector<dnnl_exec_arg_t> execution_arguments_;  ///< of bound_, in C: made once, not at each run
};

/// One of our own kernels.
class KernelOperation final : public Operation {
 public:
  using Kernel = std::function<void(const ImageRange&)>;

  KernelOperation(std::string name, std::string kind, std::vector<Tensor*> tensors, Kernel kernel)
      : Operation(std::move(name), std::move(kind), std::move(tensors)), kernel_(std::move(kernel)) {}

  void run(const ImageRange& images) override { kernel_(images); }

 private:
  Kernel kernel_;
};

}  // namespace dcs3gd::nn
