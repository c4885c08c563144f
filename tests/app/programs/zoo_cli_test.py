"""Every network that comes with the program trains, continues to the same bits, predicts, and is computed alike by
OpenCV from its ONNX file. Usage: cli_support.py, of dcs3gd-predict.

The widest ones are made narrow: what they are built of stays, their hundreds of megabytes of weights do not."""

import pathlib
import re
import shutil

from predict_cli_test import WHY_NOT, PredictTest, cv2, main

NETWORKS = pathlib.Path(__file__).resolve().parents[3] / "configs/networks"
WIDEST = re.compile("vgg|resnet(34|101|152)")
# Residual branches that begin at nothing: after a few steps running statistics are not yet those of deep networks.
SETTINGS = ["model.convolution=direct", "model.zero_init_residual=true", "run.threads=1", "run.max_steps=4",
            "checkpoint.every_epochs=null", "checkpoint.every_steps=2"]


class Zoo(PredictTest):
    def settings(self, network):
        if not WIDEST.match(network.stem):
            return SETTINGS
        narrow = re.sub(r"\b(channels|width|out|features): (\d+)", lambda found: f"{found[1]}: {int(found[2]) // 8}",
                        network.read_text().replace("channels: 3,", "channels: 24,"))
        (self.folder / f"{network.stem}.yaml").write_text(narrow)
        return [*SETTINGS, f"model.file={network.stem}.yaml"]

    def test_each_network(self):
        if cv2 is None:
            self.skipTest(WHY_NOT)
        networks = sorted(NETWORKS.glob("*.yaml"))
        self.assertGreater(len(networks), 20)
        for network in networks:
            with self.subTest(network.stem):
                settings = self.settings(network)
                self.check(network.stem, 35, *settings)
                run = f"runs/{network.stem}"
                again = self.train("again", f"model.name={network.stem}", "data.image_size=35", *settings,
                                   flags=["--resume", f"{run}/checkpoints/step-00000002"])
                for file in ("model.safetensors", "best.safetensors"):
                    self.assertEqual((self.folder / again / file).read_bytes(), (self.folder / run / file).read_bytes())
                shutil.rmtree(self.folder / "runs")


if __name__ == "__main__":
    main()
