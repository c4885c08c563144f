#include "tests/nn/network_cases.h"

#include "core/format.h"
#include "nn/graph/layer_options.h"

namespace dcs3gd::nn::test {
namespace {

constexpr int kClasses = 7;

/// Appends a learnable layer that keeps the pixels: a 1×1 convolution.
ValueId learnable(Graph& graph, ValueId src, int oc) {
  return graph.add(Convolution{.oc = oc}, src, format("learnable{}", graph.value_count()));
}

void classify(Graph& graph, ValueId src) { graph.add(Linear{.oc = kClasses}, src, "fc"); }

void add_convolutions(std::vector<NetworkCase>& cases) {
  struct Shape {
    int ic, oc, height, width, kernel, stride, padding, batch;
    bool bias;
  };
  const Shape shapes[] = {
      {1, 1, 1, 1, 1, 1, 0, 1, false},    {1, 17, 1, 1, 3, 1, 1, 1, true},   {3, 5, 5, 7, 3, 1, 1, 3, true},
      {5, 3, 7, 7, 3, 2, 1, 3, false},    {16, 32, 9, 9, 3, 2, 1, 3, false}, {17, 33, 6, 5, 3, 1, 0, 1, true},
      {33, 17, 5, 5, 1, 2, 0, 3, false},  {16, 16, 8, 8, 1, 1, 0, 3, true},  {32, 16, 7, 7, 5, 1, 2, 1, false},
      {3, 16, 13, 13, 7, 2, 3, 3, false}, {17, 16, 11, 9, 7, 2, 3, 1, true}, {16, 48, 4, 4, 3, 1, 1, 3, true},
      {32, 64, 4, 4, 3, 1, 1, 2, false},  {5, 33, 3, 3, 3, 3, 0, 3, false},
  };
  for (const Shape& s : shapes) {
    const Convolution options{.oc = s.oc, .kernel = s.kernel, .stride = s.stride, .padding = s.padding, .bias = s.bias};
    const auto name = [&](const char* place) {
      return format("{} convolution {}x{}x{} to {} kernel {} stride {} padding {}{} batch {}", place, s.ic, s.height,
                    s.width, s.oc, s.kernel, s.stride, s.padding, s.bias ? " bias" : "", s.batch);
    };
    cases.push_back({name("first"), {s.ic, s.height, s.width}, s.batch, [options](Graph& graph) {
                       classify(graph, graph.add(Relu{}, graph.add(options, graph.input(), "conv")));
                     }});
    cases.push_back({name("inner"), {2, s.height, s.width}, s.batch, [options, ic = s.ic](Graph& graph) {
                       const ValueId src = learnable(graph, graph.input(), ic);
                       classify(graph, graph.add(options, src, "conv"));
                     }});
  }
  cases.push_back({"convolution as the last layer", {3, 4, 4}, 3, [](Graph& graph) {
                     const ValueId value = graph.add(Relu{}, graph.add(Convolution{.oc = 5}, graph.input(), "conv"));
                     graph.add(Convolution{.oc = kClasses, .kernel = 4, .bias = true}, value, "last");
                   }});
}

void add_batch_norms(std::vector<NetworkCase>& cases) {
  struct Shape {
    int channels, height, width, batch;
  };
  for (const Shape& s : {Shape{1, 3, 3, 1}, {3, 1, 1, 3}, {5, 5, 7, 3}, {16, 4, 4, 3}, {17, 3, 3, 2}, {33, 1, 1, 5}}) {
    for (const bool relu : {false, true}) {
      const auto name =
          format("batch norm{} {}x{}x{} batch {}", relu ? " with relu" : "", s.channels, s.height, s.width, s.batch);
      cases.push_back({name, {2, s.height, s.width}, s.batch, [=](Graph& graph) {
                         const ValueId src = learnable(graph, graph.input(), s.channels);
                         classify(graph, graph.add(BatchNorm{.relu = relu}, src, "bn"));
                       }});
    }
  }
  cases.push_back({"batch norm of the images", {3, 5, 5}, 3, [](Graph& graph) {
                     classify(graph, graph.add(BatchNorm{.relu = true}, graph.input(), "bn"));
                   }});
  cases.push_back({"batch norm of a vector", {3, 2, 2}, 5, [](Graph& graph) {
                     const ValueId src = graph.add(Linear{.oc = 9, .bias = false}, graph.input(), "fc0");
                     classify(graph, graph.add(BatchNorm{.relu = true}, src, "bn"));
                   }});
  cases.push_back({"batch norm as the last layer", {5, 1, 1}, 6, [](Graph& graph) {
                     graph.add(BatchNorm{}, learnable(graph, graph.input(), kClasses), "bn");
                   }});
}

void add_poolings(std::vector<NetworkCase>& cases) {
  struct Shape {
    int channels, height, width, kernel, stride, padding, batch;
  };
  const Shape shapes[] = {{1, 2, 2, 2, 2, 0, 1},  {3, 5, 7, 2, 2, 0, 3},  {17, 7, 7, 3, 2, 1, 3},
                          {16, 9, 9, 3, 2, 1, 1}, {33, 5, 5, 3, 1, 1, 3}, {5, 1, 1, 3, 2, 1, 3}};
  for (const Shape& s : shapes) {
    for (const auto kind : {Pooling::Kind::max, Pooling::Kind::average}) {
      const auto name = format("{} pooling {}x{}x{} kernel {} stride {} padding {} batch {}",
                               kind == Pooling::Kind::max ? "max" : "average", s.channels, s.height, s.width, s.kernel,
                               s.stride, s.padding, s.batch);
      cases.push_back({name, {2, s.height, s.width}, s.batch, [=](Graph& graph) {
                         const ValueId src = learnable(graph, graph.input(), s.channels);
                         classify(graph, graph.add(Pooling{kind, s.kernel, s.stride, s.padding}, src));
                       }});
    }
  }
  cases.push_back({"max pooling of the images", {3, 6, 6}, 3, [](Graph& graph) {
                     classify(graph, learnable(graph, graph.add(Pooling{}, graph.input()), 5));
                   }});
  for (const ImageShape& shape : {ImageShape{5, 1, 1}, {17, 7, 7}, {16, 3, 5}, {33, 4, 2}}) {
    cases.push_back(
        {"global average pooling " + shape.to_string(), {2, shape.height, shape.width}, 3, [=](Graph& graph) {
           classify(graph, graph.add(GlobalAveragePooling{}, learnable(graph, graph.input(), shape.channels)));
         }});
  }
  for (const ImageShape& shape : {ImageShape{5, 1, 1}, {17, 3, 2}, {16, 6, 9}, {3, 7, 5}}) {
    for (const int size : {2, 3, 7}) {
      cases.push_back({format("adaptive average pooling {} to {}", shape.to_string(), size),
                       {2, shape.height, shape.width},
                       3,
                       [=](Graph& graph) {
                         const ValueId src = learnable(graph, graph.input(), shape.channels);
                         classify(graph, graph.add(AdaptiveAveragePooling{.size = size}, src));
                       }});
    }
  }
  cases.push_back({"global average pooling as the last layer", {3, 4, 4}, 3, [](Graph& graph) {
                     graph.add(GlobalAveragePooling{}, learnable(graph, graph.input(), kClasses));
                   }});
}

void add_linears(std::vector<NetworkCase>& cases) {
  for (const int batch : {1, 3}) {
    for (const ImageShape& shape : {ImageShape{1, 1, 1}, {5, 3, 3}, {17, 2, 3}, {16, 4, 4}, {33, 1, 1}}) {
      for (const bool bias : {false, true}) {
        const auto name = format("linear over {}{} batch {}", shape.to_string(), bias ? " bias" : "", batch);
        cases.push_back({name, {2, shape.height, shape.width}, batch, [=](Graph& graph) {
                           const ValueId src = learnable(graph, graph.input(), shape.channels);
                           graph.add(Linear{.oc = kClasses, .bias = bias}, src, "fc");
                         }});
      }
    }
  }
  cases.push_back({"three linear layers over the images", {3, 4, 4}, 3, [](Graph& graph) {
                     ValueId value = graph.add(Relu{}, graph.add(Linear{.oc = 33}, graph.input(), "fc1"));
                     value = graph.add(Relu{}, graph.add(Linear{.oc = 17}, value, "fc2"));
                     classify(graph, value);
                   }});
  cases.push_back({"one class", {2, 2, 2}, 3, [](Graph& graph) { graph.add(Linear{.oc = 1}, graph.input(), "fc"); }});
  cases.push_back({"convolution over a vector", {3, 3, 3}, 3, [](Graph& graph) {
                     const ValueId value = graph.add(Relu{}, graph.add(Linear{.oc = 17}, graph.input(), "fc0"));
                     classify(graph, learnable(graph, value, 5));
                   }});
  cases.push_back(
      {"vector plus global average", {3, 3, 3}, 3, [](Graph& graph) {
         const ValueId vector = graph.add(Linear{.oc = 9}, graph.input(), "fc0");
         const ValueId average = graph.add(GlobalAveragePooling{}, learnable(graph, graph.input(), 9));
         classify(graph, graph.add(Addition{.relu = true}, {average, graph.add(Addition{}, {vector, average})}));
       }});
}

void add_dropouts(std::vector<NetworkCase>& cases) {
  const Dropout options{.probability = 0.4F};
  cases.push_back({"dropout of a vector", {3, 3, 3}, 3, [=](Graph& graph) {
                     const ValueId src = graph.add(Linear{.oc = 33}, graph.input(), "fc0");
                     classify(graph, graph.add(options, graph.add(Relu{}, src)));
                   }});
  cases.push_back({"dropout of pixels", {3, 5, 5}, 3, [=](Graph& graph) {
                     const ValueId src = graph.add(options, learnable(graph, graph.input(), 17));
                     classify(graph, graph.add(Relu{}, learnable(graph, src, 5)));
                   }});
  cases.push_back({"relu of the dropout of the images", {3, 3, 3}, 3, [=](Graph& graph) {
                     classify(graph, graph.add(Relu{}, graph.add(options, graph.input())));
                   }});
  cases.push_back({"relu of the dropout of a shared value", {3, 3, 3}, 3, [=](Graph& graph) {
                     const ValueId shared = learnable(graph, graph.input(), 5);
                     const ValueId dropped = graph.add(Relu{}, graph.add(options, shared));
                     classify(graph, graph.add(Addition{}, {dropped, shared}));
                   }});
  cases.push_back({"dropout of a sum", {3, 3, 3}, 3, [=](Graph& graph) {
                     const ValueId value = learnable(graph, graph.input(), 16);
                     const ValueId sum = graph.add(Addition{}, {value, learnable(graph, value, 16)});
                     classify(graph, graph.add(Addition{.relu = true}, {graph.add(options, sum), value}));
                   }});
}

void add_topologies(std::vector<NetworkCase>& cases) {
  const ImageShape input{3, 5, 5};
  const auto add = [&](const char* name, std::function<void(Graph&)> build) {
    cases.push_back({name, input, 3, std::move(build)});
  };
  add("value read by three layers", [](Graph& graph) {
    const ValueId shared = learnable(graph, graph.input(), 17);
    const ValueId sum = graph.add(Addition{.relu = true}, {learnable(graph, shared, 17), learnable(graph, shared, 17)});
    classify(graph, graph.add(Addition{}, {sum, shared}));
  });
  add("value added to itself", [](Graph& graph) {
    const ValueId value = learnable(graph, graph.input(), 5);
    classify(graph, graph.add(Addition{.relu = true}, {value, value}));
  });
  add("images added to themselves", [](Graph& graph) {
    classify(graph, learnable(graph, graph.add(Addition{}, {graph.input(), graph.input()}), 5));
  });
  add("sum of different depths", [](Graph& graph) {
    const ValueId shallow = learnable(graph, graph.input(), 16);
    ValueId deep = graph.add(BatchNorm{.relu = true}, learnable(graph, shallow, 16), "bn");
    deep = graph.add(Convolution{.oc = 16, .kernel = 3, .padding = 1}, deep, "conv");
    classify(graph, graph.add(Addition{.relu = true}, {shallow, deep}));
  });
  add("relu of a shared value", [](Graph& graph) {
    const ValueId shared = learnable(graph, graph.input(), 5);
    classify(graph, graph.add(Addition{}, {graph.add(Relu{}, shared), learnable(graph, shared, 5)}));
  });
  add("two relus of one value", [](Graph& graph) {
    const ValueId shared = learnable(graph, graph.input(), 5);
    classify(graph, graph.add(Addition{}, {graph.add(Relu{}, shared), graph.add(Relu{}, shared)}));
  });
  add("sum without relu, then a convolution", [](Graph& graph) {
    const ValueId value = learnable(graph, graph.input(), 17);
    const ValueId sum = graph.add(Addition{}, {learnable(graph, value, 17), value});
    classify(graph, graph.add(Convolution{.oc = 5, .kernel = 3}, sum, "conv"));
  });
  add("sums of sums", [](Graph& graph) {
    const ValueId a = learnable(graph, graph.input(), 5);
    const ValueId b = learnable(graph, a, 5);
    const ValueId c = learnable(graph, b, 5);
    const ValueId left = graph.add(Addition{}, {a, b});
    const ValueId right = graph.add(Addition{.relu = true}, {b, c});
    classify(graph, graph.add(Addition{.relu = true}, {graph.add(Addition{}, {left, right}), c}));
  });
  // The sum may not overwrite what the backward pass of its first source still reads.
  add("sum of a relu", [](Graph& graph) {
    const ValueId rectified = graph.add(Relu{}, learnable(graph, graph.input(), 5));
    classify(graph, graph.add(Addition{}, {rectified, learnable(graph, graph.input(), 5)}));
  });
  add("sum of a sum with relu", [](Graph& graph) {
    const ValueId a = learnable(graph, graph.input(), 5);
    const ValueId b = learnable(graph, graph.input(), 5);
    const ValueId c = learnable(graph, graph.input(), 5);
    classify(graph, graph.add(Addition{.relu = true}, {graph.add(Addition{.relu = true}, {a, b}), c}));
  });
  add("relu as the last layer", [](Graph& graph) {
    const ValueId value = graph.add(GlobalAveragePooling{}, learnable(graph, graph.input(), 17));
    graph.add(Relu{}, graph.add(Convolution{.oc = kClasses}, value, "conv"));
  });
  add("sum of the images and a convolution", [](Graph& graph) {
    const ValueId sum = graph.add(Addition{.relu = true}, {graph.input(), learnable(graph, graph.input(), 3)});
    classify(graph, graph.add(Convolution{.oc = 5, .kernel = 3, .stride = 2}, sum, "conv"));
  });
  add("layers without parameters in front", [](Graph& graph) {
    const ValueId pooled = graph.add(Pooling{}, graph.add(Relu{}, graph.input()));
    classify(graph, graph.add(Addition{.relu = true}, {pooled, learnable(graph, pooled, 3)}));
  });
  // A batch norm and the sum that alone reads it are one layer.
  for (const bool relu : {false, true}) {
    add(relu ? "batch norm plus its source, relu" : "batch norm plus its source", [=](Graph& graph) {
      const ValueId value = learnable(graph, graph.input(), 17);
      classify(graph, graph.add(Addition{.relu = relu}, {graph.add(BatchNorm{}, value, "bn"), value}));
    });
    add(relu ? "batch norm plus batch norm, relu" : "batch norm plus batch norm", [=](Graph& graph) {
      const ValueId value = learnable(graph, graph.input(), 16);
      const ValueId left = graph.add(BatchNorm{}, learnable(graph, value, 16), "left");
      const ValueId right = graph.add(BatchNorm{}, learnable(graph, value, 16), "right");
      classify(graph, graph.add(Addition{.relu = relu}, {left, right}));
    });
  }
  add("the images plus a batch norm", [](Graph& graph) {
    const ValueId value = graph.add(BatchNorm{}, learnable(graph, graph.input(), 3), "bn");
    classify(graph, learnable(graph, graph.add(Addition{.relu = true}, {graph.input(), value}), 5));
  });
  add("batch norm that two layers read, in a sum", [](Graph& graph) {
    const ValueId value = graph.add(BatchNorm{}, learnable(graph, graph.input(), 5), "bn");
    classify(graph, graph.add(Addition{.relu = true}, {value, learnable(graph, value, 5)}));
  });
  add("batch norm added to itself", [](Graph& graph) {
    const ValueId value = graph.add(BatchNorm{}, learnable(graph, graph.input(), 5), "bn");
    classify(graph, graph.add(Addition{}, {value, value}));
  });
  add("batch norm with relu that three layers read", [](Graph& graph) {
    const ValueId value = graph.add(BatchNorm{.relu = true}, learnable(graph, graph.input(), 16), "bn");
    const ValueId sum = graph.add(Addition{}, {learnable(graph, value, 16), learnable(graph, value, 16)});
    classify(graph, graph.add(Addition{.relu = true}, {sum, value}));
  });
  add("a chain of residual blocks", [](Graph& graph) {
    ValueId value = graph.add(BatchNorm{.relu = true}, learnable(graph, graph.input(), 17), "stem");
    for (int block = 0; block < 7; ++block) {
      ValueId branch = graph.add(BatchNorm{.relu = true}, learnable(graph, value, 17), format("bn{}.1", block));
      branch = graph.add(BatchNorm{}, learnable(graph, branch, 17), format("bn{}.2", block));
      value = graph.add(Addition{.relu = true}, {branch, value});
    }
    classify(graph, value);
  });
  add("residual blocks", [](Graph& graph) {
    ValueId value = graph.add(Convolution{.oc = 16, .kernel = 3, .padding = 1}, graph.input(), "stem");
    for (const char* block : {"a", "b"}) {
      const std::string name(block);
      ValueId branch = graph.add(Convolution{.oc = 33, .kernel = 3, .stride = 2, .padding = 1}, value, name + ".conv1");
      branch = graph.add(BatchNorm{.relu = true}, branch, name + ".bn1");
      branch = graph.add(Convolution{.oc = 33, .kernel = 3, .padding = 1}, branch, name + ".conv2");
      branch = graph.add(BatchNorm{}, branch, name + ".bn2");
      const ValueId shortcut = graph.add(Convolution{.oc = 33, .stride = 2}, value, name + ".downsample");
      value = graph.add(Addition{.relu = true}, {branch, shortcut});
    }
    classify(graph, graph.add(GlobalAveragePooling{}, value));
  });
}

}  // namespace

const std::vector<NetworkCase>& network_cases() {
  static const std::vector<NetworkCase> cases = [] {
    std::vector<NetworkCase> all;
    add_convolutions(all);
    add_batch_norms(all);
    add_poolings(all);
    add_linears(all);
    add_dropouts(all);
    add_topologies(all);
    return all;
  }();
  return cases;
}

}  // namespace dcs3gd::nn::test
