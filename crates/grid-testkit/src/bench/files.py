# Waits for `go`, which names a folder; measures files in it, and writes what it found to `found`.
import json, os, time

SIZE, BLOCK, COUNT = 256 << 20, 1 << 20, 2000
block = os.urandom(BLOCK)


def spent(work):
    start = time.monotonic()
    work()
    return time.monotonic() - start


def write(path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    for _ in range(SIZE // BLOCK):
        os.write(fd, block)
    os.fsync(fd)
    os.close(fd)


def read(path):
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    left = SIZE
    while left:
        left -= len(os.read(fd, BLOCK))
    os.close(fd)


def each(folder, work):
    for n in range(COUNT):
        work(f"{folder}/{n}")


def measure(folder):
    os.makedirs(folder, exist_ok=True)
    big, small = f"{folder}/big", f"{folder}/small"
    os.makedirs(small, exist_ok=True)
    found = {"write": SIZE / spent(lambda: write(big)), "read": SIZE / spent(lambda: read(big))}
    os.unlink(big)
    create = lambda path: os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    for name, work in [("create", create), ("stat", os.stat), ("unlink", os.unlink)]:
        found[name] = COUNT / spent(lambda: each(small, work))
    os.rmdir(small)
    return found


def main():
    with open("ready", "w") as f:
        f.write("yes")
    while not os.path.exists("go"):
        time.sleep(0.02)
    found = measure(open("go").read())
    with open("found.new", "w") as f:
        json.dump(found, f)
    os.rename("found.new", "found")


main()
