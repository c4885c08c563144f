#include "nn/model_zoo.h"

#include <array>
#include <cmath>
#include <map>
#include <span>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::nn {
namespace {

constexpr const char* kLenet5 = "lenet5";

Graph lenet5(const ModelOptions& options) {
  Graph graph({options.channels, options.image_size, options.image_size});
  const auto convolution = [&](const char* name, ValueId src, int oc, int padding) {
    const ValueId dst = graph.convolution(name, src, {.oc = oc, .kernel = 5, .padding = padding, .bias = true});
    return graph.pooling(graph.relu(dst), {.kind = Pooling::Kind::max, .kernel = 2, .stride = 2});
  };
  ValueId value = convolution("conv1", graph.input(), 6, 2);
  value = convolution("conv2", value, 16, 0);
  value = graph.relu(graph.linear("fc1", value, {.oc = 120}));
  value = graph.relu(graph.linear("fc2", value, {.oc = 84}));
  graph.linear("fc3", value, {.oc = options.classes});
  return graph;
}

/// kaiming_normal(mode = fan_out, nonlinearity = relu), torchvision's choice for ResNet and VGG.
Initializer kaiming_normal(int oc, int kernel) {
  const double fan_out = static_cast<double>(oc) * kernel * kernel;
  return {Initializer::Kind::normal, static_cast<float>(std::sqrt(2 / fan_out))};
}

/// One ResNet of either family.
struct ResNetForm {
  bool imagenet_stem;       ///< 7×7 stride 2 and max pooling; else one 3×3 convolution
  bool bottleneck;          ///< 1×1, 3×3, 1×1 (×4 channels); else two 3×3
  std::vector<int> blocks;  ///< residual blocks per stage
  int width;                ///< channels of the first stage; doubles with every stage
};

constexpr int kBottleneckExpansion = 4;

class ResNetBuilder {
 public:
  explicit ResNetBuilder(const ModelOptions& options)
      : options_(options), graph_({options.channels, options.image_size, options.image_size}) {}

  Graph build(const ResNetForm& form) {
    ValueId value = stem(form);
    for (std::size_t stage = 0; stage < form.blocks.size(); ++stage) {
      const int width = form.width << stage;
      for (int block = 0; block < form.blocks[stage]; ++block) {
        const int stride = stage > 0 && block == 0 ? 2 : 1;
        value = residual_block(format("layer{}.{}", stage + 1, block), value, width, stride, form.bottleneck);
      }
    }
    graph_.linear("fc", graph_.global_average_pooling(value), {.oc = options_.classes});
    return std::move(graph_);
  }

 private:
  ValueId stem(const ResNetForm& form) {
    if (!form.imagenet_stem) {
      return graph_.batch_norm("bn1", convolution("conv1", graph_.input(), form.width, 3, 1), {.relu = true});
    }
    const ValueId value =
        graph_.batch_norm("bn1", convolution("conv1", graph_.input(), form.width, 7, 2), {.relu = true});
    return graph_.pooling(value, {.kind = Pooling::Kind::max, .kernel = 3, .stride = 2, .padding = 1});
  }

  ValueId residual_block(const std::string& name, ValueId src, int width, int stride, bool bottleneck) {
    struct BranchConvolution {
      int oc, kernel, stride;
    };
    const std::vector<BranchConvolution> branch =
        bottleneck
            ? std::vector<BranchConvolution>{{width, 1, 1}, {width, 3, stride}, {width * kBottleneckExpansion, 1, 1}}
            : std::vector<BranchConvolution>{{width, 3, stride}, {width, 3, 1}};
    ValueId value = src;
    for (std::size_t i = 0; i < branch.size(); ++i) {
      const bool last = i + 1 == branch.size();
      const auto& [oc, kernel, branch_stride] = branch[i];
      value = convolution(format("{}.conv{}", name, i + 1), value, oc, kernel, branch_stride);
      value = graph_.batch_norm(format("{}.bn{}", name, i + 1), value, {.relu = !last},
                                last && options_.zero_init_residual ? 0.0F : 1.0F);
    }
    const int oc = branch.back().oc;
    ValueId shortcut = src;
    if (stride != 1 || graph_.shape(src).channels != oc) {
      shortcut = graph_.batch_norm(name + ".downsample.1", convolution(name + ".downsample.0", src, oc, 1, stride), {});
    }
    return graph_.addition(value, shortcut, {.relu = true});
  }

  /// Without bias, as in torchvision.
  ValueId convolution(const std::string& name, ValueId src, int oc, int kernel, int stride) {
    return graph_.convolution(name, src, {.oc = oc, .kernel = kernel, .stride = stride, .padding = kernel / 2},
                              kaiming_normal(oc, kernel), {});
  }

  const ModelOptions& options_;
  Graph graph_;
};

/// ResNet-n of the CIFAR form has 6 k + 2 layers: k blocks in each of its three stages.
ResNetForm cifar_resnet(int depth) {
  const int blocks = (depth - 2) / 6;
  return {.imagenet_stem = false, .bottleneck = false, .blocks = {blocks, blocks, blocks}, .width = 16};
}

const std::map<std::string, ResNetForm>& resnets() {
  static const std::map<std::string, ResNetForm> forms = {
      {"resnet20", cifar_resnet(20)},
      {"resnet32", cifar_resnet(32)},
      {"resnet44", cifar_resnet(44)},
      {"resnet56", cifar_resnet(56)},
      {"resnet110", cifar_resnet(110)},
      {"resnet18", {.imagenet_stem = true, .bottleneck = false, .blocks = {2, 2, 2, 2}, .width = 64}},
      {"resnet34", {.imagenet_stem = true, .bottleneck = false, .blocks = {3, 4, 6, 3}, .width = 64}},
      {"resnet50", {.imagenet_stem = true, .bottleneck = true, .blocks = {3, 4, 6, 3}, .width = 64}},
      {"resnet101", {.imagenet_stem = true, .bottleneck = true, .blocks = {3, 4, 23, 3}, .width = 64}},
      {"resnet152", {.imagenet_stem = true, .bottleneck = true, .blocks = {3, 8, 36, 3}, .width = 64}},
  };
  return forms;
}

/// Convolutions in each of the five stages, which end with pooling.
struct VggForm {
  std::vector<int> convolutions;
  bool batch_norm = false;
};

const std::map<std::string, VggForm>& vggs() {
  static const std::map<std::string, VggForm> forms = [] {
    std::map<std::string, VggForm> all{{"vgg11", {{1, 1, 2, 2, 2}}},
                                       {"vgg13", {{2, 2, 2, 2, 2}}},
                                       {"vgg16", {{2, 2, 3, 3, 3}}},
                                       {"vgg19", {{2, 2, 4, 4, 4}}}};
    for (const auto& [name, form] : std::map(all)) all[name + "_bn"] = {form.convolutions, true};
    return all;
  }();
  return forms;
}

/// torchvision's numbers count every module of `features` and `classifier`, those without parameters too.
Graph vgg(const ModelOptions& options, const VggForm& form) {
  constexpr int kWidths[] = {64, 128, 256, 512, 512};
  constexpr int kPooledSize = 7;
  constexpr int kHiddenFeatures = 4096;
  constexpr Initializer kZero{};
  constexpr Initializer kNarrowNormal{Initializer::Kind::normal, 0.01F};

  Graph graph({options.channels, options.image_size, options.image_size});
  ValueId value = graph.input();
  int module = 0;
  for (std::size_t stage = 0; stage < form.convolutions.size(); ++stage) {
    for (int i = 0; i < form.convolutions[stage]; ++i) {
      const Convolution convolution{.oc = kWidths[stage], .kernel = 3, .padding = 1, .bias = true};
      value = graph.convolution(format("features.{}", module++), value, convolution, kaiming_normal(convolution.oc, 3),
                                kZero);
      value = form.batch_norm ? graph.batch_norm(format("features.{}", module++), value, {.relu = true})
                              : graph.relu(value);
      ++module;  // the ReLU
    }
    value = graph.pooling(value, {.kind = Pooling::Kind::max, .kernel = 2, .stride = 2});
    ++module;
  }
  if (graph.shape(value).height != kPooledSize) value = graph.adaptive_average_pooling(value, {.size = kPooledSize});
  for (const char* name : {"classifier.0", "classifier.3"}) {
    value = graph.relu(graph.linear(name, value, {.oc = kHiddenFeatures}, kNarrowNormal, kZero));
    value = graph.dropout(value, {.probability = options.dropout});
  }
  graph.linear("classifier.6", value, {.oc = options.classes}, kNarrowNormal, kZero);
  return graph;
}

[[noreturn]] void refuse(const std::string& name) {
  throw Error(ErrorKind::input,
              format("model.name: there is no model '{}'; expected one of {}", name, fmt::join(model_names(), ", ")));
}

}  // namespace

const std::vector<std::string>& model_names() {
  static const std::vector<std::string> names = {kLenet5,     "resnet20", "resnet32", "resnet44", "resnet56",
                                                 "resnet110", "resnet18", "resnet34", "resnet50", "resnet101",
                                                 "resnet152", "vgg11",    "vgg13",    "vgg16",    "vgg19",
                                                 "vgg11_bn",  "vgg13_bn", "vgg16_bn", "vgg19_bn"};
  return names;
}

ModelOptions usual_options(const std::string& name) {
  if (name == kLenet5) return {.name = name, .classes = 10, .channels = 1, .image_size = 28};
  const auto resnet = resnets().find(name);
  if (resnet == resnets().end() && !vggs().contains(name)) refuse(name);
  if (resnet != resnets().end() && !resnet->second.imagenet_stem) {
    return {.name = name, .classes = 10, .channels = 3, .image_size = 32};
  }
  return {.name = name, .classes = 1000, .channels = 3, .image_size = 224};
}

Graph build_model(const ModelOptions& options) {
  if (options.name == kLenet5) return lenet5(options);
  if (const auto form = vggs().find(options.name); form != vggs().end()) return vgg(options, form->second);
  const auto form = resnets().find(options.name);
  if (form == resnets().end()) refuse(options.name);
  return ResNetBuilder(options).build(form->second);
}

}  // namespace dcs3gd::nn
