"""The demo's python program: two threads that compute without pause, a child process that is asked again and again, memory
that must not change, and a clock that is looked at every few milliseconds. Proves its own state at the end.

    count.py REPORT SECONDS

Writes the report lines of grid_testkit::report. Exit: 0 all was right, 3 something was wrong."""

import hashlib
import json
import os
import sys
import threading
import time

MASK = (1 << 64) - 1
FACTOR, ADDEND = 6364136223846793005, 1442695040888963407  # Knuth's MMIX generator: x -> FACTOR x + ADDEND mod 2^64
BLOCK = 24 << 20
CHILD_OK = 7


def child(numbers, sums):
    """Answers each number with the sum of all so far."""
    total = 0
    while word := os.read(numbers, 8):
        total = (total + int.from_bytes(word, "little")) & MASK
        os.write(sums, total.to_bytes(8, "little"))
    os._exit(CHILD_OK)


class Thread(threading.Thread):
    """Steps a generator without pause; where it must be after so many steps can be told without taking them."""

    def __init__(self, seed):
        super().__init__(daemon=True)
        self.seed, self.x, self.steps, self.stop = seed, seed, 0, False

    def run(self):
        while not self.stop:
            x = self.x
            for _ in range(1000):
                x = (x * FACTOR + ADDEND) & MASK
            self.x, self.steps = x, self.steps + 1000

    def right(self):
        a, c, n, x = FACTOR, ADDEND, self.steps, self.seed
        while n:  # the step, doubled each time
            if n & 1:
                x = (x * a + c) & MASK
            a, c, n = a * a & MASK, (a * c + c) & MASK, n >> 1
        return x == self.x


def block():
    return hashlib.shake_256(b"grid demo").digest(BLOCK)


def main(path, seconds):
    sys.setswitchinterval(0.0005)  # else the threads that compute would keep the clock waiting
    numbers, to_child = os.pipe()
    from_child, sums = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(to_child)
        os.close(from_child)
        child(numbers, sums)
    os.close(numbers)
    os.close(sums)
    memory = bytearray(block())
    want = hashlib.sha256(memory).digest()
    threads = [Thread(1), Thread(2)]
    for thread in threads:
        thread.start()

    report = open(path, "a")
    count, total, wrong, last, told = 0, 0, [], None, 0
    gap = {"ns": 0, "at": 0, "ended_ns": 0}

    def tell(**more):
        line = {"count": count, "mono_ns": time.monotonic_ns(), "gap": gap, **more}
        report.write(json.dumps(line) + "\n")
        report.flush()

    end = time.monotonic() + seconds
    while time.monotonic() < end and not wrong:
        now = time.time_ns()
        if last is not None and now - last > gap["ns"]:
            gap = {"ns": now - last, "at": count, "ended_ns": now}
        last = now
        count += 1
        if count % 10 == 0:
            total = (total + count) & MASK
            os.write(to_child, count.to_bytes(8, "little"))
            if os.read(from_child, 8) != total.to_bytes(8, "little"):
                wrong.append("the child's sum")
        if now - told > 100_000_000:
            told = now
            tell()
        time.sleep(0.005)

    for thread in threads:
        thread.stop = True
        thread.join()
        if not thread.right():
            wrong.append("what a thread computed")
    os.close(to_child)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != CHILD_OK:
        wrong.append("the child's exit code")
    if hashlib.sha256(memory).digest() != want:
        wrong.append("the memory")
    tell(done=True, **({"error": ", ".join(wrong)} if wrong else {}))
    print("wrong: " + ", ".join(wrong) if wrong else f"right after {count} counts")
    return 3 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
