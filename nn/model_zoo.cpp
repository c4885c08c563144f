#include "nn/model_zoo.h"

#include <array>
#include <map>
#include <span>

#include "core/error.h"
#include "core/format.h"
#include "nn/graph/layer_options.h"

namespace dcs3gd::nn {
namespace {

constexpr const char* kLenet5 = "lenet5";

Graph lenet5(const ModelOptions& options) {
  Graph graph({options.channels, options.image_size, options.image_size});
  const auto convolution = [&](const char* name, ValueId src, int oc, int padding) {
    const ValueId dst = graph.add(Convolution{.oc = oc, .kernel = 5, .padding = padding, .bias = true}, src, name);
    return graph.add(Pooling{.kind = Pooling::Kind::max, .kernel = 2, .stride = 2}, graph.add(Relu{}, dst));
  };
  ValueId value = convolution("conv1", graph.input(), 6, 2);
  value = convolution("conv2", value, 16, 0);
  value = graph.add(Relu{}, graph.add(Linear{.oc = 120}, value, "fc1"));
  value = graph.add(Relu{}, graph.add(Linear{.oc = 84}, value, "fc2"));
  graph.add(Linear{.oc = options.classes}, value, "fc3");
  return graph;
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
    graph_.add(Linear{.oc = options_.classes}, graph_.add(GlobalAveragePooling{}, value), "fc");
    return std::move(graph_);
  }

 private:
  ValueId stem(const ResNetForm& form) {
    if (!form.imagenet_stem) {
      return graph_.add(BatchNorm{.relu = true}, convolution("conv1", graph_.input(), form.width, 3, 1), "bn1");
    }
    const ValueId value =
        graph_.add(BatchNorm{.relu = true}, convolution("conv1", graph_.input(), form.width, 7, 2), "bn1");
    return graph_.add(Pooling{.kind = Pooling::Kind::max, .kernel = 3, .stride = 2, .padding = 1}, value);
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
      value = graph_.add(BatchNorm{.relu = !last, .gamma = last && options_.zero_init_residual ? 0.0F : 1.0F}, value,
                         format("{}.bn{}", name, i + 1));
    }
    const int oc = branch.back().oc;
    ValueId shortcut = src;
    if (stride != 1 || graph_.shape(src).channels != oc) {
      shortcut =
          graph_.add(BatchNorm{}, convolution(name + ".downsample.0", src, oc, 1, stride), name + ".downsample.1");
    }
    return graph_.add(Addition{.relu = true}, {value, shortcut});
  }

  /// Without bias, as in torchvision.
  ValueId convolution(const std::string& name, ValueId src, int oc, int kernel, int stride) {
    return graph_.add(Convolution{.oc = oc,
                                  .kernel = kernel,
                                  .stride = stride,
                                  .padding = kernel / 2,
                                  .init = Initialization::kaiming_normal},
                      src, name);
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

  Graph graph({options.channels, options.image_size, options.image_size});
  ValueId value = graph.input();
  int module = 0;
  for (std::size_t stage = 0; stage < form.convolutions.size(); ++stage) {
    for (int i = 0; i < form.convolutions[stage]; ++i) {
      const Convolution convolution{
          .oc = kWidths[stage], .kernel = 3, .padding = 1, .bias = true, .init = Initialization::kaiming_normal};
      value = graph.add(convolution, value, format("features.{}", module++));
      value = form.batch_norm ? graph.add(BatchNorm{.relu = true}, value, format("features.{}", module++))
                              : graph.add(Relu{}, value);
      ++module;  // the ReLU
    }
    value = graph.add(Pooling{.kind = Pooling::Kind::max, .kernel = 2, .stride = 2}, value);
    ++module;
  }
  if (graph.shape(value).height != kPooledSize) value = graph.add(AdaptiveAveragePooling{.size = kPooledSize}, value);
  for (const char* name : {"classifier.0", "classifier.3"}) {
    value = graph.add(Relu{}, graph.add(Linear{.oc = kHiddenFeatures, .init = Initialization::normal}, value, name));
    value = graph.add(Dropout{.probability = options.dropout}, value);
  }
  graph.add(Linear{.oc = options.classes, .init = Initialization::normal}, value, "classifier.6");
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
