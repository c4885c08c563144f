"""The reference: PyTorch in double precision. Models under torchvision's names, five steps of training, an evaluation."""

import math

import numpy as np
import torch
import torchvision
from torch import nn

import formula

# The smallest distance, in standard deviations, of any value from a point where the gradient jumps: README.md.
SAFE_MARGIN = 1.5e-6


class UnsafeMargin(Exception):
    """A value lies so near a jump of the gradient that single precision may take the other side."""


class LeNet5(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.relu(self.fc1(x.flatten(1)))
        return self.fc3(self.relu(self.fc2(x)))


class CifarResNet20(nn.Module):
    """He et al. 2015, section 4.2, with shortcuts by 1x1 convolutions."""

    def __init__(self, channels, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = self.stage(16, 16, 1)
        self.layer2 = self.stage(16, 32, 2)
        self.layer3 = self.stage(32, 64, 2)
        self.fc = nn.Linear(64, classes)

    @staticmethod
    def stage(source, width, stride):
        shortcut = None
        if stride != 1:
            shortcut = nn.Sequential(nn.Conv2d(source, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        block = torchvision.models.resnet.BasicBlock
        return nn.Sequential(block(source, width, stride, shortcut), block(width, width), block(width, width))

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def build_model(name, channels, classes):
    if name == "lenet5":
        return LeNet5(channels, classes)
    if name == "resnet20":
        return CifarResNet20(channels, classes)
    if name.startswith("vgg"):
        return getattr(torchvision.models, name)(weights=None, num_classes=classes, dropout=0.0)
    return getattr(torchvision.models, name)(weights=None, num_classes=classes)


def state_of(model):
    """Parameters and running statistics by name; not the counters, which no computation uses."""
    return {name: value for name, value in model.state_dict().items() if not name.endswith(".num_batches_tracked")}


def first_state(model, seed):
    state = state_of(model)
    norms = {name.removesuffix(".running_mean") for name in state if name.endswith(".running_mean")}
    return {
        name: formula.first_value(seed, name, tuple(value.shape), name.rpartition(".")[0] in norms)
        for name, value in state.items()
    }


def learning_rates(settings):
    """Linear warm-up that reaches the peak with its last step, then a linear way to zero that starts at the peak."""
    warmup_steps = settings["warmup_epochs"] * settings["steps_per_epoch"]
    steps = settings["epochs"] * settings["steps_per_epoch"]
    scale = settings["batch"] / settings["reference_batch"]
    start, base = scale * settings["warmup_start"], scale * settings["base_rate"]
    warmup = np.linspace(start, base, warmup_steps + 1)[1:]
    decay = np.linspace(base, 0, steps - warmup_steps + 1)[:-1]
    return [float(rate) for rate in [*warmup, *decay][: settings["steps"]]]


def optimizer_of(model, settings):
    """Weight decay on the weights of convolutions and linear layers only: those with more than one dimension."""
    parameters = list(model.parameters())
    return torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": settings["weight_decay"]},
            {"params": [p for p in parameters if p.dim() == 1]},
        ],
        lr=1.0,
        momentum=settings["momentum"],
    )


def check_margins(model):
    """Makes the model raise UnsafeMargin where a ReLU's input is almost zero or two inputs of a maximum almost equal."""

    def check(distances, values):
        axes = [axis for axis in range(values.dim()) if axis != 1]
        smallest = float((distances / values.std(axes, keepdim=True)).min())
        if smallest < SAFE_MARGIN:
            raise UnsafeMargin(f"a margin of {smallest:.1e} standard deviations, less than {SAFE_MARGIN:.1e}")

    def check_relu(_, inputs):
        values = inputs[0].detach()
        check(values.abs(), values)

    def check_pooling(pooling, inputs):
        values = inputs[0].detach()
        # Zeros, of the padding too, are what a ReLU cut off: no gradient passes there.
        windows = nn.functional.unfold(
            values.flatten(0, 1)[:, None], pooling.kernel_size, padding=pooling.padding, stride=pooling.stride
        )
        largest, second = windows.topk(2, dim=1).values.unbind(1)
        gaps = torch.where(largest > 0, largest - second, torch.inf)
        check(gaps.reshape(*values.shape[:2], 1, -1), values)

    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(check_relu)
        elif isinstance(module, nn.MaxPool2d):
            module.register_forward_pre_hook(check_pooling)


def batch_of(settings, name):
    shape = (settings["batch"], settings["channels"], settings["image_size"], settings["image_size"])
    images = torch.from_numpy(formula.images(settings["seed"], name, shape)).double()
    labels = torch.from_numpy(formula.labels(settings["seed"], name, settings["batch"], settings["classes"]))
    return images, labels


class Reference:
    """A model trained from `state` (name -> array) under `settings`. Holds `results` (what a recording holds, in its
    order) and whole arrays by name: `gradient` of the first step, `trained` parameters and running statistics."""

    def __init__(self, name, settings, state):
        self.settings = settings
        self.model = build_model(name, settings["channels"], settings["classes"])
        self.model.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in state.items()}, strict=False)
        self.model.double()
        check_margins(self.model)
        self.first = {key: value.clone() for key, value in state_of(self.model).items()}
        self.results = {}
        self.train()
        self.evaluate()
        self.trained = {key: value.numpy() for key, value in state_of(self.model).items()}
        self.sketch_trained()

    def train(self):
        self.model.train()
        optimizer = optimizer_of(self.model, self.settings)
        rates = learning_rates(self.settings)
        losses = []
        for step, rate in enumerate(rates, start=1):
            images, labels = batch_of(self.settings, f"step{step}")
            optimizer.zero_grad()
            logits = self.model(images)
            loss = nn.functional.cross_entropy(logits, labels, label_smoothing=self.settings["label_smoothing"])
            loss.backward()
            losses.append(loss.item())
            self.sketch(f"logits.step{step}", logits)
            if step == 1:
                self.gradient = {key: value.grad.numpy().copy() for key, value in self.model.named_parameters()}
                self.sketch_gradient()
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        self.results["learning_rates"] = rates
        self.results["losses"] = losses

    def evaluate(self):
        self.model.eval()
        count = self.settings["evaluation_images"]
        images, labels = (part[:count] for part in batch_of(self.settings, "evaluation"))
        with torch.no_grad():
            logits = self.model(images)
        best = logits.topk(5, dim=1).indices == labels[:, None]
        self.results["evaluation.loss"] = [nn.functional.cross_entropy(logits, labels).item()]
        self.results["evaluation.top1"] = [int(best[:, :1].sum())]
        self.results["evaluation.top5"] = [int(best.sum())]
        self.sketch("logits.evaluation", logits)

    def sketch_gradient(self):
        """Each parameter's gradient, and the size of its layer's."""
        squares = {}
        for key, value in self.gradient.items():
            layer = key.rpartition(".")[0]
            squares[layer] = squares.get(layer, 0.0) + float(np.square(value).sum())
        for key, value in self.gradient.items():
            self.sketch(f"gradient.{key}", value)
            self.results[f"background.gradient.{key}"] = [math.sqrt(squares[key.rpartition(".")[0]])]

    def sketch_trained(self):
        """Each parameter's way from its first value, and the parameter's size; running statistics as they are."""
        for key, value in self.trained.items():
            if key in self.gradient:
                self.sketch(f"change.{key}", value - self.first[key].numpy())
                self.results[f"background.change.{key}"] = [math.sqrt(float(np.square(value).sum()))]
            else:
                self.sketch(f"statistics.{key}", value)

    def sketch(self, name, values):
        values = values.detach().numpy() if isinstance(values, torch.Tensor) else values
        assert math.isfinite(values.sum()), name
        self.results[name] = formula.sketch(name, values)
