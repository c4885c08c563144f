"""Pixels against Pillow and torchvision: decoding, cropping, resizing and colour jitter of the photo pipeline.

    /usr/bin/python3 image_pixels_test.py SHOW_IMAGES     (the program of show_images.cpp)

Tolerances, in levels of 0 … 255: decoding is equal to the bit where Pillow runs the same libjpeg-turbo; scaling differs
by 1, seldom 2, where two roundings fall apart, and by less than 1 on average where the decoder has shrunk a photo, more
for fine patterns. The photos are written here; those under DCS3GD_DATA are looked at as well if they are there.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

try:
    import numpy
    from PIL import Image, ImageEnhance
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

SHOW_IMAGES = ""


class Shown:
    """An answer of show_images."""

    def __init__(self, numbers, pixels):
        values = numbers.split()
        whole = [int(value) for value in values[:12]]
        self.size, self.box, self.scaled, self.window = whole[:2], whole[2:6], whole[6:8], whole[8:12]
        self.factors = [float(value) for value in values[12:15]]
        self.order = [int(value) for value in values[15:18]]
        self.pixels = pixels


def show(kind, path, size=0, seed=0):
    """A Shown, or the reason as text."""
    line = f"{kind} {size} {seed} {path}\n".encode()
    answer = subprocess.run([SHOW_IMAGES], input=line, capture_output=True, check=True).stdout
    first, _, rest = answer.partition(b"\n")
    word, _, text = first.decode().partition(" ")
    if word == "bad":
        return text
    shown = Shown(text, None)
    shown.pixels = numpy.frombuffer(rest, numpy.uint8).reshape(3, *shown.window[3:1:-1]).transpose(1, 2, 0)
    return shown


def difference(ours, theirs):
    """Mean and largest difference in levels."""
    gap = numpy.abs(ours.astype(int) - numpy.asarray(theirs).astype(int))
    return gap.mean(), gap.max()


def photo(width, height, seed):
    """Smooth colours, edges and noise."""
    random = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[:height, :width]
    planes = []
    for channel in range(3):
        wave = numpy.sin(x * random.uniform(0.01, 0.09) + channel) * numpy.cos(y * random.uniform(0.01, 0.09))
        edges = 40 * ((x // 37 + y // 23 + channel) % 4 == 0)
        planes.append(120 + 80 * wave + edges + random.normal(0, 3, (height, width)))
    return Image.fromarray(numpy.stack(planes, 2).clip(0, 255).astype(numpy.uint8))


class ImagePixelsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        folder = pathlib.Path(cls.temporary.name)
        cls.files = []

        def save(name, image, **options):
            image.save(folder / name, **options)
            cls.files.append(folder / name)

        image = photo(500, 375, 1)
        save("420.jpg", image, quality=90)
        save("422.jpg", image, quality=75, subsampling="4:2:2")
        save("444.jpg", photo(375, 500, 2), quality=95, subsampling="4:4:4")
        save("progressive.jpg", photo(401, 299, 3), quality=85, progressive=True)
        save("grey.jpg", image.convert("L"), quality=85)
        save("cmyk.jpg", image.convert("CMYK"), quality=90)
        save("odd.jpg", photo(33, 71, 4), quality=90)
        save("rgb.png", photo(211, 307, 5))
        save("grey.png", image.convert("L"))
        save("palette.png", image.quantize(50))
        save("rgba.png", image.convert("RGBA"))
        save("large.jpg", photo(1900, 1400, 6), quality=92)
        data = pathlib.Path(os.environ.get("DCS3GD_DATA", "/nonexistent"))
        cls.files += sorted((data / "jpeg-variants").glob("*.jpg"))
        cls.files += sorted((data / "trashnet-sample/val").glob("*/*.jpg"))[::6]

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def test_decoding_is_pillows(self):
        for path in self.files:
            with self.subTest(path.name), Image.open(path) as image:
                shown = show("whole", path)
                self.assertEqual(shown.size, list(image.size))
                self.assertEqual(difference(shown.pixels, image.convert("RGB"))[1], 0)

    def test_corpus_decodes_where_pillow_does(self):
        """jpeg-reftest and the PNG suite: the same pixels wherever both give an image of 8 bits."""
        corpus = pathlib.Path(os.environ.get("DCS3GD_DATA", "/nonexistent")) / "decoder-corpus"
        if not corpus.is_dir():
            self.skipTest("no decoder-corpus under DCS3GD_DATA")
        compared = 0
        for folder in ("jpeg-reftest", "pngsuite/primary", "pngsuite/primary_check"):
            for path in sorted((corpus / folder).rglob("*.*")):
                if path.suffix not in (".jpg", ".png"):
                    continue
                with Image.open(path) as image:
                    if image.mode == "I":
                        continue
                    expected = numpy.asarray(image.convert("RGBA").convert("RGB"))
                shown = show("whole", path)
                if isinstance(shown, str):
                    self.fail(f"{path.name}: {shown}")
                with self.subTest(path.name):
                    self.assertEqual(difference(shown.pixels, expected)[1], 0)
                compared += 1
        self.assertGreater(compared, 150)

    def check_scaling(self, shown, image, name):
        box, window = shown.box, shown.window
        part = image.convert("RGB").crop((box[0], box[1], box[0] + box[2], box[1] + box[3]))
        expected = part.resize(shown.scaled, Image.BILINEAR)
        expected = expected.crop((window[0], window[1], window[0] + window[2], window[1] + window[3]))
        mean, largest = difference(shown.pixels, expected)
        reduced = min(box[2] / shown.scaled[0], box[3] / shown.scaled[1]) >= 4 and name.endswith("jpg")
        with self.subTest(name):
            self.assertLess(mean, 1 if reduced else 0.3)
            if not reduced:
                self.assertLessEqual(largest, 2)

    def test_random_resized_crop(self):
        for number, path in enumerate(self.files):
            with Image.open(path) as image:
                for seed in range(4):
                    self.check_scaling(show("random", path, 224 if seed % 2 else 64, 10 * number + seed), image,
                                       path.name)

    def test_resize_and_center_crop(self):
        for path in self.files:
            with Image.open(path) as image:
                for size in (224, 96, 32):
                    self.check_scaling(show("center", path, size), image, path.name)

    def test_shrinking_fine_patterns(self):
        """What the decoder's shrinking does to a scan that is dithered to black and white: more than to photos."""
        y, x = numpy.mgrid[:500, :500]
        grey = (120 + 80 * numpy.sin(x * 0.03) * numpy.cos(y * 0.02)).astype(numpy.uint8)
        path = pathlib.Path(self.temporary.name) / "dithered.jpg"
        Image.fromarray(grey).convert("1").convert("L").save(path, quality=90)
        with Image.open(path) as image:
            for size, most in ((32, 1), (48, 2), (64, 3), (96, 5), (120, 1), (224, 1)):
                shown = show("center", path, size)
                left, top, width, height = shown.window
                expected = image.convert("RGB").resize(shown.scaled, Image.BILINEAR)
                expected = expected.crop((left, top, left + width, top + height))
                with self.subTest(size):
                    self.assertLess(difference(shown.pixels, expected)[0], most)

    def test_torchvision_agrees(self):
        """The whole of evaluation, and training's crop given its box, as torchvision computes them."""
        try:
            from torchvision import transforms
            from torchvision.transforms import functional
        except ImportError as error:
            self.skipTest(str(error))
        evaluation = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
        for path in self.files:
            with self.subTest(path.name), Image.open(path) as image:
                rgb = image.convert("RGB")
                self.assertLess(difference(show("center", path, 224).pixels, evaluation(rgb))[0], 1)
                shown = show("random", path, 224, 5)
                left, top, width, height = shown.box
                expected = functional.resized_crop(rgb, top, left, height, width, [224, 224])
                self.assertLess(difference(shown.pixels, expected)[0], 1)

    def test_color_jitter(self):
        enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        path = self.files[0]
        plain = show("center", path, 224).pixels
        orders = set()
        for seed in range(12):
            shown = show("jitter", path, 224, seed)
            image = Image.fromarray(numpy.ascontiguousarray(plain))
            for kind in shown.order:
                image = enhancers[kind](image).enhance(shown.factors[kind])
            orders.add(tuple(shown.order))
            with self.subTest(seed):
                self.assertLess(difference(shown.pixels, image)[0], 0.05)
                self.assertLessEqual(difference(shown.pixels, image)[1], 2)
        self.assertGreater(len(orders), 3)


if __name__ == "__main__":
    SHOW_IMAGES = sys.argv.pop(1)
    unittest.main(verbosity=2)
