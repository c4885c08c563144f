"""Serves the page of report.py on this machine and makes it anew while the runs go on. Ends on Ctrl-C."""

import http.server
import threading
import time
from pathlib import Path

from run_results import RunError

ADDRESS = "127.0.0.1"  # never to be seen from elsewhere: ssh -L PORT:127.0.0.1:PORT shows it there
WATCHED = ("metrics.jsonl", "config.yaml", "predictions.csv")
REST = 4  # times what a page takes to make: a fifth of a core at most
POLL_MS = 2000  # between two questions of a browser

# Puts the new page's content in place of the old one's: where the reader is, and which runs are hidden, stays.
SCRIPT = """
<script>
let version = null;
async function refresh() {
  try {
    const answer = await fetch(location.href, version ? {headers: {"If-None-Match": version}} : {});
    document.body.classList.toggle("lost", !answer.ok && answer.status !== 304);
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const runs = (page) => page.querySelectorAll(".runs input").length;
    if (version && runs(fresh) !== runs(document)) return location.reload();
    if (version) document.querySelector("main").replaceWith(fresh.querySelector("main"));
    version = answer.headers.get("ETag");
  } catch (gone) {
    document.body.classList.add("lost");
  }
}
refresh();
setInterval(refresh, POLL_MS);
</script>
<style>body.lost h1::after { content: " (no answer from dcs3gd-report)"; color: #b3261e; font-size: 14px; }</style>
</body>""".replace("POLL_MS", str(POLL_MS))


class LivePage:
    """The page, made anew when a file of a run has changed, seldom enough to leave the cores to the training."""

    def __init__(self, make_page, folders):
        self._make_page = make_page
        self._folders = folders
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._stamp = self._version = None
        self._next_s = 0
        self._text = b""

    def get(self):
        """The page and its version. Throws RunError if there has never been one."""
        with self._lock:
            stamp, now = self._stamp_now(), time.monotonic()
            if stamp != self._stamp and now >= self._next_s:
                try:
                    self._text = self._make_page(self._folders()).replace("</body>", SCRIPT).encode()
                    self._version = f'"{time.time_ns():x}"'
                except RunError:  # a run that begins anew has no lines for a moment
                    if not self._text:
                        raise
                finally:
                    self._stamp = stamp
                    self._next_s = time.monotonic() + REST * (time.monotonic() - now)
            return self._text, self._version

    def _stamp_now(self):
        stamp = []
        for folder in self._folders():
            for name in WATCHED:
                try:
                    status = (Path(folder) / name).stat()
                    stamp.append((str(folder), name, status.st_mtime_ns, status.st_size))
                except OSError:
                    pass
        return stamp


class Handler(http.server.BaseHTTPRequestHandler):
    page = None
    timeout = 30

    def do_GET(self):
        # Another site that calls itself by this address in a browser has another name here.
        if self.headers.get("Host", "").partition(":")[0] not in (ADDRESS, "localhost"):
            return self.send_error(403)
        if self.path != "/":
            return self.send_error(404)
        try:
            text, version = self.page.get()
        except (RunError, OSError) as error:
            return self.send_error(503, explain=str(error))
        is_known = self.headers.get("If-None-Match") == version
        self.send_response(304 if is_known else 200)
        self.send_header("ETag", version)
        self.send_header("Cache-Control", "no-cache")
        if not is_known:
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if not is_known:
            self.wfile.write(text)
        return None

    def log_message(self, format, *args):  # noqa: A002  (the base's name)
        pass


def serve(make_page, folders, port, say):
    """`folders()` tells the run folders there are; `say` gets one line with the address. Throws OSError for a port that
    cannot be had, RunError if there is no page to begin with."""
    page = LivePage(make_page, folders)
    handler = type("PageHandler", (Handler,), {"page": page})
    with http.server.ThreadingHTTPServer((ADDRESS, port), handler) as server:
        server.daemon_threads = True
        try:
            page.get()
            say(f"http://{ADDRESS}:{server.server_address[1]}/  (Ctrl-C ends it)")
            server.serve_forever()
        except KeyboardInterrupt:
            pass
