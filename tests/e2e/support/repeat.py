"""One thing again and again, beside a test."""

import threading


class Repeat:
    """A context: so many threads that do `act` until it ends."""

    def __init__(self, act, threads):
        self.act, self.over = act, threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]

    def run(self):
        while not self.over.is_set():
            self.act()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()
