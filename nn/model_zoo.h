#pragma once

#include <string>
#include <vector>

#include "nn/graph/graph.h"

namespace dcs3gd::nn {

struct ModelOptions {
  std::string name = "resnet20";
  int classes = 10;
  int channels = 3;                 ///< of the input images
  int image_size = 32;              ///< pixels, square
  float dropout = 0.5F;             ///< of the VGG classifier
  bool zero_init_residual = false;  ///< γ of the last batch norm of each residual branch starts at 0
};

/// The names that build_model knows, in the order of the documentation.
const std::vector<std::string>& model_names();

/// The model with the images and classes of its usual data set: grey 28-pixel images for lenet5, CIFAR-10 for the CIFAR
/// ResNets, ImageNet for the others.
ModelOptions usual_options(const std::string& name);

/// Builds the graph of a model. Parameter names, shapes, order and initialisation are torchvision's. Models:
/// - lenet5: the classic with ReLU and max pooling; 28×28 images give its 61,706 parameters (for 10 classes and grey).
/// - resnet20/32/44/56/110: CIFAR form of He et al. 2015, §4.2: three stages of 16, 32, 64 channels, 1×1-convolution
///   shortcuts, names as in torchvision's ResNet with three layers.
/// - resnet18/34/50/101/152: torchvision's v1.5 (the stride stands in the 3×3 convolution of a bottleneck).
/// - vgg11/13/16/19 and vgg11_bn …: torchvision's, for images of at least 32 pixels.
/// Throws Error{input} for an unknown name or images too small for the model.
Graph build_model(const ModelOptions& options);

}  // namespace dcs3gd::nn
