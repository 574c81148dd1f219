"""Counts, a line each 50 ms, until it is told to stop."""
import time

count = 0
while True:
    print(f"count-{count}-", flush=True)
    count += 1
    time.sleep(0.05)
