"""Writes the example's three models as a model repository: python write.py DIRECTORY

Needs numpy alone. Everything is drawn and learned anew from one seed, in seconds: the data are made
up, and so is what the models know of the world.
"""

import importlib.util
import json
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
SEED = 20
VERSIONS = (1, 2, 3)
TESTED = 2000

Learned = dict[str, Any]


# --- fraud_detector ------------------------------------------------------------------------------


def payments(count: int, random: np.random.Generator) -> tuple[Any, Any]:
    """Amount, hour, km from home, payments in the last hour, days of the account, new device."""
    features = np.stack(
        [
            random.lognormal(3.5, 1.2, count),
            random.integers(0, 24, count),
            random.exponential(40, count),
            random.poisson(1.0, count),
            random.exponential(600, count),
            random.random(count) < 0.15,
        ],
        axis=1,
    ).astype(np.float32)
    amount, hour, km, often, days, device = features.T
    odds = 0.004 * amount + 0.012 * km + 0.8 * often + 2.0 * device - 0.002 * days
    odds = odds + 1.0 * (hour < 6) - 3.5 + random.logistic(0, 0.5, count)
    return features, odds > 0


def fraud(version: int, random: np.random.Generator) -> tuple[Learned, float]:
    """From ever more payments: thirty, three hundred, ten thousand."""
    features, is_fraud = payments((30, 300, 10_000)[version - 1], random)
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    weights = logistic((features - mean) / scale, is_fraud)
    tested, truth = payments(TESTED, np.random.default_rng(SEED))
    guessed = (tested - mean) / scale @ weights[:-1] + weights[-1] > 0
    learned = {"mean": mean, "scale": scale, "weights": weights[:-1], "bias": weights[-1]}
    return learned, float((guessed == truth).mean())


def logistic(features: Any, truth: Any, penalty: float = 1e-3) -> Any:
    """Its weights, the bias last, by Newton's method."""
    inputs = np.column_stack([features, np.ones(len(features))]).astype(np.float64)
    weights = np.zeros(inputs.shape[1])
    for _ in range(20):
        guessed = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        slope = inputs.T @ (guessed - truth) / len(inputs) + penalty * weights
        curve = (inputs * (guessed * (1 - guessed))[:, None]).T @ inputs / len(inputs)
        weights -= np.linalg.solve(curve + penalty * np.eye(len(weights)), slope)
    return weights


# --- sentiment_analysis --------------------------------------------------------------------------

THINGS = (
    "film",
    "book",
    "phone",
    "hotel",
    "meal",
    "service",
    "battery",
    "plot",
    "camera",
    "room",
    "staff",
    "story",
)
GOOD = (
    "good",
    "great",
    "lovely",
    "excellent",
    "pleasant",
    "superb",
    "charming",
    "brilliant",
    "fine",
    "enjoyable",
)
BAD = (
    "bad",
    "awful",
    "boring",
    "terrible",
    "poor",
    "dreadful",
    "dull",
    "broken",
    "disappointing",
    "rude",
)
PLAIN = (
    "the {thing} was {word}",
    "a {word} {thing}",
    "what a {word} {thing}",
    "{word} {thing} overall",
)
DENIED = ("the {thing} was not {word}", "not a {word} {thing}", "never a {word} {thing}")


def sentences(count: int, known: int, random: np.random.Generator) -> Iterator[tuple[str, bool]]:
    """Some of them denied. known: how many words of each kind occur."""
    for _ in range(count):
        is_good, denied = random.random(2) < (0.5, 0.3)
        words = (GOOD if is_good else BAD)[:known]
        shape = str(random.choice(DENIED if denied else PLAIN))
        text = shape.format(thing=random.choice(THINGS), word=random.choice(words))
        yield text, bool(is_good) != bool(denied)


def sentiment(version: int, random: np.random.Generator) -> tuple[Learned, float]:
    """Words alone, words in pairs, and then pairs of twice as many words."""
    known, pairs = ((5, False), (5, True), (10, True))[version - 1]
    counts: dict[str, list[int]] = {}
    for text, is_positive in sentences(4000, known, random):
        for each in parts(text, pairs):
            counts.setdefault(each, [1, 1])[is_positive] += 1
    weights = {each: float(np.log(plus / minus)) for each, (minus, plus) in counts.items()}
    tested = list(sentences(TESTED, 10, np.random.default_rng(SEED)))
    guessed = [sum(weights.get(p, 0.0) for p in parts(text, pairs)) >= 0 for text, _ in tested]
    right = sum(guess == truth for guess, (_, truth) in zip(guessed, tested, strict=True))
    return {"pairs": pairs, "weights": weights}, right / len(tested)


def parts(text: str, pairs: bool) -> list[str]:
    words = text.split()
    return words + ([" ".join(pair) for pair in pairwise(words)] if pairs else [])


# --- image_classifier ----------------------------------------------------------------------------

KINDS = (HERE / "image_classifier" / "labels.txt").read_text().split()


def pictures(count: int, random: np.random.Generator) -> tuple[Any, Any]:
    """One of KINDS each, in any two colours, with some noise over it."""
    kinds = random.integers(0, len(KINDS), count)
    images = np.stack([picture(KINDS[kind], random) for kind in kinds])
    return (images + random.normal(0, 0.1, images.shape)).astype(np.float32), kinds


def picture(kind: str, random: np.random.Generator) -> Any:
    rows, columns = np.mgrid[0:32, 0:32]
    width = int(random.integers(2, 6))
    across, upright = rows // width % 2, columns // width % 2
    middle, radius = random.integers(10, 22, 2), random.integers(5, 11)
    disc = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < radius**2
    shapes = {
        "stripes_across": across,
        "stripes_upright": upright,
        "checkerboard": across ^ upright,
        "disc": disc,
        "noise": random.random((32, 32)),
    }
    back, front = random.random((2, 3))
    return back[:, None, None] + (front - back)[:, None, None] * shapes[kind]


def image(version: int, random: np.random.Generator) -> tuple[Learned, float]:
    """Four, eight and sixteen kernels, drawn; what is learned is the layer above them."""
    kernels = random.normal(0, 1, ((4, 8, 16)[version - 1], 3, 3, 3)).astype(np.float32)
    kernels -= kernels.mean(axis=(2, 3), keepdims=True)
    features = model("image_classifier").features
    images, kinds = pictures(1500, random)
    seen = np.column_stack([features(images, kernels), np.ones(len(images))])
    wanted = 8 * np.eye(len(KINDS))[kinds]
    layer = np.linalg.solve(seen.T @ seen + 1e-2 * np.eye(seen.shape[1]), seen.T @ wanted)
    tested, truth = pictures(TESTED, np.random.default_rng(SEED))
    guessed = (features(tested, kernels) @ layer[:-1] + layer[-1]).argmax(axis=1)
    learned = {"kernels": kernels, "weights": layer[:-1], "bias": layer[-1]}
    return learned, float((guessed == truth).mean())


def model(name: str) -> types.ModuleType:
    """Its model.py, outside Triton."""
    sys.modules.setdefault("triton_python_backend_utils", types.ModuleType("stand-in"))
    spec = importlib.util.spec_from_file_location(name, HERE / name / "model.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


# --- the repository ------------------------------------------------------------------------------

MODELS: dict[str, Callable[[int, np.random.Generator], tuple[Learned, float]]] = {
    "fraud_detector": fraud,
    "image_classifier": image,
    "sentiment_analysis": sentiment,
}


def write(target: Path) -> None:
    for name, learn in MODELS.items():
        shutil.copytree(
            HERE / name,
            target / name,
            ignore=shutil.ignore_patterns("model.py", "__pycache__"),
            dirs_exist_ok=True,
        )
        for version in VERSIONS:
            learned, right = learn(version, np.random.default_rng((SEED, version)))
            folder = target / name / str(version)
            folder.mkdir(exist_ok=True)
            shutil.copyfile(HERE / name / "model.py", folder / "model.py")
            (folder / "weights.json").write_text(json.dumps(learned, default=rounded) + "\n")
            print(f"{name} {version}: right in {right:.1%} of {TESTED}")


def rounded(values: Any) -> Any:
    """numpy's arrays and numbers as JSON has them."""
    return np.round(np.asarray(values, np.float64), 6).tolist()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(Path(sys.argv[1]))
