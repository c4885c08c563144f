#!/usr/bin/python3
"""Trajectories of DC-S3GD, its family and synchronous SGD in float64, by PyTorch's layers and autograd and the algorithm
as the paper has it (arXiv 1911.02516, eq. 17): one loop over workers, with velocities, nothing fused, nothing
overlapped. It shares no code with the trainer. dc_s3gd_test.cpp follows the same trajectories with the trainer's engine, algorithms and all-reduce.

    dc_s3gd_oracle.py record    writes recordings/dc_s3gd.txt
    dc_s3gd_oracle.py           computes it anew and compares

Exit code 77: PyTorch is missing.
"""

import sys
from pathlib import Path

try:
    import torch
    import torch.nn.functional as F

    import formula
    import recording
except ImportError as error:
    print(f"skipped: the oracle needs python3-torch: {error}")
    sys.exit(77)

RECORDING = Path(__file__).resolve().parent / "recordings" / "dc_s3gd.txt"

SEED = 1
WORKERS = 4
STEPS = 8
IMAGES = 8  # per worker and step
SHAPE = (3, 8, 8)
CLASSES = 5
WEIGHT_DECAY = 0.05
MOMENTUM = 0.9
LAMBDA0 = 0.2
WIRE_ROUNDING = 2.0**-23

# name, shape, kind
PARAMETERS = [
    ("conv1.weight", (4, 3, 3, 3), "weight"),
    ("bn1.weight", (4,), "norm"),
    ("bn1.bias", (4,), "norm"),
    ("conv2.weight", (6, 4, 3, 3), "weight"),
    ("bn2.weight", (6,), "norm"),
    ("bn2.bias", (6,), "norm"),
    ("fc.weight", (CLASSES, 6), "weight"),
    ("fc.bias", (CLASSES,), "bias"),
]
STATISTICS = [("bn1.running_mean", (4,)), ("bn1.running_var", (4,)),
              ("bn2.running_mean", (6,)), ("bn2.running_var", (6,))]

CASES = {
    "ssgd": {"algorithm": "ssgd"},
    "s3gd": {"algorithm": "dc_s3gd", "lambda0": 0.0},
    "dc_s3gd": {"algorithm": "dc_s3gd"},
    "dc_s3gd_tensor": {"algorithm": "dc_s3gd", "per_tensor": True},
    "dc_s3gd_settings": {"algorithm": "dc_s3gd", "nesterov": True, "decay_all": True, "clip": 0.35, "lambda_max": 60.0},
    "own_momentum": {"algorithm": "dc_s3gd", "lambda0": 0.0, "own_momentum": 0.3},
    "fresh": {"algorithm": "dc_s3gd", "own_momentum": 0.0, "first_fresh": 3},
    "fresh_settings": {"algorithm": "dc_s3gd", "nesterov": True, "clip": 0.35, "first_fresh": 4, "overlap_from": 3,
                       "lambda0": 0.3, "bound": 0.1},
    "rank_one": {"algorithm": "dc_s3gd", "lambda": 0.5, "rank_one": True},
    "host": {"algorithm": "dc_s3gd", "workers_per_host": 2, "own_momentum": 0.0, "first_fresh": 4},
    "groups_ssgd": {"algorithm": "ssgd", "rates": {"conv2": 0.5, "fc": 3.0}, "decays": {"fc": 0.2}},
    "groups": {"algorithm": "dc_s3gd", "rates": {"conv2": 0.5, "fc": 3.0}, "decays": {"fc": 0.2}, "nesterov": True},
    "frozen_ssgd": {"algorithm": "ssgd", "frozen": ["conv1", "bn1"]},
    "frozen": {"algorithm": "dc_s3gd", "frozen": ["conv1", "bn1"], "rates": {"fc": 3.0}},
    "frozen_norms": {"algorithm": "dc_s3gd", "frozen": ["bn1", "bn2", "fc"]},
}


def learning_rate(step):
    """Warm-up, then a decay; step from 0."""
    return 0.05 * (step + 1) if step < 5 else 0.05 * (9 - step)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def first_state():
    parameters = [tensor(formula.first_value(SEED, name, shape, kind == "norm")) for name, shape, kind in PARAMETERS]
    statistics = [tensor(formula.first_value(SEED, name, shape, True)) for name, shape in STATISTICS]
    return parameters, statistics


def is_frozen(case, name):
    return name.split(".")[0] in case.get("frozen", [])


def rate_factor(case, name):
    return case.get("rates", {}).get(name.split(".")[0], 1.0)


def decay_of(case, name, kind):
    if is_frozen(case, name) or (kind != "weight" and not case.get("decay_all", False)):
        return 0.0
    return case.get("decays", {}).get(name.split(".")[0], WEIGHT_DECAY)


def loss_and_gradient(weights, step, worker, case):
    """Mean loss, gradient, which is 0 of what is frozen, and the batch's means and unbiased variances. A frozen batch
    norm takes the running ones, and they stand for the batch's."""
    name = f"step{step}.worker{worker}"
    x = tensor(formula.images(SEED, name, (IMAGES, *SHAPE)))
    y = torch.tensor(formula.labels(SEED, name, IMAGES, CLASSES))
    w = [weight.clone().requires_grad_() for weight in weights]
    statistics = []

    def norm(value, gamma, beta, layer):
        if is_frozen(case, layer):
            running = first_state()[1][2 * (layer == "bn2"):][:2]
            statistics.extend(running)
            return F.relu(F.batch_norm(value, *running, gamma, beta, training=False, eps=1e-5))
        statistics.append(value.detach().mean(dim=(0, 2, 3)))
        statistics.append(value.detach().transpose(0, 1).flatten(1).var(dim=1, unbiased=True))
        return F.relu(F.batch_norm(value, None, None, gamma, beta, training=True, eps=1e-5))

    value = norm(F.conv2d(x, w[0], padding=1), w[1], w[2], "bn1")
    value = norm(F.conv2d(value, w[3], stride=2, padding=1), w[4], w[5], "bn2")
    loss = F.cross_entropy(F.linear(value.mean(dim=(2, 3)), w[6], w[7]), y)
    gradient = [g * (not is_frozen(case, name)) for g, (name, _, _) in zip(torch.autograd.grad(loss, w), PARAMETERS)]
    return loss.item(), gradient, statistics


def norm_of(tensors):
    return sum((t * t).sum().item() for t in tensors) ** 0.5


def clipped(gradient, clip):
    norm = norm_of(gradient)
    return [g * (clip / norm) for g in gradient] if clip and norm > clip else gradient


class Update:
    """U: momentum and weight decay, with a velocity of its own."""

    def __init__(self, case):
        self.case = case
        self.nesterov = case.get("nesterov", False)
        self.velocity = [torch.zeros(shape, dtype=torch.float64) for _, shape, _ in PARAMETERS]

    def __call__(self, gradient, weights, rate):
        update = []
        for i, (name, _, kind) in enumerate(PARAMETERS):
            g = gradient[i] + decay_of(self.case, name, kind) * weights[i]
            self.velocity[i] = MOMENTUM * self.velocity[i] + g
            own_rate = rate * rate_factor(self.case, name)
            update.append(-own_rate * (g + MOMENTUM * self.velocity[i] if self.nesterov else self.velocity[i]))
        return update


def lambda_of(g, distance, u, case):
    if norm_of(distance) <= WORKERS * WIRE_ROUNDING * norm_of(u):
        return 0.0
    if "lambda" in case:
        return case["lambda"]
    lam = case.get("lambda0", LAMBDA0) * norm_of(g) / norm_of([a * a * d for a, d in zip(g, distance)])
    return min(lam, case.get("lambda_max", lam))


def lambdas_of(g, distance, u, case):
    """By tensor."""
    if case.get("per_tensor", False):
        return [lambda_of([a], [d], [b], case) for a, d, b in zip(g, distance, u)]
    return [lambda_of(g, distance, u, case)] * len(g)


def corrected(gradient, distance, lambdas, case):
    """The compensated gradient of the stale tensors."""
    bound = case.get("bound", float("inf"))
    along = sum((a * d).sum() for a, d in zip(gradient, distance))
    result = []
    for g, d, lam in zip(gradient, distance, lambdas):
        share = lam * (along if case.get("rank_one", False) else g * d)
        result.append(g + torch.clamp(torch.as_tensor(share), -bound, bound) * g)
    return result


def move(statistics, batch_statistics):
    return [0.9 * old + 0.1 * new for old, new in zip(statistics, batch_statistics)]


def mean(lists):
    return [sum(tensors) / len(lists) for tensors in zip(*lists)]


def run_ssgd(case):
    w, first_statistics = first_state()
    statistics = [first_statistics] * WORKERS
    update = Update(case)
    records = []
    for step in range(STEPS):
        losses, gradients, batch_statistics = zip(*(loss_and_gradient(w, step, i, case) for i in range(WORKERS)))
        statistics = [move(old, new) for old, new in zip(statistics, batch_statistics)]
        g = clipped(mean(gradients), case.get("clip"))
        w = [a + b for a, b in zip(w, update(g, w, learning_rate(step)))]
        records.append((sum(losses) / WORKERS, norm_of(g), 0.0, 0.0))
    return records, w, mean(statistics)


def run_overlapped(case):
    """The family, with a velocity for each worker. Settings: beta of a worker's own deviation; the first tensor that is
    fresh; the first step that is not synchronous; the workers of a host, who share a gradient."""
    m, first_statistics = first_state()
    statistics = [first_statistics] * WORKERS
    beta = case.get("own_momentum", MOMENTUM)
    first_fresh = case.get("first_fresh", len(PARAMETERS))
    nesterov = case.get("nesterov", False)
    zeros = [torch.zeros_like(a) for a in m]
    velocity = [zeros] * WORKERS
    movement = [zeros] * WORKERS
    mean_velocity = zeros
    records = []
    for step in range(STEPS):
        rate = learning_rate(step)
        mean_movement = mean(movement)
        model = [a + b for a, b in zip(m, mean_movement)]
        stale = first_fresh if step >= case.get("overlap_from", 0) else 0
        local = [[a + b for a, b in zip(m[:stale], own)] + model[stale:] for own in movement]
        losses, gradients, batch_statistics = zip(*(loss_and_gradient(local[i], step, i, case)
                                                    for i in range(WORKERS)))
        statistics = [move(old, new) for old, new in zip(statistics, batch_statistics)]
        size = case.get("workers_per_host", 1)
        hosts = [mean(gradients[i - i % size:i - i % size + size]) for i in range(WORKERS)]
        sums = [sum(losses), 0.0, 0.0, 0.0]
        for i in range(WORKERS):
            # Synchronous steps and the fresh part average over all; in between the hosts' means are the workers'.
            g = clipped(hosts[i][:stale] + gradients[i][stale:], case.get("clip"))
            distance = [a - b for a, b in zip(mean_movement[:stale], movement[i])]
            lambdas = lambdas_of(g[:stale], distance, movement[i][:stale], case) if stale else []
            compensated = corrected(g[:stale], distance, lambdas, case) + g[stale:]
            new_velocity = []
            for k, (name, _, kind) in enumerate(PARAMETERS):
                decay = decay_of(case, name, kind)
                own = beta * (velocity[i][k] - mean_velocity[k]) if k < stale else 0.0
                new_velocity.append(MOMENTUM * mean_velocity[k] + own + compensated[k] + decay * model[k])
            sums[1] += norm_of(g)
            sums[2] += sum(lambdas) / len(lambdas) if lambdas else 0.0
            sums[3] += norm_of(distance)
            velocity[i] = new_velocity
            movement[i] = [-rate * rate_factor(case, name) * ((1 + MOMENTUM) * v - MOMENTUM * old if nesterov else v)
                           for v, old, (name, _, _) in zip(new_velocity, mean_velocity, PARAMETERS)]
        m = model
        mean_velocity = mean(velocity)
        records.append([s / WORKERS for s in sums])
    return records, [a + b for a, b in zip(m, mean(movement))], mean(statistics)


def trajectories():
    """What is recorded: lists of numbers by name."""
    results = {}
    for name, case in CASES.items():
        run = run_ssgd if case["algorithm"] == "ssgd" else run_overlapped
        records, model, statistics = run(case)
        for step, record in enumerate(records):
            results[f"{name}.step{step}"] = record
        for (tensor_name, *_), values in zip(PARAMETERS + STATISTICS, model + statistics):
            results[f"{name}.{tensor_name}"] = formula.sketch(tensor_name, values.numpy())
    return results


def write():
    with RECORDING.open("w") as file:
        file.write("# Written by dc_s3gd_oracle.py, read by dc_s3gd_test.\n")
        file.write("# Steps: loss, gradient norm, lambda, distance norm, each the mean over the workers.\n")
        file.write("# Tensors of the final mean model: sketches (formula.py).\n")
        for name, numbers in trajectories().items():
            file.write(f"{name} {' '.join(f'{number:.12g}' for number in numbers)}\n")


def check():
    _, recorded = recording.read(RECORDING)
    differences = list(recording.differences(recorded, trajectories()))
    print("\n".join(differences) or "the recording is what PyTorch computes")
    return 1 if differences else 0


def main():
    torch.set_num_threads(1)
    if sys.argv[1:] == ["record"]:
        write()
        return 0
    return check()


if __name__ == "__main__":
    sys.exit(main())
