"""Runs a real Prometheus from a private folder, and asks it."""

import json
import signal
import urllib.error
import urllib.parse
import urllib.request

from processes import Process, free_port, private_file, private_folder, program, readable_copy, wait_for


class PrometheusServer:
    """One Prometheus. `configuration` is prometheus.yml, files are put beside it."""

    def __init__(self, folder, configuration, files=()):
        self.folder = private_folder(folder, "prometheus")
        self.port = free_port()
        self._process = None
        self._configuration = private_file(self.folder / "prometheus.yml", configuration)
        for path in files:
            readable_copy(path, self.folder)

    def start(self):
        self._process = Process(
            [program("prometheus"), f"--config.file={self._configuration}", f"--storage.tsdb.path={self.folder / 'data'}",
             f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"], self.folder / "prometheus.out")
        wait_for(self._ready, "Prometheus' start", timeout=60)
        return self

    def stop(self):
        return self._process.end(signal.SIGTERM)

    def _ready(self):
        assert self._process.running, "Prometheus didn't start:\n" + self._process.log_text()
        try:
            return self.ask("status/config")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def ask(self, path, **parameters):
        """What its API answers; a query that it refuses is a failure with its reason."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refusal:
            if refusal.code == 503:  # it isn't ready yet
                raise
            raise AssertionError(f"{url}: {refusal.read().decode()}") from None

    def series(self, query):
        """[(labels, value), ...] as of now."""
        return [(found["metric"], float(found["value"][1])) for found in self.ask("query", query=query)["result"]]
