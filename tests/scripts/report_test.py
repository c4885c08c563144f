"""scripts/report.py: pages of whole, broken, continued and unfinished runs.

    /usr/bin/python3 report_test.py DCS3GD_TRAIN [unittest's arguments]
"""

import html.parser
import http.client
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

from scripts_support import ScriptTest, import_script
from cli_support import write_png
from processes import TIMEOUT_S, wait_until

PROGRAM = ""

run_results = import_script("run_results")

VOID = {"meta", "input", "br", "link", "img"}


class Page(html.parser.HTMLParser):
    """Checks that elements nest, and keeps their ids, references and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.references, self.words, self.svgs = [], [], [], [], 0
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.svgs += tag == "svg" and ("role", "img") in attributes
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "xlink:href", "src", "data", "action"):
                self.references.append(value)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> does not match"

    def handle_data(self, data):
        self.words.append(data)


class Report(ScriptTest):
    def report(self, *runs):
        out, err = self.run_script("report.py", *runs, "-o", "page.html")
        self.assertEqual(err, "")
        self.assertIn("page.html", out)
        text = self.read("page.html")
        page = Page(text)
        self.assertEqual([name for name in page.ids if page.ids.count(name) > 1], [])
        outside = [r for r in page.references if not r.startswith("data:image/jpeg;base64,")]
        self.assertEqual([r for r in outside if not r.startswith("#") or r[1:] not in page.ids], [],
                         "the page refers to nothing outside itself")
        self.assertNotIn("@import", text)
        self.assertNotIn("<script", text)
        return text, page

    def test_one_run(self):
        self.make_run("runs/one")
        text, page = self.report("runs/one")
        self.assertEqual(page.svgs, 16)
        for words in ("Training loss", "Top-5 accuracy", "Learning rate", "Strength of the correction", "Throughput",
                      "Overlap", "Mean times of a step"):
            self.assertIn(f'aria-label="{words}"', text)
        for words in ("40.00 %", "80.00 %", "2 of 2", "640.0", "50 ms", "80.0 %", "done"):
            self.assertIn(f">{words}<", text)
        self.assertNotIn("Differences of configuration", text)

    def test_times_are_written_without_exponents(self):
        times = (0.04318, 7, 50, 99.96, 3599.2, 44699, math.nan)
        self.assertEqual([run_results.milliseconds(time) for time in times],
                         ["0.0432 ms", "7 ms", "50 ms", "100 ms", "3,599 ms", "44,699 ms", "–"])

    def test_a_real_run(self):
        self.write("tiny.yaml", "run: {epochs: 2}\nmodel: {name: lenet5, classes: 2}\n"
                   "data: {image_size: 16, channels: 1, synthetic: {train_images: 64, eval_images: 20}}\n"
                   "algorithm: {name: ssgd, batch_per_worker: 8}\n")
        subprocess.run([PROGRAM, "--config", "tiny.yaml"], cwd=self.folder, check=True, capture_output=True)
        text, page = self.report("runs/tiny")
        self.assertGreaterEqual(page.svgs, 10)
        self.assertIn(">2 of 2<", text)
        self.assertIn("data.synthetic.train_images: 64", text)

    def test_twelve_runs_keep_their_colours(self):
        runs = [self.make_run(f"runs/r{index}", configuration=f"optimizer: {{lr: {{base: 0.{index}}}}}\n")
                for index in range(1, 13)]
        text, page = self.report(*runs)
        self.assertIn("optimizer.lr.base", text)
        colours = import_script("report_plots").COLOURS
        self.assertEqual(len(set(colours)), 12)
        for index, colour in enumerate(colours):
            curve = text[text.index(f'id="loss-run{index}-line"'):]
            self.assertIn(colour, curve[:curve.index("</g>")])

    def test_differences_only(self):
        self.make_run("a", configuration="model: {name: lenet5, init_skip: [fc]}\n")
        self.make_run("b", configuration="model: {name: resnet20, init_skip: [fc]}\n")
        text, _ = self.report("a", "b")
        table = text[text.index("Differences of configuration"):text.index("Curves")]
        self.assertIn("model.name", table)
        self.assertIn("resnet20", table)
        self.assertNotIn("init_skip", table)

    def test_names_cannot_break_the_page(self):
        self.make_run("runs/<b>&\"x", configuration="model: {init: '<script>alert(1)</script>'}\n")
        text, page = self.report("runs/<b>&\"x")
        self.assertIn("&lt;b&gt;&amp;&quot;x", text)
        self.assertIn("<b>&\"x", "".join(page.words))

    def test_a_page_goes_where_a_link_leads_and_into_a_pipe(self):
        self.make_run("run")
        self.write("target.html", "old")
        (self.folder / "link.html").symlink_to("target.html")
        self.run_script("report.py", "run", "-o", "link.html")
        self.assertTrue((self.folder / "link.html").is_symlink())
        self.assertIn("</html>", self.read("target.html"))
        os.mkfifo(self.folder / "pipe")
        process = self.start("report.py", "run", "-o", "pipe")
        self.assertIn("</html>", self.read("pipe"))
        self.assertEqual(process.wait(timeout=TIMEOUT_S), 0)
        self.assertTrue((self.folder / "pipe").is_fifo())
        self.assertFalse([path for path in self.folder.iterdir() if path.name.endswith(".tmp")])

    def test_a_run_at_work_with_an_incomplete_last_line(self):
        folder = self.make_run("run", end=None)
        with open(folder / "metrics.jsonl", "a", encoding="utf-8") as metrics:
            metrics.write('{"event":"step","step":41,"ep')
        text, _ = self.report("run")
        self.assertIn(run_results.NOT_FINISHED, text)
        self.assertNotIn("unreadable", text)

    def test_unreadable_lines_are_told(self):
        self.make_run("run", lines=["{broken", '{"event":"step","step":null}', "[1]"])
        text, _ = self.report("run")
        self.assertIn("unreadable lines of metrics.jsonl were left out: 44, 45, 46.", text)

    def test_a_continued_run(self):
        self.make_run("run", lines=[{"event": "start", "ranks": 2, "workers": 2, "resumed_from": 20}] +
                      [self.step_event(step) for step in range(21, 41)])
        text, page = self.report("run")
        self.assertIn("run was continued after step 20.", text)
        self.assertIn("loss-run0-resumed1", page.ids)

    def test_folders_of_runs(self):
        for name in ("a", "b", "sweep/c", "sweep/d"):
            self.make_run(f"runs/{name}")
        _, page = self.report("runs")
        self.assertTrue({"show0", "show1"} <= set(page.ids) and "show2" not in page.ids)
        _, page = self.report("runs/a", "runs/sweep")
        self.assertIn("show2", page.ids)

    def test_numbers_of_a_diverged_run_are_short(self):
        lines = [self.step_event(41, loss=8080613560767545009812621230008.0)]
        text, _ = self.report(self.make_run("runs/one", lines=lines, end="diverged"))
        self.assertIn(">8.08e+30<", text)

    PREDICTIONS = ("index,file,label,label_name,class1,name1,probability1,class2,name2,probability2\n"
                   "0,{0},0,cat,0,cat,0.9,1,<dog>,0.1\n1,{0},0,cat,1,<dog>,0.8,0,cat,0.2\n"
                   "2,/nowhere/x.jpg,1,<dog>,0,cat,0.6,1,<dog>,0.4\n3,{0},1,<dog>,1,<dog>,0.7,0,cat,0.3\n")

    def test_what_is_taken_for_what(self):
        run = self.make_run("runs/one")
        write_png(self.folder / "p.png", 40, 30, bytes(range(256)) * 14 + bytes(16))
        self.write("runs/one/predictions.csv", self.PREDICTIONS.format(self.folder / "p.png"))
        text, page = self.report(run)
        self.assertIn("2 of 4 images are recognised, 50.00 %", text)
        self.assertIn("2 surest of 2 mistakes", text)
        self.assertEqual(len([r for r in page.references if r.startswith("data:")]), 1, "the other photo is not there")
        self.assertLess(text.index("taken for &lt;dog&gt; (80 %)"), text.index("taken for cat (60 %)"))
        for broken in ("", "index,file\n1,2\n", "\0\0", self.PREDICTIONS.replace("0.8", "much"), "label,class1\n0,1\n",
                       "index,label,class1,probability1\n0\n", "label,class1,probability1\n\u00b2,1,0.5\n"):
            self.write("runs/one/predictions.csv", broken)
            self.report(run)

    def test_the_first_images_are_shown(self):
        run = self.make_run("runs/one")
        for content, shown in ((b"\xff\xd8\xff picture", 1), (b"no picture", 0), (b"\xff\xd8" + bytes(1 << 22), 0)):
            (run / "first_batch.jpg").write_bytes(content)
            text, page = self.report(run)
            pictures = [reference for reference in page.references if reference.startswith("data:image")]
            self.assertEqual((len(pictures), text.count("as the network gets them")), (shown, shown))

    def test_no_evaluation_no_steps_and_nulls(self):
        self.make_run("short", steps=range(1, 6), end="diverged", lines=[self.step_event(6, loss=None, overlap=None)])
        self.make_run("none", steps=(), end="failed")
        self.make_run("nulls", lines=[self.step_event(step, loss=None, grad_norm=None) for step in range(41, 44)])
        text, _ = self.report("short", "none", "nulls")
        for words in ("short has no evaluation.", "none has no step yet.", "diverged", "failed"):
            self.assertIn(words, text)
        text, page = self.report("none")
        self.assertEqual(page.svgs, 0)
        self.assertNotIn("nan", text[text.index("<body>"):])

    def test_one_step(self):
        self.make_run("one", steps=[1])
        self.report("one")

    def test_long_runs_stay_small(self):
        self.make_run("long", steps=range(1, 20001))
        text, _ = self.report("long")
        self.assertLess(len(text), 3_000_000)

    def test_the_same_runs_give_the_same_page(self):
        self.make_run("run")
        self.assertEqual(self.report("run")[0], self.report("run")[0])

    def test_folders_that_hold_no_run_are_named(self):
        self.make_run("good")
        self.write("empty/log.txt", "")
        self.write("no_start/config.yaml", "run: {name: x}\n")
        self.write("no_start/metrics.jsonl", "garbage\n")
        self.write("no_yaml/config.yaml", "{")
        for folder, words in (("missing", "missing: no such run folder"), ("empty", "empty/config.yaml: No such file"),
                              ("no_start", "no_start/metrics.jsonl: no start event"),
                              ("no_yaml", "no_yaml/config.yaml: not YAML")):
            _, err = self.run_script("report.py", "good", folder, "-o", "page.html", code=2)
            self.assertEqual(len(err.splitlines()), 1)
            self.assertIn(words, err)
        self.assertFalse((self.folder / "page.html").exists())

    def test_a_page_that_cannot_be_written(self):
        self.make_run("run")
        _, err = self.run_script("report.py", "run", "-o", "missing/page.html", code=1)
        self.assertIn("cannot write missing/page.html: No such file", err)


class Reading(ScriptTest):
    def run_of(self, **options):
        return run_results.read_run(self.make_run("run", **options))

    def test_a_continued_run_has_each_step_once(self):
        start = {"event": "start", "ranks": 2, "workers": 2, "resumed_from": 20}
        run = self.run_of(lines=[start] + [self.step_event(step, loss=7.0) for step in range(21, 31)], end=None)
        self.assertEqual([step["step"] for step in run.steps], list(range(1, 31)))
        self.assertEqual(run.column("loss")[19:21], [2.5 / 20, 7.0])
        self.assertEqual([event["step"] for event in run.evaluations], [20])
        self.assertEqual((len(run.starts), run.status), (2, run_results.NOT_FINISHED))

    def test_an_end_before_a_resumption_is_none(self):
        end = {"event": "end", "status": "stopped", "exit_code": 75, "wall_s": 3.0}
        start = {"event": "start", "ranks": 2, "workers": 2, "resumed_from": 40}
        run = self.run_of(lines=[end, start, self.step_event(41)], end=None)
        self.assertEqual((run.status, run.wall_s()), (run_results.NOT_FINISHED, 3.0))

    def test_steps_per_epoch(self):
        self.assertEqual(self.run_of().steps_per_epoch(), 20)
        self.assertIsNone(self.run_of(steps=range(1, 6)).steps_per_epoch(), "the first epoch does not tell")

    def test_time_counts_steps_without_a_line(self):
        run = self.run_of(steps=range(10, 41, 10))
        self.assertTrue(all(math.isclose(a, b) for a, b in zip(run.training_seconds(), (0.5, 1.0, 1.5, 2.0))))


class Live(ScriptTest):
    def serve(self, *arguments):
        """The process, and the port it serves on."""
        process = self.start("report.py", "--live", "--port", "0", *arguments)
        line = process.stdout.readline()
        self.assertIn("http://127.0.0.1:", line, line or process.stderr.read())
        return process, int(line.split("127.0.0.1:")[1].split("/")[0])

    def get(self, port, path="/", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        self.addCleanup(connection.close)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("ETag"), answer.read().decode()

    def test_the_page_follows_the_run_until_it_is_interrupted(self):
        run = self.make_run("runs/one", end=None)
        process, port = self.serve(run)
        status, version, text = self.get(port)
        self.assertEqual(status, 200)
        Page(text.replace("<script>", "<!--").replace("</script>", "-->"))
        self.assertIn("status unknown", text)
        self.assertEqual(self.get(port, **{"If-None-Match": version})[0], 304)
        with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"event": "end", "status": "done", "exit_code": 0, "wall_s": 1.0,
                                   "why": "early stopping: 3 evaluations"}) + "\n")
        self.assertTrue(wait_until(lambda: self.get(port, **{"If-None-Match": version})[0] == 200))
        text = self.get(port)[2]
        self.assertNotIn("status unknown", text)
        self.assertIn("done: early stopping: 3 evaluations", text)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(TIMEOUT_S), 0)
        self.assertEqual(process.stderr.read(), "")

    def test_a_run_that_begins_anew_keeps_the_page_and_new_runs_of_a_folder_come_in(self):
        run = self.make_run("runs/one")
        _, port = self.serve("runs")
        (run / "metrics.jsonl").write_text("")
        self.assertEqual(self.get(port)[0], 200)
        self.make_run("runs/one")
        self.make_run("runs/two")
        self.assertTrue(wait_until(lambda: 'id="show1"' in self.get(port)[2]))

    def test_a_page_that_cannot_be_made_anew_stays_and_is_not_tried_at_each_question(self):
        run = self.make_run("runs/one")
        server = import_script("report_server")
        made = []

        def make_page(folders):
            made.append(folders)
            if len(made) > 1:
                raise server.RunError("no lines for a moment")
            time.sleep(0.2)
            return "<main>first</main></body>"

        page = server.LivePage(make_page, lambda: [run])
        _, version = page.get()
        for size in range(5):
            (run / "metrics.jsonl").write_text(" " * size)
            self.assertEqual(page.get()[1], version)
        self.assertEqual(len(made), 1, "a fifth of a core at most")
        page._next_s = 0  # pylint: disable=protected-access
        self.assertIn(b"first", page.get()[0])
        self.assertEqual((page.get()[1], len(made)), (version, 2))

    def test_only_this_machine_is_answered(self):
        _, port = self.serve(self.make_run("runs/one"))
        self.assertEqual(self.get(port, Host=f"elsewhere.example:{port}")[0], 403)
        self.assertEqual(self.get(port, "/etc/passwd")[0], 404)
        self.assertIn(self.get(port, Host=f"localhost:{port}")[0], (200,))

    def test_what_cannot_be_served(self):
        _, err = self.run_script("report.py", "--live", "nowhere", code=2)
        self.assertIn("nowhere: no such run folder", err)
        _, port = self.serve(self.make_run("runs/one"))
        _, err = self.run_script("report.py", "--live", "--port", port, "runs/one", code=1)
        self.assertIn(f"cannot serve on port {port}: Address already in use", err)


if __name__ == "__main__":
    PROGRAM = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
