import os, time
n = 0
while not os.path.exists("go"):
    print(n, "seen"); n += 1; time.sleep(0.004)
open("sent", "w").write(str(n))
